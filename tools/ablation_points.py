"""The points of the axes of tools/measure_ablations.py: what is varied, and how it is run.

The benchmark ring x bar, 2000 chains of which 1000 are measured, in series: "scores" is the sampler
exact on exact scores whose log densities are hidden, "motet" the same on the shipped networks of
recipe motet, "published" the sampler hmc-4-curve (preset corrected, 1000 chains: they are
independent) on exact scores.
"""

import json
import math
import os
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "ablations"
EXACT_SCORES = "experiments/product-exact-scores.toml"
BASES = {
    "scores": (EXACT_SCORES, []),
    "motet": ("experiments/product-motet.toml", ["--compute", "bfloat16"]),
}
# Half of the chains of a run: transport costs their number's cube, more than the sampling.
NUM_MEASURED = 1000
# What the samplers do by themselves: left unsaid, so that axes share these runs.
EXACT = {"kernel__num_leapfrog": 2, "kernel__damping": 0.0}
PUBLISHED = {
    "kernel__step_size": 0.03,
    "kernel__num_leapfrog": 3,
    "kernel__damping": 0.5,
    "anneal__steps_per_level": 10,
    "anneal__levels": list(range(99, -1, -1)),
}


@dataclass
class Point:
    """One value of what is varied: its series, and the words of motet sample."""

    series: str
    x: float
    config: str
    words: list[str] = field(default_factory=list)
    num_seeds: int = 3


class RunError(Exception):
    """A program that ended with an error; its last line says which."""


class Programs:
    """motet and the experiments of bench/, with one thread each."""

    def __init__(self, motet: Path, binaries: Path) -> None:
        self.motet = motet.resolve()
        self.binaries = binaries.resolve()

    def call(self, words: list) -> str:
        """Standard output, of a program that runs at the repository's root."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=ROOT,
            env=dict(os.environ, OMP_NUM_THREADS="1"),
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RunError((done.stderr.strip() or "no message").splitlines()[-1])
        return done.stdout

    def sample(self, config: str | Path, seed: int, words: list[str]) -> dict:
        """The JSON of one sampling run."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "run.json"
            command = [self.motet, "sample", config, "--seed", seed, *words]
            self.call([*command, "--json", file, "--quiet"])
            return json.loads(file.read_text())

    def experiment(self, name: str, *words: object) -> dict:
        """The JSON that an experiment of bench/ prints."""
        return json.loads(self.call([self.binaries / name, *words]))


def settings(defaults: dict | None = None, **keys: object) -> list[str]:
    """--set words for what differs from `defaults`; "__" in a name stands for the dot."""
    words = []
    for name, value in keys.items():
        if defaults is None or defaults.get(name) != value:
            words += ["--set", f"{name.replace('__', '.')}={json.dumps(value)}"]
    return words


# --- plans


def tuned(programs: Programs, base: str) -> Path:
    """The base's config with the step sizes of one pilot run: results/ablations/tuned-BASE.toml."""
    path = FOLDER / f"tuned-{base}.toml"
    if not path.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        config, words = BASES[base]
        compute = settings(compute="bfloat16") if words else []
        programs.call([programs.motet, "tune", config, "-o", path, *compute, "--quiet"])
    return path


def log_v(index: int) -> float:
    """log((1 - alpha_bar) / alpha_bar) of a level of the cosine schedule of 100 levels."""
    end, start = (math.cos((u + 0.008) / 1.008 * math.pi / 2) for u in ((index + 1) / 100, 0.0))
    alpha_bar = (end / start) ** 2
    return math.log((1 - alpha_bar) / alpha_bar)


def spread(first: int, count: int) -> list[int]:
    """`count` levels from `first` to 0 in about equal steps of log v, never the same one twice."""
    levels = [first]
    for left in range(count - 2, -1, -1):
        wanted = log_v(levels[-1]) + (log_v(0) - log_v(levels[-1])) / (left + 1)
        allowed = range(left, levels[-1])
        levels.append(min(allowed, key=lambda index: abs(log_v(index) - wanted)))
    return levels


def recipe_steps(count: int) -> list[int]:
    """The sampler's MCMC steps at each of `count` levels, at the smallest budget that has them."""
    return [3] + [1] * (count - 4) + [2, 2, 6]


def plan(levels: list[int], steps: list[int]) -> list[str]:
    """Words that give the sampler exact these levels and steps.

    It checks its own steps against the budget before they are replaced, so that one is large.
    """
    return settings(evaluations=100000, anneal__levels=levels, anneal__steps_per_level=steps)


