"""Measures the table's samplers on exact scores: results/exact/*.json and exact.md.

    tools/measure_exact.py [--motet build/release/bin/motet]

Line and curve rules are not among them: an exact target gives its log density, so every rule would
be the difference of log densities.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "exact"
SAMPLERS = ("reverse", "u-la", "la-energy", "u-hmc", "hmc-energy")
CORRECTED = ("--set", 'preset="corrected"')
NO_MAP = ("--set", 'anneal.last_map="none"')
# Name of the column "preset" in the table -> arguments of motet sample.
VARIANTS = {
    "paper": ("--set", 'preset="paper"'),
    "corrected, no last map": (*CORRECTED, *NO_MAP),
    "corrected": CORRECTED,
}
COLUMNS = (
    ("LL (nats)", "ll_true", 3),
    ("points off the support", "num_outside_support", 0),
    ("outside the modes", "fraction_outside_modes", 3),
    ("W2", "w2", 3),
    ("folded W2", "w2_folded", 4),
    ("GMM", "gmm", 5),
)


def measure(motet: Path, sampler: str, variant: str) -> dict:
    """The JSON of one run, kept under results/exact."""
    name = f"{sampler}-{variant.replace(', ', '-').replace(' ', '-')}"
    file = FOLDER / f"{name}.json"
    command = [motet, "sample", ROOT / "experiments" / "product-exact.toml", "--quiet"]
    command += ["--sampler", sampler, *VARIANTS[variant], "--json", file]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return json.loads(file.read_text())


def table(runs: list[tuple[str, str, dict]]) -> str:
    """The Markdown table of all runs."""
    titles = [title for title, _, _ in COLUMNS]
    lines = ["| sampler | preset | last level | " + " | ".join(titles) + " | evaluations |"]
    lines.append("|---|---|" + "---:|" * (len(COLUMNS) + 2))
    for sampler, variant, run in runs:
        numbers = [f"{run['metrics'][key]:.{digits}f}" for _, key, digits in COLUMNS]
        level = run["levels"][-1]["index"]
        cells = [sampler, variant, str(level), *numbers, str(run["evaluations_per_chain"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs every sampler under every variant that changes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    runs = []
    for sampler in SAMPLERS:
        for variant in VARIANTS:
            if sampler == "reverse" and variant != "paper":
                continue  # the same under both presets
            runs.append((sampler, variant, measure(args.motet, sampler, variant)))
    (FOLDER / "exact.md").write_text(table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
