"""Measures targets that are expressions against quadrature: results/composition/*.{json,md}.

    tools/measure_expressions.py [--motet build/release/bin/motet] [--only EXPERIMENT...]
        [--cases NAME...] [--samplers NAME...] [--scores NAME...] [--seeds N] [--again] [--render]

Four experiments of docs/composition.md: "published" (the compositions of Du et al. 2023),
"matrix" (every operator), "shares" (mixtures of score models against mixtures of densities) and
"mixed" (energies and scores in one product). Runs that are in the JSON already are not made again
unless --again says so; --render makes tables and pictures of what there is. Networks come from
tools/train_zoo.py; a case whose networks are not there is left out. Seeds are the outermost loop:
after the first, every number is there.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from composition_cases import MATRIX, MIXED, PUBLISHED, SHARES, Case
from composition_runs import (
    IMAGES,
    POINTS,
    Sampler,
    Truths,
    config,
    has_scores,
    numbers,
    pictures,
    points_file,
    share_table,
    table,
)
from motet_runs import FOLDER, ROOT, Result, sample

REVERSE, EXACT = Sampler("reverse"), Sampler("exact")


def hmc(steps: int, stride: int) -> tuple[Sampler, ...]:
    """The published HMC, unadjusted and adjusted, with so many steps at every stride-th level."""
    return (Sampler("u-hmc", steps, stride), Sampler("hmc-4-curve", steps, stride))


# As published, but for the reverse steps; and at about the cost of REVERSE and EXACT.
PUBLISHED_HMC, CHEAP_HMC = hmc(10, 1), hmc(1, 4)
SAMPLERS = (REVERSE, *CHEAP_HMC, EXACT)


@dataclass(frozen=True)
class Part:
    """Cells of an experiment: one kind of scores by samplers, and how many seeds."""

    scores: str
    samplers: tuple[Sampler, ...]
    num_seeds: int


@dataclass(frozen=True)
class Experiment:
    """Cases by parts, its measures, and what its picture shows."""

    cases: dict[str, Case]
    num_chains: int
    parts: tuple[Part, ...]
    measures: tuple[str, ...]
    shown: tuple[tuple[str, str], ...]


ALL_SHOWN = tuple(("exact scores", sampler.name) for sampler in SAMPLERS)
EXPERIMENTS = {
    "shares": Experiment(
        SHARES,
        20000,
        (
            Part("exact densities", (EXACT,), 3),
            Part("exact scores", (EXACT, REVERSE), 3),
            Part("score networks", (EXACT, REVERSE), 3),
            Part("energy networks", (EXACT,), 2),
            Part("exact scores", CHEAP_HMC, 1),
            Part("score networks", CHEAP_HMC, 1),
        ),
        ("tv 64 x 64", "tv 16 x 16", "kl 64 x 64"),
        (
            ("exact densities", "exact"),
            ("exact scores", "exact"),
            ("score networks", "exact"),
            ("exact scores", "reverse"),
        ),
    ),
    "matrix": Experiment(
        MATRIX,
        5000,
        (
            Part("exact scores", (EXACT, REVERSE), 3),
            Part("score networks", (EXACT, REVERSE), 2),
            Part("exact scores", CHEAP_HMC, 1),
            Part("score networks", CHEAP_HMC, 1),
            Part("energy networks", (EXACT, REVERSE), 1),
        ),
        ("tv 64 x 64", "tv 16 x 16", "kl 64 x 64"),
        (*ALL_SHOWN, ("score networks", "exact")),
    ),
    "published": Experiment(
        PUBLISHED,
        2000,
        (
            Part("exact scores", (REVERSE, *PUBLISHED_HMC, EXACT), 3),
            Part("score networks", (EXACT, REVERSE), 3),
            Part("energy networks", (EXACT, REVERSE), 3),
            Part("score networks", PUBLISHED_HMC, 1),
            Part("energy networks", PUBLISHED_HMC, 1),
        ),
        ("log likelihood", "variance", "1000 mmd^2", "tv 16 x 16", "kl 64 x 64"),
        (*ALL_SHOWN, ("score networks", "exact")),
    ),
    "mixed": Experiment(
        MIXED,
        2000,
        (
            Part("ring's energy, bar's scores", (EXACT, REVERSE), 3),
            Part("ring's scores, bar's energy", (EXACT, REVERSE), 3),
            Part("score networks", (EXACT, REVERSE), 3),
            Part("energy networks", (EXACT, REVERSE), 3),
            Part("ring's energy, bar's scores", CHEAP_HMC, 1),
            Part("ring's scores, bar's energy", CHEAP_HMC, 1),
        ),
        ("tv 64 x 64", "tv 16 x 16", "kl 64 x 64"),
        (
            ("ring's energy, bar's scores", "exact"),
            ("ring's scores, bar's energy", "exact"),
            ("score networks", "exact"),
            ("energy networks", "exact"),
        ),
    ),
}


class Work:
    """One experiment being measured."""

    def __init__(self, name: str, motet: Path, truths: Truths, again: bool) -> None:
        self.experiment = EXPERIMENTS[name]
        self.result = Result(name)
        self.motet = motet
        self.truths = truths
        self.again = again

    def measured_on(self, case: Case) -> list[Case]:
        """The cases that the samples of this one serve, itself first."""
        cases = self.experiment.cases.values()
        return [case, *(other for other in cases if other.samples_of == case.name)]

    def set_floor(self, case: Case) -> None:
        """The measures of exact draws, once."""
        for served in self.measured_on(case):
            if served.name not in self.result.floors:
                floor = self.truths.floor(served, self.experiment.num_chains)
                self.result.floors[served.name] = floor

    def run(self, case: Case, scores: str, sampler: Sampler, seed: int) -> None:
        """One run, measured and written."""
        key = Result.key(case.name, scores, sampler.name, seed)
        kept = self.result.runs.get(key)
        num_chains = self.experiment.num_chains
        if kept and not self.again and kept.get("num_chains", num_chains) == num_chains:
            return
        self.set_floor(case)
        text = config(case, scores, sampler, num_chains, seed)
        outcome = sample(self.motet, text)
        for served in self.measured_on(case):
            row = numbers(outcome, served, self.truths)
            self.result.runs[Result.key(served.name, scores, sampler.name, seed)] = row
        if outcome.x is not None:
            POINTS.mkdir(parents=True, exist_ok=True)
            file = points_file(self.result.name, case.name, scores, sampler.name)
            np.save(file, outcome.x.astype(np.float32))
        self.result.write()
        row = self.result.runs[key]
        print(key, row.get("errors", row["message"]), flush=True)

    def render(self) -> None:
        """Tables and picture."""
        parts = self.experiment.parts
        kinds = list(dict.fromkeys(part.scores for part in parts))
        columns = list(dict.fromkeys(s.name for part in parts for s in part.samplers))
        columns.sort(key=[sampler.name for sampler in SAMPLERS].index)
        rows = [(case, scores) for case in self.experiment.cases for scores in kinds]
        tables = [table(self.result, rows, columns, m) for m in self.experiment.measures]
        if any(case.share for case in self.experiment.cases.values()):
            tables.append(share_table(self.result, rows, columns))
        (FOLDER / f"{self.result.name}.md").write_text("\n".join(tables))
        cases = list(self.experiment.cases.values())
        shown = list(self.experiment.shown)
        text = pictures(self.result, self.truths, cases, shown, self.experiment.num_chains)
        (IMAGES / f"composition-{self.result.name}.svg").write_text(text)


def measure(work: Work, args: argparse.Namespace) -> None:
    """All runs of an experiment that the arguments ask for, seeds outermost."""
    for seed in range(1, args.seeds + 1):
        for part in work.experiment.parts:
            if seed > part.num_seeds or (args.scores and part.scores not in args.scores):
                continue
            for case in work.experiment.cases.values():
                wanted = not args.cases or case.name in args.cases
                if not wanted or case.samples_of or not has_scores(case, part.scores):
                    continue
                for sampler in part.samplers:
                    if not args.samplers or sampler.name in args.samplers:
                        work.run(case, part.scores, sampler, seed)


def main() -> int:
    """Measures and renders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--samplers", nargs="+")
    parser.add_argument("--scores", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="make runs that are there anew")
    parser.add_argument("--render", action="store_true", help="only tables and pictures")
    args = parser.parse_args()
    truths = Truths()
    for name in args.only:
        work = Work(name, args.motet, truths, args.again)
        if not args.render:
            measure(work, args)
        if work.result.runs:
            work.render()
    return 0


if __name__ == "__main__":
    sys.exit(main())
