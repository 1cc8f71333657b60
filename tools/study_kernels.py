"""Compares Markov kernels at equal network evaluations: results/ablations/kernels.json.

    tools/study_kernels.py levels                     # at single levels, exact scores; minutes
    tools/study_kernels.py sampler [--motet build/release/bin/motet]   # in the sampler "exact"
    tools/study_kernels.py networks                   # what bfloat16 changes, on models/
    tools/kernels_table.py && tools/render_docs.py

At a level, kernels see scores only; exact draws and densities measure them. A kernel runs at the
recipe's step size (rule: c / sqrt(F), pilot to .8 acceptance) and at its own best of STEPS, found
on other seeds. All cost is in evaluations of the product for each chain of a batch, float32 = 1.
Needs numpy and scipy; networks also safetensors.
"""

import argparse
import datetime
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
from measure_seeds import numbers, sample, summary
from scipy.stats import chi2
from study_kernels_laws import Law, MixturePair, RingBar, handed_over
from study_kernels_moves import Bfloat16, Hmc, Multinomial, Nuts, start
from study_kernels_networks import measure_networks

from bench import commit, processor

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "results" / "ablations" / "kernels.json"
COMMIT = commit()  # once: the results themselves make a checkout "-dirty"
SEED = 4
NUM_CHAINS, NUM_PILOT = 2000, 500
EVALUATIONS = 48  # of a stationary run
BUDGETS = (12, 24)  # evaluations after which the error of a perturbed start is looked at
STEPS = (0.3, 0.5, 0.75, 1.05, 1.4)  # c, in units of the law's width
MAX_BIAS = 0.05  # of a statistic, in its own standard deviations; a step with more is no candidate
STATISTICS = ("x", "square", "log_density")
# Of the mixtures, levels 8 and 3 are nearly level 0: single Gaussians of .23 to .20.
PLACES = [RingBar(level) for level in (0, 20, 8, 3, 56)]
PLACES += [MixturePair(level) for level in (0, 20, 56)]


def cost_of_bfloat16() -> float:
    """A bfloat16 pass in units of a float32 one, as ./run bench measured them."""
    passes = json.loads((ROOT / "results" / "bench" / "forward.json").read_text())["results"]
    return passes["forward_bfloat16"]["milliseconds"] / passes["forward_float32"]["milliseconds"]


def kernels() -> dict:
    """By name. The recipe is hmc-2."""
    result = {f"hmc-{n}": Hmc(n) for n in (2, 1, 3, 4)}
    for n in (1, 2):
        result |= {f"ghmc-{n}-{damping}": Hmc(n, damping) for damping in (0.5, 0.8, 0.9)}
    result |= {f"multinomial-{n}": Multinomial(n) for n in (2, 4, 8)}
    result["multinomial-4-metropolised"] = Multinomial(4, metropolised=True)
    result |= {f"nuts-{n}": Nuts(n) for n in (4, 8)}
    cost = cost_of_bfloat16()
    return result | {f"bfloat16-{second}": Bfloat16(2, second, cost) for second in STAGES}


STAGES = ("none", "path", "ends")


def random(*key: int) -> np.random.Generator:
    """A stream of its own for each key."""
    return np.random.default_rng([SEED, *key])


# --- what is measured


class Reference:
    """A law's statistics by mode, from many exact draws; its scale F."""

    def __init__(self, law: Law, place: int) -> None:
        self.law = law
        x = law.draw(100_000, random(place, 0))
        values, modes = self.statistics(x), law.modes(x)
        self.sd = np.zeros(len(STATISTICS))
        self.mean = np.tile(values.mean(0), (modes.max() + 1, 1))
        for mode in np.unique(modes):
            self.mean[mode] = values[modes == mode].mean(0)
        within = values - self.mean[modes]
        self.sd = within.std(0)
        self.edges = np.quantile(within / self.sd, np.linspace(0, 1, 21)[1:-1], axis=0)
        squares = (law.score(x) ** 2).sum(1)
        self.fisher = np.median(squares) / chi2(law.dimension).median()

    def statistics(self, x: np.ndarray) -> np.ndarray:
        """(N, 3): a coordinate, the square, log density."""
        return np.stack([x[:, 0], (x**2).sum(1), self.law.log_density(x)], 1)

    def residuals(self, x: np.ndarray, modes: np.ndarray) -> np.ndarray:
        """Statistics less the mean of the mode that a chain began in, in units of their sd.

        Kernels hardly move chains between modes, and weights see to the modes' masses, so neither
        the mass error of a start nor the modes' distance is a kernel's.
        """
        return (self.statistics(x) - self.mean[modes.clip(max=len(self.mean) - 1)]) / self.sd

    def divergence(self, residuals: np.ndarray) -> float:
        """KL of each statistic's 20-bin histogram against exact quantiles, less its floor; mean."""
        num_bins = len(self.edges) + 1
        total = 0.0
        for i, edges in enumerate(self.edges.T):
            bins = np.bincount(np.searchsorted(edges, residuals[:, i]), minlength=num_bins)
            shares = bins / len(residuals)
            logs = np.log(np.maximum(shares, 1e-12) * num_bins)
            total += (shares * logs).sum() - (num_bins - 1) / (2 * len(residuals))
        return total / len(STATISTICS)


