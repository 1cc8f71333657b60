"""Runs one sampling config over many seeds: results/FOLDER/NAME.json with mean, sd and worst.

The summary has the mean error bar beside the sd over seeds, which it should be.

    tools/measure_seeds.py NAME CONFIG.toml [--seeds 10] [--first-seed 1] [--folder exact]
        [--motet build/release/bin/motet] [--jobs 1] [-- ARGUMENTS OF motet sample...]

Every run measures 2000 chains against the exact product. NAME "true-samples" with CONFIG "-" draws
exact samples instead (the ring's points that lie inside the bar): the floor of every metric.
tools/seeds_table.py makes the tables of docs and README from these files.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
METRICS = (
    "ll_true",
    "fraction_outside_modes",
    "w2",
    "w2_folded",
    "gmm",
    "energy_distance",
    "mode_balance",
    "mode_sd_mean",
)
# The metrics of which a large value is bad; of the others the smallest is the worst.
LARGE_IS_BAD = {"fraction_outside_modes", "w2", "w2_folded", "gmm", "energy_distance"}


def numbers(metrics: dict) -> dict:
    """One run's metrics, with the balance and the mean width of the two modes."""
    row = {name: metrics[name] for name in METRICS if name in metrics}
    first, second = metrics["mode_fractions"]
    row["mode_balance"] = first / (first + second) if first + second > 0 else math.nan
    sds = [sd for mode in metrics["mode_sd"] for sd in (mode if isinstance(mode, list) else [mode])]
    row["mode_sd_mean"] = math.nan if None in sds else statistics.fmean(sds)
    return row


def error_bars(metrics: dict) -> dict:
    """One run's error bars, where it has them; of the balance, the first mode's."""
    errors = metrics.get("errors", {})
    row = {name: errors[name]["standard_error"] for name in METRICS if name in errors}
    if "modes" in metrics:
        row["mode_balance"] = metrics["modes"][0]["group_error"]
    return row


def sample(motet: Path, config: str, seed: int, extra: list[str]) -> dict:
    """The JSON of one sampling run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.json"
        command = [motet, "sample", config, "--seed", seed, "--json", file, "--quiet", *extra]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        return json.loads(file.read_text())


def exact_points(seed: int, count: int):
    """Exact draws of the product: the ring's points that lie inside the bar."""
    import numpy as np

    rng = np.random.default_rng(seed)
    kept = np.zeros((0, 2))
    while len(kept) < count:
        angles = 2 * math.pi * rng.integers(0, 8, 8 * count) / 8
        points = 0.5 * np.stack([np.cos(angles), np.sin(angles)], 1)
        points += 0.03 * rng.standard_normal(points.shape)
        inside = (abs(points[:, 0]) < 0.2) & (abs(points[:, 1]) < 1)
        kept = np.concatenate([kept, points[inside]])
    return kept[:count].astype(np.float32)


def true_samples(motet: Path, seed: int) -> dict:
    """As sample(), of exact draws."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        points = Path(folder) / "points.npy"
        np.save(points, exact_points(seed, 2000))
        command = [motet, "eval", points, "--target", "product", "--json"]
        out = subprocess.run(
            [str(word) for word in command], check=True, capture_output=True, text=True
        ).stdout
    run = json.loads(out)
    return {"evaluations_per_chain": 0, "seconds": {}, **run}


def summary(rows: list[dict], errors: list[dict]) -> dict:
    """Mean, sd over seeds and worst seed of every metric, and the mean error bar of a run."""
    result = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        worst = max(values) if name in LARGE_IS_BAD else min(values)
        if name == "mode_balance":
            worst = max(values, key=lambda value: abs(value - 0.5))
        result[name] = {
            "mean": statistics.fmean(values),
            "sd": statistics.stdev(values) if len(values) > 1 else None,
            "worst": worst,
        }
        if all(name in row for row in errors):
            result[name]["error_bar"] = statistics.fmean(row[name] for row in errors)
    return result


def main() -> int:
    """Makes or renews one file of results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--folder", default="exact")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    args, extra = parser.parse_known_args()
    extra = [word for word in extra if word != "--"]
    seeds = range(args.first_seed, args.first_seed + args.seeds)

    def one(seed: int) -> dict:
        if args.config == "-":
            return true_samples(args.motet, seed)
        return sample(args.motet, args.config, seed, extra)

    with ThreadPoolExecutor(args.jobs) as pool:
        runs = list(pool.map(one, seeds))
    first = runs[0]
    rows = [numbers(run["metrics"]) for run in runs]
    result = {
        "name": args.name,
        "command": ["motet", "sample", args.config, *extra],
        "seeds": list(seeds),
        "evaluations_per_chain": first["evaluations_per_chain"],
        "tune": first.get("tune"),
        **{
            key: first.get(key) for key in ("config", "commit", "device", "compute_used", "sampler")
        },
        "groups": first.get("groups"),
        "summary": summary(rows, [error_bars(run["metrics"]) for run in runs]),
        "runs": [{"seed": seed, **row} for seed, row in zip(seeds, rows, strict=True)],
    }
    folder = ROOT / "results" / args.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{args.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, value in result["summary"].items():
        print(f"{name:24}" + "  ".join(f"{key} {number}" for key, number in value.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
