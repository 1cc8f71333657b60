"""Runs the sampler "exact", unchanged, on other compositions: results/exact/compositions.{json,md}.

    tools/measure_compositions.py [--motet build/release/bin/motet] [--only NAME...]
        [-- ARGUMENTS OF motet sample...]

With arguments, rows are printed and not kept.

All on exact scores whose log densities are hidden. Mixtures of d dimensions are compared with the
closed form of their product (mode weights, each mode's mean and standard deviations); plane laws
with numerical quadrature on a grid, as 64 x 64 histograms. Every measure stands beside its floor:
the same measure on as many exact draws.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "exact"
NUM_CHAINS = 20000
NUM_MODES = 8


def toml_list(array: np.ndarray) -> str:
    """Any array as nested TOML lists."""
    return json.dumps(np.asarray(array).tolist())


# --- products of two mixtures of d dimensions


def mixture_pair(d: int) -> list[dict]:
    """Two mixtures of 8 modes: the same places but for a shift, weights and widths of their own."""
    rng = np.random.default_rng(d)
    means = rng.standard_normal((NUM_MODES, d))
    factors = []
    for sd in (0.25, 0.35):
        weights = rng.dirichlet(np.full(NUM_MODES, 4.0))
        shift = 0.1 * rng.standard_normal((NUM_MODES, d))
        factors.append({"weights": weights, "means": means + shift, "sd": sd})
    return factors


def mixture_product(a: dict, b: dict) -> dict:
    """The product's components: every pair of modes that carries weight."""
    precision = 1 / a["sd"] ** 2 + 1 / b["sd"] ** 2
    gap = a["means"][:, None] - b["means"][None]
    d = gap.shape[-1]
    variance = a["sd"] ** 2 + b["sd"] ** 2
    log_weights = (
        np.log(a["weights"])[:, None]
        + np.log(b["weights"])[None]
        - 0.5 * (gap**2).sum(-1) / variance
        - 0.5 * d * np.log(variance)
    )
    weights = np.exp(log_weights - log_weights.max())
    means = (a["means"][:, None] / a["sd"] ** 2 + b["means"][None] / b["sd"] ** 2) / precision
    keep = weights / weights.sum() > 1e-9
    return {
        "weights": weights[keep] / weights[keep].sum(),
        "means": means[keep],
        "sd": precision**-0.5,
    }


def mode_errors(x: np.ndarray, law: dict) -> dict:
    """Total variation of the mode weights; largest z of a mode's means and standard deviations."""
    distance = ((x[:, None] - law["means"][None]) ** 2).sum(-1)
    nearest = distance.argmin(1)
    shares = np.bincount(nearest, minlength=len(law["weights"])) / len(x)
    z_mean, z_sd = 0.0, 0.0
    for mode in range(len(law["weights"])):
        points = x[nearest == mode]
        if len(points) < 100:
            continue
        root = len(points) ** 0.5
        z_mean = max(z_mean, abs(points.mean(0) - law["means"][mode]).max() * root / law["sd"])
        z_sd = max(z_sd, abs(points.std(0) / law["sd"] - 1).max() * root * 2**0.5)
    inside = distance.min(1) < law["sd"] ** 2 * (x.shape[1] + 6 * (2 * x.shape[1]) ** 0.5)
    return {
        "mode_weights_tv": 0.5 * abs(shares - law["weights"]).sum(),
        "largest_z_mean": z_mean,
        "largest_z_sd": z_sd,
        "outside_modes": 1.0 - inside.mean(),
    }


def draw_mixture(law: dict, count: int, rng: np.random.Generator) -> np.ndarray:
    """Exact draws of a mixture of isotropic Gaussians."""
    which = rng.choice(len(law["weights"]), size=count, p=law["weights"])
    noise = rng.standard_normal((count, law["means"].shape[1]))
    return law["means"][which] + law["sd"] * noise


# --- plane laws on a grid

SIDE, CELLS, FINE = 1.5, 64, 8  # |x|, |y| < SIDE; a histogram cell is FINE x FINE grid points


