"""Plots of tools/measure_many_dimensions.py: docs/img/many-dimensions-*.svg."""

import math
from pathlib import Path

import numpy as np
from image_runs import line_plot, plots
from many_dimensions_tables import (
    KERNELS,
    NUM_LEAPFROG,
    acceptance_of,
    curve_of,
    gaussian_sd,
    laws,
    level_at,
    predicted_dependence,
    rule_of,
    sampler_step,
    short,
)


def log10(values: list[float]) -> list[float]:
    """Base-10 logarithms, at least -12."""
    return [math.log10(max(value, 1e-12)) for value in values]


def path_plot(runs: dict) -> str:
    """Path dependence over the noise, both arithmetics; and against what the curl predicts."""
    over, against = {}, {}
    for name, run in laws(runs):
        if "exact" in name:
            continue
        sigmas = [level["sigma"] for level in run["levels"]]
        found = [sampler_step(level)["path_dependence"]["sd"] for level in run["levels"]]
        over[f"{name}, d = {run['d']}"] = (sigmas, log10(found))
        if "energy" in name:
            continue
        by_curl = [
            predicted_dependence(
                level["paths"]["curl"][0],
                run["d"],
                sampler_step(level)["step_size"] / level["scale"],
            )
            for level in run["levels"]
        ]
        against[f"{name}, d = {run['d']}"] = tuple(
            map(list, zip(*sorted(zip(log10(by_curl), log10(found), strict=True)), strict=True))
        )
        rough = [level["bfloat16"] for level in run["levels"] if "bfloat16" in level]
        if len(rough) == len(sigmas):
            noisy = [sampler_step({"paths": part})["path_dependence"]["sd"] for part in rough]
            over[f"the same, bfloat16 ({run['d']})"] = (sigmas, log10(noisy))
    every = [value for x, y in against.values() for value in (*x, *y)]
    ends = [min(every), max(every)]
    against["equal"] = (ends, ends)
    axes = ("sigma of the level", "log10 of sd, nats")
    panels = [line_plot("Path dependence at the sampler's step", axes, over)]
    words = ("log10 of what the curl predicts, nats", "log10 of sd, nats")
    panels.append(line_plot("Path dependence by the curl", words, against))
    return plots("Path dependence of networks", panels)


def theory_curve(kernel: str, dim: int) -> tuple[list[float], list[float]]:
    """Scaled steps and acceptance of an isotropic Gaussian."""
    power = KERNELS[kernel][1]
    if kernel == "hmc, fixed length":
        counts = list(range(1, 41))
        pairs = [(math.pi / 2 / count, count) for count in reversed(counts)]
    else:
        count = NUM_LEAPFROG if kernel == "hmc" else 1
        pairs = [(step / dim**power, count) for step in np.linspace(0.4, 2.0, 33)]
    x = [step * dim**power for step, _ in pairs]
    return x, [acceptance_of(gaussian_sd(dim, step, count)) for step, count in pairs]


def acceptance_plot(runs: dict, sigma: float = 0.5) -> str:
    """Acceptance against scaled steps, a panel a kernel; against the sd of log alpha."""
    panels = []
    for kernel, (title, power) in KERNELS.items():
        curves = {}
        for name, run in laws(runs):
            level = level_at(run, sigma)
            if level is None or "energy" in name:
                continue
            steps, chances = curve_of(level, kernel)
            scaled = [(step * run["d"] ** power, y) for step, y in zip(steps, chances, strict=True)]
            kept = [row for row in scaled if row[0] <= 3.2]
            curves[f"{name}, d = {run['d']}"] = ([x for x, _ in kept], [y for _, y in kept])
        x, y = theory_curve(kernel, 784)
        kept = [row for row in zip(x, y, strict=True) if row[0] <= 3.2]
        curves["Gaussian, d = 784"] = ([x for x, _ in kept], [y for _, y in kept])
        axes = (f"step d^(1/{round(1 / power)}) / l", "acceptance")
        panels.append(line_plot(f"{title}, sigma {sigma:g}", axes, curves, (0.0, 1.0)))
    panels.append(spread_panel(runs))
    return plots("Acceptance against step size", panels, 2)


def spread_panel(runs: dict) -> tuple[str, int, int]:
    """Acceptance against the sd of log alpha, all levels and kernels of a law."""
    curves = {}
    for name, run in laws(runs):
        rows = [
            (row["log_accept"]["sd"], row["acceptance"][0])
            for level in run["levels"]
            for kernel in KERNELS
            for row in level["steps"][kernel]
        ]
        kept = sorted(row for row in rows if row[0] <= 3)
        if "network" in name and "energy" not in name:
            curves[f"{name}, d = {run['d']}"] = ([x for x, _ in kept], [y for _, y in kept])
    x = list(np.linspace(0.0, 3.0, 31))
    curves["2 Φ(-s/2)"] = (x, [acceptance_of(s) for s in x])
    axes = ("sd s of log alpha, nats", "acceptance")
    return line_plot("All levels and kernels", axes, curves, (0.0, 1.0))


def rule_plot(runs: dict, sigma: float = 0.5) -> str:
    """Errors of log alpha over extra evaluations, a panel a law."""
    panels = []
    for name, run in laws(runs):
        level = level_at(run, sigma if "network" in name or run["d"] < 100 else 0.99)
        if level is None or "energy" in name:
            continue
        curves = {}
        for family in ("trapezoid on the line", "gauss_lobatto on the line"):
            rules = [rule for rule in level["rules"]["rules"] if rule["rule"] == family]
            costs = [rule["evaluations"] for rule in rules]
            errors = [rule["error"]["quantiles"]["0.99"] for rule in rules]
            curves[short(family, 0)] = (costs, log10(errors))
        for family in ("trapezoid on the curve", "polynomial on the curve"):
            error = rule_of(level, family, 0)["error"]["quantiles"]["0.99"]
            curves[short(family, 0) + " (no cost)"] = ([0, 8], log10([error, error]))
        title = f"{name}, d = {run['d']}, sigma {level['sigma']:.2f}"
        axes = ("extra evaluations a proposal", "log10 of 99 % error, nats")
        panels.append(line_plot(title, axes, curves))
    return plots("Errors of log alpha", panels, 2)


def rough_plot(runs: dict) -> str:
    """bfloat16: noise of log alpha over the level's noise."""
    noises, changes = {}, {}
    for name, run in laws(runs):
        levels = [level for level in run["levels"] if "bfloat16" in level]
        if not levels:
            continue
        sigmas = [level["sigma"] for level in levels]
        key = f"{name}, d = {run['d']}"
        noises[key] = (sigmas, log10([level["bfloat16"]["noise"]["sd"] for level in levels]))
        shares = [level["bfloat16"]["decision_error"][0] for level in levels]
        changes[key] = (sigmas, log10(shares))
    if not noises:
        return ""
    words = "log10 of sd, nats"
    panels = [line_plot("bfloat16: noise of log alpha", ("sigma of the level", words), noises)]
    axes = ("sigma of the level", "log10 of mean change")
    panels.append(line_plot("bfloat16: change of the acceptance probability", axes, changes))
    return plots("What bfloat16 does to the Metropolis test", panels, 2)


def render(runs: dict, images: Path) -> None:
    """Writes docs/img/many-dimensions-*.svg."""
    pictures = {
        "paths": path_plot(runs),
        "acceptance": acceptance_plot(runs),
        "rules": rule_plot(runs),
        "bfloat16": rough_plot(runs),
    }
    images.mkdir(parents=True, exist_ok=True)
    for name, text in pictures.items():
        if text:
            (images / f"many-dimensions-{name}.svg").write_text(text)
