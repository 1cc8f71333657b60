"""Makes the tables results/ablations/*.md and the plots of docs/ablations.md.

From results/ablations/*.json, which tools/measure_ablations.py writes. Needs matplotlib
(.venv/bin/pip install matplotlib). Run tools/render_docs.py afterwards.
"""

import json
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "ablations"
IMAGES = ROOT / "docs" / "img"
TOLERANCE = 0.01  # nats, at the .99 quantile
LOWEST_LL, HIGHEST_LL = 3.2, 3.7  # of plots with values below: these are in the tables

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, RED, GREEN, ORANGE, SKY, GREY, PINK = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#e69f00",
    "#56b4e9",
    "#999999",
    "#cc79a7",
)
# Axis -> (label of the values, label of the published sampler's, whether they span decades).
AXES = {
    "step-size": ("factor of the tuned step sizes", "step size (crosses: over sigma)", True),
    "steps": ("MCMC steps a level", "MCMC steps a level", False),
    "leapfrogs": ("leapfrogs of a trajectory", "leapfrogs of a trajectory", False),
    "damping": ("damping", "damping", False),
    "levels": ("noise levels", "noise levels", True),
}
TESTS = {
    "guarded": ("polynomial on the curve, guarded", BLUE),
    "polynomial": ("polynomial on the curve", SKY),
    "trapezoid": ("trapezoid on the curve", RED),
    "line": ("line, Gauss-Lobatto 5", GREEN),
    "none": ("no test", GREY),
    "density": ("exact densities", "#000000"),
    "reverse": ("reverse process", PINK),
}
RULES = {
    ("trapezoid on the curve", 0): ("curve, trapezoid", RED, "-"),
    ("polynomial on the curve", 0): ("curve, polynomial", BLUE, "-"),
    ("trapezoid on the line", 4): ("line, trapezoid 4", ORANGE, "--"),
    ("trapezoid on the line", 10): ("line, trapezoid 10", ORANGE, ":"),
    ("gauss_lobatto on the line", 4): ("line, Gauss-Lobatto 4", GREEN, "--"),
    ("gauss_lobatto on the line", 6): ("line, Gauss-Lobatto 6", GREEN, ":"),
}
DIMENSION_RULES = {
    "polynomial on the curve": ("curve, polynomial, guarded", BLUE),
    "trapezoid on the curve": ("curve, trapezoid", RED),
    "gauss_lobatto on the line": ("line, Gauss-Lobatto 4", GREEN),
}


def rows_of(name: str) -> list[dict]:
    """The rows of an axis; none where it was not measured."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text())["rows"] if path.is_file() else []


def exact_samples() -> dict:
    """Mean and sd of every metric over sets of as many exact draws as are measured of a run."""
    rows = rows_of("exact-samples")
    names = [name for name in rows[0] if isinstance(rows[0][name], float)] if rows else []
    return {
        name: {"mean": statistics.fmean(values(rows, name)), "sd": spread(values(rows, name))}
        for name in names
    }


def grouped(rows: list[dict], *keys: str) -> dict[tuple, list[dict]]:
    """Rows that agree in `keys`, in the order of their first ones."""
    result: dict[tuple, list[dict]] = {}
    for row in rows:
        result.setdefault(tuple(row[key] for key in keys), []).append(row)
    return result


def values(rows: list[dict], metric: str) -> list[float]:
    """A metric of the rows that have it."""
    return [row[metric] for row in rows if row.get(metric) is not None]


def spread(found: list[float]) -> float:
    """Standard deviation; 0 of a single value."""
    return statistics.stdev(found) if len(found) > 1 else 0.0


def cell(rows: list[dict], metric: str, digits: int) -> str:
    """Mean ± sd over seeds."""
    found = values(rows, metric)
    if not found:
        return "-"
    sd = f" ± {spread(found):.{digits}f}" if len(found) > 1 else ""
    return f"{statistics.fmean(found):.{digits}f}{sd}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column to the left."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write(name: str, text: str) -> None:
    """One generated part of docs/ablations.md."""
    (FOLDER / f"{name}.md").write_text(text.strip() + "\n")


def save(figure: plt.Figure, name: str) -> None:
    """The figure as SVG, the same bytes for the same numbers."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"ablations-{name}.svg", metadata={"Date": None})
    plt.close(figure)