def log_mixture(points: np.ndarray, weights, means, sds) -> np.ndarray:
    """Log density of a mixture with diagonal covariances."""
    weights, means, sds = (np.asarray(part, float) for part in (weights, means, sds))
    z = (points[..., None, :] - means) / sds
    logs = np.log(weights / weights.sum()) - np.log(sds).sum(-1) - 0.5 * (z**2).sum(-1)
    top = logs.max(-1, keepdims=True)
    return (top + np.log(np.exp(logs - top).sum(-1, keepdims=True)))[..., 0] - np.log(2 * np.pi)


def ring_means() -> np.ndarray:
    """The benchmark's ring."""
    angles = 2 * np.pi * np.arange(8) / 8
    return 0.5 * np.stack([np.cos(angles), np.sin(angles)], 1)


RING = {"weights": np.full(8, 0.125), "means": ring_means(), "sds": np.full((8, 2), 0.03)}


def wide(mean: tuple, sd: tuple) -> dict:
    """One Gaussian as a mixture."""
    return {"weights": [1.0], "means": [list(mean)], "sds": [list(sd)]}


def funnel(sign: float) -> dict:
    """Gaussians of falling width along a line: a funnel's outline in steps."""
    y = np.linspace(-0.8, 0.8, 9)
    width = 0.05 * np.exp(1.2 * sign * (y + 0.8))
    means = np.stack([0 * y, y], 1)
    return {"weights": np.full(9, 1 / 9), "means": means, "sds": np.stack([width, 0 * y + 0.12], 1)}


BOX = {"low": [-0.2, -1.0], "high": [0.2, 1.0]}
HALF_PLANE = {"low": [-3.0, 0.05], "high": [3.0, 3.0]}


