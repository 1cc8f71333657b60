"""What tools/check_operators.py checks: the rules of docs/operators.md in NumPy float64.

Coordinates are y = x / sqrt(abar) and v = (1 - abar) / abar, in which a law that diffuses is its
data smoothed by N(0, v). A node tells at points y (B, d) what motet's Eval does. `mistake` makes a
node break one rule, so that a check can be seen to fail.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

Array = NDArray[np.float64]


def zero_like(y: Array) -> Array:
    """0 for every point."""
    return np.zeros(len(y))


def square(vector: Array) -> Array:
    """|vector|^2 of every row."""
    return (vector**2).sum(1)


def log_sum(logs: Array) -> tuple[Array, Array]:
    """Log of the sum of exponentials over the last axis, and the shares of its terms."""
    top = logs.max(-1, keepdims=True)
    terms = np.exp(logs - top)
    total = terms.sum(-1, keepdims=True)
    return (top + np.log(total))[..., 0], terms / total


@dataclass
class Told:
    """What a node knows at points: Phi, S, G, d Phi / d log v of its own, and a given factor's."""

    log_density: Array
    score: Array
    square_sum: Array
    slope: Array
    twist: Array
    twist_score: Array

    def take(self, rows: NDArray[np.int64]) -> "Told":
        """Of these points."""
        return Told(*(value[rows] for value in vars(self).values()))

    @property
    def rate(self) -> Array:
        """A = |S_b|^2 - G of the part that the weights' rate is about."""
        return square(self.score - self.twist_score) - self.square_sum


class Leaf:
    """A diffused mixture of Gaussians of diagonal covariances: a law, so G = |s|^2."""

    def __init__(self, weights: list, means: list, variances: list) -> None:
        self.log_weights = np.log(np.array(weights) / np.sum(weights))
        self.means = np.array(means, dtype=float).reshape(len(weights), -1)
        self.variances = np.array(variances, dtype=float).reshape(len(weights), -1)

    def parts(self, y: Array, v: float) -> Array:
        """Log weight times density of every Gaussian, (B, K)."""
        wide = self.variances + v
        gap = y[:, None] - self.means
        return self.log_weights - 0.5 * (gap**2 / wide + np.log(2 * np.pi * wide)).sum(2)

    def at(self, y: Array, v: float) -> Told:
        """What it tells at y."""
        log_density, shares = log_sum(self.parts(y, v))
        pull = (self.means - y[:, None]) / (self.variances + v)
        score = (shares[:, :, None] * pull).sum(1)
        none = zero_like(y)
        return Told(log_density, score, square(score), none, none, np.zeros_like(y))


class Ramp:
    """0 at v = first and above, 1 at v = last and below, linear in log v."""

    def __init__(self, first: float, last: float) -> None:
        self.first, self.width = first, np.log(first / last)

    def share(self, v: float) -> tuple[float, float]:
        """The share, and its derivative with respect to log v."""
        share = np.log(self.first / v) / self.width
        return float(np.clip(share, 0, 1)), -1 / self.width if 0 < share < 1 else 0.0


@dataclass
class Product:
    """prod_i p_i^{a_i}: (node, exponent) or (node, exponent, ramp)."""

    terms: list
    mistake: str = ""

    def at(self, y: Array, v: float) -> Told:
        """Sums of exponent times what each factor tells."""
        total = Told(*(zero_like(y) for _ in range(6)))
        total.score, total.twist_score = np.zeros_like(y), np.zeros_like(y)
        for node, exponent, *ramps in self.terms:
            share, change = ramps[0].share(v) if ramps else (1.0, 0.0)
            one, a = node.at(y, v), exponent * share
            sign = abs(a) if self.mistake == "sign" else a
            total.log_density = total.log_density + a * one.log_density
            total.score = total.score + a * one.score
            total.square_sum = total.square_sum + sign * one.square_sum
            total.slope = total.slope + a * one.slope
            if self.mistake != "slope":
                total.slope = total.slope + exponent * change * one.log_density
            total.twist = total.twist + a * one.twist
            total.twist_score = total.twist_score + a * one.twist_score
        if self.mistake == "law":
            total.square_sum = square(total.score)
        return total