def base_levels(programs: Programs) -> list[int]:
    """The levels that the sampler chooses at its default budget."""
    return tomllib.loads(tuned(programs, "scores").read_text())["anneal"]["levels"]


def published(x: float, series: str = "published", **keys: object) -> Point:
    """hmc-4-curve with some settings changed."""
    words = ["--sampler", "hmc-4-curve", "--num-samples", str(NUM_MEASURED)]
    words += settings(PUBLISHED, **keys)
    return Point(series, x, EXACT_SCORES, words, num_seeds=2)


# --- the axes


def step_size_points(programs: Programs) -> Iterator[Point]:
    """Step sizes that a pilot found, times a factor; the published one's, in two shapes."""
    for base, (_, words) in BASES.items():
        path = tuned(programs, base)
        found = tomllib.loads(path.read_text())["kernel"]["step_size"]
        for factor in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0):
            sizes = settings(kernel__step_size=[factor * size for size in found])
            yield Point(base, factor, str(path.relative_to(ROOT)), words + sizes)
    for size in (0.01, 0.03, 0.06, 0.12):
        yield published(size, kernel__step_size=size)
    sigmas = [1 / math.sqrt(1 + math.exp(-log_v(index))) for index in range(99, -1, -1)]
    for factor in (0.2, 0.4, 0.8):
        sizes = [round(factor * sigma, 6) for sigma in sigmas]
        yield published(factor, "published, times sigma", kernel__step_size=sizes)


def steps_points(programs: Programs) -> Iterator[Point]:
    """MCMC steps a level: on the way, at the last level, and the published sampler's."""
    levels = base_levels(programs)
    last = len(levels) - 1
    for count in (0, 1, 2, 4):
        yield Point("on the way", count, EXACT_SCORES, plan(levels, [count] * last + [6]))
    for base, (config, words) in BASES.items():
        for count in (0, 1, 2, 6, 16):
            steps = [*recipe_steps(len(levels))[:last], count]
            yield Point(f"last level, {base}", count, config, words + plan(levels, steps))
    for count in (2, 5, 10, 20):
        yield published(count, anneal__steps_per_level=count)


def leapfrogs_points(programs: Programs) -> Iterator[Point]:
    """Leapfrogs of a trajectory: at equal evaluations, and on the same plan."""
    levels = base_levels(programs)
    same = plan(levels, recipe_steps(len(levels)))
    for num in range(1, 6):
        leapfrogs = settings(EXACT, kernel__num_leapfrog=num)
        for base, (config, words) in BASES.items():
            yield Point(base, num, config, words + leapfrogs)
        yield Point("scores, same plan", num, EXACT_SCORES, same + leapfrogs)
    for num in (1, 2, 3, 5):
        yield published(num, kernel__num_leapfrog=num, anneal__steps_per_level=30 // num)


def damping_points(programs: Programs) -> Iterator[Point]:
    """Share of the momentum that is kept from step to step."""
    for damping in (0.0, 0.5, 0.7, 0.9, 0.95):
        for base, (config, words) in BASES.items():
            yield Point(base, damping, config, words + settings(EXACT, kernel__damping=damping))
        words = settings(EXACT, kernel__num_leapfrog=1, kernel__damping=damping)
        yield Point("scores, 1 leapfrog", damping, EXACT_SCORES, words)
    for damping in (0.0, 0.5, 0.9, 0.97):
        yield published(damping, kernel__damping=damping)


def levels_points(programs: Programs) -> Iterator[Point]:
    """Number of noise levels, at the recipe's steps a level and at equal evaluations."""
    first = base_levels(programs)[0]
    for count in (5, 8, 12, 18, 29, 40, 57):
        levels = spread(first, count)
        for base, (config, words) in BASES.items():
            yield Point(base, count, config, words + plan(levels, recipe_steps(count)))
        words = settings(evaluations=200, anneal__levels=levels)
        yield Point("scores, 200 evaluations", count, EXACT_SCORES, words)
    for count in (10, 20, 50, 100):
        levels = [round(99 * (1 - i / (count - 1))) for i in range(count)]
        yield published(count, anneal__levels=levels, anneal__steps_per_level=1000 // count)


AXES = {
    "step-size": step_size_points,
    "steps": steps_points,
    "leapfrogs": leapfrogs_points,
    "damping": damping_points,
    "levels": levels_points,
}
