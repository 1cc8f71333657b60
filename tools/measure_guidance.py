"""Measures both forms of guidance against quadrature: results/composition/guidance*.{json,md}.

    tools/measure_guidance.py [--motet build/release/bin/motet] [--scores NAME...]
        [--samplers NAME...] [--powers POWER...] [--seeds N] [--again] [--render]

The laws are those of guidance_laws.py, the networks those of guidance_networks.py, trained if need
be. Of each form and power of p(y | x): by exact scores and by networks, by every sampler. Runs that
are in the JSON already are not made again unless --again says so; --render makes tables and picture
of what there is. Seeds are the outermost loop: after the first, every number is there.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import guidance_laws as laws
import numpy as np
from composition_measures import ALIGNED, CELLS, SIDE, GridTruth, grid_points
from composition_runs import (
    IMAGES,
    NUM_FLOORS,
    POINTS,
    Sampler,
    pictures,
    points_file,
    table,
)
from guidance_networks import network
from motet_runs import FOLDER, ROOT, Result, about, cell, mean_sd, sample

NAME = "guidance"
NUM_CHAINS = 4000
STEPS = 1  # of the published samplers, after each reverse step
SAMPLERS = (
    Sampler("reverse"),
    Sampler("u-hmc", STEPS),
    Sampler("hmc-4-curve", STEPS),
    Sampler("exact"),
)
FEATURES = "networks, a classifier with features"
SCORES = ("exact scores", "networks", FEATURES)
MEASURES = (
    "tv 64 x 64",
    "tv 16 x 16",
    "kl 64 x 64",
    "log likelihood",
    "mode weights",
    "mean p(y given x)",
)
ESS = "smallest share of effective chains"

SHOWN = [("exact scores", sampler.name) for sampler in SAMPLERS] + [("networks", "exact")]


class Truth(GridTruth):
    """p(x) p(y | x)^power on a grid, with the measures that guidance is about."""

    def __init__(self, power: float) -> None:
        points = grid_points((0, 0), SIDE, CELLS, ALIGNED)
        super().__init__(points, laws.log_guided(points, power))
        self.modes = self.mode_weights(points.reshape(-1, 2), self.probabilities.ravel())
        self.share = float((self.probabilities * np.exp(laws.log_share(points))).sum())

    @staticmethod
    def mode_weights(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Share of the points nearest to each component of the guided class."""
        count = (laws.LABELS == laws.GUIDED).sum()
        return np.bincount(laws.nearest_component(x), weights, minlength=count)

    def floor(self) -> dict:
        """Every measure on exact draws."""
        rng = np.random.default_rng(0)
        return mean_sd([self.errors(self.draw(NUM_CHAINS, rng)) for _ in range(NUM_FLOORS)])

    def errors(self, x: np.ndarray) -> dict:
        """All measures of samples; of the last, the difference from the truth."""
        shares = self.mode_weights(x, np.full(len(x), 1 / len(x)))
        return super().errors(x) | {
            "mode weights": 0.5 * float(abs(shares - self.modes).sum()),
            "mean p(y given x)": float(np.exp(laws.log_share(x)).mean()) - self.share,
        }


@dataclass(frozen=True)
class Case:
    """One form of guidance at one power of p(y | x)."""

    form: str
    power: float
    samples_of: str = ""

    @property
    def scale(self) -> float:
        """What the form calls its scale."""
        return self.power if self.form == "classifier" else self.power - 1

    @property
    def name(self) -> str:
        """As in tables."""
        return f"{self.form}, scale {self.scale:g}"

    @property
    def expression(self) -> str:
        """As motet takes it."""
        factors = "all, y" if self.form == "classifier" else "one, all"
        return f"guide({factors}, {self.scale:g})"

    @property
    def operator(self) -> str:
        """Remark in the picture."""
        return f"p(x) p(y|x)^{self.power:g}"

    def is_in(self, scores: str, powers: list[float]) -> bool:
        """Whether it is measured by such scores, at one of these powers."""
        return self.power in powers and (scores != FEATURES or self.form == "classifier")

    def tables(self, scores: str, motet: Path) -> str:
        """The [model.*] tables of the config."""
        if scores != "exact scores":
            classifier = "classifier" + ("-features" if scores == FEATURES else "")
            known = {
                "all": f'weights = "{network(motet, "unconditional")}"\n',
                "one": f'weights = "{network(motet, "conditional")}"\n',
                "y": f'classifier = "{network(motet, classifier)}"\nlabel = {laws.GUIDED}\n',
            }
        else:
            known = {
                "all": laws.law_toml() + "score_only = true\n",
                "one": laws.law_toml(laws.GUIDED) + "score_only = true\n",
                "y": laws.law_toml(labels=True) + f"label = {laws.GUIDED}\n",
            }
        used = ("all", "y") if self.form == "classifier" else ("one", "all")
        return "".join(f"[model.{name}]\n{known[name]}" for name in used)


