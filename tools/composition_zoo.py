"""The laws of the experiments of docs/composition.md: TOML, log density, exact draws.

Used by tools/train_zoo.py, which trains a network for each, and by the tools that compose and
measure. Every law lies in the plane, within about |x| < 1. log_density is normalised, -inf outside
a bounded law; both functions are float64 and take any number of points.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ROOT / "out" / "composition"  # what tools/train_zoo.py trains
MODELS = ROOT / "models"


@dataclass(frozen=True)
class Law:
    """One law of the plane."""

    name: str
    toml: str  # its keys in [model.NAME]
    log_density: Callable[[np.ndarray], np.ndarray]  # (N, 2) -> (N)
    sample: Callable[[int, np.random.Generator], np.ndarray]  # (count, generator) -> (count, 2)
    data_toml: str  # its keys in [data] of a training
    score_network: Path
    energy_network: Path


def mixture_log_density(points: np.ndarray, means: np.ndarray, sds: np.ndarray) -> np.ndarray:
    """Of a mixture of equal shares: means (K, 2), sds (K, 1)."""
    terms = np.empty((len(points), len(means)))
    for k, (mean, sd) in enumerate(zip(means, sds[:, 0], strict=True)):
        terms[:, k] = -0.5 * ((points - mean) ** 2).sum(1) / sd**2 - np.log(2 * np.pi * sd**2)
    top = terms.max(1, keepdims=True)
    return top[:, 0] + np.log(np.exp(terms - top).mean(1))


def mixture_functions(means: np.ndarray, sd: float) -> tuple[Callable, Callable]:
    """Log density and draws of a mixture of equal shares and one width."""
    sds = np.full((len(means), 1), sd)

    def sample(count: int, generator: np.random.Generator) -> np.ndarray:
        centres = means[generator.integers(len(means), size=count)]
        return centres + sd * generator.standard_normal((count, 2))

    return lambda points: mixture_log_density(points, means, sds), sample


def boxes_functions(low: np.ndarray, high: np.ndarray) -> tuple[Callable, Callable]:
    """Log density and draws of a mixture of disjoint boxes (K, 2) of one size, in equal shares."""
    area = np.prod(high - low, axis=1).sum()

    def log_density(points: np.ndarray) -> np.ndarray:
        inside = (points[:, None] > low) & (points[:, None] < high)
        return np.where(inside.all(2).any(1), -np.log(area), -np.inf)

    def sample(count: int, generator: np.random.Generator) -> np.ndarray:
        pick = generator.integers(len(low), size=count)
        return low[pick] + (high - low)[pick] * generator.random((count, 2))

    return log_density, sample


def mixture_toml(means: np.ndarray, sd: float) -> str:
    """The keys of a mixture of equal shares and one width."""
    rows, widths = json.dumps(means.tolist()), json.dumps([[sd]] * len(means))
    return f'law = "gaussian_mixture"\nmeans = {rows}\nsds = {widths}\n'


def ring_means() -> np.ndarray:
    """Of the benchmark's ring."""
    angles = 2 * np.pi * np.arange(8) / 8
    return 0.5 * np.stack([np.cos(angles), np.sin(angles)], 1)


def moons_means(num_nodes: int = 128) -> np.ndarray:
    """Of moons(): midpoints of equal pieces of two half circles."""
    angles = np.pi * (np.arange(num_nodes) + 0.5) / num_nodes
    first = np.stack([np.cos(angles), np.sin(angles)], 1)
    second = np.stack([1 - np.cos(angles), 0.5 - np.sin(angles)], 1)
    return (np.concatenate([first, second]) - [0.5, 0.25]) / 1.5


def spirals_means(num_nodes: int = 100) -> np.ndarray:
    """Of spirals(): two arms of 1.5 turns, opposite each other, nodes about equally far apart."""
    share = np.sqrt((np.arange(num_nodes) + 0.5) / num_nodes)
    angles = 3 * np.pi * share
    arm = 0.9 * share[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.concatenate([arm, -arm])


def board_boxes() -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners of the dark squares of a 4 x 4 board on [-1, 1]^2."""
    corners = [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    low = np.array(corners) / 2 - 1
    return low, low + 0.5


def box_toml(low: tuple, high: tuple) -> str:
    """The keys of a uniform law on a box."""
    return f'law = "uniform_box"\nlow = {json.dumps(low)}\nhigh = {json.dumps(high)}\n'


BLOB_MEAN, BLOB_SD = (0.3, 0.1), 0.35
RING_SD, MOONS_SD, SPIRALS_SD = 0.03, 0.05 / 1.5, 0.04
BLOB_TOML = mixture_toml(np.array([BLOB_MEAN]), BLOB_SD)


def law(name: str, functions: tuple[Callable, Callable], toml: str, data_toml: str) -> Law:
    """A law and where its networks lie: the benchmark's come with the repository."""
    shipped = name in ("ring", "bar")
    score = MODELS / f"{name}-motet.safetensors" if shipped else NETWORKS / f"{name}.safetensors"
    energy = (MODELS if shipped else NETWORKS) / f"{name}-energy.safetensors"
    return Law(name, toml, *functions, data_toml, score, energy)


LAWS = {
    entry.name: entry
    for entry in (
        law("ring", mixture_functions(ring_means(), RING_SD), 'law = "ring"\n', 'set = "ring"\n'),
        law(
            "bar",
            boxes_functions(np.array([[-0.2, -1.0]]), np.array([[0.2, 1.0]])),
            'law = "bar"\n',
            'set = "bar"\n',
        ),
        law(
            "checkerboard",
            boxes_functions(*board_boxes()),
            'law = "checkerboard"\n',
            'set = "checkerboard"\n',
        ),
        law(
            "moons",
            mixture_functions(moons_means(), MOONS_SD),
            'law = "moons"\n',
            'set = "moons"\n',
        ),
        law(
            "spirals",
            mixture_functions(spirals_means(), SPIRALS_SD),
            'law = "spirals"\n',
            mixture_toml(spirals_means(), SPIRALS_SD),
        ),
        law("blob", mixture_functions(np.array([BLOB_MEAN]), BLOB_SD), BLOB_TOML, BLOB_TOML),
    )
}

# The boxes that Du et al. (arXiv 2302.11552) mix and negate, as their published notebook has them.
BOXES = {
    "left": ((-0.3, -1.0), (-0.1, 1.0)),
    "right": ((0.1, -1.0), (0.3, 1.0)),
    "large": ((-0.7, -0.7), (0.7, 0.7)),
    "small": ((-0.3, -0.3), (0.3, 0.3)),
}
BOX_LAWS = {
    name: law(
        name,
        boxes_functions(np.array([low]), np.array([high])),
        box_toml(low, high),
        box_toml(low, high),
    )
    for name, (low, high) in BOXES.items()
}
