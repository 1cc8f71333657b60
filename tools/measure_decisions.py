"""What wrong decisions cost: results/diagnose/decisions.{json,md}.

    tools/measure_decisions.py [--chains 10000] [--steps 40]

HMC of 2 leapfrogs on the benchmark's product at single noise levels, with exact scores in float64
and NumPy alone. Chains start from exact draws and take steps with the polynomial or the trapezoid
curve rule. Measured at each length c of the step, in units of the local scale: the mean error of
the probability of acceptance (against the true difference of log densities), the disagreement of
the two rules about it, and how far the chains' law has moved: the largest shift, in standard
deviations, of the means of x^2, y^2, |y| and log p. From this come the thresholds of the check
"quadrature" (docs/diagnostics.md) and the bound of the pilot run (docs/method.md).
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "diagnose"
LEVELS = (16, 12, 8, 4)
LENGTHS = (0.35, 0.5, 0.6, 0.7, 0.85)
NUM_DRAWS = 100_000  # exact ones that the moments are compared with
GUARD = 1.0  # nats, of the polynomial rule
POLYNOMIAL = np.array([[-3, 4, -1], [-4, 0, 4], [1, -4, 3]]) / 6
ANGLES = 2 * math.pi * np.arange(8) / 8
CENTRES = 0.5 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)
RING_SD = 0.03
BAR = (0.2, 1.0)  # half widths
SEED = 1

Array = NDArray[np.float64]
normal_cdf = np.vectorize(lambda value: 0.5 * math.erfc(-value / math.sqrt(2)), otypes=[float])
CDF_GRID = np.linspace(-40, 40, 40_001)
CDF_TABLE = normal_cdf(CDF_GRID)


def alpha_bar(index: int, num_levels: int = 100) -> float:
    """Of the cosine schedule, level 0 having the least noise."""

    def squared_cosine(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    product = 1.0
    for t in range(index + 1):
        ratio = squared_cosine((t + 1) / num_levels) / squared_cosine(t / num_levels)
        product *= 1 - min(1 - ratio, 0.999)
    return product


def log_density(x: Array, abar: float) -> tuple[Array, Array]:
    """Log density of the product, up to a constant, and its score."""
    variance = abar * RING_SD**2 + 1 - abar
    gap = x[:, None] - math.sqrt(abar) * CENTRES
    exponent = -(gap**2).sum(2) / (2 * variance)
    top = exponent.max(1, keepdims=True)
    share = np.exp(exponent - top)
    total = share.sum(1)
    value = top[:, 0] + np.log(total)
    score = -(gap * share[..., None]).sum(1) / total[:, None] / variance
    sigma = math.sqrt(1 - abar)
    for axis, half in enumerate(BAR):
        edge = math.sqrt(abar) * half
        right, left = (x[:, axis] + edge) / sigma, (x[:, axis] - edge) / sigma
        mass = np.interp(right, CDF_GRID, CDF_TABLE) - np.interp(left, CDF_GRID, CDF_TABLE)
        mass = np.maximum(mass, 1e-300)
        value = value + np.log(mass)
        slope = np.exp(-(right**2) / 2) - np.exp(-(left**2) / 2)
        score[:, axis] += slope / (math.sqrt(2 * math.pi) * sigma * mass)
    return value, score


class Law:
    """The product at one level: exact draws on a fine grid, uniform in its cells."""

    def __init__(self, abar: float, rng: np.random.Generator, size: int = 400):
        self.abar = abar
        low, high = np.full(2, -1.6), np.full(2, 1.6)
        for _ in range(2):  # the second grid covers only where there is mass
            axes = [np.linspace(low[k], high[k], size) for k in range(2)]
            self.grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
            value, _ = log_density(self.grid, abar)
            mass = np.exp(value - value.max())
            self.cell = (high - low) / (size - 1)
            kept = self.grid[mass > 1e-9]
            low, high = kept.min(0), kept.max(0)
        self.mass = mass / mass.sum()
        truth = self.moments(self.draw(NUM_DRAWS, rng))
        self.mean, self.sd = truth.mean(0), truth.std(0)

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Points (count, 2)."""
        chosen = rng.choice(len(self.grid), count, p=self.mass)
        return self.grid[chosen] + (rng.random((count, 2)) - 0.5) * self.cell

    def moments(self, x: Array) -> Array:
        """Columns whose means tell one law from another."""
        value, _ = log_density(x, self.abar)
        return np.stack([x[:, 0] ** 2, x[:, 1] ** 2, abs(x[:, 1]), value], 1)


