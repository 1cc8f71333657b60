"""The laws on which tools/study_kernels.py compares kernels: products at one noise level.

Each gives exact scores (all that a kernel sees), log densities and exact draws (which only the
measures see), and the start that the sampler "exact" hands to a level's kernel.
"""

import math

import numpy as np
from composition_laws import mixture_pair
from composition_measures import draw_mixture, mixture_product
from composition_zoo import ring_means
from scipy.special import erf, erfcx

NUM_LEVELS = 100
# Levels of interest, and before each the one that the plan of 40 evaluations has on the benchmark:
# the coarse plan hands over more error. None: the first level, which starts from a Gaussian.
LEVELS = {56: None, 20: 26, 8: 11, 3: 4, 0: 1}


def alpha_bar(level: int) -> float:
    """The cosine schedule (its largest beta, .999, is only reached above level 97)."""

    def cosine(t: float) -> float:
        return math.cos((t / NUM_LEVELS + 0.008) / 1.008 * math.pi / 2) ** 2

    return cosine(level + 1) / cosine(0)


def log_sum_exp(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the last axis, with the terms' shares."""
    top = logs.max(-1, keepdims=True)
    terms = np.exp(logs - top)
    total = terms.sum(-1, keepdims=True)
    return (top + np.log(total))[..., 0], terms / total


class Mixture:
    """A diffused mixture of isotropic Gaussians of one width."""

    def __init__(self, weights: np.ndarray, means: np.ndarray, sd: float, level: int) -> None:
        abar = alpha_bar(level)
        self.weights = np.asarray(weights) / np.sum(weights)
        self.means = math.sqrt(abar) * np.asarray(means)
        self.variance = abar * sd**2 + 1 - abar

    def shares(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density up to a constant, and the modes' shares, (N) and (N, modes)."""
        cross = x @ self.means.T - 0.5 * (self.means**2).sum(1)
        logs, shares = log_sum_exp(np.log(self.weights) + cross / self.variance)
        return logs - 0.5 * (x**2).sum(1) / self.variance, shares

    def score(self, x: np.ndarray) -> np.ndarray:
        """(N, d)."""
        return (self.shares(x)[1] @ self.means - x) / self.variance


class Box:
    """A diffused uniform law on |x_c| < half_c."""

    def __init__(self, halves: tuple[float, ...], level: int) -> None:
        abar = alpha_bar(level)
        self.sigma = math.sqrt(1 - abar)
        self.reach = math.sqrt(abar) * np.asarray(halves) / self.sigma

    def _parts(self, x: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # As src/analytic.cpp: outside the box a difference of two scaled tails, inside two erfs.
        u = np.abs(x) / self.sigma
        near, far, fall = u - reach, u + reach, 2 * reach * u
        root = math.sqrt(0.5)
        tails = erfcx(np.maximum(near, 0) * root) - np.exp(-fall) * erfcx(far * root)
        inner = erf(-near * root) + erf(far * root)
        outside = near >= 0
        gaussian = -0.5 * near**2
        log_mass = np.where(outside, gaussian + np.log(tails), np.log(np.maximum(inner, 1e-300)))
        edge = np.where(outside, 1 / tails, np.exp(gaussian) / np.maximum(inner, 1e-300))
        score = math.sqrt(2 / math.pi) * np.expm1(-fall) * edge * np.sign(x) / self.sigma
        return log_mass, score

    def log_density(self, x: np.ndarray, coordinate: int | None = None) -> np.ndarray:
        """Up to a constant: of all coordinates (N, d) -> (N), or of one, any shape."""
        if coordinate is not None:
            return self._parts(x, self.reach[coordinate])[0]
        return self._parts(x, self.reach)[0].sum(1)

    def score(self, x: np.ndarray) -> np.ndarray:
        """(N, d)."""
        return self._parts(x, self.reach)[1]


class Law:
    """The product of two factors at a level; subclasses know how to draw it."""

    def __init__(self, name: str, level: int, factors: tuple) -> None:
        self.name, self.level, self.factors = name, level, factors

    def score(self, x: np.ndarray) -> np.ndarray:
        """The sum of the factors' scores, (N, d)."""
        return self.factors[0].score(x) + self.factors[1].score(x)


class RingBar(Law):
    """The benchmark: a ring of 8 modes times a bar."""

    dimension = 2

    def __init__(self, level: int) -> None:
        ring = Mixture(np.full(8, 0.125), ring_means(), 0.03, level)
        super().__init__("ring x bar", level, (ring, Box((0.2, 1.0), level)))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Up to a constant, (N)."""
        ring, bar = self.factors
        return ring.shares(x)[0] + bar.log_density(x)

    def modes(self, x: np.ndarray) -> np.ndarray:
        """Which of the two modes a point is nearer to."""
        return (x[:, 1] > 0).astype(int)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Exact draws: each ring mode times the bar is a product of laws of one coordinate."""
        ring, bar = self.factors
        sd = math.sqrt(ring.variance)
        offsets = sd * np.linspace(-8, 8, 4001)
        points = ring.means[:, :, None] + offsets  # (8, 2, 4001)
        logs = np.stack([bar.log_density(points[:, c], c) for c in (0, 1)], 1)
        mass = np.exp(logs - 0.5 * (offsets / sd) ** 2).cumsum(-1)
        weights = mass[..., -1].prod(1)
        which = rng.choice(8, size=count, p=weights / weights.sum())
        x = np.empty((count, 2))
        for mode in range(8):
            rows = np.flatnonzero(which == mode)
            for c in (0, 1):
                u = rng.random(len(rows)) * mass[mode, c, -1]
                x[rows, c] = np.interp(u, mass[mode, c], points[mode, c])
        return x


class MixturePair(Law):
    """Two mixtures of 8 modes in 20 dimensions, as in tools/measure_compositions.py."""

    dimension = 20

    def __init__(self, level: int) -> None:
        pair = mixture_pair(self.dimension)
        factors = tuple(Mixture(f["weights"], f["means"], f["sds"][0, 0], level) for f in pair)
        super().__init__("8-mode mixtures, d = 20", level, factors)
        a, b = (
            {"weights": f.weights, "means": f.means, "sds": np.array([[math.sqrt(f.variance)]])}
            for f in factors
        )
        self.product = mixture_product(a, b)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Up to a constant, (N)."""
        return self.factors[0].shares(x)[0] + self.factors[1].shares(x)[0]

    def modes(self, x: np.ndarray) -> np.ndarray:
        """The likeliest of the product's modes."""
        means, variance = self.product["means"], self.product["sd"] ** 2
        cross = (x @ means.T - 0.5 * (means**2).sum(1)) / variance
        return (cross + np.log(self.product["weights"])).argmax(1)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Exact draws."""
        return draw_mixture(self.product, count, rng)


def handed_over(law: Law, count: int, rng: np.random.Generator) -> np.ndarray:
    """What the sampler hands to a level's kernel.

    Exact draws of the level before, one ancestral step, the Feynman-Kac weight of that step
    (docs/method.md, Weights), systematic resampling; at the first level the Gaussian.
    """
    before = LEVELS[law.level]
    if before is None:
        sd = math.sqrt((1 - alpha_bar(law.level)) / len(law.factors))
        return sd * rng.standard_normal((count, law.dimension))
    above = type(law)(before)
    x = above.draw(count, rng)
    alpha = alpha_bar(before) / alpha_bar(law.level)
    beta = 1 - alpha
    variance = beta * (1 - alpha_bar(law.level)) / (1 - alpha_bar(before))
    mean = (x + beta * above.score(x)) / math.sqrt(alpha)
    y = mean + math.sqrt(variance) * rng.standard_normal(x.shape)

    def growth(of: Law, points: np.ndarray) -> np.ndarray:
        first, second = (factor.score(points) for factor in of.factors)
        return alpha_bar(of.level) * (first * second).sum(1)

    def v(level: int) -> float:
        return 1 / alpha_bar(level) - 1

    logs = 0.5 * (growth(above, x) + growth(law, y)) * (v(before) - v(law.level))
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    places = (np.arange(count) + rng.random()) / count
    picks = np.searchsorted(weights.cumsum(), places).clip(max=count - 1)
    return rng.permutation(y[picks])
