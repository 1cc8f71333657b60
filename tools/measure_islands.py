"""Measures many islands of one run as so many runs: results/exact/islands-NAME.json.

    tools/measure_islands.py NAME CONFIG.toml [--islands 200] [--motet build/release/bin/motet]
        [-- ARGUMENTS OF motet sample...]

An island of 2000 chains is an independent run of 2000 chains with the same tuned plan, so one run
of 400,000 chains shows how often a run goes wrong. Log likelihood as docs/reproduction.md has it
(true nats), shares outside the two modes, and the balance of the modes, of islands and of groups
of ten of them (20,000 chains).
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ISLAND = 2000
CENTRES = np.array([[0.0, 0.5], [0.0, -0.5]])
RADIUS = 0.5 * math.sin(math.pi / 8)  # half way to the next of the ring's modes, as motet counts


def log_likelihood(x: np.ndarray) -> np.ndarray:
    """Log density of the product with the widened bar, normalised; -inf outside its support."""
    angles = 2 * math.pi * np.arange(8) / 8
    means = 0.5 * np.stack([np.cos(angles), np.sin(angles)], 1)
    squares = ((x[:, None] - means) ** 2).sum(-1) / 0.03**2
    ring = np.exp(-0.5 * squares).sum(1) / (8 * 2 * math.pi * 0.03**2)
    inside = (abs(x[:, 0]) < 0.2) & (abs(x[:, 1]) < 1.0)
    near = (abs(x) < 1.1).all(1)
    bar = np.where(inside, 0.99 / 0.8, np.where(near, 0.01 / (2.2**2 - 0.8), 0.0))
    # Of the ring's eight modes two lie inside the bar, six outside it: the normaliser.
    normaliser = (2 * 0.99 / 0.8 + 6 * 0.01 / (2.2**2 - 0.8)) / 8
    with np.errstate(divide="ignore"):
        return np.log(ring * bar / normaliser)


def island_rows(x: np.ndarray) -> dict:
    """Statistics of each island."""
    rows = {"ll_true": [], "fraction_outside_modes": [], "mode_balance": []}
    for points in x.reshape(-1, ISLAND, 2):
        distance = np.sqrt(((points[:, None] - CENTRES) ** 2).sum(-1))
        inside = distance.min(1) < RADIUS
        values = log_likelihood(points)
        rows["ll_true"].append(float(values[np.isfinite(values)].mean()))
        rows["fraction_outside_modes"].append(float(1 - inside.mean()))
        rows["mode_balance"].append(float((distance.argmin(1)[inside] == 0).mean()))
    return rows


def summary(rows: dict) -> dict:
    """Mean, sd and the extremes over islands; the balance of groups of ten too."""
    result = {}
    for name, values in rows.items():
        array = np.array(values)
        result[name] = {
            "mean": array.mean(),
            "sd": array.std(ddof=1),
            "smallest": array.min(),
            "largest": array.max(),
        }
    groups = np.array(rows["mode_balance"]).reshape(-1, 10).mean(1)
    binomial = 0.5 / (10 * ISLAND) ** 0.5
    result["mode_balance_20000"] = {
        "sd": groups.std(ddof=1),
        "binomial_sd": binomial,
        "largest_deviation_in_binomial_sd": float(abs(groups - 0.5).max() / binomial),
    }
    return result


def main() -> int:
    """Runs, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("config")
    parser.add_argument("--islands", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    args, extra = parser.parse_known_args()
    extra = [word for word in extra if word != "--"]
    with tempfile.TemporaryDirectory() as folder:
        out, report = Path(folder) / "x.npy", Path(folder) / "x.json"
        command = [args.motet, "sample", args.config, "--num-samples", ISLAND * args.islands]
        command += ["--seed", args.seed, "--out", out, "--json", report, "--quiet"]
        command += ["--set", 'metrics.target="none"', "--set", f"weights.island_size={ISLAND}"]
        command = [str(word) for word in [*command, *extra]]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        run = json.loads(report.read_text())
        rows = island_rows(np.load(out).astype(float))
    result = {
        "name": args.name,
        "config": args.config,
        "arguments": extra,
        "seed": args.seed,
        "num_islands": args.islands,
        "island_size": ISLAND,
        "summary": summary(rows),
        "islands": rows,
        "normalisers": run["islands"],
        **{key: run[key] for key in ("commit", "device", "seconds", "evaluations_per_chain")},
    }
    path = ROOT / "results" / "exact" / f"islands-{args.name}.json"
    path.write_text(json.dumps(result, indent=1, default=float) + "\n")
    print(json.dumps(result["summary"], indent=1, default=float))
    return 0


if __name__ == "__main__":
    sys.exit(main())
