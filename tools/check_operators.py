"""Checks the formulas of docs/operators.md: results/composition/{operators,ledgers}.json.

    tools/check_operators.py [--only operators|ledgers] [--chains 8000] [--levels 450] [--seed 1]

NumPy in float64 on Gaussian mixtures, whose diffused densities are known; nothing of motet runs.

1. Identities: d Phi / d log v against v (Laplacian + G) / 2 + slope, by finite differences.
2. Weighted annealing, no MCMC: moments of the target at the last level against quadrature.
3. Ledgers: log densities carried along reverse steps and along HMC, against the exact ones.

Each case has random numbers of its own; with --only the other part's file stays as it is.
Beside each right formula stands one with a single mistake, which must fail.
"""

import argparse
import itertools
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from operator_laws import (
    Array,
    Conditioned,
    Leaf,
    Mixture,
    Normalised,
    Product,
    Ramp,
    blurred_measurement,
    blurred_region,
    classifier,
    log_sum,
    square,
    tweedie_measurement,
)
from operators_pages import ledgers_page, operators_page

from bench import commit, processor

FOLDER = Path(__file__).resolve().parent.parent / "results" / "composition"
FIRST, LAST = 20.0, 0.02  # v of the first and of the last level; the start is exact
HIGH = 1000.0  # v where ledgers start
ISLAND = 400  # chains that resample among themselves; islands are independent
POLYNOMIAL = np.array([[-3, 4, -1], [-4, 0, 4], [1, -4, 3]]) / 6  # of two leapfrogs

# One dimension: three modes, two modes, one; two dimensions: three and two modes.
A1 = Leaf([0.5, 0.3, 0.2], [-1.0, 0.4, 1.5], [0.1, 0.05, 0.2])
B1 = Leaf([0.6, 0.4], [-0.6, 1.0], [0.3, 0.15])
C1 = Leaf([1.0], [0.2], [0.8])
FAR = Leaf([1.0], [3.5], [0.05])  # parts from the others at v = 5 or so
A2 = Leaf([0.5, 0.3, 0.2], [[-1, 0], [0.5, 0.8], [0.6, -1]], [[0.1, 0.3], [0.2, 0.1], [0.1, 0.1]])
B2 = Leaf([0.6, 0.4], [[-0.5, 0.5], [0.8, -0.4]], [[0.3, 0.2], [0.2, 0.4]])
LEAVES, WEIGHTS = (A2, B2), np.array([0.7, 0.3])  # of the ledgers' mixture

LEVEL_COUNTS = (25, 50, 100, 200)
STEP_COUNTS = (1, 10, 100)
HMC_RUNS = [(v, 0.6, rule) for v in (0.5, 0.02) for rule in ("trapezoid", "polynomial")]
# Squares kept, exact start; names as in operators_pages.
CARRIES = {"ledger": (True, False), "exact_start": (True, True), "no_squares": (False, False)}


@dataclass
class Case:
    """One operator: its target, the same with a mistake, and what the mistake is."""

    name: str
    node: object
    wrong: object
    mistake: str
    dim: int = 1
    step: str = "ancestral"
    wrong_step: str = ""


def mixed_products(mistake: str = "", slope: str = "") -> Mixture:
    """0.6 (a * b) + 0.4 far^0.5, each product over its integral."""
    first = Normalised(Product([(A1, 1.0), (B1, 1.0)]), slope)
    second = Normalised(Product([(FAR, 0.5)]), slope)
    return Mixture([(first, 0.6), (second, 0.4)], mistake)


def product_cases() -> list[Case]:
    """Products, powers, negation, ramps, classifier-free guidance."""
    both, power = [(A1, 1.0), (B1, 1.0)], [(A1, 2.5)]
    plane = [(A2, 1.0), (B2, 1.0)]
    negation = [(A1, 1.5), (B1, -0.7)]
    ratio = [(A1, 1.0), (C1, -1.0, Ramp(FIRST / 10, LAST))]
    guided = [(A1, 3.0), (C1, -2.0)]
    return [
        Case("product", Product(both), Product(both, "law"), "no weights"),
        Case("product, d = 2", Product(plane), Product(plane, "law"), "no weights", 2),
        Case("tempering, a^2.5", Product(power), Product(power, "law"), "no weights"),
        Case("negation, a^1.5 / b^0.7", Product(negation), Product(negation, "sign"), "sign lost"),
        Case(
            "the same, DDIM", Product(negation), Product(negation, "sign"), "sign lost", 1, "ddim"
        ),
        Case("ramp, a / c", Product(ratio), Product(ratio, "slope"), "no slope"),
        Case("classifier-free, a^3 / c^2", Product(guided), Product(guided, "law"), "no weights"),
    ]


