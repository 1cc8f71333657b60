"""Measures score errors of networks against exact scores: results/training/score_error.*, recipe.*.

    tools/measure_scores.py [--bin build/bench/bin]                  # the shipped networks
    tools/measure_scores.py --recipe [--steps 3000] [--jobs 2]       # what each change is worth

The second trains short runs of the recipe "motet" with one setting changed at a time, and of the
recipe "paper". Short runs average over fewer steps (EMA .99), or the average would trail behind the
weights and hide what is compared.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "training"
LAWS = ("ring", "bar")
SHIPPED = {"paper": "{law}.safetensors", "motet": "{law}-motet.safetensors"}
# Name of a short run -> its settings beside the common ones.
VARIANTS = {
    "paper": ('train.recipe="paper"',),
    "motet": (),
    "motet, uniform levels": ('train.level_law="uniform"',),
    "motet, constant rate": ('train.rate_schedule="constant"',),
    "motet, rate 1e-3": ("train.learning_rate=1e-3",),
    "motet, rate 4e-3": ("train.learning_rate=4e-3",),
    "motet, no features": ("network.frequencies=[]",),
    "motet, frequencies 2 to 64": ("network.frequencies=[2, 4, 8, 16, 32, 64]",),
    "motet, frequencies pi to 8 pi": (
        "network.frequencies=[3.14159265, 6.2831853, 12.5663706, 25.1327412]",
    ),
    "motet, bfloat16 products": ("train.mixed_precision=true",),
}


def error_of(binaries: Path, law: str, weights: Path) -> dict:
    """Relative score errors of one network, as measure_score_error prints them."""
    command = [binaries / "measure_score_error", law, weights]
    run = subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return json.loads(run.stdout)


def train(binaries: Path, folder: Path, law: str, variant: str, steps: int) -> dict:
    """Score errors of a short run."""
    out = folder / f"{law}-{list(VARIANTS).index(variant)}.safetensors"
    config = out.with_suffix(".toml")
    config.write_text(
        f'seed = 1\n[data]\nset = "{law}"\n[train]\nrecipe = "motet"\nnum_steps = {steps}\n'
        "ema_decay = 0.99\n"
    )
    command = [binaries / "motet", "train", config, "--out", out, "--quiet"]
    for setting in VARIANTS[variant]:
        command += ["--set", setting]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in command], check=True, env=environment)
    result = error_of(binaries, law, out)
    print(law, variant, result["relative_error"], flush=True)
    return {"law": law, "run": variant, "num_steps": steps} | {
        key: result[key] for key in ("levels", "relative_error", "num_samples")
    }


def table(rows: list[dict]) -> str:
    """One line a network, one column a level."""
    levels = rows[0]["levels"]
    lines = ["| law | network | " + " | ".join(f"t = {level}" for level in levels) + " |"]
    lines.append("|---|---|" + "---:|" * len(levels))
    for row in rows:
        cells = " | ".join(f"{error:.3f}" for error in row["relative_error"])
        lines.append(f"| {row['law']} | {row['run']} | {cells} |")
    return "\n".join(lines) + "\n"


def write(name: str, rows: list[dict]) -> None:
    """The numbers as JSON and Markdown."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    (FOLDER / f"{name}.md").write_text(table(rows))
    print(table(rows))


def shipped(binaries: Path) -> list[dict]:
    """Errors of the networks in models/."""
    rows = []
    for law in LAWS:
        for run, name in SHIPPED.items():
            result = error_of(binaries, law, ROOT / "models" / name.format(law=law))
            kept = {key: result[key] for key in ("levels", "relative_error", "num_samples")}
            commit = result["provenance"]["commit"]
            rows.append({"law": law, "run": run, "trained_at": commit} | kept)
    return rows


def short_runs(binaries: Path, steps: int, jobs: int) -> list[dict]:
    """Errors of every variant after `steps` steps."""
    wanted = [(law, variant) for law in LAWS for variant in VARIANTS]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda w: train(binaries, Path(folder), *w, steps), wanted))


def main() -> int:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, default=ROOT / "build" / "bench" / "bin")
    parser.add_argument("--recipe", action="store_true")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    if args.recipe:
        write("recipe", short_runs(args.bin, args.steps, args.jobs))
    else:
        write("score_error", shipped(args.bin))
    return 0


if __name__ == "__main__":
    sys.exit(main())