@dataclass
class Mixture:
    """sum_k w_k exp(Phi_k)."""

    components: list
    mistake: str = ""

    def at(self, y: Array, v: float) -> Told:
        """Means under the shares, and what the spread of the scores adds to G."""
        parts = [node.at(y, v) for node, _ in self.components]
        weights = np.array([weight for _, weight in self.components])
        logs = np.stack([one.log_density for one in parts], 1) + np.log(weights / weights.sum())
        log_density, shares = log_sum(logs)
        score = sum(shares[:, k, None] * one.score for k, one in enumerate(parts))
        each = sum(shares[:, k] * one.square_sum for k, one in enumerate(parts))
        spread = sum(shares[:, k] * square(one.score) for k, one in enumerate(parts)) - square(
            score
        )
        square_sum = each if self.mistake == "spread" else each - spread
        if self.mistake == "law":
            square_sum = square(score)
        slope = sum(shares[:, k] * one.slope for k, one in enumerate(parts))
        none = zero_like(y)
        return Told(log_density, score, square_sum, slope, none, np.zeros_like(y))


class Normalised:
    """A node of one dimension over its integral at every level, by quadrature.

    The integral's own change follows from the node: d log Z / d log v = E[slope - v A / 2].
    """

    def __init__(self, node, mistake: str = "") -> None:
        self.node, self.mistake = node, mistake

    def grid(self, v: float) -> Array:
        """Points that hold all of the law."""
        reach = 6 + 9 * np.sqrt(v + 1)
        return np.linspace(-reach, reach, 3001)[:, None]

    def log_integral(self, v: float) -> tuple[float, float]:
        """log Z, and its derivative with respect to log v."""
        points = self.grid(v)
        told = self.node.at(points, v)
        total, shares = log_sum(told.log_density)
        change = (shares * (told.slope - 0.5 * v * told.rate)).sum()
        return float(total + np.log(points[1, 0] - points[0, 0])), float(change)

    def at(self, y: Array, v: float) -> Told:
        """The node's, less log Z."""
        log_integral, change = self.log_integral(v)
        told = self.node.at(y, v)
        told.log_density = told.log_density - log_integral
        if self.mistake != "slope":
            told.slope = told.slope - change
        return told


@dataclass
class Conditioned:
    """prior times exp(l)^exponent, l = likelihood(y, v, prior score) with its score."""

    prior: object
    likelihood: Callable
    path: str
    exponent: float = 1.0
    mistake: str = ""

    def at(self, y: Array, v: float) -> Told:
        """As the path of the likelihood says."""
        told = self.prior.at(y, v)
        value, score = self.likelihood(y, v, told.score)
        w = self.exponent
        gain = square(score)
        if self.path == "joint" and self.mistake != "cross":
            gain = gain + 2 * (score * told.score).sum(1)
        told.log_density = told.log_density + w * value
        told.score = told.score + w * score
        if self.path == "given":
            told.twist = told.twist + w * value
            told.twist_score = told.twist_score + w * score
        elif self.mistake != "gain":
            told.square_sum = told.square_sum + w * gain
        return told


def blurred_measurement(observed: float, sd: float) -> Callable:
    """N(observed; y_1, sd^2 + v): a law of y_1, blurred as laws are."""

    def likelihood(y: Array, v: float, _: Array) -> tuple[Array, Array]:
        score = np.zeros_like(y)
        score[:, 0] = (observed - y[:, 0]) / (sd**2 + v)
        return -0.5 * (observed - y[:, 0]) ** 2 / (sd**2 + v) - 0.5 * np.log(sd**2 + v), score

    return likelihood


def blurred_region(edge: float) -> Callable:
    """The half-space y_1 > edge, smoothed by N(0, v)."""

    def likelihood(y: Array, v: float, _: Array) -> tuple[Array, Array]:
        z = (y[:, 0] - edge) / np.sqrt(v)
        value = log_ndtr(z)
        score = np.zeros_like(y)
        score[:, 0] = np.exp(-0.5 * z**2 - value) / np.sqrt(2 * np.pi * v)
        return value, score

    return likelihood


def classifier(prior: Leaf, labelled: list) -> Callable:
    """log p(y | x_t), the label naming some of the prior's Gaussians."""
    named = Leaf(
        list(np.exp(prior.log_weights[labelled])),
        prior.means[labelled].tolist(),
        prior.variances[labelled].tolist(),
    )
    share = np.log(np.exp(prior.log_weights[labelled]).sum())

    def likelihood(y: Array, v: float, prior_score: Array) -> tuple[Array, Array]:
        one = named.at(y, v)
        return share + one.log_density - prior.at(y, v).log_density, one.score - prior_score

    return likelihood


def tweedie_measurement(observed: float, sd: float) -> Callable:
    """N(observed; x_0 by Tweedie's formula, sd^2); its score without the formula's derivative."""

    def likelihood(y: Array, v: float, prior_score: Array) -> tuple[Array, Array]:
        gap = observed - (y[:, 0] + v * prior_score[:, 0])
        score = np.zeros_like(y)
        score[:, 0] = gap / (sd**2 + v)
        return -0.5 * gap**2 / sd**2, score

    return likelihood