def mixture_cases() -> list[Case]:
    """Mixtures of products, mixtures in products, normalisers."""
    laws = [(A1, 0.3), (FAR, 0.7)]
    nested = [(mixed_products(), 1.0), (B1, 0.7)]
    wrong = [(mixed_products("law"), 1.0), (B1, 0.7)]
    deep = Product([(Mixture([(A1, 0.3), (B1, 0.7)]), 1.0), (C1, 1.0)])
    inside = Mixture([(Normalised(deep), 0.5), (FAR, 0.5)])
    no_slope = Mixture([(Normalised(deep, "slope"), 0.5), (FAR, 0.5)])
    mixed = mixed_products()
    return [
        Case("mixture of laws", Mixture(laws), Mixture(laws, "spread"), "no spread"),
        Case("mixture of products", mixed, mixed_products("spread"), "no spread"),
        Case("the same, normalisers", mixed, mixed_products("", "slope"), "no slope"),
        Case("mixture in a product", Product(nested), Product(wrong), "taken for a law"),
        Case("product of a mixture, in a mixture", inside, no_slope, "no slope"),
    ]


def likelihood_cases() -> list[Case]:
    """Measurements, regions and classifiers."""

    def case(name: str, prior, likelihood, path: str, w: float, mistake: str, words: str) -> Case:
        node = Conditioned(prior, likelihood, path, w)
        return Case(name, node, Conditioned(prior, likelihood, path, w, mistake), words)

    measured, half = blurred_measurement(0.7, 0.5), blurred_region(0.1)
    label = classifier(A1, [1, 2])
    given = Conditioned(A1, tweedie_measurement(0.7, 0.5), "given")
    plane = Conditioned(A2, tweedie_measurement(0.7, 0.5), "given")
    both = Conditioned(Product([(A1, 1.0), (B1, 1.0)]), measured, "given")
    words = "no ratio of kernels"
    return [
        case(
            "measurement that diffuses",
            A1,
            measured,
            "diffuses",
            1.0,
            "gain",
            "no squared gradient",
        ),
        case("region that diffuses", A1, half, "diffuses", 1.0, "gain", "no squared gradient"),
        case("classifier", A1, label, "joint", 1.0, "cross", "no cross term"),
        case("classifier, scale 2.5", A1, label, "joint", 2.5, "cross", "no cross term"),
        Case("given measurement", given, given, words, 1, "ancestral", "no kernels"),
        Case("given measurement, d = 2", plane, plane, words, 2, "ancestral", "no kernels"),
        Case("product, given measurement", both, both, words, 1, "ancestral", "no kernels"),
    ]


# --- identities


def laplacian(node, y: Array, v: float, h: float) -> Array:
    """Of Phi, central differences of order 6."""
    weights = np.array([2, -27, 270, -490, 270, -27, 2]) / 180
    total = np.zeros(len(y))
    for axis in range(y.shape[1]):
        move = np.zeros(y.shape[1])
        move[axis] = h
        for k, weight in zip(range(-3, 4), weights, strict=True):
            total += weight * node.at(y + k * move, v).log_density / h**2
    return total


def residual(node, dim: int, rng: np.random.Generator) -> float:
    """Largest violation of d Phi / d log v = v (Laplacian + G) / 2 + slope."""
    worst = 0.0
    for v in (0.08, 0.6, 5.0):
        y = rng.standard_normal((200, dim)) * np.sqrt(0.6 + v)
        e = 1e-3
        ends = [node.at(y, v * np.exp(k * e)).log_density for k in (-2, -1, 1, 2)]
        change = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * e)
        told = node.at(y, v)
        claimed = 0.5 * v * (laplacian(node, y, v, 0.02 * np.sqrt(0.05 + v)) + told.square_sum)
        worst = max(worst, float(abs(change - claimed - told.slope).max()))
    return worst


# --- weighted annealing


