"""Varies one choice of a sampler at a time: results/ablations/AXIS.json, one row a run.

    ./run build bench && tools/measure_ablations.py [--only AXIS...]
    tools/ablations_table.py && tools/render_docs.py

Rows that a file already has are kept, so that a stopped call goes on where it was; remove a file to
measure it again. One process of one thread at a time, about 20 minutes in all. Five axes are in
tools/ablation_points.py ("published": their runs of hmc-4-curve); the others: "ratios", "dimension"
(line against curve, d = 2 to 100), "corrupted" (bench/measure_corrupted.cpp), "energy" and
"energy-short" (energy against score networks).
"""

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path

import ablation_points as points
import numpy as np
from ablation_points import FOLDER, ROOT, Point, Programs, RunError, settings
from composition_laws import law_toml, mixture_pair
from composition_measures import draw_mixture, mixture_product
from measure_seeds import exact_points, numbers

from bench import commit, processor

COMMIT = commit()  # before this writes into results/, which git would call a change
SEEDS = (1, 2, 3, 4)
DIMENSIONS = (2, 5, 10, 20, 50, 100)
AMPLITUDES = (0.03, 0.1, 0.2, 0.4)
# Whose milliseconds a step of training costs (results/bench/train_step.json).
STEP_COST = {"score": "score_bfloat16", "energy": "energy_bfloat16"}
SHIPPED_STEPS, SHORT_SCORE_STEPS = 15000, 2000


class Table:
    """The rows of one axis, on disk after each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = FOLDER / f"{name}.json"
        self.rows = json.loads(self.path.read_text())["rows"] if self.path.is_file() else []

    def has(self, **key: object) -> bool:
        """Whether a row with these entries is there."""
        return any(all(row.get(name) == value for name, value in key.items()) for row in self.rows)

    def add(self, row: dict) -> None:
        """One row more, on disk at once; NaN, which JSON has not, as null."""
        self.rows.append({key: None if value != value else value for key, value in row.items()})
        FOLDER.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        text = json.dumps({"axis": self.name, "rows": self.rows}, indent=1, default=float)
        partial.write_text(text + "\n")
        partial.rename(self.path)
        shown = {name: value for name, value in row.items() if name not in ("command", "cases")}
        print(self.name, str(shown)[:160], flush=True)


def known_row(command: str) -> dict:
    """What the same run gave on any axis; empty if none has it."""
    for path in sorted(FOLDER.glob("*.json")):
        for row in json.loads(path.read_text()).get("rows", []):
            if row["command"] == command:
                return row
    return {}


def level_numbers(run: dict) -> dict:
    """Acceptance of all proposals and at the last level with steps; smallest ESS; cost."""
    result = {
        "smallest_ess": min(
            (level["ess"] for level in run["levels"] if "ess" in level), default=None
        ),
        "num_levels": len(run["levels"]),
        "evaluations_per_chain": run["evaluations_per_chain"],
    }
    levels = [level for level in run["levels"] if level["num_steps"] > 0]
    if levels:
        steps = sum(level["num_steps"] for level in levels)
        accepted = sum(level["acceptance"] * level["num_steps"] for level in levels)
        result |= {"acceptance": accepted / steps, "acceptance_last": levels[-1]["acceptance"]}
    return result


def measure_point(programs: Programs, table: Table, point: Point, seed: int) -> None:
    """One run of an axis of the benchmark, unless it is there."""
    key = {"series": point.series, "x": point.x, "seed": seed}
    if seed > point.num_seeds or table.has(**key):
        return
    words = point.words + settings(metrics__num_samples=points.NUM_MEASURED)
    command = ["motet", "sample", point.config, "--seed", str(seed), *words]
    row = {**key, "command": " ".join(command)}
    if known := known_row(row["command"]):
        table.add(known | key)
        return
    try:
        run = programs.sample(point.config, seed, words)
    except RunError as error:
        table.add({**row, "device": processor(), "failure": str(error)})
        return
    where = {word: run.get(word) for word in ("commit", "device", "compute_used")}
    table.add({**row, **numbers(run["metrics"]), **level_numbers(run), **where})


def measure_exact_samples(programs: Programs, seed: int) -> None:
    """As many exact draws as are measured of every run."""
    table = Table("exact-samples")
    if table.has(seed=seed):
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "points.npy"
        np.save(file, exact_points(seed, points.NUM_MEASURED))
        out = programs.call([programs.motet, "eval", file, "--target", "product", "--json"])
    run = json.loads(out)
    row = {"seed": seed, **numbers(run.get("metrics", run)), "device": processor()}
    table.add(row | {"commit": COMMIT, "command": "tools/measure_ablations.py exact-samples"})


def measure_axis(name: str, is_published: bool = False):
    """The measuring of one axis of ablation_points.py: of motet's own sampler or hmc-4-curve."""

    def measure(programs: Programs, seed: int) -> None:
        table = Table(name)
        for point in points.AXES[name](programs):
            if point.series.startswith("published") == is_published:
                measure_point(programs, table, point, seed)

    return measure


