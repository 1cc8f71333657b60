"""Tables of tools/measure_many_dimensions.py, and the theory that they are held against.

Units: a step counts in local scales l of the law at its level (motet::local_scale(): the sd of the
isotropic Gaussian with as large scores). For isotropic Gaussians in many dimensions the log of the
acceptance ratio is normal, of variance s^2 and mean -s^2 / 2, so that the acceptance is
2 Phi(-s / 2) (Beskos et al. 2013, Bernoulli 19).
"""

import math
from pathlib import Path
from statistics import NormalDist

import numpy as np

NUM_LEAPFROG = 2  # the sampler's
FIXED = 0.8  # the acceptance that steps are compared at
KERNELS = {  # power of d by which the theory has the step fall at a fixed acceptance
    "hmc": ("HMC, 2 leapfrogs", 1 / 6),
    "hmc, fixed length": ("HMC, fixed length", 1 / 4),
    "mala": ("MALA", 1 / 6),
}
SHOWN_RULES = [
    ("trapezoid on the curve", 0),
    ("polynomial on the curve", 0),
    ("trapezoid on the line", 2),
    ("trapezoid on the line", 3),
    ("trapezoid on the line", 5),
    ("trapezoid on the line", 10),
    ("gauss_lobatto on the line", 3),
    ("gauss_lobatto on the line", 5),
    ("gauss_lobatto on the line", 10),
]


# --- theory --------------------------------------------------------------------------------------


def gaussian_sd(dim: int, step: float, num_leapfrog: int) -> float:
    """The sd of log alpha for N(0, I) in `dim` dimensions, leapfrogs of `step` from equilibrium.

    Per coordinate log alpha is h^2 / 8 (x_0^2 - x_L^2) with x_L = a x_0 + b p_0.
    """
    one = np.array([[1 - step**2 / 2, step], [-step * (1 - step**2 / 4), 1 - step**2 / 2]])
    a, b = np.linalg.matrix_power(one, num_leapfrog)[0]
    variance = 2 * (1 - a * a) ** 2 + 4 * (a * b) ** 2 + 2 * b**4
    return math.sqrt(dim * variance) * step**2 / 8


def acceptance_of(sd: float) -> float:
    """2 Phi(-sd / 2)."""
    return 2 * NormalDist().cdf(-sd / 2)


def predicted_dependence(curl: float, dim: int, step: float) -> float:
    """The sd of (line - trajectory), nats, of a trajectory of length T = L `step` local scales.

    A parabola x_0 + v t + s t^2 / 2 and its chord enclose the area v ^ s T^3 / 12, so a field of
    Jacobian J goes round by v^T (J - J^T) s T^3 / 12; with v ~ N(0, I), |s|^2 = d / l^2,
    ||J + J^T|| = 2 sqrt(d) / l^2 and no direction preferred: curl sqrt(d) (T / l)^3 / 6.
    """
    return curl * math.sqrt(dim) * (NUM_LEAPFROG * step) ** 3 / 6


def crossing(steps: list[float], acceptances: list[float]) -> float | None:
    """The step where acceptance first falls to FIXED, by interpolation in log step; None: never."""
    for i in range(1, len(steps)):
        before, after = acceptances[i - 1], acceptances[i]
        if before >= FIXED > after:
            share = (before - FIXED) / (before - after)
            return math.exp(
                math.log(steps[i - 1]) + share * (math.log(steps[i]) - math.log(steps[i - 1]))
            )
    return None


def gaussian_crossing(kernel: str, dim: int) -> float:
    """The step, in local scales, at which a Gaussian's acceptance is FIXED."""
    steps = list(np.geomspace(0.02, 1.6, 400))
    if kernel == "hmc, fixed length":
        counts = [max(1, round(math.pi / 2 / step)) for step in steps]
        steps = [math.pi / 2 / count for count in counts]
    else:
        counts = [NUM_LEAPFROG if kernel == "hmc" else 1] * len(steps)
    rows = [acceptance_of(gaussian_sd(dim, h, n)) for h, n in zip(steps, counts, strict=True)]
    return crossing(steps, rows) or float("nan")