CASES = [Case(form, power) for form in ("classifier", "classifier-free") for power in laws.POWERS]


class Work:
    """The experiment being measured."""

    def __init__(self, motet: Path, again: bool) -> None:
        self.motet = motet
        self.again = again
        self.result = Result(NAME)
        known = {power: Truth(power) for power in laws.POWERS}
        self.truths = {case: known[case.power] for case in CASES}

    def run(self, case: Case, scores: str, sampler: Sampler, seed: int) -> None:
        """One run, measured and written."""
        key = Result.key(case.name, scores, sampler.name, seed)
        if key in self.result.runs and not self.again:
            return
        truth = self.truths[case]
        if case.name not in self.result.floors:
            # Both forms have one target.
            same = [other.name for other in CASES if other.power == case.power]
            self.result.floors |= dict.fromkeys(same, truth.floor())
        outcome = sample(
            self.motet,
            f'target = "{case.expression}"\nnum_samples = {NUM_CHAINS}\nseed = {seed}\n'
            + sampler.head()
            + case.tables(scores, self.motet)
            + sampler.tables(),
        )
        row = {"exit_code": outcome.exit_code, "message": outcome.message}
        if outcome.exit_code == 0:
            row |= {"errors": truth.errors(outcome.x)} | about(outcome.report)
            POINTS.mkdir(parents=True, exist_ok=True)
            np.save(points_file(NAME, case.name, scores, sampler.name), outcome.x.astype("f4"))
        self.result.runs[key] = row
        self.result.write()
        print(key, row.get("errors", row["message"]), flush=True)

    def targets(self) -> str:
        """Markdown: how the targets of all powers differ, by quadrature."""
        plain = self.truths[Case("classifier", 1.0)]
        lines = [
            "| target | total variation from p(x \\| y) | mode weights | mean p(y\\|x) |",
            "|---|---:|---|---:|",
        ]
        for power in laws.POWERS:
            truth = self.truths[Case("classifier", power)]
            gap = 0.5 * abs(truth.probabilities - plain.probabilities).sum()
            modes = ", ".join(f"{weight:.3f}" for weight in truth.modes)
            lines.append(f"| p(x) p(y\\|x)^{power:g} | {gap:.3f} | {modes} | {truth.share:.3f} |")
        return "\n".join(lines) + "\n"

    def effective(self, rows: list[tuple[str, str]]) -> str:
        """Markdown: how many chains the weights of the sampler exact leave."""
        lines = [f"| {ESS} | scores | exact |", "|---|---|---:|"]
        for case, scores in rows:
            found = [{ESS: run["smallest_ess"]} for run in self.result.of(case, scores, "exact")]
            if found:
                lines.append(f"| {case} | {scores} | {cell(mean_sd(found)[ESS])} |")
        return "\n".join(lines) + "\n"

    def render(self) -> None:
        """Tables and picture."""
        rows = [(case.name, scores) for case in CASES for scores in SCORES]
        columns = [sampler.name for sampler in SAMPLERS]
        tables = [table(self.result, rows, columns, measure) for measure in MEASURES]
        (FOLDER / "guidance.md").write_text("\n".join([*tables, self.effective(rows)]))
        (FOLDER / "guidance-targets.md").write_text(self.targets())
        shown = [case for case in CASES if case.power > 1]
        text = pictures(self.result, self.truths, shown, SHOWN, NUM_CHAINS)
        (IMAGES / "guidance.svg").write_text(text)


def main() -> int:
    """Measures and renders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    names = [sampler.name for sampler in SAMPLERS]
    parser.add_argument("--scores", nargs="+", choices=SCORES, default=SCORES)
    parser.add_argument("--samplers", nargs="+", choices=names, default=names)
    parser.add_argument("--powers", nargs="+", type=float, default=laws.POWERS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="make runs that are there anew")
    parser.add_argument("--render", action="store_true", help="only tables and picture")
    args = parser.parse_args()
    work = Work(args.motet, args.again)
    for seed in range(1, args.seeds + 1) if not args.render else ():
        for scores in args.scores:
            for case in CASES:
                for sampler in SAMPLERS:
                    if case.is_in(scores, args.powers) and sampler.name in args.samplers:
                        work.run(case, scores, sampler, seed)
    if work.result.runs:
        work.render()
    return 0


if __name__ == "__main__":
    sys.exit(main())
