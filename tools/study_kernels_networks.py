"""What bfloat16 products change in the shipped networks, and in the log ratios of the recipe.

The residual MLP of src/nets/residual_mlp.cpp in numpy float32, or with the operands of the inner
matrix products rounded to bfloat16 (float32 sums), as motet's bfloat16 arithmetic does.
"""

import json
import math
from pathlib import Path

import numpy as np
from study_kernels_laws import LEVELS, RingBar, alpha_bar
from study_kernels_moves import kinetic, log_ratios, to_bfloat16, trajectory

ROOT = Path(__file__).resolve().parent.parent
NUM_CHAINS = 2000
SCALE = 0.9  # c of the trajectories, about what the recipe's pilot finds


def silu(x: np.ndarray) -> np.ndarray:
    """x sigmoid(x)."""
    return x / (1 + np.exp(-x))


class Network:
    """One weights file of models/."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.config = json.loads(file.metadata()["motet.config"])

    def linear(self, x: np.ndarray, name: str, low: bool) -> np.ndarray:
        """A layer; low: operands rounded."""
        weight = self.tensors[name + ".weight"]
        if low:
            x, weight = (to_bfloat16(part).astype(np.float32) for part in (x, weight))
        return x @ weight.T + self.tensors[name + ".bias"]

    def block(self, h: np.ndarray, level: np.ndarray, name: str, low: bool) -> np.ndarray:
        """One residual block."""
        centred = h - h.mean(1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        scaled = normed * self.tensors[name + "norm.weight"] + self.tensors[name + "norm.bias"]
        y = self.linear(silu(scaled), name + "hidden", low) + self.linear(
            level, name + "level", low
        )
        y = self.linear(silu(y), name + "middle", low)
        return h + self.linear(silu(y), name + "output", low)

    def score(self, x: np.ndarray, level: int, low: bool) -> np.ndarray:
        """(N, d), float64."""
        x = x.astype(np.float32)
        waves = [wave(np.float32(f) * x) for f in self.config["frequencies"] for wave in WAVES]
        h = self.linear(np.concatenate([x, *waves], 1), "input", False)
        embedded = self.tensors["embedding.weight"][level][None]
        for i in range(self.config["num_blocks"]):
            h = self.block(h, embedded, f"blocks.{i}.", low)
        noise = self.linear(h, "output", False).astype(float)
        return -noise / math.sqrt(1 - alpha_bar(level))


WAVES = (np.sin, np.cos)


def rms(x: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt((x**2).mean()))


def errors(networks: list[Network], level: int, rng: np.random.Generator) -> dict:
    """At one level: of scores relative to their size, and of log ratios in nats."""
    law = RingBar(level)
    x = law.draw(NUM_CHAINS, rng)
    width = 1 / math.sqrt(np.median((law.score(x) ** 2).sum(1)) / (2 * math.log(2)))

    def force(points: np.ndarray, low: bool) -> np.ndarray:
        return sum(network.score(points, level, low) for network in networks)

    before = rng.standard_normal(x.shape)
    points, high, after = trajectory(
        lambda p: force(p, False), x, force(x, False), before, SCALE * width, 2
    )
    low = np.stack([force(p, True) for p in points])
    exact = np.stack([law.score(p) for p in points])
    truth = law.log_density(points[-1]) - law.log_density(points[0])
    ratio = log_ratios(points, high)[-1]
    return {
        "level": level,
        "acceptance": float(np.exp(np.minimum(ratio - kinetic(after) + kinetic(before), 0)).mean()),
        "score_error_of_bfloat16": rms(low - high) / rms(high),
        "score_error_of_network": rms(high - exact) / rms(exact),
        "ratio_error_of_bfloat16": rms(log_ratios(points, low)[-1] - ratio),
        "ratio_error_of_network": rms(ratio - log_ratios(points, exact)[-1]),
        "ratio_error_of_rule": rms(log_ratios(points, exact)[-1] - truth),
    }


def measure_networks(seed: int) -> dict:
    """Both networks of the recipe "motet", level by level."""
    names = ["ring-motet.safetensors", "bar-motet.safetensors"]
    networks = [Network(ROOT / "models" / name) for name in names]
    rows = [errors(networks, level, np.random.default_rng([seed, level])) for level in LEVELS]
    return {"seed": seed, "num_chains": NUM_CHAINS, "models": names, "rows": rows}
