"""Makes results/ablations/kernels.md from the file that tools/study_kernels.py wrote."""

import json
import math
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "ablations"
RECIPE = ("hmc-2", "rule")
MAX_BIAS = 0.05  # of a statistic, in its own standard deviations
NAMES = {
    "hmc": "HMC, {} leapfrogs",
    "ghmc": "generalised HMC, {} leapfrogs, damping {}",
    "multinomial": "multinomial, {} leapfrogs",
    "nuts": "NUTS, {} points at most",
    "bfloat16": "HMC, 2 leapfrogs, {}",
}
STAGES = {
    "none": "bfloat16 only",
    "path": "bfloat16, then float32 (whole path)",
    "ends": "bfloat16, then float32 (ends only)",
}

AT_A_LEVEL = """\
**At one level**, from exact draws: first the evaluations that an independent draw costs by the
recipe, then how many times fewer a kernel needs; above 1 it beats the recipe. Of three statistics
(a coordinate, the square, the log density) the dearest counts; of a kernel's two step sizes, the
recipe's and its own best, the cheaper with a bias below .05 standard deviations. Bias: the largest
at the recipe's step. Left: share of the divergence of too wide a start that is left after 12
evaluations, mean."""
IN_THE_SAMPLER = """\
**In the sampler `exact`**: ring x bar, exact scores; mean of {} seeds with its standard error."""
BFLOAT16 = """\
**What bfloat16 changes**, on the networks of recipe motet: relative errors of scores, and errors of
the log ratio of 2 leapfrogs in nats (root mean squares)."""


def title(kernel: str) -> str:
    """A kernel in a reader's words."""
    family, *parts = kernel.split("-")
    parts = [STAGES.get(part, part) for part in parts]
    words = NAMES[family].format(*parts).replace(" 1 leapfrogs", " 1 leapfrog")
    return words + (", Metropolised" if "metropolised" in parts else "")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column to the left."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def provenance(part: dict) -> str:
    """Where a table's numbers come from."""
    return f"`{part['command']}`, commit {part['commit'][:12]}; {part['device']}."


def rows_of(place: dict) -> dict[tuple[str, str], dict]:
    """A place's rows by kernel and step."""
    return {(row["kernel"], row["step"]): row for row in place["rows"]}


def dearest(row: dict) -> float:
    """Evaluations for an independent draw of the dearest statistic."""
    return max(row["cost"].values())


def is_fair(row: dict) -> bool:
    """Whether its bias is below MAX_BIAS, as study_kernels.py asks of a step."""
    return max(abs(bias) for bias in row["bias"].values()) <= MAX_BIAS


def chosen(rows: dict, kernel: str) -> dict:
    """The cheaper of a kernel's step sizes, of those with little bias if one has."""
    found = [row for (name, _), row in rows.items() if name == kernel]
    return min([row for row in found if is_fair(row)] or found, key=dearest)


def left(place: dict, rows: dict, kernel: str, start: str) -> float:
    """Share of a start's divergence that is left after 12 evaluations."""
    return chosen(rows, kernel)[start]["12"]["kl"] / place["starts"][start]["kl"]


def line(kernel: str, places: list[dict], recipe: list[float]) -> list[str]:
    """One kernel: cheaper than the recipe by how much, place by place; its bias and its decay."""
    found = [rows_of(place) for place in places]
    ratios = [
        cost / dearest(chosen(rows, kernel)) for cost, rows in zip(recipe, found, strict=True)
    ]
    biases = [
        abs(bias)
        for rows in found
        if (kernel, "rule") in rows
        for bias in rows[kernel, "rule"]["bias"].values()
    ]
    share = statistics.fmean(
        left(place, rows, kernel, "widened") for place, rows in zip(places, found, strict=True)
    )
    return [
        title(kernel),
        *(f"{ratio:.2f}" for ratio in ratios),
        f"{min(ratios):.2f}",
        f"{statistics.geometric_mean(ratios):.2f}",
        f"{max(biases):.2f}" if biases else "",
        f"{round(100 * share)} %",
    ]


def comparison(part: dict) -> str:
    """One line a kernel."""
    places = sorted(part["places"], key=lambda p: (p["law"] != "ring x bar", p["level"]))
    recipe = [dearest(rows_of(place)[RECIPE]) for place in places]
    names = dict.fromkeys(row["kernel"] for row in places[0]["rows"])
    lines = [["*recipe, evaluations*", *(f"*{cost:.1f}*" for cost in recipe), "", "", "", ""]]
    lines += [line(kernel, places, recipe) for kernel in names]
    heads = [f"{place['law']}, t = {place['level']}" for place in places]
    return table(["kernel", *heads, "least", "mean", "bias", "left"], lines)


def waits(part: dict) -> str:
    """NUTS: what a chain would pay alone, against what a batch pays."""
    parts = []
    for kernel in ("nuts-4", "nuts-8"):
        rows = [rows_of(place)[kernel, "best"] for place in part["places"]]
        alone = statistics.fmean(row["evaluations_per_step_unbatched"] for row in rows)
        parts.append(f"{title(kernel)}: {alone:.1f} of {rows[0]['evaluations_per_step']:.0f}")
    return "Evaluations a step of a chain by itself, of those that its batch waits for: " + (
        "; ".join(parts) + "."
    )


def sampler(part: dict) -> str:
    """The sampler "exact" with other kernels."""

    def cell(entry: dict, digits: int) -> str:
        error = entry["sd"] / math.sqrt(len(part["seeds"]))
        return f"{entry['mean']:.{digits}f} ± {error:.{digits}f}"

    rows = [
        [
            f"{row['num_leapfrog']}",
            f"{row['damping']:g}",
            f"{row['evaluations_per_chain']}",
            cell(row["summary"]["ll_true"], 3),
            cell(row["summary"]["fraction_outside_modes"], 4),
            cell(row["summary"]["w2_folded"], 4),
            cell(row["summary"]["mode_sd_mean"], 4),
        ]
        for row in part["rows"]
    ]
    head = ["leapfrogs", "damping", "evaluations", "LL", "outside", "folded W2", "mode sd"]
    return table(head, rows)


def networks(part: dict) -> str:
    """Errors that bfloat16 adds, beside the others."""
    keys = ("score_error_of_bfloat16", "score_error_of_network")
    ratios = ("ratio_error_of_bfloat16", "ratio_error_of_network", "ratio_error_of_rule")
    rows = [
        [f"{row['level']}", f"{row['acceptance']:.2f}"]
        + [f"{row[key]:.4f}" for key in keys]
        + [f"{row[key]:.3f}" for key in ratios]
        for row in part["rows"]
    ]
    head = ["level", "acceptance", "score: bfloat16", "score: network"]
    return table([*head, "log ratio: bfloat16", "network", "rule"], rows)


def main() -> int:
    """Writes the tables of the parts that are there."""
    whole = json.loads((FOLDER / "kernels.json").read_text())
    parts = []
    if levels := whole.get("levels"):
        parts += [f"{AT_A_LEVEL} {provenance(levels)}", comparison(levels), waits(levels)]
    if runs := whole.get("sampler"):
        parts += [f"{IN_THE_SAMPLER.format(len(runs['seeds']))} {provenance(runs)}", sampler(runs)]
    if errors := whole.get("networks"):
        parts += [f"{BFLOAT16} {provenance(errors)}", networks(errors)]
    (FOLDER / "kernels.md").write_text("\n\n".join(parts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
