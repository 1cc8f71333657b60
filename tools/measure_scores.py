"""Measures score errors of networks against exact scores: results/training/NAME.json and NAME.md.

    tools/measure_scores.py [--bin build/bench/bin]             # score_error: the shipped networks
    tools/measure_scores.py --factors                           # factors: those of compositions
    tools/measure_scores.py --recipe [--steps 1500] [--jobs 2] [--only VARIANT...] [--laws LAW...]
                                                # recipe: what each change is worth

The networks of the second are those of tools/composition_networks.py, which trains what is missing.
The third trains short runs of the recipe "motet" in mixed precision with one setting changed at a
time, and of the recipe "paper". Short runs average over fewer steps (EMA .99), or the average would
trail behind the weights and hide what is compared.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from composition_networks import SHIPPED as SHIPPED_FACTORS
from composition_networks import TRAINED, network

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
    "motet, EMA .999": ("train.ema_decay=0.999",),
    "motet, no EMA": ("train.ema_decay=0",),
}


def error_of(binaries: Path, weights: Path, num_samples: int = 100000) -> dict:
    """Relative score errors of one network, as measure_score_error prints them."""
    command = [binaries / "measure_score_error", weights, num_samples]
    run = subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return json.loads(run.stdout)


def train(binaries: Path, folder: Path, law: str, variant: str, steps: int) -> dict:
    """Score errors of a short run."""
    out = folder / f"{law}-{list(VARIANTS).index(variant)}.safetensors"
    config = out.with_suffix(".toml")
    config.write_text(
        f'seed = 1\n[data]\nset = "{law}"\n[train]\nrecipe = "motet"\nnum_steps = {steps}\n'
        "batch_size = 2000\nema_decay = 0.99\nmixed_precision = true\n"
    )
    command = [binaries / "motet", "train", config, "--out", out, "--quiet"]
    for setting in VARIANTS[variant]:
        command += ["--set", setting]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in command], check=True, env=environment)
    result = error_of(binaries, out)
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


def row_of(binaries: Path, law: str, run: str, weights: Path, *num_samples: int) -> dict:
    """Errors of a trained network; {num_steps} in `run` is filled in."""
    result = error_of(binaries, weights, *num_samples)
    kept = {key: result[key] for key in ("levels", "relative_error", "num_samples")}
    provenance = result["provenance"]
    name = run.format(num_steps=provenance["num_steps"])
    return {"law": law, "run": name, "trained_at": provenance["commit"]} | kept


def shipped(binaries: Path) -> list[dict]:
    """Errors of the networks in models/."""
    return [
        row_of(binaries, law, run, ROOT / "models" / name.format(law=law))
        for law in LAWS
        for run, name in SHIPPED.items()
    ]


def factors(binaries: Path) -> None:
    """Errors of the networks of docs/composition.md; the file grows as they come."""
    rows = []
    for law in (*SHIPPED_FACTORS, *TRAINED):
        weights = network(binaries / "motet", law)
        rows.append(row_of(binaries, law, "motet, {num_steps} steps", weights, 20000))
        write("factors", rows)


def short_runs(args: argparse.Namespace) -> None:
    """Errors of every variant after args.steps steps; the file grows as they come."""
    wanted = [(law, variant) for law in args.laws for variant in args.only]
    rows = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.jobs) as pool:
        one = partial(train, args.bin, Path(folder), steps=args.steps)
        for row in pool.map(lambda what: one(*what), wanted):
            rows.append(row)
            write("recipe", rows)


def main() -> int:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, default=ROOT / "build" / "bench" / "bin")
    parser.add_argument("--factors", action="store_true")
    parser.add_argument("--recipe", action="store_true")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", nargs="+", default=[*VARIANTS], choices=VARIANTS)
    parser.add_argument("--laws", nargs="+", default=LAWS, choices=LAWS)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    if args.recipe:
        short_runs(args)
    elif args.factors:
        factors(args.bin)
    else:
        write("score_error", shipped(args.bin))
    return 0


if __name__ == "__main__":
    sys.exit(main())
