"""Plots of tools/measure_many_dimensions.py: docs/img/many-dimensions-*.svg.

A law has one colour everywhere, by its dimension; networks are full lines or dots, mixtures with
known densities dashed ones or circles, isotropic Gaussians grey.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from image_runs import COLOURS, Frame, plots, span, text_at
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

DIMS = (2, 64, 784, 3072)
GREY = "#8a93a3"
LONGEST = 3.2  # step shown, in units of the scaling
WIDEST = 3.0  # sd of log alpha shown, nats


@dataclass
class Series:
    """Points of one law: joined, or as dots."""

    name: str
    x: list[float]
    y: list[float]
    colour: str
    is_dashed: bool = False
    is_dots: bool = False

    def parts(self, frame: Frame) -> str:
        """Its marks."""
        pixels = [(frame.across(a), frame.down(b)) for a, b in zip(self.x, self.y, strict=True)]
        dash = ' stroke-dasharray="5 3"' if self.is_dashed else ""
        if not self.is_dots:
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in pixels)
            return f'<polyline stroke="{self.colour}"{dash} points="{points}"/>'
        fill = "none" if self.is_dashed else self.colour
        return "".join(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" stroke="{self.colour}" fill="{fill}"/>'
            for a, b in pixels
        )

    def key(self, x: float, y: float) -> str:
        """Its line of the legend."""
        if self.is_dots:
            fill = "none" if self.is_dashed else self.colour
            mark = f'<circle cx="{x + 9}" cy="{y - 4}" r="3" stroke="{self.colour}" fill="{fill}"/>'
        else:
            dash = ' stroke-dasharray="5 3"' if self.is_dashed else ""
            mark = f'<path stroke="{self.colour}"{dash} d="M{x},{y - 4}h18"/>'
        return mark + text_at(x + 23, y, self.name)


def series(name: str, run: dict, x: list[float], y: list[float], is_dots: bool = False) -> Series:
    """A law's points in its colour."""
    colour = COLOURS[DIMS.index(run["d"])] if run["d"] in DIMS else GREY
    return Series(f"{name}, d = {run['d']}", x, y, colour, "exact" in name, is_dots)


def panel(
    title: str,
    axes: tuple[str, str],
    every: list[Series],
    y_range: tuple[float, float] | None = None,
) -> tuple[str, int, int]:
    """A plot of series with a legend on its right, as plots() takes it."""
    frame = Frame(span([one.x for one in every]), y_range or span([one.y for one in every]))
    parts = frame.parts(title, axes)
    for row, one in enumerate(every):
        parts += [one.parts(frame), one.key(frame.width + 4, frame.top + 10 + 18 * row)]
    width = frame.width + 34 + 7 * max(len(one.name) for one in every)
    return "".join(parts), width, max(frame.height, frame.top + 18 * len(every) + 10)


def log10(values: list[float]) -> list[float]:
    """Base-10 logarithms, at least -12."""
    return [math.log10(max(value, 1e-12)) for value in values]


def path_plot(runs: dict) -> str:
    """Path dependence over the noise; and against what the curl predicts."""
    over, against = [], []
    for name, run in laws(runs):
        if "exact" in name:
            continue
        steps = [sampler_step(level) for level in run["levels"]]
        found = log10([step["path_dependence"]["sd"] for step in steps])
        one = series(name, run, [level["sigma"] for level in run["levels"]], found)
        one.is_dashed = "energy" in name
        over.append(one)
        if "energy" in name:
            continue
        by_curl = [
            predicted_dependence(
                level["paths"]["curl"][0], run["d"], step["step_size"] / level["scale"]
            )
            for level, step in zip(run["levels"], steps, strict=True)
        ]
        against.append(series(name, run, log10(by_curl), found, is_dots=True))
    if not against:
        return ""
    low, high = span([values for one in against for values in (one.x, one.y)])
    against.append(Series("equal", [low, high], [low, high], GREY))
    axes = ("sigma of the level", "log10 of sd, nats")
    panels = [panel("Path dependence at the sampler's step", axes, over)]
    axes = ("log10 of curl sqrt(d) (T / l)³ / 6", "log10 of sd, nats")
    panels.append(panel("Path dependence against the curl's", axes, against))
    return plots("Path dependence of networks", panels, 2)


def theory_curve(kernel: str, dim: int) -> Series:
    """Scaled steps and acceptance of an isotropic Gaussian."""
    power = KERNELS[kernel][1]
    if kernel == "hmc, fixed length":
        pairs = [(math.pi / 2 / count, count) for count in range(40, 0, -1)]
    else:
        count = NUM_LEAPFROG if kernel == "hmc" else 1
        pairs = [(step / dim**power, count) for step in np.linspace(0.4, 2.0, 33)]
    rows = [
        (step * dim**power, acceptance_of(gaussian_sd(dim, step, count)))
        for step, count in pairs
        if step * dim**power <= LONGEST
    ]
    return Series(f"Gaussian, d = {dim}", [x for x, _ in rows], [y for _, y in rows], GREY)