# --- reading -------------------------------------------------------------------------------------


def laws(runs: dict) -> list[tuple[str, dict]]:
    """The laws with all measurements, networks first, by dimension."""
    found = [(name, run) for name, run in runs.items() if run.get("levels")]
    return sorted(found, key=lambda item: ("exact" in item[0], item[1]["d"], item[0]))


def lengths(level: dict, kernel: str) -> list[float]:
    """The steps measured, in local scales; of MALA the length of the noise, sqrt(2 h)."""
    sizes = [row["step_size"] for row in level["steps"][kernel]]
    if kernel == "mala":
        sizes = [math.sqrt(2 * size) for size in sizes]
    return [size / level["scale"] for size in sizes]


def curve_of(level: dict, kernel: str) -> tuple[list[float], list[float]]:
    """Steps in local scales, rising, and acceptance."""
    rows = sorted(
        zip(
            lengths(level, kernel),
            (row["acceptance"][0] for row in level["steps"][kernel]),
            strict=True,
        )
    )
    return [row[0] for row in rows], [row[1] for row in rows]


def level_at(run: dict, sigma: float) -> dict | None:
    """The level measured nearest to sigma, where it is within .03 of it."""
    level = min(run["levels"], key=lambda level: abs(level["sigma"] - sigma))
    return level if abs(level["sigma"] - sigma) < 0.03 else None


def rule_of(level: dict, family: str, num_points: int) -> dict:
    """One rule's errors."""
    rules = level["rules"]["rules"]
    return next(r for r in rules if r["rule"] == family and r["num_points"] == num_points)


def short(family: str, num_points: int) -> str:
    """A rule in a column's head."""
    words, path = family.split(" on the ")
    words = {"gauss_lobatto": "Gauss-Lobatto", "simpson": "Simpson"}.get(words, words)
    return f"{path}, {words}" + (f" {num_points}" if num_points else "")


def number(value: float | None, digits: int = 2) -> str:
    """A number in few digits."""
    if value is None or value != value:
        return "-"
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:.{digits}g}" if abs(value) < 100 else f"{value:.0f}"


def pair(values: list[float], digits: int = 3) -> str:
    """A mean and its error."""
    return f"{values[0]:.{digits}f} ± {values[1]:.{digits}f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column to the left."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def provenance(runs: dict) -> str:
    """Where the numbers come from."""
    devices = sorted({run["device"] for run in runs.values()})
    commits = sorted({run["commit"][:12] for run in runs.values()})
    return (
        f"`tools/measure_many_dimensions.py`, commit {', '.join(commits)}, seed 1, one thread; "
        f"{'; '.join(devices)}."
    )


# --- tables --------------------------------------------------------------------------------------


def sampler_step(level: dict) -> dict:
    """The path probe at the step that the sampler takes."""
    return next(step for step in level["paths"]["steps"] if step["factor"] == 1.0)


def path_row(name: str, run: dict, level: dict) -> list[str]:
    """Curl and path dependence at one level, in both arithmetics."""
    step = sampler_step(level)
    found = step["path_dependence"]
    length = step["step_size"] / level["scale"]
    curl = level["paths"]["curl"]
    rough = level.get("bfloat16")
    rough_step = sampler_step({"paths": rough}) if rough else None
    return [
        name,
        str(run["d"]),
        f"{level['sigma']:.2f}",
        number(length),
        f"{level['acceptance']:.2f}",
        f"{number(curl[0])} ± {number(curl[1], 1)}",
        number(found["sd"]),
        number(found["quantiles"]["0.99"]),
        number(predicted_dependence(curl[0], run["d"], length)),
        number(rough["curl"][0]) if rough else "-",
        number(rough_step["path_dependence"]["sd"]) if rough else "-",
    ]


