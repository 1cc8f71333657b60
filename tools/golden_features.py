"""Makes tests/golden/features.json: Frechet distances and diversities by numpy and scipy.

Needs numpy and scipy; the tests need only the JSON file, and make the points by the same formula.
Run from the repository's root: python tools/golden_features.py
"""

import json
from pathlib import Path

import numpy as np
import scipy
from scipy.linalg import sqrtm
from scipy.spatial.distance import pdist


def points(rows, columns, seed):
    """A fixed, smooth but irregular cloud: the tests make the same one."""
    i = np.arange(rows)[:, None]
    j = np.arange(columns)[None, :]
    return np.sin(1.7 * i + 0.3 * j * j + seed) + 0.2 * j * np.cos(0.9 * i * (j + 1) + 2 * seed)


def frechet(a, b):
    """As the FID codes have it, with the true square root of the product."""
    root = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False))
    gap = a.mean(0) - b.mean(0)
    traces = np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False))
    return float(gap @ gap + traces - 2 * np.trace(root).real)


def main():
    cases = []
    for rows_a, rows_b, columns in [(60, 50, 5), (200, 200, 12), (40, 70, 1 + 1)]:
        a, b = points(rows_a, columns, 0.1), 1.2 * points(rows_b, columns, 0.8) + 0.1
        cases.append({"shape": [rows_a, rows_b, columns], "frechet": frechet(a, b)})
    rows = points(31, 4, 0.4)
    labels = np.arange(31) % 3
    diversity = [float(pdist(rows[labels == k]).mean()) for k in range(3)]
    golden = {
        "made_by": "tools/golden_features.py",
        "versions": {m.__name__: m.__version__ for m in (np, scipy)},
        "frechet": cases,
        "diversity": diversity,
    }
    path = Path(__file__).resolve().parent.parent / "tests" / "golden" / "features.json"
    path.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
