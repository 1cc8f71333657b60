"""The compositions of docs/composition.md: the expression that motet gets, and its law on a grid.

Ground truth never goes through motet: a case's log density is written down a second time, on the
points of a grid, from the laws of composition_zoo.py. It may lack a constant, except where it is a
component of a mixture.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from composition_measures import ALIGNED, CELLS, SIDE, grid_points
from composition_zoo import (
    BOX_LAWS,
    BOXES,
    LAWS,
    MOONS_SD,
    SPIRALS_SD,
    moons_means,
    spirals_means,
)
from scipy.special import log_ndtr
from study_kernels_laws import alpha_bar

ALL_LAWS = LAWS | BOX_LAWS
# Laws of hundreds of Gaussians, whose sum over a grid is a product of matrices.
MANY_MODES = {"moons": (moons_means(), MOONS_SD), "spirals": (spirals_means(), SPIRALS_SD)}


class Grid:
    """The points of the quadrature, and the log densities of laws there."""

    def __init__(self) -> None:
        self.points = grid_points((0, 0), SIDE, CELLS, ALIGNED)
        self.area = (self.points[1, 0, 0] - self.points[0, 0, 0]) ** 2
        self.known: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        """Log density of a law of the zoo."""
        if name not in self.known:
            self.known[name] = self.log_density(name)
        return self.known[name]

    def log_density(self, name: str) -> np.ndarray:
        """As the zoo has it; of many modes, -inf where the density underflows."""
        if name not in MANY_MODES:
            flat = ALL_LAWS[name].log_density(self.points.reshape(-1, 2))
            return flat.reshape(self.points.shape[:2])
        means, sd = MANY_MODES[name]
        axis = self.points[:, 0, 0]
        terms = np.exp(-0.5 * ((axis - means[:, :, None]) / sd) ** 2)  # (modes, 2, n)
        density = terms[:, 0].T @ terms[:, 1] / (len(means) * 2 * np.pi * sd**2)
        with np.errstate(divide="ignore"):
            return np.log(density)

    def normalised(self, logs: np.ndarray) -> np.ndarray:
        """A product's log density with the integral taken off."""
        top = logs.max()
        return logs - top - np.log(np.exp(logs - top).sum() * self.area)

    def inside(self, name: str, *logs: np.ndarray) -> np.ndarray:
        """The sum of log densities where a law has density, -inf elsewhere."""
        has_density = np.isfinite(self[name])
        return np.where(
            has_density, sum(np.where(has_density, part, 0.0) for part in logs), -np.inf
        )

    def smeared_box(self, name: str) -> np.ndarray:
        """Log density of a box at the last level, sqrt(abar) x_0 + noise, with its tails."""
        abar = alpha_bar(0)
        sd = (1 - abar) ** 0.5
        ends = np.array(BOXES[name]) * abar**0.5
        total = np.zeros(self.points.shape[:2])
        for c in (0, 1):
            near, far = ((end - self.points[..., c]) / sd for end in ends[:, c])
            # P(near < n < far), on the side of the tail where nothing cancels
            low, high = np.where(near > 0, (-far, -near), (near, far))
            small, large = log_ndtr(low), log_ndtr(high)
            total += large + np.log1p(-np.exp(small - large)) - np.log(ends[1, c] - ends[0, c])
        return total


def mix(*parts: tuple[float, np.ndarray]) -> np.ndarray:
    """Log density of a mixture of (weight, log density), both normalised."""
    with np.errstate(divide="ignore"):
        return np.logaddexp.reduce([np.log(weight) + logs for weight, logs in parts])


@dataclass(frozen=True)
class Case:
    """One composition."""

    name: str
    operator: str
    expression: str
    laws: tuple[str, ...]
    log_density: Callable[[Grid], np.ndarray]
    tables: str = ""  # of the config, beside the models': likelihoods and regions
    samples_of: str = ""  # measured on the samples of another case, which asks for the same law
    only: tuple[str, ...] = ()  # kinds of scores that it is run with; none: all
    # Of a mixture: probability of its first component at the grid's points.
    share: Callable[[Grid], np.ndarray] | None = None


MEASURED, MEASURED_SD = 0.3, 0.2  # of x + y


def measurement(grid: Grid) -> np.ndarray:
    """Log likelihood of the measurement."""
    return -0.5 * ((MEASURED - grid.points.sum(-1)) / MEASURED_SD) ** 2


def right_half(grid: Grid) -> np.ndarray:
    """0 where x > 0, -inf elsewhere."""
    return np.where(grid.points[..., 0] > 0, 0.0, -np.inf)


# The data's standard deviation in each coordinate is what the measurement's approximation asks for.
BOARD_SD = 3**-0.5
MEASUREMENT_TOML = (
    '[model.measured]\nlikelihood = "linear_gaussian"\nmatrix = [[1.0, 1.0]]\n'
    f"observation = [{MEASURED}]\nnoise_sd = {MEASURED_SD}\nprior_sd = {BOARD_SD}\n"
)
REGION_TOML = '[model.half]\nlikelihood = "box"\nlow = [0.0, -2.0]\nhigh = [2.0, 2.0]\n'