def path_table(runs: dict) -> str:
    """Of networks: their densities, if any, hidden."""
    head = ["law", "d", "sigma", "step / l", "acceptance", "curl", "path dependence, sd, nats"]
    head += ["99 %", "by the curl", "curl, bfloat16", "path dependence, bfloat16"]
    rows = [
        path_row(name, run, level)
        for name, run in laws(runs)
        if "exact" not in name
        for level in run["levels"]
    ]
    return table(head, rows)


def scaled_crossing(level: dict, kernel: str, dim: int) -> float | None:
    """d^power times the step at acceptance FIXED, in local scales."""
    found = crossing(*curve_of(level, kernel))
    return found and found * dim ** KERNELS[kernel][1]


def acceptance_table(runs: dict) -> str:
    """Steps at the fixed acceptance in units of the scaling, a law and level a row."""
    head = ["law", "d", "sigma"]
    head += [f"{title}: step d^(1/{round(1 / power)}) / l" for title, power in KERNELS.values()]
    rows = []
    for name, run in laws(runs):
        for level in run["levels"]:
            cells = [number(scaled_crossing(level, kernel, run["d"]), 3) for kernel in KERNELS]
            rows.append([name, str(run["d"]), f"{level['sigma']:.2f}", *cells])
    for dim in sorted({run["d"] for _, run in laws(runs)}):
        cells = [
            number(gaussian_crossing(kernel, dim) * dim ** KERNELS[kernel][1], 3)
            for kernel in KERNELS
        ]
        rows.append(["*isotropic Gaussian, 2 Φ(-s/2)*", str(dim), "-", *cells])
    return table(head, rows)


def exponent(points: list[tuple[int, float]]) -> tuple[float, float] | None:
    """Least squares of log step on log d: minus the slope and its error; None below 3 points."""
    if len({dim for dim, _ in points}) < 3:
        return None
    x, y = np.log(np.array(points, float)).T
    design = np.stack([np.ones_like(x), x], 1)
    (_, slope), residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    variance = float(residual[0]) / max(1, len(x) - 2) if len(residual) else 0.0
    return -float(slope), math.sqrt(variance / float(((x - x.mean()) ** 2).sum()))


def steps_at_fixed(runs: dict, kernel: str, is_exact: bool) -> list[tuple[int, float]]:
    """(d, step at the fixed acceptance in local scales), all levels of d > 2."""
    points = []
    for name, run in laws(runs):
        if ("exact" in name) != is_exact or run["d"] == 2:
            continue
        found = [crossing(*curve_of(level, kernel)) for level in run["levels"]]
        points += [(run["d"], step) for step in found if step is not None]
    return points


def exponent_table(runs: dict) -> str:
    """Powers of d by which steps fall at the fixed acceptance, d = 64 and more."""
    head = ["kernel", "theory", "Gaussian of the same d", "mixtures", "networks"]
    rows = []
    for kernel, (title, power) in KERNELS.items():
        dims = sorted({run["d"] for _, run in laws(runs) if run["d"] > 2})
        gaussian = exponent([(dim, gaussian_crossing(kernel, dim)) for dim in dims])
        cells = [gaussian] + [
            exponent(steps_at_fixed(runs, kernel, is_exact)) for is_exact in (True, False)
        ]
        texts = ["-" if cell is None else pair(list(cell)) for cell in cells]
        rows.append([title, f"{power:.3f}", *texts])
    return table(head, rows)


def rule_table(runs: dict) -> str:
    """Errors of log alpha on the same proposals, 99 % quantiles, all laws."""
    head = ["law", "d", "sigma", "acceptance"]
    head += [f"{short(*rule)}" for rule in SHOWN_RULES]
    rows = []
    for name, run in laws(runs):
        for level in run["levels"]:
            cells = [
                number(rule_of(level, *rule)["error"]["quantiles"]["0.99"]) for rule in SHOWN_RULES
            ]
            chance = f"{level['rules']['acceptance'][0]:.2f}"
            rows.append([name, str(run["d"]), f"{level['sigma']:.2f}", chance, *cells])
    return table(head, rows)