def statistics(y: Array) -> Array:
    """First, second and third moments of the first coordinate; then all others up to second."""
    columns = [y[:, 0], y[:, 0] ** 2, y[:, 0] ** 3]
    if y.shape[1] == 2:
        columns += [y[:, 1], y[:, 1] ** 2, y[:, 0] * y[:, 1]]
    return np.stack(columns, 1)


def exact_statistics(node, dim: int) -> Array:
    """Of the law at the last level, by quadrature."""
    axis = np.linspace(-7, 7, 4001 if dim == 1 else 701)
    y = axis[:, None] if dim == 1 else np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    return log_sum(node.at(y, LAST).log_density)[1] @ statistics(y)


def log_normal(y: Array, mean: Array, variance: float) -> Array:
    """Of an isotropic Gaussian, without what does not depend on the mean."""
    return -0.5 * square(y - mean) / variance


def start(node, chains: int, dim: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draws of a wide Gaussian and their log weights: the first level's law, exactly."""
    y = rng.standard_normal((chains, dim)) * np.sqrt(1.5 * FIRST)
    return y, node.at(y, FIRST).log_density + 0.5 * square(y) / (1.5 * FIRST)


def resample(log_weights: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Rows to take over, weights and log normalisers of islands whose effective size is low."""
    rows, gains = np.arange(len(log_weights)), np.zeros(len(log_weights) // ISLAND)
    log_weights = log_weights.copy()
    for island in range(len(gains)):
        own = slice(island * ISLAND, (island + 1) * ISLAND)
        total, shares = log_sum(log_weights[own])
        if 1 / (shares**2).sum() < 0.5 * ISLAND:
            places = (np.arange(ISLAND) + rng.random()) / ISLAND
            chosen = np.searchsorted(shares.cumsum(), places).clip(max=ISLAND - 1)
            rows[own] = own.start + chosen
            log_weights[own], gains[island] = 0.0, total - np.log(ISLAND)
    return rows, log_weights, gains


def reverse_step(told, y: Array, v: float, below: float, case: Case, noise: Array) -> Array:
    """From v to the level below it, driven by the whole score."""
    if case.step == "ddim":
        return y + v * (1 - np.sqrt(below / v)) * told.score
    return y + (v - below) * told.score + np.sqrt(below * (v - below) / v) * noise


def increment(told, after, v: float, below: float) -> Array:
    """What a reverse step adds to log w, but for the ratio of kernels."""
    rate = 0.25 * (v * told.rate + below * after.rate) - 0.5 * (told.slope + after.slope)
    return rate * np.log(v / below) + after.twist - told.twist


def kernels(told, y: Array, moved: Array, v: float, below: float) -> Array:
    """Log ratio of the step without the twist's score to the step that was taken."""
    gap, variance = v - below, below * (v - below) / v
    plain = log_normal(moved, y + gap * (told.score - told.twist_score), variance)
    return plain - log_normal(moved, y + gap * told.score, variance)


def anneal(node, case: Case, mistake: str, args, rng: np.random.Generator) -> tuple:
    """Chains at the last level, their log weights, and the islands' log normalisers."""
    y, log_weights = start(node, args.chains, case.dim, rng)
    told, normalisers = node.at(y, FIRST), np.zeros(args.chains // ISLAND)
    for v, below in itertools.pairwise(np.geomspace(FIRST, LAST, args.levels)):
        rows, log_weights, gains = resample(log_weights, rng)
        y, told, normalisers = y[rows], told.take(rows), normalisers + gains
        moved = reverse_step(told, y, v, below, case, rng.standard_normal(y.shape))
        after = node.at(moved, below)
        log_weights += increment(told, after, v, below)
        if told.twist_score.any() and mistake != "no kernels":
            log_weights += kernels(told, y, moved, v, below)
        y, told = moved, after
    return y, log_weights, normalisers


def annealed(node, case: Case, mistake: str, args, rng: np.random.Generator) -> dict:
    """Largest error of a moment, in standard errors and in standard deviations of the target."""
    y, log_weights, normalisers = anneal(node, case, mistake, args, rng)
    found = statistics(y)
    totals, shares = log_sum(log_weights.reshape(-1, ISLAND))
    islands = log_sum(totals + normalisers)[1]
    means = np.einsum("gi,gim->gm", shares, found.reshape(*shares.shape, -1))
    mean = islands @ means
    error = np.sqrt(islands**2 @ (means - mean) ** 2)
    every = (islands[:, None] * shares).reshape(-1)
    spread = np.sqrt(every @ (found - mean) ** 2)
    exact = exact_statistics(case.node, case.dim)
    return {
        "z": float(abs((mean - exact) / error).max()),
        "error_in_sds": float(abs((mean - exact) / spread).max()),
        "effective_islands": float(1 / (islands**2).sum()),
    }


def check_case(case: Case, args, rng: np.random.Generator) -> dict:
    """Both checks of an operator, right and wrong."""
    row = {"name": case.name, "mistake": case.mistake}
    if not case.wrong_step:
        row["residual"] = residual(case.node, case.dim, rng)
        row["residual_wrong"] = residual(case.wrong, case.dim, rng)
    began = time.process_time()
    row["right"] = annealed(case.node, case, "", args, rng)
    row["wrong"] = annealed(case.wrong, case, case.wrong_step, args, rng)
    row["seconds"] = round(time.process_time() - began, 1)
    print(row, file=sys.stderr)
    return row


# --- ledgers


def mixed_score(scores: Array, ledger: Array) -> Array:
    """The mixture's score by the ledger (B, K), from its components' (K, B, d)."""
    return np.einsum("bk,kbd->bd", log_sum(ledger + np.log(WEIGHTS))[1], scores)


def ledger_errors(ledger: Array, exact: Array) -> dict:
    """Of log p_1 / p_2; and the mean share of the first component, by both."""
    gap = (ledger - exact) @ np.array([1.0, -1.0])
    found = {"mean": float(gap.mean()), "rms": float(np.sqrt((gap**2).mean()))}
    for name, logs in (("share", ledger), ("true_share", exact)):
        shares = log_sum(logs + np.log(WEIGHTS))[1][:, 0]
        found[name] = float(shares.mean())
        found[name + "_error"] = float(shares.std() / np.sqrt(len(shares)))
    return found


def bayes(y: Array, moved: Array, scores: Array, v: float, below: float, squares: bool) -> Array:
    """What a reverse step adds to the log density of every leaf."""
    gap, variance = v - below, below * (v - below) / v
    gains = [log_normal(moved, y + gap * score, variance) for score in scores]
    if not squares:  # the mistake: |s_i|^2 left out
        gains = [
            g + 0.5 * gap**2 * square(s) / variance for g, s in zip(gains, scores, strict=True)
        ]
    return np.stack(gains, 1) - log_normal(y, moved, gap)[:, None]


def carry(levels: int, squares: bool, exact_start: bool, args, rng: np.random.Generator) -> dict:
    """Chains of a mixture driven by their ledger, down to the last level."""
    y = exact_draws(HIGH, args.chains, rng)
    scores, ledger = scores_at(y, HIGH), densities_at(y, HIGH)
    if not exact_start:  # of N(0, v); log v, the same for all leaves, is left out
        ledger = -0.5 * HIGH * (scores**2).sum(2).T
    ladder = np.geomspace(HIGH, LAST, levels)
    for v, below in itertools.pairwise(ladder):
        noise = np.sqrt(below * (v - below) / v) * rng.standard_normal(y.shape)
        moved = y + (v - below) * mixed_score(scores, ledger) + noise
        ledger = ledger + bayes(y, moved, scores, v, below, squares)
        y, scores = moved, scores_at(moved, below)
    return {"levels": levels, **ledger_errors(ledger, densities_at(y, LAST))}


def exact_draws(v: float, chains: int, rng: np.random.Generator) -> Array:
    """Of the mixture at v."""
    chosen = rng.random(chains) > WEIGHTS[0]
    y = np.empty((chains, 2))
    for index, leaf in enumerate(LEAVES):
        mode = rng.choice(len(leaf.log_weights), chains, p=np.exp(leaf.log_weights))
        draw = leaf.means[mode] + np.sqrt(leaf.variances[mode] + v) * rng.standard_normal(y.shape)
        y[chosen == index] = draw[chosen == index]
    return y


def scores_at(y: Array, v: float) -> Array:
    """Of every leaf, (K, B, d)."""
    return np.stack([leaf.at(y, v).score for leaf in LEAVES])


def densities_at(y: Array, v: float) -> Array:
    """Exact log densities of the leaves, (B, K)."""
    return np.stack([leaf.at(y, v).log_density for leaf in LEAVES], 1)


def trajectory(y: Array, ledger: Array, momentum: Array, v: float, length: float) -> tuple:
    """Two leapfrogs; the shares on the way follow the ledger by the trapezoid."""
    points, scores = [y], [scores_at(y, v)]
    for _ in range(2):
        half = momentum + 0.5 * length * mixed_score(scores[-1], ledger)
        points.append(points[-1] + length * half)
        scores.append(scores_at(points[-1], v))
        ledger = ledger + 0.5 * ((scores[-1] + scores[-2]) * (points[-1] - points[-2])).sum(2).T
        momentum = half + 0.5 * length * mixed_score(scores[-1], ledger)
    return points, scores, momentum, ledger


def hmc_ledger(v: float, step: float, rule: str, args, rng: np.random.Generator) -> dict:
    """Error of log p_1 / p_2 of a ledger that is carried along HMC at one level."""
    y = exact_draws(v, args.chains, rng)
    ledger, length = densities_at(y, v), step * np.sqrt(v + 0.1)
    rows, taken = [], []
    for count in range(1, max(STEP_COUNTS) + 1):
        momentum = rng.standard_normal(y.shape)
        points, scores, after, proposed = trajectory(y, ledger, momentum, v, length)
        if rule == "polynomial":
            path = np.stack(points)
            proposed = ledger + np.einsum("ij,ikbd,jbd->bk", POLYNOMIAL, np.stack(scores), path)
        gain = log_sum(proposed + np.log(WEIGHTS))[0] - log_sum(ledger + np.log(WEIGHTS))[0]
        gain += 0.5 * (square(momentum) - square(after))
        accepted = np.log(rng.random(len(y))) < gain
        taken.append(accepted.mean())
        y = np.where(accepted[:, None], points[-1], y)
        ledger = np.where(accepted[:, None], proposed, ledger)
        if count in STEP_COUNTS:
            rows.append({"steps": count, **ledger_errors(ledger, densities_at(y, v))})
    acceptance = float(np.mean(taken))
    return {"v": v, "step": step, "rule": rule, "acceptance": acceptance, "rows": rows}


# --- the program


def failures(record: dict) -> list[str]:
    """What is not as docs/operators.md says: right formulas that fail, mistakes that pass."""
    found = []
    for row in record.get("operators", []):
        if row["right"]["z"] > 5 or row.get("residual", 0.0) > 1e-5:
            found.append(f"{row['name']}: the formula fails")
        if row["wrong"]["z"] <= 5 or row.get("residual_wrong", 1.0) < 1e-2:
            found.append(f"{row['name']}: the mistake ({row['mistake']}) passes")
    for one in record.get("reverse_steps", {}).get("no_squares", []):
        if one["rms"] < 1:
            found.append(f"ledger, {one['levels']} levels: the mistake passes")
    return found


def check_operators(args) -> dict:
    """Identities and weighted annealing."""
    cases = [*product_cases(), *mixture_cases(), *likelihood_cases()]
    return {
        "operators": [
            check_case(case, args, np.random.default_rng([args.seed, 2, index]))
            for index, case in enumerate(cases)
        ]
    }


def check_ledgers(args) -> dict:
    """Ledgers along reverse steps and along HMC."""
    rng = np.random.default_rng([args.seed, 1])
    return {
        "reverse_steps": {
            name: [carry(levels, squares, start, args, rng) for levels in LEVEL_COUNTS]
            for name, (squares, start) in CARRIES.items()
        },
        "hmc": [hmc_ledger(v, step, rule, args, rng) for v, step, rule in HMC_RUNS],
    }


PARTS = {"operators": (check_operators, operators_page), "ledgers": (check_ledgers, ledgers_page)}


def main() -> int:
    """Runs the checks; exit status 1 where one says what it must not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--chains", type=int, default=8000)
    parser.add_argument("--levels", type=int, default=450)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    problems = []
    for name in [args.only] if args.only else PARTS:
        check, page = PARTS[name]
        record = {
            "command": " ".join(["tools/check_operators.py", *sys.argv[1:]]),
            "commit": commit(),
            "device": processor(),
            "config": {**vars(args), "first_v": FIRST, "last_v": LAST, "ledgers_first_v": HIGH},
        }
        record.update(check(args))
        (FOLDER / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        (FOLDER / f"{name}.md").write_text(page(record))
        print(page(record))
        problems += failures(record)
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
