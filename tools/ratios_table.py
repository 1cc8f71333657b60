"""Makes the tables results/ratios/*.md and the plots docs/img/ratios-*.svg of docs/ratios.md.

From results/ratios/{bias,order,levels}.json, which tools/measure_ratios.py writes. Needs matplotlib
(.venv/bin/pip install matplotlib). Run tools/render_docs.py afterwards.
"""

import json
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "ratios"
IMAGES = ROOT / "docs" / "img"
TOLERANCE = 0.01  # nats, at the .99 quantile

# One colour a rule in every plot (Okabe and Ito's, which colour-blind readers tell apart).
COLOURS = {
    "none": "#999999",
    "exact": "#000000",
    "trapezoid on the curve": "#d55e00",
    "polynomial on the curve": "#0072b2",
    "trapezoid on the line": "#e69f00",
    "simpson on the line": "#56b4e9",
    "gauss_lobatto on the line": "#009e73",
}
LINES = [family for family in COLOURS if family.endswith("on the line")]
CURVES = [family for family in COLOURS if family.endswith("on the curve")]
SAMPLERS = {"mala": "MALA", "hmc-2": "HMC, 2 leapfrogs", "hmc-3": "HMC, 3 leapfrogs"}


def read(name: str) -> dict:
    """One experiment's record."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def title(rule: str, num_points: int) -> str:
    """The rule in a reader's words: "line, Gauss-Lobatto 4"."""
    if " on the " not in rule:
        return {"none": "no test", "exact": "exact densities"}[rule]
    words, path = rule.split(" on the ")
    named = {"gauss_lobatto": "Gauss-Lobatto", "simpson": "Simpson"}.get(words, words)
    return f"{path}, {named}" + (f" {num_points}" if num_points else "")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column to the left."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def provenance(record: dict) -> str:
    """Where a table's numbers come from."""
    return (
        f"`{record['command']}`, commit {record['commit'][:12]}, seed {record['seed']}, "
        f"{record['num_chains']} chains; {record['device']}."
    )


def write(name: str, text: str) -> None:
    """One generated part of docs/ratios.md."""
    (FOLDER / name).write_text(text.strip() + "\n")


def save(figure: plt.Figure, name: str) -> None:
    """The figure as SVG, the same bytes for the same numbers."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"ratios-{name}.svg", metadata={"Date": None})
    plt.close(figure)


# --- stationary bias


def diverged(run: dict) -> bool:
    """Whether chains of the run left for infinity: its moments say nothing."""
    return run["num_invalid"] > 0


def percent(run: dict, moment: str) -> str:
    """A bias with its standard error, in percent."""
    if diverged(run):
        return "diverges"
    bias, error = run[moment]["bias"], run[moment]["standard_error"]
    return f"{100 * bias:+.2f} ± {100 * error:.2f}"


def runs_by_rule(law: dict) -> dict[tuple[str, int], list[dict]]:
    """The runs of each rule, by step size."""
    result: dict[tuple[str, int], list[dict]] = {}
    for run in sorted(law["runs"], key=lambda run: run["step_size"]):
        result.setdefault((run["rule"], run["num_points"]), []).append(run)
    return result


def shown_moments(law: dict) -> list[str]:
    """The moments that a law's symmetry does not keep unbiased."""
    return ["variance", "mean"] if abs(law["skewness"]) > 1e-6 else ["variance"]


def bias_tables() -> None:
    """results/ratios/bias.md: a table a law, and the mean's where there is skewness."""
    record = read("bias")
    parts = [provenance(record)]
    for law in record["laws"]:
        rules = runs_by_rule(law)
        head = [f"h = {run['step_size']:g}" for run in next(iter(rules.values()))]
        for moment in shown_moments(law):
            unit = "of its true value" if moment == "variance" else "of the standard deviation"
            parts.append(f"**{law['name']}**, {law['density']}: bias of the {moment}, % {unit}")
            rows = [
                [title(*rule), *(percent(run, moment) for run in runs)]
                for rule, runs in rules.items()
            ]
            accepted = [f"{run['acceptance']:.3f}" for run in rules[("exact", 0)]]
            parts.append(table(["rule", *head], [*rows, ["*exact acceptance*", *accepted]]))
    write("bias.md", "\n\n".join(part.strip() for part in parts))