def draw(
    axis: plt.Axes, rows: list[dict], metric: str, x: Callable[[dict], float], **style
) -> None:
    """Mean and sd over seeds at each x."""
    points = {}
    for row in rows:
        if row.get(metric) is not None:
            points.setdefault(x(row), []).append(row[metric])
    if points:
        xs = sorted(points)
        means = [statistics.fmean(points[value]) for value in xs]
        errors = [spread(points[value]) for value in xs]
        axis.errorbar(xs, means, yerr=errors, capsize=2, markersize=4, **style)


def band(axis: plt.Axes, entry: dict) -> None:
    """What exact samples score: mean ± 2 sd."""
    low, high = entry["mean"] - 2 * entry["sd"], entry["mean"] + 2 * entry["sd"]
    axis.axhspan(low, high, color="#dddddd", linewidth=0)


def plain_ticks(axis: plt.Axes, rows: list[dict]) -> None:
    """A tick at every measured x of a logarithmic axis."""
    ticks = sorted({row["x"] for row in rows})
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.tick_params(axis="x", labelsize=7.5)


def log_scale(axis: plt.Axes) -> None:
    """A logarithmic vertical axis with plain numbers."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")


# --- axes of the benchmark

COLUMNS = {
    "acceptance": ("acceptance", 3),
    "acceptance_last": ("at the last level", 3),
    "ll_true": ("LL (nats)", 3),
    "fraction_outside_modes": ("outside the modes", 4),
    "w2_folded": ("folded W2", 4),
    "mode_sd_mean": ("mode sd", 4),
}


def axis_rows(rows: list[dict], *keys: str) -> list[list[str]]:
    """A line for each series and value."""
    lines = []
    for key, group in grouped(rows, *keys).items():
        failed = sum("failure" in row for row in group)
        cost = {row["evaluations_per_chain"] for row in group if "failure" not in row}
        head = [f"{part:g}" if isinstance(part, float | int) else part for part in key]
        line = [*head, ", ".join(str(one) for one in sorted(cost)), str(len(group) - failed)]
        lines.append(line + [cell(group, name, digits) for name, (_, digits) in COLUMNS.items()])
    return lines


def axis_table(name: str) -> None:
    """results/ablations/NAME.md."""
    exact = exact_samples()
    floor = ["*exact samples*", "", "0", str(len(rows_of("exact-samples"))), "-", "-"]
    floor += [
        f"{exact[metric]['mean']:.{digits}f} ± {exact[metric]['sd']:.{digits}f}"
        for metric, (_, digits) in list(COLUMNS.items())[2:]
    ]
    head = ["series", AXES[name][0], "evaluations", "seeds"]
    head += [title for title, _ in COLUMNS.values()]
    rows = sorted(rows_of(name), key=lambda row: row["series"])
    write(name, table(head, [*axis_rows(rows, "series", "x"), floor]))


def axis_plot(name: str) -> None:
    """The sampler exact in three panels, hmc-4-curve in the fourth."""
    label, published_label, is_log = AXES[name]
    rows = [row for row in rows_of(name) if "failure" not in row]
    own = [row for row in rows if not row["series"].startswith("published")]
    theirs = [row for row in rows if row["series"].startswith("published")]
    exact = exact_samples()
    num_panels = 4 if len({row["x"] for row in theirs}) > 1 else 3
    figure, axes = plt.subplots(1, num_panels, figsize=(13, 3.5), layout="constrained")
    panels = (("ll_true", "LL, nats"), ("w2_folded", "folded W2"), ("acceptance", "acceptance"))
    for axis, (metric, title) in zip(axes, panels, strict=False):
        if metric in exact:
            band(axis, exact[metric])
        if metric == "w2_folded":
            log_scale(axis)
        for (series,), group in grouped(own, "series").items():
            draw(axis, group, metric, lambda row: row["x"], label=series, **style_of(series))
        if metric == "ll_true" and axis.get_ylim()[0] < LOWEST_LL:
            axis.set_ylim(LOWEST_LL, HIGHEST_LL)
        if is_log:
            plain_ticks(axis, own)
        axis.set_title(f"exact: {title}", fontsize=10)
        axis.set_xlabel(label)
    axes[0].legend(fontsize=7.5)
    if num_panels == 4:
        published_panel(axes[3], theirs, is_log)
        axes[3].set_xlabel(published_label)
    save(figure, name)


def published_panel(axis: plt.Axes, rows: list[dict], is_log: bool) -> None:
    """LL of hmc-4-curve."""
    band(axis, exact_samples()["ll_true"])
    for (series,), group in grouped(rows, "series").items():
        draw(axis, group, "ll_true", lambda row: row["x"], **style_of(series))
    if is_log:
        plain_ticks(axis, rows)
    axis.set_title("hmc-4-curve: LL, nats", fontsize=10)


def style_of(series: str) -> dict:
    """One look a series in every plot."""
    if series.startswith("published"):
        return {"color": RED, "fmt": "x--" if "sigma" in series else "o-"}
    if "motet" in series:
        return {"color": GREEN, "fmt": "s-"}
    if series in ("scores", "last level, scores"):
        return {"color": BLUE, "fmt": "o-"}
    return {"color": ORANGE, "fmt": "^--"}


# --- line against curve


def quantile(case: dict, rule: tuple[str, int]) -> float:
    """The .99 quantile of |error of log alpha|."""
    found = (one for one in case["rules"] if (one["rule"], one["num_points"]) == rule)
    return next(found)["error_quantiles"]["0.99"]


def needed(case: dict) -> str:
    """The extra evaluations from which on every Gauss-Lobatto line meets the tolerance."""
    lines = [rule for rule in case["rules"] if rule["rule"] == "gauss_lobatto on the line"]
    found = None
    for rule in sorted(lines, key=lambda rule: -rule["num_points"]):
        if rule["error_quantiles"]["0.99"] >= TOLERANCE:
            break
        found = rule["evaluations"]
    return f"> {max(rule['evaluations'] for rule in lines)}" if found is None else str(found)


def case_title(family: str, case: dict) -> str:
    """What a panel shows."""
    if family == "separable":
        return "independent skewed coordinates"
    return f"mixtures, level {case['level']} (sigma {case['sigma']:.2f})"


def cases() -> dict[str, list[tuple[int, dict]]]:
    """By title: the dimension and what was found there."""
    result: dict[str, list[tuple[int, dict]]] = {}
    for row in rows_of("ratios"):
        for case in row["cases"]:
            result.setdefault(case_title(row["family"], case), []).append((row["d"], case))
    return result


def ratio_table() -> None:
    """results/ablations/ratios.md: errors of the free rules, and what a line needs."""
    head = ["law", "d", "acceptance", "step size"]
    head += ["curve, trapezoid", "curve, polynomial", "line, Gauss-Lobatto 4"]
    head += [f"evaluations of a line below {TOLERANCE:g} nats"]
    shown = [("trapezoid on the curve", 0), ("polynomial on the curve", 0)]
    shown += [("gauss_lobatto on the line", 4)]
    lines = []
    for title, found in cases().items():
        for d, case in sorted(found, key=lambda pair: pair[0]):
            errors = [f"{quantile(case, rule):.2g}" for rule in shown]
            line = [title, str(d), f"{case['acceptance']:.2f}", f"{case['step_size']:.3f}"]
            lines.append([*line, *errors, needed(case)])
    write("ratios", table(head, lines))


def ratio_plot() -> None:
    """A panel a law: the .99 quantile over d."""
    found = cases()
    figure, axes = plt.subplots(1, len(found), figsize=(14, 3.8), sharey=True, layout="constrained")
    for axis, (title, pairs) in zip(axes, found.items(), strict=True):
        pairs = sorted(pairs, key=lambda pair: pair[0])
        axis.axhline(TOLERANCE, color="#cccccc", linewidth=0.8)
        for rule, (label, colour, line) in RULES.items():
            errors = [max(quantile(case, rule), 1e-13) for _, case in pairs]
            axis.loglog([d for d, _ in pairs], errors, line, marker=".", color=colour, label=label)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("d")
        axis.set_ylim(1e-10, 30)
        axis.set_xticks([d for d, _ in pairs], [str(d) for d, _ in pairs])
        axis.minorticks_off()
    axes[0].set_ylabel("99 % of |error of log alpha|, nats")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    save(figure, "ratios")


def dimension_table() -> None:
    """results/ablations/dimension.md."""
    head = ["log ratio", "d", "levels", "evaluations", "acceptance", "weights' TV", "exact draws"]
    head += ["variance ratio", "exact draws", "smallest ESS"]
    columns = (("acceptance", 3), ("weights_tv", 4), ("floor_weights_tv", 4))
    columns += (("variance_ratio", 3), ("floor_variance_ratio", 3), ("smallest_ess", 3))
    lines = []
    for (series, d), group in grouped(rows_of("dimension"), "series", "x").items():
        first = group[0]
        line = [DIMENSION_RULES[series][0], str(d), str(first["num_levels"])]
        line.append(str(first["evaluations_per_chain"]))
        lines.append(line + [cell(group, name, digits) for name, digits in columns])
    write("dimension", table(head, sorted(lines, key=lambda line: (line[0], int(line[1])))))


def dimension_plot() -> None:
    """Weights, widths, acceptance and ESS over d."""
    rows = rows_of("dimension")
    panels = (
        ("weights_tv", "total variation of the modes' weights"),
        ("variance_ratio", "variance in the modes over its true value"),
        ("acceptance", "acceptance"),
        ("smallest_ess", "smallest ESS"),
    )
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.5), layout="constrained")
    for axis, (metric, title) in zip(axes, panels, strict=True):
        for (series,), group in grouped(rows, "series").items():
            label, colour = DIMENSION_RULES[series]
            draw(axis, group, metric, lambda row: row["x"], label=label, color=colour, fmt="o-")
        floor = f"floor_{metric}"
        draw(axis, rows, floor, lambda row: row["x"], label="exact draws", color=GREY, fmt="s:")
        plain_ticks(axis, rows)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("d")
    axes[0].legend(fontsize=7.5)
    save(figure, "dimension")


# --- corrupted scores


def corrupted_rows() -> list[dict]:
    """One row a kind, size, test and seed; the clean scores are of both kinds."""
    result = []
    for row in rows_of("corrupted"):
        kinds = ("conservative", "rotated") if row["rms"] == 0 else (row["kind"],)
        for test, found in row["rows"].items():
            for kind in kinds:
                if row["rms"] == 0 or test != "density" or kind == "conservative":
                    result.append({"kind": kind, "rms": row["rms"], "test": test, **found})
    return result


def corrupted_table() -> None:
    """results/ablations/corrupted.md."""
    head = ["field", "rms", "test", "evaluations", "seeds", "acceptance", "at the last level"]
    head += ["LL (nats)", "outside the modes", "folded W2"]
    lines = []
    rows = [row for row in corrupted_rows() if row["test"] in TESTS]
    for (kind, rms, test), group in grouped(rows, "kind", "rms", "test").items():
        cost = str(group[0]["evaluations_per_chain"])
        line = [kind, f"{rms:g}", TESTS[test][0], cost, str(len(group))]
        lines.append(line + [cell(group, name, COLUMNS[name][1]) for name in list(COLUMNS)[:5]])
    order = [title for title, _ in TESTS.values()]
    lines.sort(key=lambda line: (line[0], float(line[1]), order.index(line[2])))
    write("corrupted", table(head, lines))


def corrupted_plot() -> None:
    """A row a kind of field, a panel a metric, over the field's size."""
    rows = corrupted_rows()
    panels = (("acceptance", "acceptance"), ("ll_true", "LL, nats"))
    panels += (("fraction_outside_modes", "outside the modes"), ("w2_folded", "folded W2"))
    figure, axes = plt.subplots(2, 4, figsize=(13, 6.4), layout="constrained")
    for line, kind in zip(axes, ("conservative", "rotated"), strict=True):
        for axis, (metric, title) in zip(line, panels, strict=True):
            for test, (label, colour) in TESTS.items():
                group = [row for row in rows if (row["kind"], row["test"]) == (kind, test)]
                style = {"label": label, "color": colour, "fmt": "o-"}
                hidden = metric == "acceptance" and test == "none"
                if not hidden and not (test == "reverse" and metric != "fraction_outside_modes"):
                    draw(axis, group, metric, lambda row: row["rms"], **style)
            if metric == "fraction_outside_modes":
                axis.set_yscale("symlog", linthresh=1e-3)
            if metric == "w2_folded":
                log_scale(axis)
            axis.set_title(f"{kind}: {title}", fontsize=10)
            axis.set_xlabel("rms of the field, unit of eps")
    handles, labels = axes[0][2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, fontsize=8, frameon=False)
    save(figure, "corrupted")


