"""The laws of docs/composition.md: factors, compositions, ground truth and measures.

Mixtures of d dimensions have a product in closed form; plane laws are integrated on a grid. Used by
tools/composition_networks.py, which trains a network for each factor, and by
tools/measure_compositions.py, which samples and measures.
"""

import json

import numpy as np

NUM_MODES = 8
DIMENSIONS = (2, 10, 20, 50)


def wide(mean: tuple, sd: tuple) -> dict:
    """One Gaussian as a mixture."""
    return {"weights": np.ones(1), "means": np.array([mean]), "sds": np.array([sd])}


def ring() -> dict:
    """The benchmark's ring."""
    angles = 2 * np.pi * np.arange(8) / 8
    means = 0.5 * np.stack([np.cos(angles), np.sin(angles)], 1)
    return {"weights": np.full(8, 0.125), "means": means, "sds": np.full((8, 2), 0.03)}


def funnel() -> dict:
    """Gaussians of growing width along a line: a funnel's outline in steps."""
    y = np.linspace(-0.8, 0.8, 9)
    width = 0.05 * np.exp(1.2 * (y + 0.8))
    means = np.stack([0 * y, y], 1)
    return {"weights": np.full(9, 1 / 9), "means": means, "sds": np.stack([width, 0 * y + 0.12], 1)}


def board() -> dict:
    """A checkerboard of soft squares: Gaussians on every other cell of a 4 x 4 board."""
    cells = [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    means = np.array([[-0.75 + 0.5 * i, -0.75 + 0.5 * j] for i, j in cells])
    return {"weights": np.full(8, 1 / 8), "means": means, "sds": np.full((8, 2), 0.1)}


def mixture_pair(d: int) -> list[dict]:
    """Two mixtures of 8 modes: the same places but for a shift, weights and widths of their own."""
    rng = np.random.default_rng(d)
    means = rng.standard_normal((NUM_MODES, d))
    factors = []
    for sd in (0.25, 0.35):
        weights = rng.dirichlet(np.full(NUM_MODES, 4.0))
        shift = 0.1 * rng.standard_normal((NUM_MODES, d))
        factors.append(
            {"weights": weights, "means": means + shift, "sds": np.full((NUM_MODES, 1), sd)}
        )
    return factors


FACTORS = {
    "ring": ring(),
    "bar": {"low": [-0.2, -1.0], "high": [0.2, 1.0]},
    "negated": wide((0.3, 0.1), (0.6, 0.6)),
    "third": wide((0.0, 0.6), (0.4, 0.5)),
    "funnel": funnel(),
    "partner": wide((0.1, 0.3), (0.15, 0.5)),
    "board": board(),
    "half-plane": {"low": [-3.0, 0.05], "high": [3.0, 3.0]},
}
for _d in DIMENSIONS:
    FACTORS |= dict(zip((f"mixture-{_d}-a", f"mixture-{_d}-b"), mixture_pair(_d), strict=True))

# Name of a composition -> its factors and their exponents.
PLANE = {
    "ring x bar": {"ring": 1.0, "bar": 1.0},
    "ring^1.3 x Gaussian^-0.3": {"ring": 1.3, "negated": -0.3},
    "ring x bar x Gaussian": {"ring": 1.0, "bar": 1.0, "third": 1.0},
    "funnel x funnel": {"funnel": 1.0, "partner": 1.0},
    "board x half-plane": {"board": 1.0, "half-plane": 1.0},
}
MIXTURES = {
    f"mixtures, d = {d}": {f"mixture-{d}-a": 1.0, f"mixture-{d}-b": 1.0} for d in DIMENSIONS
}


def law_toml(law: dict) -> str:
    """The keys of a law, as [model.*] and [data] have them."""
    if "low" in law:
        return f'law = "uniform_box"\nlow = {law["low"]}\nhigh = {law["high"]}\n'
    return (
        'law = "gaussian_mixture"\n'
        f"component_weights = {json.dumps(law['weights'].tolist())}\n"
        f"means = {json.dumps(law['means'].tolist())}\n"
        f"sds = {json.dumps(law['sds'].tolist())}\n"
    )
