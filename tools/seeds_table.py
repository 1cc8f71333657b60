"""Makes results/exact/seeds.md from the files that tools/measure_seeds.py wrote."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "exact"
# File -> what it is, in the table's order.
ROWS = {
    "true-samples": "exact samples",
    "scores-30": "exact scores, budget 30",
    "scores-40": "exact scores, budget 40",
    "scores-105": "exact scores, budget 105",
    "scores-105-unweighted": "exact scores, budget 105, no weights",
    "motet-40": "networks of recipe motet, budget 40",
    "motet-105": "networks of recipe motet, budget 105",
    "paper-40": "networks as published, budget 40",
    "paper-105": "networks as published, budget 105",
    "paper-reverse": "networks as published, `reverse`",
}
COLUMNS = (
    ("ll_true", "LL (nats)", 3),
    ("fraction_outside_modes", "outside the modes", 4),
    ("w2_folded", "folded W2", 4),
    ("gmm", "GMM", 5),
    ("mode_balance", "mode balance", 3),
    ("mode_sd_mean", "mode sd", 4),
)


def cell(entry: dict, digits: int) -> str:
    """Mean, sd over seeds and the worst seed."""
    return f"{entry['mean']:.{digits}f} ± {entry['sd']:.{digits}f} ({entry['worst']:.{digits}f})"


def main() -> int:
    """Writes the table of the files that are there."""
    titles = " | ".join(title for _, title, _ in COLUMNS)
    lines = [f"| | evaluations | seeds | {titles} |", "|---|---:|---:|" + "---:|" * len(COLUMNS)]
    for name, title in ROWS.items():
        file = FOLDER / f"{name}.json"
        if not file.is_file():
            continue
        run = json.loads(file.read_text())
        cells = [cell(run["summary"][key], digits) for key, _, digits in COLUMNS]
        head = [title, str(run["evaluations_per_chain"]), str(len(run["seeds"]))]
        lines.append("| " + " | ".join([*head, *cells]) + " |")
    (FOLDER / "seeds.md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
