"""Writes tests/golden/analytic.json: log densities of diffused laws, and scikit-learn's moons.

Needs: pip install mpmath numpy scikit-learn. Run from the repository root. Computed with 60 digits
straight from the definitions, so that the far tails are right too, where float64 differences of
normal cdfs are 0.
"""

import json
import pathlib
from functools import partial

import mpmath as mp
import numpy as np
import sklearn
from sklearn.datasets import make_moons

mp.mp.dps = 60

MIXTURE = {
    "weights": [0.5, 0.3, 0.2],
    "means": [[0.3, -0.2], [-0.5, 0.4], [0.1, 0.9]],
    "sds": [[0.1, 0.2], [0.3, 0.15], [0.05, 0.4]],
}
BOX = {"low": [-0.2, -1.0], "high": [0.2, 1.0]}
ALPHA_BARS = [0.99937, 0.9, 0.3, 1e-4, 1e-9, 1e-20]
POINTS = [
    [0.0, 0.0],
    [0.1, -0.3],
    [0.2, 1.0],
    [-0.25, 0.5],
    [1.5, -2.0],
    [-10.0, 10.0],
    [0.0, 300.0],
]


# The points of a checkerboard, a pair of moons and two spirals: inside, between, far out.
PLANE_POINTS = [
    [0.0, 0.0],
    [0.31, -0.42],
    [-0.75, 0.5],
    [1.0, 1.0],
    [-1.5, 0.1],
    [-10.0, 9.0],
    [3.0, 300.0],
]
PLANE_ALPHA_BARS = [0.99937, 0.9, 0.3, 1e-9]
NUM_MOONS = 1_000_000
MOONS_CELLS = 12  # a side of [-1.3, 1.3]^2


def mixture_log_density(x: list, alpha_bar: mp.mpf, mixture: dict = MIXTURE) -> mp.mpf:
    total = mp.mpf(0)
    parts = zip(mixture["weights"], mixture["means"], mixture["sds"], strict=True)
    for weight, mean, sd in parts:
        term = mp.mpf(weight)
        for xi, mi, si in zip(x, mean, sd, strict=True):
            variance = alpha_bar * mp.mpf(si) ** 2 + 1 - alpha_bar
            offset = xi - mp.sqrt(alpha_bar) * mp.mpf(mi)
            term *= mp.exp(-(offset**2) / (2 * variance)) / mp.sqrt(2 * mp.pi * variance)
        total += term
    return mp.log(total)


def box_density(x: list, alpha_bar: mp.mpf, low: list, high: list) -> mp.mpf:
    sigma = mp.sqrt(1 - alpha_bar)
    shrink = mp.sqrt(alpha_bar)
    total = mp.mpf(1)
    for xi, lower, upper in zip(x, low, high, strict=True):
        # Upper tails of the distance from the centre, by symmetry about it.
        centre = shrink * (mp.mpf(lower) + mp.mpf(upper)) / 2
        width = shrink * (mp.mpf(upper) - mp.mpf(lower))
        near = (abs(xi - centre) - width / 2) / sigma
        far = (abs(xi - centre) + width / 2) / sigma
        mass = (mp.erfc(near / mp.sqrt(2)) - mp.erfc(far / mp.sqrt(2))) / 2
        total *= mass / width
    return total


def box_log_density(x: list, alpha_bar: mp.mpf) -> mp.mpf:
    return mp.log(box_density(x, alpha_bar, BOX["low"], BOX["high"]))


def checkerboard_log_density(x: list, alpha_bar: mp.mpf) -> mp.mpf:
    half = mp.mpf(1) / 2
    corners = [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    boxes = [[i * half - 1, j * half - 1] for i, j in corners]
    terms = [box_density(x, alpha_bar, low, [v + half for v in low]) for low in boxes]
    return mp.log(mp.fsum(terms) / len(terms))


def moons_mixture() -> dict:
    means = []
    for k in range(128):
        angle = mp.pi * (k + mp.mpf(1) / 2) / 128
        means.append([(mp.cos(angle) - 0.5) / 1.5, (mp.sin(angle) - 0.25) / 1.5])
        means.append([(0.5 - mp.cos(angle)) / 1.5, (0.25 - mp.sin(angle)) / 1.5])
    return even(means, mp.mpf(1) / 30)


def spirals_mixture() -> dict:
    means = []
    for k in range(100):
        share = mp.sqrt((k + mp.mpf(1) / 2) / 100)
        x, y = share * mp.cos(3 * mp.pi * share), share * mp.sin(3 * mp.pi * share)
        means += [[0.9 * x, 0.9 * y], [-0.9 * x, -0.9 * y]]
    return even(means, 0.04)


def even(means: list, sd: float) -> dict:
    count = len(means)
    return {"weights": [mp.mpf(1) / count] * count, "means": means, "sds": [[sd, sd]] * count}


def sklearn_moons() -> dict:
    """Shares of scikit-learn's moons, moved and shrunk as motet's, in the cells of a square."""
    points, _ = make_moons(NUM_MOONS, noise=0.05, random_state=0)
    points = (points - [0.5, 0.25]) / 1.5
    edges = np.linspace(-1.3, 1.3, MOONS_CELLS + 1)
    counts, _, _ = np.histogram2d(*points.T, bins=[edges, edges])
    return {
        "source": f"scikit-learn {sklearn.__version__}, make_moons",
        "num_samples": NUM_MOONS,
        "half": 1.3,
        "counts": counts.astype(int).ravel().tolist(),
    }


def case(log_density, x: list, alpha_bar: float) -> dict:
    point = [mp.mpf(v) for v in x]
    level = mp.mpf(alpha_bar)
    score = []
    for i in range(len(x)):

        def along(v, i=i):
            return log_density([*point[:i], v, *point[i + 1 :]], level)

        score.append(float(mp.diff(along, point[i], h=mp.mpf("1e-20"))))
    return {
        "x": x,
        "alpha_bar": alpha_bar,
        "log_density": float(log_density(point, level)),
        "score": score,
    }


def cases(log_density, alpha_bars: list, points: list) -> list:
    return [case(log_density, x, a) for a in alpha_bars for x in points]


def main() -> None:
    golden = {"source": f"mpmath {mp.__version__}, {mp.mp.dps} digits"}
    for name, settings, log_density in [
        ("mixture", MIXTURE, mixture_log_density),
        ("box", BOX, box_log_density),
    ]:
        golden[name] = {**settings, "cases": cases(log_density, ALPHA_BARS, POINTS)}
    plane = {
        "checkerboard": checkerboard_log_density,
        "moons": partial(mixture_log_density, mixture=moons_mixture()),
        "spirals": partial(mixture_log_density, mixture=spirals_mixture()),
    }
    for name, log_density in plane.items():
        golden[name] = {"cases": cases(log_density, PLANE_ALPHA_BARS, PLANE_POINTS)}
    golden["sklearn_moons"] = sklearn_moons()
    path = pathlib.Path("tests/golden/analytic.json")
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