_MATRIX = [
    Case(
        "ring * checkerboard",
        "product",
        "ring * checkerboard",
        ("ring", "checkerboard"),
        lambda g: g["ring"] + g["checkerboard"],
    ),
    Case(
        "spirals * checkerboard * blob",
        "product of three",
        "spirals * checkerboard * blob",
        ("spirals", "checkerboard", "blob"),
        lambda g: g["spirals"] + g["checkerboard"] + g["blob"],
    ),
    Case("moons^0.5", "tempering", "moons^0.5", ("moons",), lambda g: 0.5 * g["moons"]),
    Case(
        "ring / blob^0.3",
        "negation",
        "ring / blob^0.3",
        ("ring", "blob"),
        lambda g: g["ring"] - 0.3 * g["blob"],
    ),
    Case(
        "ring / ramp(blob)",
        "negation, ramp",
        "ring / ramp(blob)",
        ("ring", "blob"),
        lambda g: g["ring"] - g["blob"],
    ),
    Case(
        "0.7 ring + 0.3 bar",
        "mixture",
        "0.7 ring + 0.3 bar",
        ("ring", "bar"),
        lambda g: mix((0.7, g["ring"]), (0.3, g["bar"])),
    ),
    Case(
        "0.5 moons + 0.3 checkerboard + 0.2 blob",
        "mixture of three",
        "0.5 moons + 0.3 checkerboard + 0.2 blob",
        ("moons", "checkerboard", "blob"),
        lambda g: mix((0.5, g["moons"]), (0.3, g["checkerboard"]), (0.2, g["blob"])),
    ),
    Case(
        "(0.5 moons + 0.5 ring) * blob",
        "mixture in a product",
        "(0.5 moons + 0.5 ring) * blob",
        ("moons", "ring", "blob"),
        lambda g: mix((0.5, g["moons"]), (0.5, g["ring"])) + g["blob"],
    ),
    Case(
        "0.6 (spirals * blob) + 0.4 ring",
        "product in a mixture",
        "0.6 (spirals * blob) + 0.4 ring",
        ("spirals", "blob", "ring"),
        lambda g: mix((0.6, g.normalised(g["spirals"] + g["blob"])), (0.4, g["ring"])),
    ),
    Case(
        "checkerboard given x + y",
        "measurement",
        "checkerboard * measured",
        ("checkerboard",),
        lambda g: g["checkerboard"] + measurement(g),
        MEASUREMENT_TOML,
    ),
    Case(
        "spirals guided from blob",
        "guidance",
        "guide(spirals, blob, 0.5)",
        ("spirals", "blob"),
        lambda g: 1.5 * g["spirals"] - 0.5 * g["blob"],
    ),
    Case(
        "spirals where x > 0",
        "region",
        "spirals * half",
        ("spirals",),
        lambda g: g["spirals"] + right_half(g),
        REGION_TOML,
    ),
]
_PUBLISHED = [
    Case("ring * bar", "product", "ring * bar", ("ring", "bar"), lambda g: g["ring"] + g["bar"]),
    Case(
        "left + right",
        "mixture",
        "0.5 left + 0.5 right",
        ("left", "right"),
        lambda g: mix((0.5, g["left"]), (0.5, g["right"])),
    ),
    # The density that the formula has at the last level; in the data it has none (docs).
    Case(
        "large^1.3 / small^0.3",
        "negation, the formula's law",
        "large^1.3 / small^0.3",
        ("large", "small"),
        lambda g: 1.3 * g.smeared_box("large") - 0.3 * g.smeared_box("small"),
    ),
    Case(
        "large but not small",
        "negation, what it is meant for",
        "large^1.3 / small^0.3",
        ("large", "small"),
        lambda g: np.where(np.isfinite(g["small"]), -np.inf, g["large"]),
        samples_of="large^1.3 / small^0.3",
    ),
    Case(
        "large^1.3 / (0.95 small + 0.05 large)^0.3",
        "negation with a floor",
        "large^1.3 / (0.95 small + 0.05 large)^0.3",
        ("large", "small"),
        lambda g: g.inside(
            "large", 1.3 * g["large"], -0.3 * mix((0.95, g["small"]), (0.05, g["large"]))
        ),
    ),
]


def share_case(weight: float, adds_scores: bool) -> Case:
    """A mixture of ring and bar; or what has its scores added, measured against it."""
    rest = 1 - weight
    mixture = f"{weight:g} ring + {rest:g} bar"
    parts = ((weight, "ring"), (rest, "bar"))

    def log_density(grid: Grid) -> np.ndarray:
        return mix(*((share, grid[name]) for share, name in parts))

    def share(grid: Grid) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.exp(np.log(weight) + grid["ring"] - log_density(grid))

    return Case(
        f"{mixture}, scores added" if adds_scores else mixture,
        "scores added" if adds_scores else "mixture",
        f"ring^{weight:g} * bar^{rest:g}" if adds_scores else mixture,
        ("ring", "bar"),
        log_density,
        only=("exact scores",) if adds_scores else (),
        share=share,
    )


_SHARES = [share_case(weight, adds) for adds in (False, True) for weight in (0.5, 0.7)]
MATRIX = {case.name: case for case in _MATRIX}
PUBLISHED = {case.name: case for case in _PUBLISHED}
SHARES = {case.name: case for case in _SHARES}
MIXED = {"ring * bar": PUBLISHED["ring * bar"]}
