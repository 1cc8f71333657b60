"""Why modes' masses go wrong in many dimensions: results/exact/mode_weights.{json,md}.

    tools/measure_mode_weights.py [--dimensions 20] [--chains 10000] [--seeds 3] [--only NAME...]

A float64 model in numpy of the sampler "exact" (docs/method.md) on the products of two mixtures of
tools/measure_compositions.py, whose laws are known in closed form at every noise level. One thing
is changed at a time; measured is the total variation of the modes' masses at the level where the
modes have parted, over several seeds, and that of the mean of the seeds, which keeps what is bias
and loses what is noise.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from composition_laws import mixture_pair

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "exact"
ISLAND = 2000
# Of the cosine schedule of 100 levels, where the sampler's plan visits it; below, modes are apart.
LEVELS = (86, 84, 81, 78, 74, 70, 65, 60, 54, 48, 42, 36, 31, 26, 22)

VARIANTS = {
    "whole steps": {},
    "whole steps, weights never cut": {"cut": 0.0},
    "whole steps, one island": {"island": None},
    "whole steps, log v": {"rule": "log_v"},
    "whole steps, three times the levels": {"refine": 3},
    "whole steps, 4 MCMC steps a level": {"steps": 4},
    "matched, exact divergence": {"matched": True, "divergence": "exact"},
    "matched, chord": {"matched": True, "divergence": "chord", "extrapolate": False},
    "matched, chord, variance off": {
        "matched": True,
        "divergence": "chord",
        "extrapolate": False,
        "unbias": True,
    },
    "matched, two chords, variance off": {"matched": True, "divergence": "chord", "unbias": True},
}


def noise_variances(refine: int) -> np.ndarray:
    """v = (1 - alpha_bar) / alpha_bar at the plan's levels, refine - 1 more between each two."""
    u = (np.arange(101) / 100 + 0.008) / 1.008
    f = np.cos(u * np.pi / 2) ** 2
    alpha_bar = np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))
    logs = np.log((1 - alpha_bar) / alpha_bar)[list(LEVELS)]
    where = np.arange((len(logs) - 1) * refine + 1) / refine
    return np.exp(np.interp(where, np.arange(len(logs)), logs))


class Product:
    """A product of two mixtures, each smoothed by a Gaussian of variance v."""

    def __init__(self, d: int):
        self.d = d
        self.factors = mixture_pair(d)

    def evaluate(self, y: np.ndarray, v: float) -> dict:
        """Score, log density, sum of the factors' squared scores, divergence, responsibilities."""
        square = (y * y).sum(1)
        at = {"score": 0.0, "squares": 0.0, "log": 0.0, "divergence": 0.0, "shares": []}
        for factor in self.factors:
            variance, means = factor["sds"][0, 0] ** 2 + v, factor["means"]
            half = 0.5 * (means**2).sum(1)
            logs = (y @ means.T - half) / variance + np.log(factor["weights"])
            top = logs.max(1)
            share = np.exp(logs - top[:, None])
            total = share.sum(1)
            share /= total[:, None]
            mean = share @ means
            score = (mean - y) / variance
            spread = share @ (2 * half) - (mean**2).sum(1)
            at["score"] = at["score"] + score
            at["squares"] = at["squares"] + (score**2).sum(1)
            at["log"] = at["log"] + top + np.log(total) - 0.5 * square / variance
            at["divergence"] = at["divergence"] - self.d / variance + spread / variance**2
            at["shares"].append(share)
        return at

    def masses(self, v: float) -> np.ndarray:
        """Masses of the pairs of equal modes."""
        a, b = self.factors
        gap = ((a["means"][:, None] - b["means"]) ** 2).sum(-1)
        logs = np.log(a["weights"])[:, None] + np.log(b["weights"])
        logs = logs - 0.5 * gap / (a["sds"][0, 0] ** 2 + b["sds"][0, 0] ** 2 + 2 * v)
        pairs = np.exp(logs - logs.max())
        return np.diag(pairs) / pairs.sum()


