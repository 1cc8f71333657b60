"""Writes tests/golden/analytic.json: log densities of diffused mixtures and boxes.

Needs: pip install mpmath. Run from the repository root. Computed with 60 digits straight from the
definitions, so that the far tails are right too, where float64 differences of normal cdfs are 0.
"""

import json
import pathlib

import mpmath as mp

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


def mixture_log_density(x: list, alpha_bar: mp.mpf) -> mp.mpf:
    total = mp.mpf(0)
    for weight, mean, sd in zip(MIXTURE["weights"], MIXTURE["means"], MIXTURE["sds"], strict=True):
        term = mp.mpf(weight)
        for xi, mi, si in zip(x, mean, sd, strict=True):
            variance = alpha_bar * mp.mpf(si) ** 2 + 1 - alpha_bar
            offset = xi - mp.sqrt(alpha_bar) * mp.mpf(mi)
            term *= mp.exp(-(offset**2) / (2 * variance)) / mp.sqrt(2 * mp.pi * variance)
        total += term
    return mp.log(total)


def box_log_density(x: list, alpha_bar: mp.mpf) -> mp.mpf:
    sigma = mp.sqrt(1 - alpha_bar)
    shrink = mp.sqrt(alpha_bar)
    total = mp.mpf(0)
    for xi, low, high in zip(x, BOX["low"], BOX["high"], strict=True):
        # Upper tails of |x|, by symmetry of the box about 0.
        near = (abs(xi) - shrink * mp.mpf(high)) / sigma
        far = (abs(xi) - shrink * mp.mpf(low)) / sigma
        mass = (mp.erfc(near / mp.sqrt(2)) - mp.erfc(far / mp.sqrt(2))) / 2
        total += mp.log(mass / (shrink * (mp.mpf(high) - mp.mpf(low))))
    return total


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


def main() -> None:
    golden = {"source": f"mpmath {mp.__version__}, {mp.mp.dps} digits"}
    for name, settings, log_density in [
        ("mixture", MIXTURE, mixture_log_density),
        ("box", BOX, box_log_density),
    ]:
        golden[name] = {
            **settings,
            "cases": [case(log_density, x, a) for a in ALPHA_BARS for x in POINTS],
        }
    path = pathlib.Path("tests/golden/analytic.json")
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
