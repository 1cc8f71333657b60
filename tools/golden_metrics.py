"""Makes tests/golden/metrics.json: metrics by other codes at fixed float64 inputs.

Needs numpy, scipy, scikit-learn and POT; the tests need only the JSON file. Run from the
repository's root: python tools/golden_metrics.py
"""

import json
from pathlib import Path

import numpy as np
import ot
import scipy
import sklearn
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist
from scipy.special import logsumexp
from scipy.stats import energy_distance, norm
from sklearn.mixture import GaussianMixture


def product_like(rng, size, share_upper, sd):
    """Points about (0, +-.5), rounded so that the file stays small."""
    centre = np.where(rng.random(size) < share_upper, 0.5, -0.5)
    points = rng.normal(scale=sd, size=(size, 2))
    points[:, 1] += centre
    return points.round(6)


def contaminated(rng, size):
    """A poor sample: 30 % of the points in the ring's other modes."""
    points = product_like(rng, size, 0.6, 0.04)
    mode = rng.integers(8, size=size)
    stray = rng.random(size) < 0.3
    ring = 0.5 * np.stack([np.cos(np.pi * mode / 4), np.sin(np.pi * mode / 4)], axis=1)
    points[stray] = ring[stray] + rng.normal(scale=0.03, size=(stray.sum(), 2))
    return points.round(6)


def transport(x, y, directions):
    cost = cdist(x, y, "sqeuclidean")
    rows, columns = linear_sum_assignment(cost)
    uniform = np.full(len(x), 1 / len(x))
    fold = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    folded = [p * fold[0] + np.abs(p) * fold[1] for p in (x, y)]
    folded_cost = cdist(*folded, "sqeuclidean")
    return {
        "w2_scipy": float(np.sqrt(cost[rows, columns].mean())),
        "w2_pot": float(np.sqrt(ot.emd2(uniform, uniform, cost))),
        "w2_folded_pot": float(np.sqrt(ot.emd2(uniform, uniform, folded_cost))),
        "w2_sliced_pot": float(ot.sliced_wasserstein_distance(x, y, projections=directions.T, p=2)),
    }


def mmd_squared(x, y, bandwidth):
    def kernel(a, b):
        return np.exp(-cdist(a, b, "sqeuclidean") / (2 * bandwidth**2))

    def off_diagonal_mean(k):
        return (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))

    within = off_diagonal_mean(kernel(x, x)) + off_diagonal_mean(kernel(y, y))
    return float(within - 2 * kernel(x, y).mean())


def pair_distances(x, y):
    energy = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    median = float(np.median(pdist(np.concatenate([x, y]))))
    return {
        "energy": float(energy),
        "energy_scipy_1d": float(energy_distance(x[:, 1], y[:, 1]) ** 2),
        "mmd_bandwidth": 0.1,
        "mmd": mmd_squared(x, y, 0.1),
        "median_distance": median,
        "mmd_median": mmd_squared(x, y, median),
    }


def mixture(x, num_components):
    fit = GaussianMixture(num_components, covariance_type="diag", n_init=20, random_state=0).fit(x)
    order = np.argsort(fit.means_[:, -1])
    return {
        "num_components": num_components,
        "weights": fit.weights_[order].tolist(),
        "means": fit.means_[order].tolist(),
        "variances": fit.covariances_[order].tolist(),
        "log_likelihood": float(fit.score(x)),
    }


def log_likelihoods(x):
    """True log densities, and those with the sign of the ring's log normaliser turned round."""
    sd, half, height, outer, inside = 0.03, 0.2, 1.0, 1.1, 0.99
    angle = np.arange(8) * np.pi / 4
    centres = 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def mass(bounds):
        low = norm.cdf(-np.array(bounds), loc=centres, scale=sd)
        return (norm.cdf(bounds, loc=centres, scale=sd) - low).prod(axis=1).mean()

    inner_height = inside / (4 * half * height)
    outer_height = (1 - inside) / (4 * outer**2 - 4 * half * height)
    inner_mass = mass([half, height])
    total = inner_mass * inner_height + (mass([outer, outer]) - inner_mass) * outer_height
    size = np.abs(x)
    in_bar = (size[:, 0] < half) & (size[:, 1] < height)
    in_box = (size < outer).all(axis=1)
    bar = np.where(in_bar, inner_height, np.where(in_box, outer_height, 0.0))
    exponents = -cdist(x, centres, "sqeuclidean") / (2 * sd**2)
    log_normaliser = np.log(8 * 2 * np.pi * sd**2)
    with np.errstate(divide="ignore"):
        rest = logsumexp(exponents, axis=1) + np.log(bar) - np.log(total)
    values = rest - log_normaliser
    return {
        "log_density": [v if np.isfinite(v) else None for v in values.tolist()],
        "num_outside": int((~in_box).sum()),
        "ll_true": float(values[in_box].mean()),
        "ll_paper": float((rest + log_normaliser)[in_box].mean()),
    }


def mode_report(x, centres, radius):
    distance = cdist(x, centres)
    nearest = np.where(distance.min(axis=1) <= radius, distance.argmin(axis=1), -1)
    members = [x[nearest == k] for k in range(len(centres))]
    return {
        "centres": centres.tolist(),
        "radius": radius,
        "fractions": [len(m) / len(x) for m in members],
        "sd": [m.std(axis=0, ddof=1).tolist() for m in members],
        "outside": float((nearest < 0).mean()),
    }


def main():
    rng = np.random.default_rng(20231)
    x = contaminated(rng, 200)
    y = product_like(rng, 200, 0.5, 0.03)
    cloud = rng.normal(size=(120, 3)).round(6)
    cloud[:50] += [3.0, 0.0, -4.0]
    cloud[90:] *= 0.3
    cost = rng.normal(size=(40, 40)).round(6)
    _, columns = linear_sum_assignment(cost)
    directions = rng.normal(size=(20, 2))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    probes = np.array([[1.05, 1.05], [-0.4, 0.3], [1.2, 0.0], [0.0, -1.3], [0.0, 1.05], [0, 0]])
    spread = np.concatenate([x[:30], probes])
    golden = {
        "made_by": "tools/golden_metrics.py",
        "versions": {m.__name__: m.__version__ for m in (np, scipy, sklearn, ot)},
        "x": x.tolist(),
        "y": y.tolist(),
        "cloud": cloud.tolist(),
        "directions": directions.tolist(),
        "transport": transport(x, y, directions),
        "assignment": {"cost": cost.tolist(), "columns": columns.tolist()},
        "pairs": pair_distances(x[:150], y),
        "mixtures": {"x": mixture(x, 2), "y": mixture(y, 2), "cloud": mixture(cloud, 3)},
        "benchmark": {"x": spread.tolist(), **log_likelihoods(spread)},
        "modes": mode_report(x, np.array([[0.0, 0.5], [0.0, -0.5]]), 0.19),
    }
    path = Path(__file__).resolve().parent.parent / "tests" / "golden" / "metrics.json"
    path.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
