"""Ground truth of compositions in closed form or on a grid, and how far samples are from it.

Products of mixtures are known in closed form. Points are shared out among the product's modes by
each mode's posterior probability, so that every measure is unbiased on exact draws, also where
modes overlap. Plane laws are integrated on a grid; |x|, |y| < SIDE holds all of them.
"""

import numpy as np

SIDE = 1.5
CELLS = 64  # of a histogram, along each axis
FINE = 8  # points of the quadrature in a cell, along each axis


def mixture_product(a: dict, b: dict) -> dict:
    """The product of two isotropic mixtures: every pair of modes that carries weight."""
    sd_a, sd_b = a["sds"][0, 0], b["sds"][0, 0]
    precision = 1 / sd_a**2 + 1 / sd_b**2
    gap = a["means"][:, None] - b["means"][None]
    log_weights = (
        np.log(a["weights"])[:, None]
        + np.log(b["weights"])[None]
        - 0.5 * (gap**2).sum(-1) / (sd_a**2 + sd_b**2)
    )
    weights = np.exp(log_weights - log_weights.max())
    means = (a["means"][:, None] / sd_a**2 + b["means"][None] / sd_b**2) / precision
    keep = weights / weights.sum() > 1e-9
    return {
        "weights": weights[keep] / weights[keep].sum(),
        "means": means[keep],
        "sd": precision**-0.5,
    }


def draw_mixture(law: dict, count: int, rng: np.random.Generator) -> np.ndarray:
    """Exact draws of a product of mixtures."""
    which = rng.choice(len(law["weights"]), size=count, p=law["weights"])
    noise = rng.standard_normal((count, law["means"].shape[1]))
    return law["means"][which] + law["sd"] * noise