def propose(x: Array, start: tuple, abar: float, step: float, rng: np.random.Generator):
    """Ends of trajectories, what is known there, and three log acceptance ratios."""
    value, score = start
    momentum = rng.standard_normal(x.shape)
    kinetic = 0.5 * (momentum**2).sum(1)
    points, scores = [x], [score]
    for _ in range(2):
        momentum = momentum + 0.5 * step * scores[-1]
        points.append(points[-1] + step * momentum)
        end_value, end_score = log_density(points[-1], abar)
        scores.append(end_score)
        momentum = momentum + 0.5 * step * end_score
    rest = kinetic - 0.5 * (momentum**2).sum(1)
    moves = [point - x for point in points]
    polynomial = sum(
        POLYNOMIAL[i][j] * (scores[i] * moves[j]).sum(1) for i in range(3) for j in range(3)
    )
    trapezoid = sum(
        0.5 * ((scores[i] + scores[i + 1]) * (points[i + 1] - points[i])).sum(1) for i in range(2)
    )
    ratios = {"polynomial": polynomial, "trapezoid": trapezoid, "exact": end_value - value}
    return points[-1], (end_value, end_score), {key: f + rest for key, f in ratios.items()}


def probability(log_accept: Array) -> Array:
    """Of acceptance."""
    return np.exp(np.minimum(log_accept, 0.0))


def measure(law: Law, rule: str, length: float, args, rng: np.random.Generator) -> dict:
    """One row: chains at one level, with one rule, with steps of one length."""
    x = law.draw(args.chains, rng)
    known = log_density(x, law.abar)
    scale = math.sqrt(2 * math.log(2) / np.median((known[1] ** 2).sum(1)))
    errors, rivals, taken = [], [], []
    for _ in range(args.steps):
        y, at_end, ratios = propose(x, known, law.abar, length * scale, rng)
        used = ratios[rule]
        if rule == "polynomial":
            strays = abs(ratios["polynomial"] - ratios["trapezoid"]) > GUARD
            used = np.where(strays, -np.inf, used)
        kept = np.isfinite(used)
        wrong = abs(probability(used) - probability(ratios["exact"]))
        errors.append(wrong[kept].mean())
        rivals.append(abs(probability(used) - probability(ratios["trapezoid"])).mean())
        accepted = np.log(rng.random(len(x))) < used
        taken.append(accepted.mean())
        x = np.where(accepted[:, None], y, x)
        known = (
            np.where(accepted, at_end[0], known[0]),
            np.where(accepted[:, None], at_end[1], known[1]),
        )
    shift = (law.moments(x).mean(0) - law.mean) / law.sd
    return {
        "acceptance": float(np.mean(taken)),
        "acceptance_error": float(np.mean(errors)),
        "disagreement": float(np.mean(rivals)) if rule == "polynomial" else None,
        "shift": float(abs(shift).max()),
    }


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = [
        "| level | rule | step | acceptance | disagreement | wrong decisions | shift (sd) |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        rival = "" if row["disagreement"] is None else f"{row['disagreement']:.3f}"
        lines.append(
            f"| {row['level']} | {row['rule']} | {row['length']} | {row['acceptance']:.2f} | "
            f"{rival} | {row['acceptance_error']:.3f} | {row['shift']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measures all levels, rules and lengths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    rng = np.random.default_rng(SEED)
    np.seterr(over="ignore", invalid="ignore")  # points thrown far out; they are rejected
    rows = []
    for level in LEVELS:
        law = Law(alpha_bar(level), rng)
        for rule in ("polynomial", "trapezoid", "exact"):
            for length in LENGTHS if rule != "exact" else LENGTHS[-1:]:
                found = measure(law, rule, length, args, rng)
                rows.append({"level": level, "rule": rule, "length": length, **found})
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    FOLDER.mkdir(parents=True, exist_ok=True)
    result = {
        "seed": SEED,
        "commit": commit,
        "device": "cpu",
        "chains": args.chains,
        "steps": args.steps,
        "rows": rows,
    }
    (FOLDER / "decisions.json").write_text(json.dumps(result, indent=1) + "\n")
    (FOLDER / "decisions.md").write_text(table(rows))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