def acceptance_plot(runs: dict, sigma: float = 0.5) -> str:
    """Acceptance against scaled steps, a panel a kernel; against the sd of log alpha."""
    panels = []
    for kernel, (title, power) in KERNELS.items():
        every = []
        for name, run in laws(runs):
            level = level_at(run, sigma)
            if level is None or "energy" in name:
                continue
            steps, chances = curve_of(level, kernel)
            rows = [(step * run["d"] ** power, y) for step, y in zip(steps, chances, strict=True)]
            rows = [row for row in rows if row[0] <= LONGEST]
            every.append(series(name, run, [x for x, _ in rows], [y for _, y in rows]))
        every.append(theory_curve(kernel, 784))
        axes = (f"step d^(1/{round(1 / power)}) / l", "acceptance")
        panels.append(panel(f"{title}, sigma {sigma:g}", axes, every, (0.0, 1.0)))
    panels.append(spread_panel(runs))
    return plots("Acceptance against step size", panels, 2)


def spread_panel(runs: dict) -> tuple[str, int, int]:
    """Acceptance against the sd of log alpha, all levels and kernels of a law."""
    every = []
    for name, run in laws(runs):
        rows = [
            (row["log_accept"]["sd"], row["acceptance"][0])
            for level in run["levels"]
            for kernel in KERNELS
            for row in level["steps"][kernel]
        ]
        rows = [row for row in rows if row[0] is not None and row[0] <= WIDEST]
        if "energy" not in name:
            every.append(series(name, run, [x for x, _ in rows], [y for _, y in rows], True))
    x = list(np.linspace(0.0, WIDEST, 31))
    every.append(Series("2 Φ(-s/2)", x, [acceptance_of(s) for s in x], GREY))
    axes = ("sd s of log alpha, nats", "acceptance")
    return panel("All levels and kernels", axes, every, (0.0, 1.0))


def rule_panel(name: str, run: dict, level: dict) -> tuple[str, int, int]:
    """Errors of log alpha over extra evaluations."""
    every = []
    for number, family in enumerate(("trapezoid on the line", "gauss_lobatto on the line")):
        rules = [rule for rule in level["rules"]["rules"] if rule["rule"] == family]
        errors = log10([rule["error"]["quantiles"]["0.99"] for rule in rules])
        costs = [rule["evaluations"] for rule in rules]
        every.append(Series(short(family, 0), costs, errors, COLOURS[number]))
    for number, family in enumerate(("trapezoid on the curve", "polynomial on the curve")):
        error = log10([rule_of(level, family, 0)["error"]["quantiles"]["0.99"]])
        words = short(family, 0) + ", at no cost"
        every.append(Series(words, [0, 8], error * 2, COLOURS[2 + number], is_dashed=True))
    title = f"{name}, d = {run['d']}, sigma {level['sigma']:.2f}"
    return panel(title, ("extra evaluations a proposal", "log10 of 99 % error, nats"), every)


def rule_plot(runs: dict) -> str:
    """A panel a law, of mixtures in many dimensions where their modes merge."""
    panels = []
    for name, run in laws(runs):
        level = level_at(run, 0.99 if "exact" in name and run["d"] > 64 else 0.5)
        if level is not None and "energy" not in name:
            panels.append(rule_panel(name, run, level))
    return plots("Errors of log alpha", panels, 2)


def rough_plot(runs: dict) -> str:
    """bfloat16: noise of log alpha over the level's noise, and what it changes."""
    noises, changes = [], []
    for name, run in laws(runs):
        levels = [level for level in run["levels"] if "bfloat16" in level]
        if not levels:
            continue
        sigmas = [level["sigma"] for level in levels]
        sds = log10([level["bfloat16"]["noise"]["sd"] for level in levels])
        shares = log10([level["bfloat16"]["decision_error"][0] for level in levels])
        for found, values in ((noises, sds), (changes, shares)):
            one = series(name, run, sigmas, values)
            one.is_dashed = "energy" in name
            found.append(one)
    if not noises:
        return ""
    axes = ("sigma of the level", "log10 of sd, nats")
    panels = [panel("bfloat16: noise of log alpha", axes, noises)]
    axes = ("sigma of the level", "log10 of mean change")
    panels.append(panel("bfloat16: change of the acceptance probability", axes, changes))
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