def posteriors(squares: np.ndarray, law: dict) -> np.ndarray:
    """Probability of each mode given each point (N, K), from squared distances in sds."""
    logs = np.log(law["weights"]) - 0.5 * squares
    shares = np.exp(logs - logs.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def moment_errors(z: np.ndarray, share: np.ndarray) -> tuple:
    """Mean and covariance of one mode against 0 and 1: errors, and in standard errors.

    z (N, d): points in the mode's coordinates; share (N): of each point that is the mode's. The
    standard errors are those of independent points.
    """
    d, total = z.shape[1], share.sum()
    mean = share @ z
    mean_error = np.sqrt((share**2) @ z**2)
    squares = share[:, None] * z
    second = squares.T @ z - total * np.eye(d)
    spread = (
        (squares**2).T @ z**2 - 2 * np.eye(d) * (squares.T @ squares) + (share @ share) * np.eye(d)
    )
    upper = np.triu_indices(d)
    return mean / total, mean / mean_error, second[upper] / total, (second / spread**0.5)[upper]


def mixture_errors(x: np.ndarray, law: dict) -> dict:
    """Weights, means and covariances of the modes, over modes of at least 100 expected points."""
    d, sd = x.shape[1], law["sd"]
    squares = np.stack([((x - mean) ** 2).sum(1) for mean in law["means"]], 1) / sd**2
    shares = posteriors(squares, law)
    modes = [k for k, weight in enumerate(law["weights"]) if weight * len(x) >= 100]
    parts = [moment_errors((x - law["means"][k]) / sd, shares[:, k]) for k in modes]
    means, mean_z, covariances, covariance_z = (
        np.concatenate(list_) for list_ in zip(*parts, strict=True)
    )
    return {
        "mode weights, total variation": 0.5 * abs(shares.mean(0) - law["weights"]).sum(),
        "means, rms error (sds)": (means**2).mean() ** 0.5,
        "means, largest error (standard errors)": abs(mean_z).max(),
        "covariances, rms error (variances)": (covariances**2).mean() ** 0.5,
        "covariances, largest error (standard errors)": abs(covariance_z).max(),
        "outside modes": (squares.min(1) > d + 6 * (2 * d) ** 0.5).mean(),
    }


def log_factor(points: np.ndarray, law: dict) -> np.ndarray:
    """Log density of one factor of the plane, up to a constant."""
    if "low" in law:
        inside = ((points > law["low"]) & (points < law["high"])).all(-1)
        return np.where(inside, 0.0, -np.inf)
    z = (points[..., None, :] - law["means"]) / law["sds"]
    logs = np.log(law["weights"]) - np.log(law["sds"]).sum(-1) - 0.5 * (z**2).sum(-1)
    top = logs.max(-1, keepdims=True)
    return (top + np.log(np.exp(logs - top).sum(-1, keepdims=True)))[..., 0]


def grid_points(centre: tuple, half_width: float, cells: int, fine: int = FINE) -> np.ndarray:
    """The points (n, n, 2) of the quadrature on a square of cells x cells."""
    count = cells * fine
    offsets = half_width * (2 * (np.arange(count) + 0.5) / count - 1)
    axes = [middle + offsets for middle in centre]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def grid_law(factors: list, centre: tuple, half_width: float, cells: int) -> tuple:
    """A product on a square of cells x cells: points (n, n, 2) and their probabilities."""
    points = grid_points(centre, half_width, cells)
    total = sum(exponent * log_factor(points, law) for law, exponent in factors)
    density = np.exp(total - total.max())
    return points, density / density.sum()


def draw_grid(points: np.ndarray, probabilities: np.ndarray, count: int, rng) -> np.ndarray:
    """Draws of the grid's points."""
    which = rng.choice(probabilities.size, size=count, p=probabilities.ravel())
    return points.reshape(-1, 2)[which]


def coarse(array: np.ndarray, factor: int) -> np.ndarray:
    """Sums over factor x factor entries."""
    n = len(array) // factor
    return array.reshape(n, factor, n, factor).sum((1, 3))


def histogram(x: np.ndarray, centre: tuple, half_width: float, cells: int) -> np.ndarray:
    """Shares of the cells; what is missing from 1 lies outside the square."""
    edges = [np.linspace(middle - half_width, middle + half_width, cells + 1) for middle in centre]
    return np.histogram2d(x[:, 0], x[:, 1], bins=edges)[0] / len(x)


def total_variation(shares: np.ndarray, truth: np.ndarray) -> float:
    """Of a histogram, with all that lies outside as one cell more."""
    return 0.5 * float(abs(shares - truth).sum() + 1.0 - shares.sum())


def plane_errors(x: np.ndarray, probabilities: np.ndarray) -> dict:
    """Total variation of histograms of two widths."""
    shares, truth = histogram(x, (0, 0), SIDE, CELLS), coarse(probabilities, FINE)
    return {
        "histogram 64 x 64, total variation": total_variation(shares, truth),
        "histogram 16 x 16, total variation": total_variation(coarse(shares, 4), coarse(truth, 4)),
    }


# Points of the quadrature in a cell, along each axis, of GridTruth: multiples of .1, where the hard
# edges of its laws are, then lie between points.
ALIGNED = 15
FLOOR = 0.01  # share of a uniform law on the square in a density whose logarithm is averaged


class GridTruth:
    """A law on the grid of |x|, |y| < SIDE, from its log density there, and its measures.

    Every law is taken as one that is constant in each of the grid's squares.
    """

    def __init__(self, points: np.ndarray, logs: np.ndarray) -> None:
        density = np.exp(logs - logs.max())
        self.points = points
        self.axis = points[:, 0, 0]
        self.probabilities = density / density.sum()
        self.cells = coarse(self.probabilities, ALIGNED)
        _, self.covariance = self.moments(self.probabilities)
        draws = self.draw(2000, np.random.default_rng(0))
        gaps = draws[:1000] - draws[1000:]
        self.bandwidth = float(np.median(np.hypot(gaps[:, 0], gaps[:, 1])))
        self.kernel = np.exp(-0.5 * ((self.axis[:, None] - self.axis) / self.bandwidth) ** 2)
        self.smooth = self.kernel @ self.probabilities @ self.kernel

    def moments(self, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance."""
        flat, weights = self.points.reshape(-1, 2), probabilities.ravel()
        mean = weights @ flat
        return mean, ((flat - mean) * weights[:, None]).T @ (flat - mean)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Exact draws."""
        side = self.axis[1] - self.axis[0]
        x = draw_grid(self.points, self.probabilities, count, rng)
        return x + side * (rng.random((count, 2)) - 0.5)

    def log_likelihood(self, fine: np.ndarray) -> float:
        """Mean log density, over points inside the square, of the law with the uniform share."""
        share = (1 - FLOOR) * self.probabilities + FLOOR / self.probabilities.size
        area = (self.axis[1] - self.axis[0]) ** 2
        with np.errstate(invalid="ignore"):  # no point inside: NaN
            return float((fine * np.log(share / area)).sum() / fine.sum())

    def divergence(self, shares: np.ndarray) -> float:
        """KL divergence of a histogram from the law, both with the uniform share."""
        p, q = ((1 - FLOOR) * law + FLOOR / law.size for law in (shares, self.cells))
        return float((p * np.log(p / q)).sum())

    def discrepancy(self, fine: np.ndarray, count: int) -> float:
        """Unbiased squared maximum mean discrepancy, Gaussian kernel of the bandwidth."""
        own = (fine * (self.kernel @ fine @ self.kernel)).sum()
        own = (count * own - fine.sum()) / (count - 1)
        among = (self.probabilities * self.smooth).sum()
        return float(own - 2 * (fine * self.smooth).sum() + among)

    def average(self, x: np.ndarray, values: np.ndarray) -> float:
        """Mean over the points inside the square of a function on the grid; NaN counts as 0."""
        fine = histogram(x, (0, 0), SIDE, len(self.axis))
        return float((fine * np.nan_to_num(values)).sum() / fine.sum())

    def errors(self, x: np.ndarray) -> dict:
        """Every measure of samples (N, 2); points that are not finite are outside."""
        fine = histogram(x, (0, 0), SIDE, CELLS * ALIGNED)
        shares = coarse(fine, ALIGNED)
        inside = x[(abs(x) < SIDE).all(1)]
        covariance = np.cov(inside.T) if len(inside) > 2 else np.full((2, 2), np.nan)
        return {
            "tv 64 x 64": total_variation(shares, self.cells),
            "tv 16 x 16": total_variation(coarse(shares, 4), coarse(self.cells, 4)),
            "kl 64 x 64": self.divergence(shares),
            "log likelihood": self.log_likelihood(fine),
            "variance": float(np.linalg.norm(covariance - self.covariance)),
            "1000 mmd^2": 1000 * self.discrepancy(fine, len(x)),
            "outside": 1 - float(fine.sum()),
        }