BIAS_STYLES = {3: (0, (1, 1.5)), 4: "--", 6: "-", 0: "-"}  # by the number of points


def bias_panel(axis: plt.Axes, law: dict, moment: str) -> None:
    """Bias of one moment over the step size, a line a rule; a cross where chains diverge."""
    axis.axhline(0.0, color="#cccccc", linewidth=0.8)
    step_sizes = [run["step_size"] for run in runs_by_rule(law)[("exact", 0)]]
    apart = 0.04 * (step_sizes[1] - step_sizes[0])  # so that no error bar hides another
    for index, (rule, all_runs) in enumerate(runs_by_rule(law).items()):
        runs = [run for run in all_runs if not diverged(run)]
        axis.errorbar(
            [run["step_size"] + apart * (index - 3.5) for run in runs],
            [100 * run[moment]["bias"] for run in runs],
            yerr=[200 * run[moment]["standard_error"] for run in runs],
            color=COLOURS[rule[0]],
            linestyle=BIAS_STYLES[rule[1]],
            linewidth=1.0 if rule[0] == "exact" else 2.0,
            elinewidth=1.0,
            marker=".",
            label=title(*rule),
        )
        for run in all_runs:
            if diverged(run):  # at the panel's upper edge
                axis.plot(
                    run["step_size"],
                    0.97,
                    "x",
                    color=COLOURS[rule[0]],
                    transform=axis.get_xaxis_transform(),
                )
    # Linear below 1 %, where noise is; logarithmic above, where rules differ a hundredfold.
    axis.set_yscale("symlog", linthresh=1.0)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_title(f"{law['name']}: {moment}\n{law['density']}", fontsize=10)
    axis.set_xticks(step_sizes)


def bias_plot() -> None:
    """A panel a law and moment."""
    panels = [(law, moment) for law in read("bias")["laws"] for moment in shown_moments(law)]
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    for axis, (law, moment) in zip(axes.flat, panels, strict=True):
        bias_panel(axis, law, moment)
    for axis in axes[-1]:
        axis.set_xlabel("step size h")
    for axis in axes[:, 0]:
        axis.set_ylabel("bias, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    save(figure, "bias")


# --- order in the step size


def fitted_order(errors: list[dict]) -> float:
    """Slope of log error over log h, on the four smallest steps whose error is above rounding."""
    pairs = ((one["step_size"], one["error"]) for one in errors if 1e-12 < one["error"] < 1e-2)
    steps, values = np.log(np.array(sorted(pairs)[:4])).T
    return float(np.polyfit(steps, values, 1)[0])


def order_table() -> None:
    """results/ratios/order.md."""
    record = read("order")
    rows = [
        [
            title(case["rule"], case["num_points"]),
            str(case["num_leapfrog"]),
            str(case["order_of_theory"]),
            f"{fitted_order(case['errors']):.2f}",
        ]
        for case in record["cases"]
    ]
    head = ["rule", "leapfrogs", "order, theory", "order, measured"]
    write("order.md", provenance(record) + "\n\n" + table(head, rows))


def order_plot() -> None:
    """Error over step size: the curve on the left, lines on the right."""
    cases = read("order")["cases"]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    for axis, where in zip(axes, ("curve", "line"), strict=True):
        group = [case for case in cases if case["rule"].endswith(where)]
        shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(group)))
        for case, shade, marker in zip(group, shades, "osv^DPX", strict=True):
            shown = [one for one in case["errors"] if one["error"] > 1e-14]
            label = title(case["rule"], case["num_points"])
            label += f", L = {case['num_leapfrog']}" if where == "curve" else ""
            axis.loglog(
                [one["step_size"] for one in shown],
                [one["error"] for one in shown],
                marker=marker,
                markersize=4,
                color=shade,
                label=f"{label} ({fitted_order(case['errors']):.1f})",
            )
        axis.set_title(f"along the {where} (measured order)", fontsize=10)
        axis.set_xlabel("step size h")
        axis.legend(fontsize=7.5, frameon=False)
    axes[0].set_ylabel("mean |error of log alpha|, nats")
    save(figure, "order")


# --- levels of the benchmark


def quantile(rule: dict, share: str = "0.99") -> float:
    """A quantile of |error of log alpha|."""
    return rule["error_quantiles"][share]


