"""Raises a negation's exponent until its target stops existing: results/composition/negation.*.

    tools/measure_negation.py [--motet build/release/bin/motet] [--samplers NAME...] [--seeds N]
        [--again] [--render]

A / B^a of Gaussians of sd s_A and s_B has a density in the data while a < (s_B / s_A)^2, and at
high noise, where both are N(0, 1), while a < 1; beyond, B needs a ramp. Each a is sampled by every
sampler on exact scores whose densities are hidden, and what motet says is kept with its exit code.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from composition_cases import Case, Grid
from composition_measures import GridTruth
from composition_runs import Sampler, config
from composition_zoo import LAWS, mixture_toml
from measure_expressions import SAMPLERS
from motet_runs import FOLDER, ROOT, Outcome, Result, about, cell, sample

NUM_CHAINS = 5000
HIDDEN, KNOWN = "exact scores", "exact densities"
# What is run: samplers on hidden densities, and motet's own on known ones.
COLUMNS = (*((HIDDEN, sampler) for sampler in SAMPLERS), (KNOWN, SAMPLERS[-1]))
CENTRE = (0.1, 0.0)  # of B


@dataclass(frozen=True)
class Pair:
    """A and B: the exponents that are tried, without and with a ramp."""

    name: str
    tables: str
    plain: tuple[float, ...]
    ramped: tuple[float, ...]
    sds: tuple[float, float] = (0.0, 0.0)  # of two Gaussians, A about 0 and B about CENTRE

    def precision(self, exponent: float) -> float:
        """Of two Gaussians' A / B^exponent."""
        return self.sds[0] ** -2 - exponent * self.sds[1] ** -2

    def case(self, exponent: float, is_ramped: bool) -> Case:
        """The expression; its law is measured here."""
        negated = "ramp(B)" if is_ramped else "B"
        text = f"A / {negated}^{exponent:g}"
        return Case(f"{self.name}: {text}", "negation", text, (), Grid.normalised, self.tables)


def gaussian(name: str, mean: tuple[float, float], sd: float) -> str:
    """The table of one Gaussian."""
    return f"[model.{name}]\n{mixture_toml(np.array([mean]), sd)}"


def gaussians(name: str, sds: tuple[float, float], plain: tuple, ramped: tuple) -> Pair:
    """A pair of Gaussians."""
    tables = gaussian("A", (0.0, 0.0), sds[0]) + gaussian("B", CENTRE, sds[1])
    return Pair(name, tables, plain, ramped, sds)


def zoo(name: str, law: str) -> str:
    """The table of a law of the zoo."""
    return f"[model.{name}]\n{LAWS[law].toml}"


def config_of(case: Case, scores: str, sampler: Sampler, seed: int) -> str:
    """The config of a run."""
    text = config(case, scores, sampler, NUM_CHAINS, seed)
    hides = "score_only = true\n" if scores == HIDDEN else ""
    return re.sub(r"(\[model\.\w+\]\n)", rf"\1{hides}", text)


PAIRS = (
    gaussians("narrower B", (0.5, 0.4), (0.3, 0.5, 0.6, 0.62, 0.66, 0.7, 0.8, 0.9, 1.0), (1.0,)),
    gaussians("wider B", (0.4, 0.6), (0.5, 0.9, 1.0, 1.5), (1.0, 1.5, 2.0, 2.2, 2.3, 2.5, 3.0)),
    Pair(
        "ring, blob",
        zoo("A", "ring") + zoo("B", "blob"),
        (0.3, 0.6, 0.9, 0.95, 1.0),
        (1.0, 2.0, 4.0, 8.0),
    ),
)


class Measures:
    """How far the samples of a pair are from its law."""

    def __init__(self) -> None:
        self.grid = Grid()
        self.known: dict[float, GridTruth] = {}

    def ring_truth(self, exponent: float) -> GridTruth:
        """The law of ring / blob^exponent."""
        if exponent not in self.known:
            logs = self.grid["ring"] - exponent * self.grid["blob"]
            self.known[exponent] = GridTruth(self.grid.points, logs)
        return self.known[exponent]

    def errors(self, pair: Pair, exponent: float, x: np.ndarray) -> dict:
        """Gaussians: the samples' sd; ring and blob: total variation."""
        if pair.sds[0] > 0:
            middle = np.array(CENTRE) * -exponent / pair.sds[1] ** 2
            precision = pair.precision(exponent)
            found = {"sd": float(np.sqrt(x.var(0).mean()))}
            if precision > 0:
                gap = x.mean(0) - middle / precision
                found["mean, off by sds"] = float(np.hypot(*gap) * precision**0.5)
            return found
        return {"tv 16 x 16": self.ring_truth(exponent).errors(x)["tv 16 x 16"]}

    def floor(self, pair: Pair, exponent: float) -> str:
        """The same of exact draws; or that there is no law."""
        rng = np.random.default_rng(0)
        if pair.sds[0] > 0:
            precision = pair.precision(exponent)
            return f"{precision**-0.5:.4f}" if precision > 0 else "no law"
        truth = self.ring_truth(exponent)
        return f"{truth.errors(truth.draw(NUM_CHAINS, rng))['tv 16 x 16']:.4f}"