class Chains:
    """Chains on their way down, with the options of one variant."""

    def __init__(self, product: Product, count: int, seed: int, **options):
        self.product, self.options = product, options
        self.rng = np.random.default_rng(seed)
        self.island = options.get("island", ISLAND) or count
        self.log_weights = np.zeros(count)
        self.scale = 0.5
        self.smallest_ess = 1.0

    def medians(self, values: np.ndarray) -> np.ndarray:
        """Each island's median, in every row."""
        return np.repeat(np.median(values.reshape(-1, self.island), 1), self.island)

    def step(self, v: float) -> None:
        """HMC with two leapfrogs and an exact test; notes the divergence along its chords."""
        d, now = self.product.d, self.at
        h = self.scale / np.sqrt(np.median((now["score"] ** 2).sum(1)) / d)
        momentum = self.rng.standard_normal(self.y.shape)
        energy = 0.5 * (momentum**2).sum(1) - now["log"]
        points, evals = [self.y], [now]
        momentum = momentum + 0.5 * h * now["score"]
        for part in (1.0, 0.5):
            points.append(points[-1] + h * momentum)
            evals.append(self.product.evaluate(points[-1], v))
            momentum = momentum + part * h * evals[-1]["score"]
        energy -= 0.5 * (momentum**2).sum(1) - evals[-1]["log"]
        taken = np.log(self.rng.random(len(energy))) < energy
        self.note_chords(points, evals, taken)
        pick = taken[:, None]
        self.y = np.where(pick, points[-1], self.y)
        self.at = {
            name: np.where(pick if name == "score" else taken, evals[-1][name], now[name])
            for name in ("score", "squares", "log", "divergence")
        }
        self.scale = min(self.scale * np.exp(0.3 * (taken.mean() - 0.8)), np.pi / 4)

    def note_chords(self, points: list, evals: list, taken: np.ndarray) -> None:
        """Divergence and its variance from the chord that ends where the chain now is."""

        def chord(i: int, j: int) -> tuple:
            move = points[j] - points[i]
            gain = evals[j]["score"] - evals[i]["score"]
            length = (move**2).sum(1)
            slope = (gain * move).sum(1) / length
            return slope, (gain**2).sum(1) / length - slope**2

        d = self.product.d
        (last, last_across), (first, first_across) = chord(1, 2), chord(0, 1)
        slope = np.where(taken, last, first)
        if self.options.get("extrapolate", True):
            slope = (4 * slope - chord(0, 2)[0]) / 3
        self.divergence = d * slope
        self.variance = 2 * d * np.where(taken, last_across, first_across)

    def rate(self, share: np.ndarray, divergence: np.ndarray) -> np.ndarray:
        """Twice the rate of log w in v."""
        square = (self.at["score"] ** 2).sum(1)
        return share * square - self.at["squares"] - (1 - share) * divergence

    def travel(self, v: float, to: float) -> None:
        """A reverse step, or the matched share of it, and what it adds to log w."""
        options = self.options
        share = np.ones(len(self.y))
        unit = self.medians((self.at["score"] ** 2).sum(1))
        if options.get("matched"):
            share = np.clip(self.medians(self.at["squares"]) / unit, 0.0, 1.0)
        exact = options.get("divergence") == "exact"
        divergence = self.at["divergence"] if exact else self.divergence
        rate = self.rate(share, divergence)
        noise = self.rng.standard_normal(self.y.shape) * np.sqrt((v - to) * to / v)
        drift = (v - to) * self.at["score"]
        self.y = self.y + share[:, None] * drift + np.sqrt(share)[:, None] * noise
        self.at = self.product.evaluate(self.y, to)
        growth = self.medians((self.at["score"] ** 2).sum(1)) / unit
        arrived = self.rate(share, self.at["divergence"] if exact else growth * divergence)
        if options.get("rule") == "log_v":
            gain = 0.25 * np.log(v / to) * (v * rate + to * arrived)
        else:
            gain = 0.25 * (v - to) * (rate + arrived)
        if options.get("unbias"):
            error = 0.25 * (v - to) * (1 - share) * (1 + growth)
            gain = gain - 0.5 * error**2 * self.variance
        self.log_weights = self.log_weights + gain

    def resample(self, force: bool) -> None:
        """Systematic, where an island's effective size is below half of its size."""
        cut = self.options.get("cut", 5.0)
        rows = np.arange(len(self.y))
        for first in range(0, len(rows), self.island):
            here = slice(first, first + self.island)
            weights = np.exp(self.log_weights[here] - self.log_weights[here].max())
            weights /= weights.sum()
            ess = 1 / (weights**2).sum() / self.island
            self.smallest_ess = min(self.smallest_ess, ess)
            if ess >= 0.5 and not force:
                continue
            weights = np.minimum(weights, cut / self.island) if cut else weights
            marks = (np.arange(self.island) + self.rng.random()) / self.island
            found = np.searchsorted(np.cumsum(weights) / weights.sum(), marks)
            rows[here] = first + np.minimum(found, self.island - 1)
            self.log_weights[here] = 0.0
        self.y = self.y[rows]
        self.at = {name: self.at[name][rows] for name in ("score", "squares", "log", "divergence")}

    def run(self) -> np.ndarray:
        """Masses of the pairs of equal modes at the end."""
        levels = noise_variances(self.options.get("refine", 1))
        shape = (len(self.log_weights), self.product.d)
        self.y = self.rng.standard_normal(shape) * np.sqrt(levels[0] / 2)
        self.at = self.product.evaluate(self.y, levels[0])
        for position, v in enumerate(levels):
            if position > 0:
                self.travel(levels[position - 1], v)
                self.resample(position == len(levels) - 1)
            for _ in range(3 if position == 0 else self.options.get("steps", 1)):
                self.step(v)
        first, second = self.product.evaluate(self.y, levels[-1])["shares"]
        return (first * second).mean(0)


