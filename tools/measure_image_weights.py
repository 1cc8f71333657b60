"""Measures what weights are worth in many dimensions: results/images/weights.json and its tables.

    tools/measure_image_weights.py [--motet build/release/bin/motet] [--networks models]
        [--cases NAME...] [--samplers NAME...] [--seeds N] [--again] [--render]

Writes results/images/weights*.{json,md} and docs/img/images-weights.svg. The sampler is "exact";
its weights end where it chooses, nowhere (weights.lowest_level = 0), or before they begin. Of
mixtures of Gaussians whose means are those of Fashion-MNIST's classes the truth is known: total
variation of the components' shares, and the mean square of coordinates within a component in units
of the truth's. Of networks a judge says what the samples show (image_judge.py). Runs that are in
the JSON are not made again unless --again says so.
"""

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import image_judge
import numpy as np
from image_judge import CLASSES, ClassMeasures
from image_runs import FOLDER, PICTURES, arguments, facts, line_plot, plots, run
from image_tables import lines_of
from motet_runs import Result, cell, mean_sd

NAME = "weights"
NUM_CHAINS = 400
NUM_PILOT = 128
# What decides where weights end; no level is above 10^5.
ENDS = {"exact": "", "all levels": "lowest_level = 0\n", "none": "lowest_level = 100000\n"}
SCORES = {"mixture": "exact scores", "network": "networks"}


def number_list(values: np.ndarray) -> str:
    """A TOML list of numbers, or of such lists."""
    if values.ndim > 1:
        return "[" + ",\n".join(number_list(row) for row in values) + "]"
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"