# --- energy against score networks


def energy_table() -> None:
    """results/ablations/energy.md, with what the trainings cost."""
    head = ["networks", "training steps", "evaluations", "seeds"]
    head += [title for title, _ in COLUMNS.values()]
    cost = [
        [row["law"], row["kind"], str(row["num_steps"]), f"{row['cpu_seconds']:.0f}"]
        for row in rows_of("energy-training")
    ]
    rows = axis_rows(rows_of("energy"), "series", "x")
    parts = [table(head, rows)]
    if cost:
        parts.append(table(["trained here", "parameterisation", "steps", "CPU seconds"], cost))
    write("energy", "\n\n".join(parts))


def energy_plot() -> None:
    """A line of dots a kind of network: LL, outside, folded W2."""
    rows = [row for row in rows_of("energy") if not row["series"].endswith("reverse")]
    groups = grouped(sorted(rows, key=lambda row: -row["x"]), "series", "x")
    names = [f"{series},\n{steps:,.0f} steps" for series, steps in groups]
    exact = exact_samples()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True, layout="constrained")
    for axis, metric in zip(axes, ("ll_true", "fraction_outside_modes", "w2_folded"), strict=True):
        low, high = (exact[metric]["mean"] + sign * 2 * exact[metric]["sd"] for sign in (-1, 1))
        axis.axvspan(low, high, color="#dddddd", linewidth=0)
        for place, ((series, _), group) in enumerate(groups.items()):
            found = values(group, metric)
            colour = BLUE if series.startswith("score") else GREEN if "dens" in series else ORANGE
            mean = statistics.fmean(found) if found else math.nan
            axis.errorbar([mean], [place], xerr=[spread(found)], fmt="o", capsize=3, color=colour)
        axis.set_title(COLUMNS[metric][0], fontsize=10)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    save(figure, "energy")


def main() -> int:
    """Everything that docs/ablations.md shows."""
    plt.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "motet", "font.family": "sans-serif"}
    )
    makers = {name: (partial(axis_table, name), partial(axis_plot, name)) for name in AXES}
    makers |= {
        "ratios": (ratio_table, ratio_plot),
        "dimension": (dimension_table, dimension_plot),
        "corrupted": (corrupted_table, corrupted_plot),
        "energy": (energy_table, energy_plot),
    }
    for name, (make_table, make_plot) in makers.items():
        if rows_of(name):
            make_table()
            make_plot()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
