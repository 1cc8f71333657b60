"""The laws of docs/guidance.md: points of two classes in the plane, and what guidance makes of it.

Each class is a mixture of Gaussians, and so are all points together. Guided densities are known in
closed form at the data, p(x) p(y | x)^power up to a constant. Used by tools/guidance_networks.py,
which trains the networks, and by tools/measure_guidance.py.
"""

import json

import numpy as np
from composition_measures import log_factor

# Of each component of the law of all points.
WEIGHTS = np.array([0.20, 0.16, 0.14, 0.20, 0.18, 0.12])
MEANS = np.array(
    [[-0.55, 0.35], [0.15, 0.55], [0.00, -0.50], [0.40, 0.35], [-0.10, -0.20], [-0.55, -0.45]]
)
SDS = np.array([0.16, 0.20, 0.16, 0.20, 0.22, 0.16])
LABELS = np.array([0, 0, 0, 1, 1, 1])
GUIDED = 0  # the class y
POWERS = (1.0, 2.0, 4.0)  # of p(y | x)


def law(label: int | None = None) -> dict:
    """The law of one class, or of all points, as composition_measures takes it."""
    keep = np.isin(LABELS, LABELS if label is None else label)
    weights = WEIGHTS[keep]
    return {
        "weights": weights / weights.sum(),
        "means": MEANS[keep],
        "sds": np.repeat(SDS[keep, None], 2, 1),
    }


def law_toml(label: int | None = None, labels: bool = False) -> str:
    """The same as the keys of [model.*] and [data]; with the class of each component."""
    found = law(label)
    text = (
        'law = "gaussian_mixture"\n'
        f"component_weights = {json.dumps(found['weights'].tolist())}\n"
        f"means = {json.dumps(found['means'].tolist())}\n"
        f"sds = {json.dumps(found['sds'].tolist())}\n"
    )
    return text + (f"component_labels = {json.dumps(LABELS.tolist())}\n" if labels else "")


def log_share(points: np.ndarray) -> np.ndarray:
    """log p(y = GUIDED | x) of data points, by Bayes' rule."""
    prior = WEIGHTS[LABELS == GUIDED].sum()
    return np.log(prior) + log_factor(points, law(GUIDED)) - log_factor(points, law())


def log_guided(points: np.ndarray, power: float) -> np.ndarray:
    """log p(x) p(y | x)^power of data points, up to a constant."""
    return log_factor(points, law()) + power * log_share(points)


def nearest_component(points: np.ndarray) -> np.ndarray:
    """Index of the component of the guided class whose mean is nearest."""
    means = law(GUIDED)["means"]
    return ((points[..., None, :] - means) ** 2).sum(-1).argmin(-1)
