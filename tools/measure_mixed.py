"""Compares training in mixed precision with float32: results/training/mixed.json and mixed.md.

    tools/measure_mixed.py [--motet build/release/bin/motet] [--steps 3000]

Same data, seeds and network; the held-out loss per noise level at the end. Mixed precision is as
good when its difference from float32 is no larger than the difference between two seeds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "training"
SEEDS = (1, 2)
PRECISIONS = ("float32", "mixed")
BANDS = ((0, 4), (5, 19), (20, 49), (50, 99))


def train(motet: Path, folder: Path, seed: int, precision: str, steps: int) -> dict:
    """The JSON of one training run."""
    config = folder / "ring.toml"
    config.write_text(
        f'seed = {seed}\n[data]\nset = "ring"\n[train]\nnum_steps = {steps}\nbatch_size = 2000\n'
        f"mixed_precision = {'true' if precision == 'mixed' else 'false'}\n"
    )
    out = folder / f"{precision}-{seed}"
    command = [motet, "train", config, "--out", f"{out}.safetensors", "--json", f"{out}.json"]
    subprocess.run([*map(str, command), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return json.loads(out.with_suffix(".json").read_text())


def band_means(run: dict) -> list[float]:
    """Mean held-out loss of the last evaluation over each band of levels."""
    losses = run["held_out"][-1]["per_level"]
    return [sum(losses[a : b + 1]) / (b + 1 - a) for a, b in BANDS]


def table(rows: dict[str, list[float]], seconds: dict[str, float]) -> str:
    """Losses of each run by band, and what the precision and the seed change."""
    head = " | ".join(f"levels {a}-{b}" for a, b in BANDS)
    lines = [f"| run | {head} | seconds |", "|---|" + "---:|" * (len(BANDS) + 1)]
    for name, losses in rows.items():
        cells = " | ".join(f"{loss:.4f}" for loss in losses)
        lines.append(f"| {name} | {cells} | {seconds[name]:.0f} |")
    changes = {
        "mixed / float32": [
            sum(rows[f"mixed, seed {s}"][i] for s in SEEDS)
            / sum(rows[f"float32, seed {s}"][i] for s in SEEDS)
            for i in range(len(BANDS))
        ],
        "seed 2 / seed 1 (float32)": [
            b / a for a, b in zip(rows["float32, seed 1"], rows["float32, seed 2"], strict=True)
        ],
    }
    for name, ratios in changes.items():
        lines.append(f"| {name} | " + " | ".join(f"{r:.3f}" for r in ratios) + " | |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Trains all and writes the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--steps", type=int, default=3000)
    args = parser.parse_args()
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            for precision in PRECISIONS:
                name = f"{precision}, seed {seed}"
                runs[name] = train(args.motet, Path(folder), seed, precision, args.steps)
                print(name, runs[name]["held_out"][-1]["mean"], flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for run in runs.values():
        del run["losses"]
    (FOLDER / "mixed.json").write_text(json.dumps(runs, indent=1) + "\n")
    rows = {name: band_means(run) for name, run in runs.items()}
    seconds = {name: run["seconds"]["total"] for name, run in runs.items()}
    (FOLDER / "mixed.md").write_text(table(rows, seconds))
    print(table(rows, seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