def separable_table(runs: dict) -> str:
    """The same where every coordinate bends."""
    found = [run for run in runs.values() if run.get("family") == "separable"]
    if not found:
        return ""
    wanted = [*SHOWN_RULES[:2], ("trapezoid on the line", 4), ("trapezoid on the line", 10)]
    wanted += [("gauss_lobatto on the line", count) for count in (2, 3, 5, 10)]
    rows = []
    for run in sorted(found, key=lambda run: run["d"]):
        case = run["cases"][0]
        errors = {(r["rule"], r["num_points"]): r["error_quantiles"]["0.99"] for r in case["rules"]}
        cells = [number(errors[rule]) for rule in wanted]
        rows.append([str(run["d"]), f"{case['acceptance']:.2f}", number(case["step_size"]), *cells])
    return table(["d", "acceptance", "step", *(short(*rule) for rule in wanted)], rows)


def cost_rows(level: dict) -> dict[str, dict]:
    """The ways of spending four evaluations by name."""
    return {
        f"{way['num_leapfrog']} leapfrogs, {short(rule['rule'], rule['num_points'])}": rule
        | {"acceptance": way["acceptance"]}
        for way in level["costs"]
        for rule in way["rules"]
    }


def cost_table(runs: dict) -> str:
    """Change of the probability of acceptance by the rule's error, at four evaluations."""
    names = list(cost_rows(laws(runs)[0][1]["levels"][0]))
    rows = []
    for name, run in laws(runs):
        for level in run["levels"]:
            ways = cost_rows(level)
            cells = [f"{number(100 * ways[way]['decision_error'][0])} %" for way in names]
            chances = [f"{way['acceptance'][0]:.2f}" for way in level["costs"]]
            rows.append([name, str(run["d"]), f"{level['sigma']:.2f}", " / ".join(chances), *cells])
    return table(["law", "d", "sigma", "acceptance, 4 / 3 / 2 leapfrogs", *names], rows)


def change(law: dict) -> str:
    """How much bfloat16 shifts a mean, in percent of it."""
    shift, error = (100 * value / law["float32"][0] for value in law["difference"])
    return f"{shift:+.2f} ± {error:.2f} %"


def rough_row(name: str, run: dict, level: dict) -> list[str]:
    """What bfloat16 does at one level."""
    rough = level["bfloat16"]
    chains = rough["chains"]
    return [
        name,
        str(run["d"]),
        f"{level['sigma']:.2f}",
        number(rough["score_error"]),
        number(rough["noise"]["sd"]),
        number(rough["noise"]["quantiles"]["0.99"]),
        f"{number(100 * rough['decision_error'][0])} %",
        pair(chains["acceptance"]),
        pair(chains["acceptance_bfloat16"]),
        pair(chains["balance"]),
        pair(chains["balance_bfloat16"]),
        *(change(law) for law in chains["laws"][:2]),
    ]


def rough_table(runs: dict) -> str:
    """bfloat16 against float32, networks."""
    head = ["law", "d", "sigma", "score error", "noise of log alpha, sd, nats", "99 %"]
    head += ["decision error", "acceptance, float32", "acceptance, bfloat16"]
    head += ["log E exp(log alpha), float32", "the same, bfloat16"]
    head += ["E x², change", "E s², change"]
    rows = [
        rough_row(name, run, level)
        for name, run in laws(runs)
        for level in run["levels"]
        if "bfloat16" in level
    ]
    return table(head, rows) if rows else ""


def render(runs: dict, folder: Path) -> None:
    """Writes results/images/many-dimensions-*.md."""
    texts = {
        "paths": path_table(runs),
        "acceptance": exponent_table(runs) + "\n" + acceptance_table(runs),
        "rules": rule_table(runs) + "\n" + separable_table(runs),
        "costs": cost_table(runs),
        "bfloat16": rough_table(runs),
    }
    for name, text in texts.items():
        head = provenance(runs) + "\n\n" if text else ""
        (folder / f"many-dimensions-{name}.md").write_text(head + text)
