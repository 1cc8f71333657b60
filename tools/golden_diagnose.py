"""Makes tests/golden/diagnose.json: convergence statistics by arviz-stats at fixed float64 draws.

Needs numpy, scipy and arviz-stats; the tests need only the JSON file. Run from the repository's
root: python tools/golden_diagnose.py
"""

import json
from pathlib import Path

import arviz_stats
import numpy as np
import scipy
from arviz_stats.base import array_stats
from scipy.stats import beta, t

QUANTILES = (0.05, 0.5, 0.9)


def autoregressive(rng, num_chains, num_draws, correlation):
    """Chains of a stationary AR(1) process with unit variance."""
    draws = np.empty((num_chains, num_draws))
    draws[:, 0] = rng.normal(size=num_chains)
    for i in range(1, num_draws):
        fresh = rng.normal(size=num_chains)
        draws[:, i] = correlation * draws[:, i - 1] + np.sqrt(1 - correlation**2) * fresh
    return draws


def cases(rng):
    """Draws with one difficulty each."""
    shifted = autoregressive(rng, 4, 60, 0.5)
    shifted[0] += 2.0
    wide = rng.normal(size=(4, 60))
    wide[1] *= 4.0
    return {
        "independent": rng.normal(size=(4, 50)),
        "correlated": autoregressive(rng, 3, 101, 0.9),
        "alternating": autoregressive(rng, 2, 64, -0.8),
        "shifted": shifted,
        "wide": wide,
        "heavy tails": rng.standard_cauchy(size=(4, 50)),
        "ties": rng.integers(0, 4, size=(4, 41)).astype(float),
        "one chain": autoregressive(rng, 1, 80, 0.3),
        "shortest": rng.normal(size=(2, 4)),
        "five draws": rng.normal(size=(8, 5)),
    }


def statistics(draws):
    """What arviz-stats says of (chains, draws)."""

    def of(function, **options):
        return float(function(draws, chain_axis=0, draw_axis=1, **options))

    return {
        "draws": draws.tolist(),
        "rhat": of(array_stats.rhat, method="rank") if len(draws) > 1 else None,
        "ess_bulk": of(array_stats.ess, method="bulk"),
        "ess_tail": of(array_stats.ess, method="tail", prob=0.05),
        "mcse_mean": of(array_stats.mcse, method="mean"),
        "mcse_sd": of(array_stats.mcse, method="sd"),
        "mcse_quantile": {
            str(p): of(array_stats.mcse, method="quantile", prob=p) for p in QUANTILES
        },
    }


def main():
    rng = np.random.default_rng(20264)
    betas = [(p, a, b) for p in (0.02, 0.16, 0.9) for a, b in ((0.5, 0.5), (3, 90), (700, 1300.5))]
    students = [(value, dof) for value in (-0.3, 2.0, 8.0) for dof in (3, 15)]
    golden = {
        "made_by": "tools/golden_diagnose.py",
        "versions": {
            "arviz_stats": arviz_stats.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "chains": {name: statistics(draws.round(6)) for name, draws in cases(rng).items()},
        "beta_quantiles": [[p, a, b, float(beta.ppf(p, a, b))] for p, a, b in betas],
        "student_p": [[value, dof, float(2 * t.sf(abs(value), dof))] for value, dof in students],
    }
    path = Path(__file__).resolve().parent.parent / "tests" / "golden" / "diagnose.json"
    path.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