def entries() -> list[tuple[Pair, float, bool]]:
    """All targets, in the table's order."""
    return [
        (pair, exponent, is_ramped)
        for pair in PAIRS
        for is_ramped, exponents in ((False, pair.plain), (True, pair.ramped))
        for exponent in exponents
    ]


def kept(outcome: Outcome, measures: Measures, pair: Pair, exponent: float) -> dict:
    """What is kept of a run."""
    row = {"exit_code": outcome.exit_code, "message": outcome.message}
    if outcome.x is not None:
        row |= {"errors": measures.errors(pair, exponent, outcome.x)} | about(outcome.report)
    return row


def measure(result: Result, measures: Measures, args: argparse.Namespace) -> None:
    """Every target by every sampler, seeds outermost."""
    for seed in range(1, args.seeds + 1):
        for pair, exponent, is_ramped in entries():
            case = pair.case(exponent, is_ramped)
            for scores, sampler in COLUMNS if seed == 1 else ((HIDDEN, SAMPLERS[-1]),):
                key = Result.key(case.name, scores, sampler.name, seed)
                is_wanted = not args.samplers or sampler.name in args.samplers
                if not is_wanted or (key in result.runs and not args.again):
                    continue
                text = config_of(case, scores, sampler, seed)
                result.runs[key] = kept(sample(args.motet, text), measures, pair, exponent)
                result.write()
                print(key, result.runs[key].get("errors", result.runs[key]["message"]), flush=True)


def said(result: Result, case: Case, scores: str, sampler: Sampler) -> str:
    """The measure of a target, or the exit code of the refusal."""
    errors = result.errors(case.name, scores, sampler.name)
    if errors:
        return cell(next(iter(errors.values())))
    run = result.runs.get(Result.key(case.name, scores, sampler.name, 1))
    return "-" if run is None else f"exit {run['exit_code']}"


def messages(result: Result) -> list[str]:
    """Markdown: every different message of a refusal, with where it came."""
    found: dict[str, list[str]] = {}
    for pair, exponent, is_ramped in entries():
        name = pair.case(exponent, is_ramped).name
        for scores, sampler in COLUMNS:
            run = result.runs.get(Result.key(name, scores, sampler.name, 1))
            if run and run["message"]:
                text = f"exit {run['exit_code']}: {run['message']}"
                found.setdefault(text, []).append(f"{name} ({sampler.name}, {scores})")
    lines = []
    for text, where in found.items():
        lines += ["", "; ".join(where) + ":", "", "    " + text.replace("\n", "\n    ")]
    return lines


def table(result: Result, measures: Measures) -> str:
    """Markdown: targets by samplers; below, what the refusals said."""
    names = [f"{s.name}, known densities" if k == KNOWN else s.name for k, s in COLUMNS]
    lines = [
        "| A, B | target | law | " + " | ".join(names) + " | exact's smallest ESS | R-hat |",
        "|---|---|---:|" + "---:|" * (len(names) + 2),
    ]
    for pair, exponent, is_ramped in entries():
        case = pair.case(exponent, is_ramped)
        cells = [said(result, case, scores, sampler) for scores, sampler in COLUMNS]
        runs = result.of(case.name, HIDDEN, "exact")
        cells += [f"{min(run['smallest_ess'] for run in runs):.3f}" if runs else "-"]
        rhats = [run["rhat"] for run in runs if run["rhat"] is not None]
        cells += [f"{max(rhats):.2f}" if rhats else "-"]
        law = measures.floor(pair, exponent)
        lines.append(f"| {pair.name} | {case.expression} | {law} | " + " | ".join(cells) + " |")
    return "\n".join(lines + messages(result)) + "\n"


def main() -> int:
    """Measures and renders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--samplers", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="make runs that are there anew")
    parser.add_argument("--render", action="store_true", help="only the table")
    args = parser.parse_args()
    result, measures = Result("negation"), Measures()
    if not args.render:
        measure(result, measures, args)
    (FOLDER / "negation.md").write_text(table(result, measures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