@dataclass(frozen=True)
class Mixture:
    """Two mixtures of the same ten Gaussians: other weights, sds wider by a factor, exponents."""

    operator: str
    exponents: tuple[float, float]
    widen: float
    side: int
    data: str = "fashion"

    @property
    def name(self) -> str:
        """As in tables."""
        return f"{self.operator} of mixtures, d = {self.side**2}"

    @cache  # noqa: B019  # a handful of cases
    def laws(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weights of either mixture (10), means and sds (10, d): those of the classes' pixels."""
        train = image_judge.data_of(self.data, "train")
        images = train.images[:, 0]
        if images.shape[1] % self.side:  # 24 pixels of 28 are cells of 3 or 6
            images = images[:, 2:26, 2:26]
        step = images.shape[1] // self.side
        cells = (len(images), self.side, step, self.side, step)
        rows = images.reshape(cells).mean((2, 4)).reshape(len(images), -1)
        classes = [rows[train.labels == label] for label in range(10)]
        means = np.array([part.mean(0) for part in classes])
        sds = np.array([part.std(0) for part in classes]).clip(0.05)
        rng = np.random.default_rng(0)
        first, second = (weights / weights.sum() for weights in rng.uniform(0.5, 1.5, (2, 10)))
        return first, second, means, sds

    def toml(self) -> str:
        """Target and [model.*] tables."""
        first, second, means, sds = self.laws()
        parts = ((first, sds, "a"), (second, sds * self.widen, "b"))
        text = 'target = "a^{:g} * b^{:g}"\n{{rest}}'.format(*self.exponents)
        for weights, widths, name in parts:
            text += (
                f'[model.{name}]\nlaw = "gaussian_mixture"\nscore_only = true\n'
                f"component_weights = {number_list(weights)}\n"
                f"means = {number_list(means)}\nsds = {number_list(widths)}\n"
            )
        return text

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Shares (10) and sds (10, d) of the target: components of different places do not meet.

        Of one place the product of powers is a Gaussian of precision sum_i a_i / sd_i^2; its mass
        is the weights' powers times prod_i (sd_i^-a_i) over sqrt(precision) for each coordinate.
        """
        first, second, _, sds = self.laws()
        a, b = self.exponents
        precision = a / sds**2 + b / (sds * self.widen) ** 2
        log_mass = a * np.log(first) + b * np.log(second)
        log_mass -= ((a + b) * np.log(sds) + 0.5 * np.log(precision)).sum(1)
        shares = np.exp(log_mass - log_mass.max())
        return shares / shares.sum(), precision**-0.5

    def errors(self, x: np.ndarray) -> dict[str, float]:
        """Total variation of the components' shares, mean square within them (1 is right)."""
        shares, sds = self.truth()
        means = self.laws()[2]
        scaled = (x.reshape(len(x), 1, -1) - means) / sds
        nearest = ((scaled**2).sum(2) / 2 + np.log(sds).sum(1)).argmin(1)
        found = np.bincount(nearest, minlength=10) / len(x)
        within = scaled[np.arange(len(x)), nearest]
        return {
            "total variation": 0.5 * float(abs(found - shares).sum()),
            "mean square": float((within**2).mean()),
        }

    def floor(self, num_chains: int) -> dict[str, dict]:
        """Both of as many exact draws, mean and sd over 200 sets."""
        shares = self.truth()[0]
        rng = np.random.default_rng(1)
        drawn = rng.multinomial(num_chains, shares, 200) / num_chains
        found = 0.5 * abs(drawn - shares).sum(1)
        return {
            "total variation": {"mean": float(found.mean()), "sd": float(found.std())},
            "mean square": {"mean": 1.0, "sd": (2 / num_chains / self.side**2) ** 0.5},
        }


@dataclass(frozen=True)
class Guided:
    """Guidance without a classifier of a class, p(x | class)^(1 + scale) / p(x)^scale."""

    data: str
    label: int
    scale: float
    side: int
    networks: Path
    num_levels: int = 50

    @property
    def name(self) -> str:
        """As in tables."""
        target = f"guide({CLASSES[self.data][self.label]}, all, {self.scale:g})"
        return f"{target} of {self.data}, d = {self.side**2}"

    def toml(self) -> str:
        """Target and [model.*] tables."""
        text = f'target = "guide(one, all, {self.scale:g})"\n{{rest}}'
        for name, label in (("one", self.label), ("all", 10)):
            text += (
                f'[model.{name}]\nweights = "{(self.networks / self.data).resolve()}"\n'
                f"num_levels = {self.num_levels}\n"
                f"[model.{name}.inputs]\nclass_labels = {label}\n"
            )
        return text

    @cache  # noqa: B019
    def measures(self) -> tuple[ClassMeasures, np.ndarray]:
        """The judge, and the class's images in the test split."""
        test = image_judge.data_of(self.data, "test")
        judge = image_judge.judge_of(self.data)
        return ClassMeasures.of(judge, test, self.label), test.of_class(self.label)

    def errors(self, x: np.ndarray) -> dict[str, float]:
        """What the judge says."""
        return self.measures()[0].errors(x)

    def floor(self, num_chains: int) -> dict[str, dict]:
        """The same of the data."""
        measures, images = self.measures()
        return measures.floors(images, min(num_chains, len(images) // 2))


def cases(networks: Path) -> list[Mixture | Guided]:
    """All of them."""
    mixtures = [
        Mixture(operator, exponents, widen, side)
        for operator, exponents, widen in (
            ("product", (1.0, 1.0), 1.0),
            ("guidance", (2.0, -1.0), 1.2),
            ("geometric mean", (0.5, 0.5), 1.2),
        )
        for side in (4, 8, 28)
    ]
    digits = [Guided("digits", 3, scale, 8, networks) for scale in (1.0, 3.0)]
    fashion = [Guided("fashion", 6, scale, 28, networks) for scale in (1.0, 3.0)]
    return [*mixtures, *digits, *fashion]


class Work:
    """The runs of the experiment."""

    def __init__(self, motet: Path, result: Result, again: bool, num_chains: int) -> None:
        self.motet, self.result, self.again, self.num_chains = motet, result, again, num_chains

    def run(self, case: Mixture | Guided, end: str, seed: int) -> None:
        """One run, unless it is there."""
        kind = "mixture" if isinstance(case, Mixture) else "network"
        key = self.result.key(case.name, SCORES[kind], end, seed)
        if key in self.result.runs and not self.again:
            return
        if case.name not in self.result.floors:
            self.result.floors[case.name] = case.floor(self.num_chains)
        rest = f"num_samples = {self.num_chains}\nseed = {seed}\n"
        text = case.toml().format(rest=rest) + f"[tune]\nnum_chains = {NUM_PILOT}\n"
        text += f"[weights]\n{ENDS[end]}" if ENDS[end] else ""
        outcome = run(self.motet, text, NAME, key)
        row: dict = {"exit_code": outcome.exit_code, "message": outcome.message}
        if outcome.exit_code == 0:
            row["errors"] = case.errors(outcome.x)
            row |= facts(outcome.report)
            row["lowest_level"] = outcome.report["sampler"]["weights"]["lowest_level"]
        self.result.runs[key] = row
        self.result.write()
        print(f"{key}: {row.get('errors', outcome.message)}", flush=True)


def last_families(row: dict) -> float:
    """At the lowest level with weights; the chains, where there is none."""
    found = [level["families"] for level in row["levels"] if "families" in level]
    return found[-1] if found else float(row["num_chains"])


def where(row: dict) -> str:
    """The lowest level with weights, of the plan's."""
    found = [level["index"] for level in row["levels"] if "families" in level]
    return str(found[-1]) if found else "-"


class Page:
    """Tables and plot."""

    def __init__(self, result: Result, known: list[Mixture | Guided]) -> None:
        self.result = result
        self.known = [case for case in known if case.name in result.floors]

    def runs(self, case: Mixture | Guided, end: str) -> list[dict]:
        """Of all seeds."""
        kind = "mixture" if isinstance(case, Mixture) else "network"
        return self.result.of(case.name, SCORES[kind], end)

    def table(self, kind: type, measures: tuple[str, ...]) -> str:
        """A row a case and end of the weights."""
        rows = []
        for case in self.known:
            if not isinstance(case, kind) or not any(self.runs(case, end) for end in ENDS):
                continue
            floor = self.result.floors[case.name]
            rows.append([case.name, "*exact draws, or data*", "", "", "", ""])
            rows[-1] += [cell(floor[measure]) for measure in measures]
            for end in ENDS:
                runs = self.runs(case, end)
                if not runs:
                    continue
                errors = mean_sd([row["errors"] for row in runs])
                smallest = [row.get("smallest_ess", 1.0) for row in runs]
                rows.append(
                    [
                        *(case.name, end, where(runs[0])),
                        f"{min(smallest):.3f}",
                        f"{min(map(last_families, runs)):.0f}",
                        f"{max(row['rhat'] for row in runs):.2f}",
                        *(cell(errors[measure]) for measure in measures),
                    ]
                )
        head = ["target", "weights", "down to level", "smallest effective share", "families left"]
        return lines_of([*head, "R-hat", *measures], rows, 2)

    def plot(self) -> str:
        """SVG: families against the levels, all levels weighted."""
        panels = []
        for kind, title in ((Mixture, "exact scores of mixtures"), (Guided, "networks")):
            curves: dict = {}
            for case in self.known:
                runs = self.runs(case, "all levels") if isinstance(case, kind) else []
                if runs:
                    rows = [level for level in runs[0]["levels"] if "families" in level]
                    shares = [level["families"] / runs[0]["num_chains"] for level in rows]
                    curves[case.name] = ([len(rows) - i for i in range(len(rows))], shares)
            if curves:
                axes = ("levels left", "families, share of the chains")
                panels.append(line_plot(title, axes, curves, (0.0, 1.0)))
        return plots("Families of weighted chains on their way down", panels) if panels else ""

    def write(self) -> None:
        """All files."""
        mixture_measures = ("total variation", "mean square")
        judged = ("accuracy", "Frechet distance", "diversity")
        (FOLDER / f"{NAME}-mixtures.md").write_text(self.table(Mixture, mixture_measures))
        (FOLDER / f"{NAME}-networks.md").write_text(self.table(Guided, judged))
        if text := self.plot():
            (PICTURES / f"images-{NAME}.svg").write_text(text)


def parse(names: Callable[[Path], list[Mixture | Guided]]) -> Namespace:
    """The command line."""
    parser = arguments(__doc__, tuple(ENDS), seeds=3)
    parser.add_argument("--cases", nargs="+", help="parts of the cases' names", default=[""])
    parser.add_argument("--chains", type=int, default=NUM_CHAINS)
    args = parser.parse_args()
    args.known = names(args.networks)
    return args


def main() -> int:
    """Measures and renders."""
    args = parse(cases)
    result = Result(NAME, FOLDER)
    if not args.render:
        work = Work(args.motet, result, args.again, args.chains)
        for seed in range(1, args.seeds + 1):
            for case in args.known:
                if any(part in case.name for part in args.cases):
                    for end in args.samplers:
                        work.run(case, end, seed)
    if result.runs:
        Page(result, args.known).write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