def measure_published(programs: Programs, seed: int) -> None:
    """hmc-4-curve on every axis: the dearest runs."""
    for name in points.AXES:
        measure_axis(name, is_published=True)(programs, seed)


# --- line against curve as the dimension grows


def measure_ratios(programs: Programs, seed: int) -> None:
    """Errors of log alpha of each rule (bench/measure_dimension.cpp); its chains need one seed."""
    table = Table("ratios")
    for family in ("mixtures", "separable"):
        for d in DIMENSIONS:
            if seed > 1 or table.has(family=family, d=d):
                continue
            row = programs.experiment("measure_dimension", family, d)
            row |= {"commit": COMMIT, "device": processor()}
            table.add(row | {"command": f"measure_dimension {family} {d}"})


def soft_errors(x: np.ndarray, law: dict) -> dict:
    """Errors of the modes' weights and widths.

    Points are shared out among modes by the product's own probabilities, so that modes may overlap:
    exact draws have the weights, and a variance ratio of 1, in the mean.
    """
    square = ((x[:, None] - law["means"][None]) ** 2).sum(-1) / law["sd"] ** 2
    logs = np.log(law["weights"]) - 0.5 * square
    shares = np.exp(logs - logs.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return {
        "weights_tv": 0.5 * abs(shares.mean(0) - law["weights"]).sum(),
        "variance_ratio": (shares * square).sum() / x.size,
    }


def ratio_choices(first: int) -> dict[str, list[str]]:
    """Log ratios of the sampler exact in 105 evaluations, with as many levels as these leave."""
    line = {"ratio__type": "line", "ratio__rule": "gauss_lobatto", "ratio__num_points": 4}
    by_line = points.plan(points.spread(first, 13), points.recipe_steps(13))
    return {
        "polynomial on the curve": [],
        "trapezoid on the curve": settings(ratio__rule="trapezoid", ratio__guard=0),
        "gauss_lobatto on the line": by_line + settings(**line, ratio__guard=0),
    }


def measure_mixture(programs: Programs, table: Table, d: int, seed: int, folder: Path) -> None:
    """The sampler exact with each log ratio on a product of two mixtures of d dimensions."""
    factors = mixture_pair(d)
    law = mixture_product(*factors)
    config, out = folder / f"mixtures-{d}.toml", folder / "x.npy"
    parts = [
        f"[model.f{i}]\nscore_only = true\n" + law_toml(factor) for i, factor in enumerate(factors)
    ]
    config.write_text("num_samples = 2000\n" + "".join(parts))
    if all(table.has(series=name, x=d, seed=seed) for name in ratio_choices(99)):
        return
    first = programs.sample(config, 1, ["--num-samples", "16"])["levels"][0]["index"]
    for series, words in ratio_choices(first).items():
        if table.has(series=series, x=d, seed=seed):
            continue
        run = programs.sample(config, seed, [*words, "--out", str(out)])
        x = np.load(out).astype(float)
        exact = draw_mixture(law, len(x), np.random.default_rng(seed))
        floor = {f"floor_{name}": value for name, value in soft_errors(exact, law).items()}
        row = {"series": series, "x": d, "seed": seed} | soft_errors(x, law) | floor
        row |= level_numbers(run) | {name: run[name] for name in ("commit", "device")}
        command = ["motet", "sample", config.name, "--seed", str(seed), *words]
        table.add(row | {"command": "tools/measure_ablations.py: " + " ".join(command)})


def measure_dimension(programs: Programs, seed: int) -> None:
    """Mixtures of every dimension."""
    table = Table("dimension")
    with tempfile.TemporaryDirectory() as folder:
        for d in DIMENSIONS:
            if seed < 4:
                measure_mixture(programs, table, d, seed, Path(folder))


# --- corrupted scores


def measure_corrupted(programs: Programs, seed: int) -> None:
    """The sampler exact under each Metropolis test; a field of its own for each seed."""
    table = Table("corrupted")
    kinds = [("rotated", 0.0)]
    kinds += [(kind, rms) for kind in ("conservative", "rotated") for rms in AMPLITUDES]
    for kind, rms in kinds:
        if not table.has(kind=kind, rms=rms, seed=seed):
            row = programs.experiment("measure_corrupted", kind, rms, seed)
            row |= {"commit": COMMIT, "device": processor()}
            table.add(row | {"command": f"measure_corrupted {kind} {rms:g} {seed}"})


# --- energy against score networks


def num_short_steps() -> dict[str, int]:
    """Steps of the short trainings, of equal cost."""
    passes = json.loads((ROOT / "results" / "bench" / "train_step.json").read_text())["passes"]
    costs = {kind: passes[name]["fastest_milliseconds"] for kind, name in STEP_COST.items()}
    ratio = costs["score"] / costs["energy"]
    return {"score": SHORT_SCORE_STEPS, "energy": round(SHORT_SCORE_STEPS * ratio)}


def train(programs: Programs, law: str, kind: str, num_steps: int) -> Path:
    """A network of recipe motet, trained if it is not there; what it cost goes to its record."""
    weights = ROOT / "build" / "ablations" / f"{law}-{kind}-{num_steps}.safetensors"
    table = Table("energy-training")
    key = {"law": law, "kind": kind, "num_steps": num_steps}
    if weights.is_file() and table.has(**key):
        return weights
    weights.parent.mkdir(parents=True, exist_ok=True)
    config = f"experiments/train-{law}{'-energy' if kind == 'energy' else ''}.toml"
    words = settings(train__recipe="motet", train__num_steps=num_steps, train__mixed_precision=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    programs.call([programs.motet, "train", config, "--out", weights, "--quiet", *words])
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    table.rows = [row for row in table.rows if not key.items() <= row.items()]
    table.add(
        key
        | {
            "cpu_seconds": round(seconds, 1),
            "commit": COMMIT,
            "device": processor(),
            "command": " ".join(["motet train", config, *words]),
        }
    )
    return weights


def network_files(programs: Programs, kind: str, num_steps: int) -> dict[str, str]:
    """Weights of both laws, relative to experiments/: shipped ones (15,000 steps) or our own."""
    if num_steps == SHIPPED_STEPS:
        suffix = "-energy" if kind == "energy" else ""
        return {law: f"../models/{law}{suffix}.safetensors" for law in ("ring", "bar")}
    files = {law: train(programs, law, kind, num_steps) for law in ("ring", "bar")}
    return {law: os.path.relpath(file, ROOT / "experiments") for law, file in files.items()}


def energy_points(programs: Programs, kind: str, num_steps: int) -> list[Point]:
    """The reverse process, and the sampler exact with what the networks know of the density."""
    files = network_files(programs, kind, num_steps)
    keys = {f"model__{law}__weights": file for law, file in files.items()}
    hidden = {f"model__{law}__score_only": True for law in files} if kind == "energy" else {}
    base = f"{kind} networks"
    choices = {
        f"{base}, reverse": ["--sampler", "reverse", *settings(**keys, **hidden)],
        f"{base}, scores only": settings(**keys, **hidden),
    }
    if kind == "energy":
        choices[f"{base}, densities"] = settings(**keys, ratio__type="exact")
    config = "experiments/product.toml"
    compute = ["--compute", "bfloat16"]
    return [Point(name, num_steps, config, compute + words) for name, words in choices.items()]


def measure_energy(programs: Programs, seed: int) -> None:
    """The shipped networks, of equal steps."""
    table = Table("energy")
    for kind in STEP_COST:
        for point in energy_points(programs, kind, SHIPPED_STEPS):
            measure_point(programs, table, point, seed)


def measure_short(programs: Programs, seed: int) -> None:
    """Networks of both kinds from short trainings of equal cost."""
    table = Table("energy")
    for kind, num_steps in num_short_steps().items():
        for point in energy_points(programs, kind, num_steps):
            measure_point(programs, table, point, seed)


MEASURES = {
    "exact-samples": measure_exact_samples,
    "corrupted": measure_corrupted,
    **{name: measure_axis(name) for name in points.AXES},
    "ratios": measure_ratios,
    "dimension": measure_dimension,
    "published": measure_published,
    "energy": measure_energy,
    "energy-short": measure_short,
}


def main() -> int:
    """Measures every axis, or those named: first all with one seed, then with the next."""
    binaries = ROOT / "build" / "bench" / "bin"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=binaries / "motet")
    parser.add_argument("--binaries", type=Path, default=binaries)
    parser.add_argument("--only", nargs="*", default=[], choices=MEASURES, metavar="AXIS")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="only so many of them")
    args = parser.parse_args()
    programs = Programs(args.motet, args.binaries)
    for seed in SEEDS[: args.seeds]:
        for name, measure in MEASURES.items():
            if not args.only or name in args.only:
                measure(programs, seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