def needed(level: dict, family: str) -> str:
    """The fewest extra evaluations from which on every number of points meets the tolerance."""
    rules = sorted(
        (rule for rule in level["rules"] if rule["rule"] == family),
        key=lambda rule: rule["evaluations"],
    )
    found = None
    for rule in reversed(rules):
        if quantile(rule) >= TOLERANCE:
            break
        found = rule["evaluations"]
    return str(found) if found is not None else f"> {rules[-1]['evaluations']}"


def nats(value: float) -> str:
    """An error in two digits."""
    return "0" if value == 0.0 else f"{value:.2g}" if value >= 1e-3 else f"{value:.0e}"


def level_row(level: dict, curves: list[str]) -> list[str]:
    """One line of a sampler's table."""
    adaptive = level["adaptive"]
    free = {rule["rule"]: rule for rule in level["rules"] if rule["rule"] in curves}
    return [
        str(level["level"]),
        f"{level['sigma']:.3f}",
        f"{level['scale']:.2f}",
        f"{level['acceptance']:.2f}",
        *(nats(quantile(free[family])) for family in curves),
        *(needed(level, family) for family in LINES),
        f"{adaptive['evaluations']}" + ("" if adaptive["is_within_tolerance"] else " (too few)"),
        nats(quantile(adaptive)),
    ]


def level_tables() -> None:
    """results/ratios/levels.md: evaluations needed, a table a sampler."""
    record = read("levels")
    parts = [provenance(record)]
    for name, words in SAMPLERS.items():
        curves = CURVES if name != "mala" else []
        head = ["level", "sigma", "c", "acceptance"]
        head += [f"99 % error, {title(family, 0)}" for family in curves]
        head += [title(family, 0).removeprefix("line, ") for family in LINES]
        head += ["adaptive", "its 99 % error"]
        parts.append(
            f"**{words}**: extra evaluations a step for an error of log alpha below {TOLERANCE:g} "
            "nats in 99 % of the proposals"
        )
        levels = record["samplers"][name]["levels"]
        parts.append(table(head, [level_row(level, curves) for level in levels]))
    write("levels.md", "\n\n".join(part.strip() for part in parts))


def level_plot(name: str) -> None:
    """A panel a level: the .99 and .5 quantiles over the extra evaluations."""
    levels = read("levels")["samplers"][name]["levels"]
    figure, axes = plt.subplots(3, 3, figsize=(10, 9), sharex=True, layout="constrained")
    for axis, level in zip(axes.flat, levels, strict=True):
        axis.axhline(TOLERANCE, color="#cccccc", linewidth=0.8)
        for family in LINES:
            rules = [rule for rule in level["rules"] if rule["rule"] == family]
            cost = [rule["evaluations"] for rule in rules]
            for share, style in (("0.99", "-"), ("0.5", ":")):
                values = [max(quantile(rule, share), 1e-12) for rule in rules]
                axis.semilogy(cost, values, style, marker=".", markersize=4, color=COLOURS[family])
        for family in CURVES if name != "mala" else []:
            rule = next(rule for rule in level["rules"] if rule["rule"] == family)
            for share, marker in (("0.99", "D"), ("0.5", "d")):
                axis.semilogy(
                    [0], [quantile(rule, share)], marker, markersize=5, color=COLOURS[family]
                )
        axis.semilogy(
            [level["adaptive"]["evaluations"]],
            [max(quantile(level["adaptive"]), 1e-12)],
            "o",
            markersize=10,
            fillstyle="none",
            color="#000000",
        )
        axis.set_ylim(1e-8, 30)
        axis.set_title(f"level {level['level']}, sigma = {level['sigma']:.3f}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("extra evaluations a step")
    for axis in axes[:, 0]:
        axis.set_ylabel("|error of log alpha|, nats")
    families = LINES + (CURVES if name != "mala" else [])
    handles = [
        plt.Line2D([], [], color=COLOURS[family], marker="D" if family in CURVES else ".")
        for family in families
    ]
    handles.append(plt.Line2D([], [], color="#000000", marker="o", fillstyle="none", linestyle=""))
    labels = [title(family, 0) for family in families] + ["the adaptive line's choice"]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    save(figure, f"levels-{name}")


def main() -> int:
    """Everything that docs/ratios.md shows."""
    plt.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "motet", "font.family": "sans-serif"}
    )
    bias_tables()
    bias_plot()
    order_table()
    order_plot()
    level_tables()
    level_plot("mala")
    level_plot("hmc-3")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