def board() -> dict:
    """A checkerboard of soft squares: Gaussians on every other cell of a 4 x 4 board."""
    cells = [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    means = np.array([[-0.75 + 0.5 * i, -0.75 + 0.5 * j] for i, j in cells])
    return {
        "weights": np.full(len(cells), 1 / len(cells)),
        "means": means,
        "sds": np.full((8, 2), 0.1),
    }


PLANE = {
    "ring x bar": [(RING, 1.0), (BOX, 1.0)],
    "ring^1.3 x Gaussian^-0.3": [(RING, 1.3), (wide((0.3, 0.1), (0.6, 0.6)), -0.3)],
    "ring x bar x Gaussian": [(RING, 1.0), (BOX, 1.0), (wide((0.0, 0.6), (0.4, 0.5)), 1.0)],
    "funnel x funnel": [(funnel(1.0), 1.0), (wide((0.1, 0.3), (0.15, 0.5)), 1.0)],
    "board x half-plane": [(board(), 1.0), (HALF_PLANE, 1.0)],
}


def log_factor(points: np.ndarray, law: dict) -> np.ndarray:
    """Log density of one factor, up to a constant."""
    if "low" in law:
        inside = ((points > law["low"]) & (points < law["high"])).all(-1)
        return np.where(inside, 0.0, -np.inf)
    return log_mixture(points, **law)


def cell_probabilities(factors: list) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the fine grid's points, and their coordinates."""
    count = CELLS * FINE
    axis = -SIDE + 2 * SIDE * (np.arange(count) + 0.5) / count
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    total = sum(exponent * log_factor(points, law) for law, exponent in factors)
    density = np.exp(total - total.max())
    return density / density.sum(), points


def coarse(probabilities: np.ndarray) -> np.ndarray:
    """Sums over the cells of the histogram."""
    return probabilities.reshape(CELLS, FINE, CELLS, FINE).sum((1, 3))


def histogram(x: np.ndarray) -> np.ndarray:
    """Shares of the cells; points outside the square count as one cell more."""
    edges = np.linspace(-SIDE, SIDE, CELLS + 1)
    counts, _, _ = np.histogram2d(x[:, 0], x[:, 1], bins=[edges, edges])
    return counts / len(x)


def plane_errors(x: np.ndarray, truth: np.ndarray) -> dict:
    """Total variation of the histogram."""
    shares = histogram(x)
    return {"histogram_tv": 0.5 * (abs(shares - truth).sum() + 1.0 - shares.sum())}


# --- running


def factor_toml(name: str, law: dict, exponent: float) -> str:
    """One [model.*] table."""
    lines = [f"[model.{name}]", "score_only = true", f"exponent = {float(exponent)}"]
    if "low" in law:
        lines += ['law = "uniform_box"', f"low = {law['low']}", f"high = {law['high']}"]
    else:
        sds = law["sds"] if "sds" in law else np.full((len(law["weights"]), 1), law["sd"])
        lines += [
            'law = "gaussian_mixture"',
            f"component_weights = {toml_list(law['weights'])}",
            f"means = {toml_list(law['means'])}",
            f"sds = {toml_list(sds)}",
        ]
    return "\n".join(lines) + "\n"


EXTRA: list[str] = []  # arguments of motet sample beside the config


def sample(motet: Path, factors: list, seed: int) -> tuple[np.ndarray, dict]:
    """Points and JSON of one run of motet's defaults."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        text = f"num_samples = {NUM_CHAINS}\nseed = {seed}\n"
        config.write_text(
            text + "".join(factor_toml(f"f{i}", *factor) for i, factor in enumerate(factors))
        )
        out, report = Path(folder) / "x.npy", Path(folder) / "x.json"
        command = [motet, "sample", config, "--out", out, "--json", report, "--quiet", *EXTRA]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        return np.load(out).astype(float), json.loads(report.read_text())


def describe_run(run: dict) -> dict:
    """What a row keeps of a run's JSON."""
    ess = [level["ess"] for level in run["levels"] if "ess" in level]
    return {
        "evaluations_per_chain": run["evaluations_per_chain"],
        "smallest_ess": min(ess, default=None),
        "seconds": run["seconds"]["total"],
        "commit": run["commit"],
    }


def measure_mixture(motet: Path, d: int, seed: int) -> dict:
    """One row: a product of two mixtures in d dimensions."""
    a, b = mixture_pair(d)
    law = mixture_product(a, b)
    x, run = sample(motet, [(a, 1.0), (b, 1.0)], seed)
    rng = np.random.default_rng(seed)
    floors = [mode_errors(draw_mixture(law, NUM_CHAINS, rng), law) for _ in range(10)]
    floor = {name: float(np.mean([row[name] for row in floors])) for name in floors[0]}
    return {"motet": mode_errors(x, law), "floor": floor, **describe_run(run)}


def measure_plane(motet: Path, name: str, seed: int) -> dict:
    """One row: a composition in the plane."""
    fine, points = cell_probabilities(PLANE[name])
    truth = coarse(fine)
    x, run = sample(motet, PLANE[name], seed)
    rng = np.random.default_rng(seed)
    flat = points.reshape(-1, 2)
    floors = []
    for _ in range(10):
        which = rng.choice(len(flat), size=NUM_CHAINS, p=fine.ravel())
        floors.append(plane_errors(flat[which], truth)["histogram_tv"])
    return {
        "motet": plane_errors(x, truth),
        "floor": {"histogram_tv": float(np.mean(floors))},
        **describe_run(run),
    }


def table(rows: dict) -> str:
    """Markdown: measures and their floors."""
    lines = [
        "| composition | measure | motet | exact draws | evaluations | smallest ESS |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        for measure, value in row["motet"].items():
            lines.append(
                f"| {name} | {measure.replace('_', ' ')} | {value:.4f} | "
                f"{row['floor'][measure]:.4f} | {row['evaluations_per_chain']} | "
                f"{row['smallest_ess']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measures every composition, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=1)
    args, extra = parser.parse_known_args()
    EXTRA.extend(word for word in extra if word != "--")
    file = FOLDER / "compositions.json"
    rows = json.loads(file.read_text())["rows"] if file.is_file() else {}
    jobs = {name: (measure_plane, name) for name in PLANE}
    jobs |= {f"mixtures, d = {d}": (measure_mixture, d) for d in (2, 10, 20, 50)}
    for name, (measure, what) in jobs.items():
        if args.only and name not in args.only:
            continue
        rows[name] = measure(args.motet, what, args.seed)
        print(name, json.dumps(rows[name]), flush=True)
    if EXTRA:
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    result = {"num_chains": NUM_CHAINS, "seed": args.seed, "device": "cpu", "rows": rows}
    file.write_text(json.dumps(result, indent=1, default=float) + "\n")
    (FOLDER / "compositions.md").write_text(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