def integrated_time(series: np.ndarray) -> np.ndarray:
    """Autocorrelation time of stationary (T, N, statistics), Geyer's initial positive pairs."""
    num_steps = len(series)
    variance = (series**2).mean((0, 1))
    lags = [
        (series[: num_steps - k] * series[k:]).mean((0, 1)) / variance
        for k in range(num_steps // 2 + 1)
    ]
    times = []
    for correlation in np.array(lags).T:
        pairs = correlation[: len(correlation) // 2 * 2].reshape(-1, 2).sum(1)
        is_end = pairs <= 0
        count = is_end.argmax() if is_end.any() else len(pairs)
        times.append(max(2 * pairs[:count].sum() - 1, 0.05))
    return np.array(times)


def stationary(reference: Reference, kernel, h: float, count: int, rng) -> dict:
    """From exact draws: evaluations an independent draw costs, squared jump, bias."""
    law = reference.law
    x = law.draw(count, rng)
    state, modes = start(law, x, rng), law.modes(x)
    series, infos, jumps = [reference.residuals(x, modes)], [], []
    for _ in range(round(EVALUATIONS / max(kernel.batch_evaluations, 1))):
        previous = state.x
        state, info = kernel.step(law, state, h, rng)
        series.append(reference.residuals(state.x, modes))
        infos.append(info)
        jumps.append(((state.x - previous) ** 2).sum(1).mean() * reference.fisher / law.dimension)
    paid = float(np.mean([info.evaluations for info in infos]))
    in_batch = max(paid, kernel.batch_evaluations)
    times = integrated_time(np.array(series))
    late = np.mean(series[len(series) // 2 :], axis=0)
    return {
        "acceptance": float(np.mean([info.acceptance for info in infos])),
        "evaluations_per_step": in_batch,
        "evaluations_per_step_unbatched": paid,
        "squared_jump": float(np.mean(jumps)) / in_batch,
        "cost": dict(zip(STATISTICS, (times * in_batch).tolist(), strict=True)),
        "bias": dict(zip(STATISTICS, late.mean(0).tolist(), strict=True)),
    }


def decay(reference: Reference, kernel, h: float, per_step: float, first, rng) -> dict:
    """Error of the chains `first` after each of BUDGETS: mean and KL of the statistics."""
    law = reference.law
    state, modes = start(law, first, rng), law.modes(first)
    result, step = {}, 0
    for budget in BUDGETS:
        while (step + 1) * per_step <= budget + 1e-9:
            state, _ = kernel.step(law, state, h, rng)
            step += 1
        residuals = reference.residuals(state.x, modes)
        result[str(budget)] = {
            "width": float(residuals.mean(0)[2]),
            "kl": reference.divergence(residuals),
        }
    return result


def starts(reference: Reference, place: int) -> dict[str, np.ndarray]:
    """Perturbed starts: the sampler's own, and exact draws widened by half the law's width."""
    law, rng = reference.law, random(place, 1)
    x = law.draw(NUM_CHAINS, rng)
    noise = 0.5 / math.sqrt(reference.fisher) * rng.standard_normal(x.shape)
    return {"handed_over": handed_over(law, NUM_CHAINS, rng), "widened": x + noise}


# --- step sizes


def rule_scale(reference: Reference, kernel, rng) -> float:
    """c of the recipe: from .6 to .8 acceptance, at most a quarter of a Gaussian's period."""
    law = reference.law
    cap = 0.5 * math.pi / kernel.num_leapfrog
    c = min(0.6, cap)
    state = start(law, law.draw(NUM_PILOT, rng), rng)
    for _ in range(24):
        state, info = kernel.step(law, state, c / math.sqrt(reference.fisher), rng)
        c = min(c * math.exp(0.3 * (info.acceptance - 0.8)), cap)
    return c


def best_scale(reference: Reference, kernel, rng) -> float:
    """c of the dearest statistic's least cost, among those of little bias."""
    found = []
    for c in STEPS:
        run = stationary(reference, kernel, c / math.sqrt(reference.fisher), NUM_PILOT, rng)
        bias = max(abs(value) for value in run["bias"].values())
        found.append((bias > MAX_BIAS, max(run["cost"].values()), bias, c))
    fair = [row for row in found if not row[0]] or [min(found, key=lambda row: row[2])]
    return min(fair)[-1]


def measure(reference: Reference, kernel, c: float, perturbed: dict, key: tuple) -> dict:
    """Everything about one kernel at one step size."""
    h = c / math.sqrt(reference.fisher)
    row = {"c": c} | stationary(reference, kernel, h, NUM_CHAINS, random(*key, 0))
    for i, (name, first) in enumerate(perturbed.items(), 1):
        per_step = row["evaluations_per_step"]
        row[name] = decay(reference, kernel, h, per_step, first, random(*key, i))
    return row


def measure_place(place: int) -> dict:
    """All kernels at one level of one law."""
    reference = Reference(PLACES[place], place)
    perturbed = starts(reference, place)
    rows, best = [], {}
    for number, (name, kernel) in enumerate(kernels().items()):
        key = (place, 2, number)
        scales = {}
        if isinstance(kernel, Hmc | Bfloat16):
            scales["rule"] = rule_scale(reference, kernel, random(*key, 3))
        # The bfloat16 kernels are hmc-2 but for rounding: they take its step.
        is_low = isinstance(kernel, Bfloat16)
        best[name] = best["hmc-2"] if is_low else best_scale(reference, kernel, random(*key, 4))
        scales["best"] = best[name]
        for step, c in scales.items():
            row = measure(reference, kernel, c, perturbed, key)
            rows.append({"kernel": name, "step": step} | row)
    law = reference.law
    untouched = {}
    for name, first in perturbed.items():
        residuals = reference.residuals(first, law.modes(first))
        untouched[name] = {
            "width": float(residuals.mean(0)[2]),
            "kl": reference.divergence(residuals),
        }
    return {"law": law.name, "level": law.level, "starts": untouched, "rows": rows}


# --- in the sampler

# The recipe's 29 levels, with twice its steps for trajectories of half the length.
DOUBLED = (
    "anneal.steps_per_level=[6, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, "
    "2, 2, 2, 4, 4, 12]",
    "anneal.levels=[56, 53, 50, 46, 43, 40, 37, 34, 31, 28, 25, 22, 20, 18, 16, 14, 12, 11, 10, 9, "
    "8, 7, 6, 5, 4, 3, 2, 1, 0]",
)
RUNS = [
    *((105, 2, damping, ()) for damping in (0.0, 0.5, 0.8)),
    (105, 1, 0.5, DOUBLED),
    *((40, 1, damping, ()) for damping in (0.0, 0.5, 0.8)),
]


def measure_sampler(motet: Path, seeds: int) -> dict:
    """The sampler "exact" with other kernels, on exact scores."""
    config = "experiments/product-exact-scores.toml"
    rows = []
    for budget, num_leapfrog, damping, plan in RUNS:
        settings = [f"kernel.num_leapfrog={num_leapfrog}", f"kernel.damping={damping}", *plan]
        extra = ["--evaluations", str(budget)]
        for setting in settings:
            extra += ["--set", setting]
        runs = [sample(motet, config, seed, extra) for seed in range(1, seeds + 1)]
        rows.append(
            {
                "budget": budget,
                "num_leapfrog": num_leapfrog,
                "damping": damping,
                "evaluations_per_chain": runs[0]["evaluations_per_chain"],
                "arguments": extra,
                "commit": runs[0]["commit"],
                "summary": summary([numbers(run["metrics"]) for run in runs]),
            }
        )
        print(budget, num_leapfrog, damping, rows[-1]["summary"]["ll_true"], flush=True)
    return {"config": config, "seeds": list(range(1, seeds + 1)), "rows": rows}


# --- the file


def record(part: str, content: dict) -> None:
    """Puts one part into the file, with where and when it was measured."""
    whole = json.loads(FILE.read_text()) if FILE.is_file() else {}
    whole[part] = {
        "command": f"tools/study_kernels.py {part}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": COMMIT,
        "device": processor(),
    } | content
    FILE.parent.mkdir(parents=True, exist_ok=True)
    partial = FILE.with_suffix(".partial")
    partial.write_text(json.dumps(whole, indent=1) + "\n")
    partial.rename(FILE)


def measure_levels() -> None:
    """Every place in turn; the file has what is done so far, and a new start goes on from there."""
    head = {
        "seed": SEED,
        "num_chains": NUM_CHAINS,
        "cost_of_bfloat16": cost_of_bfloat16(),
    }
    old = json.loads(FILE.read_text()).get("levels", {}) if FILE.is_file() else {}
    is_same = old.get("commit") == COMMIT and len(old.get("places", [])) < len(PLACES)
    places = old["places"] if is_same else []
    for place in range(len(places), len(PLACES)):
        begin = time.process_time()
        found = measure_place(place)
        places.append(found | {"cpu_seconds": time.process_time() - begin})
        record("levels", head | {"places": places})
        print(found["law"], found["level"], places[-1]["cpu_seconds"], flush=True)


def main() -> int:
    """Measures one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("levels", "sampler", "networks"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    args = parser.parse_args()
    if args.part == "levels":
        measure_levels()
    elif args.part == "sampler":
        record("sampler", measure_sampler(args.motet.resolve(), args.seeds))
    else:
        record("networks", measure_networks(SEED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