def measure(d: int, chains: int, seeds: int, options: dict) -> dict:
    """One row: a variant over the seeds."""
    product = Product(d)
    truth = product.masses(noise_variances(1)[-1])
    runs = [Chains(product, chains, seed, **options) for seed in range(seeds)]
    found = np.array([run.run() for run in runs])
    return {
        "tv": float(0.5 * abs(found - truth).sum(1).mean()),
        "tv_of_mean": float(0.5 * abs(found.mean(0) - truth).sum()),
        "smallest_ess": min(run.smallest_ess for run in runs),
    }


def floor(d: int, chains: int, seeds: int) -> dict:
    """The same of exact draws."""
    truth = Product(d).masses(noise_variances(1)[-1])
    found = np.random.default_rng(0).multinomial(chains, truth, size=(200, seeds)) / chains
    return {
        "tv": float(0.5 * abs(found - truth).sum(-1).mean()),
        "tv_of_mean": float(0.5 * abs(found.mean(1) - truth).sum(-1).mean()),
        "smallest_ess": 1.0,
    }


def table(rows: dict) -> str:
    """Markdown."""
    lines = [
        "| variant | tv | tv of the seeds' mean | smallest ESS |",
        "|---|---:|---:|---:|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['tv']:.4f} | {row['tv_of_mean']:.4f} | {row['smallest_ess']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measures the variants and keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, default=20)
    parser.add_argument("--chains", type=int, default=10000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    args = parser.parse_args()
    if args.chains % ISLAND:
        parser.error(f"--chains must be a multiple of {ISLAND}")
    setting = (args.dimensions, args.chains, args.seeds)
    rows = {"exact draws": floor(*setting)}
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    result = {
        "dimensions": args.dimensions,
        "chains": args.chains,
        "seeds": args.seeds,
        "commit": commit,
        "device": "cpu",
        "rows": rows,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        rows[name] = measure(*setting, VARIANTS[name])
        print(name, json.dumps(rows[name]), flush=True)
        (FOLDER / "mode_weights.json").write_text(json.dumps(result, indent=1) + "\n")
        (FOLDER / "mode_weights.md").write_text(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
