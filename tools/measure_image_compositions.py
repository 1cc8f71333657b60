"""Measures guidance without a classifier, and classes composed by "not", "or" and "and", on images.

    tools/measure_image_compositions.py [--motet build/release/bin/motet] [--networks models]
        [--cases NAME...] [--samplers NAME...] [--chains N] [--seeds N] [--again] [--render]

Writes results/images/compositions*.{json,md} and docs/img/images-compositions.svg. The factors are
all one U-Net of Fashion-MNIST: p(x | class), and p(x) by class 10, "none". A judge of other weights
(image_judge.py) says what the samples show. Step sizes come from one pilot run for each case. Runs
that are in the JSON are not made again unless --again says so; --render makes tables and picture of
what there is. Seeds are the outermost loop.
"""

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import image_judge
import numpy as np
from image_judge import CLASSES, Judge, mean_distance
from image_runs import FOLDER, PICTURES, arguments, kept_samples, sample_table
from image_samplers import ROWS, Bench, Budget, Row, config_head
from image_tables import SCORES, Tables, lines_of
from measure_image_guidance import TUNE, betas
from motet_runs import Result

NAME = "compositions"
SAMPLERS = ("reverse", "hmc-4-curve", "exact")
NUM_SHOWN = 12
SHARES = ("share of A", "share of B", "share of others")
MEASURES = (*SHARES, "mean p(A)", "mean p(B)", "mean of the lesser", "diversity")


@dataclass(frozen=True)
class Case:
    """A target of classes A and B; names of classes stand for the network given them."""

    operator: str
    target: str
    a: int
    b: int

    def expression(self, names: tuple[str, ...]) -> str:
        """As motet takes it: a, b and all are tables; as a title, with the classes' names."""
        text = self.target.replace("{a}", names[0]).replace("{b}", names[1])
        return text.replace("{all}", names[2])


def guided(a: int, b: int, scale: float) -> Case:
    """Guidance without a classifier, of class A; B is the class that A is taken for most."""
    return Case("guidance", f"guide({{a}}, {{all}}, {scale:g})", a, b)


T_SHIRT, TROUSER, PULLOVER, DRESS, COAT, SHIRT, BAG = 0, 1, 2, 3, 4, 6, 8
CASES = (
    *(guided(SHIRT, T_SHIRT, scale) for scale in (0.0, 1.0, 3.0)),
    Case("A", "{a}", PULLOVER, COAT),
    Case("A and not B", "{a} / {b}^0.5", PULLOVER, COAT),
    Case("A and not B", "{a} * {all} / {b}", PULLOVER, COAT),
    Case("A or B", "0.5 {a} + 0.5 {b}", TROUSER, BAG),
    Case("A or B", "0.8 {a} + 0.2 {b}", TROUSER, BAG),
    Case("A and B", "{a} * {b} / {all}", T_SHIRT, DRESS),
)


def table_name(name: str) -> str:
    """The table of a class in configs: a letter, then letters and digits."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return plain if plain[0].isalpha() else f"class{plain}"


def title(case: Case, data: str = "fashion") -> str:
    """The target with the classes' names, as in tables and in the JSON."""
    names = CLASSES[data]
    return case.expression((table_name(names[case.a]), table_name(names[case.b]), "all"))


def models(case: Case, network: Path, none: int, data: str) -> str:
    """The [model.*] tables that the target names."""
    names, text = CLASSES[data], ""
    labels = {"{a}": case.a, "{b}": case.b, "{all}": none}
    for place, label in labels.items():
        if place in case.target:
            name = "all" if place == "{all}" else table_name(names[label])
            text += f'[model.{name}]\nweights = "{network.resolve()}"\n'
            text += f"[model.{name}.inputs]\nclass_labels = {label}\n"
    return text


def measures(judge: Judge, case: Case, data: np.ndarray) -> Callable[[np.ndarray], dict]:
    """What the judge says of samples; `data`: features of A's images in the test split."""

    def errors(x: np.ndarray) -> dict[str, float]:
        probabilities, features = judge.outputs(x)
        shown = probabilities.argmax(1)
        pair = probabilities[:, [case.a, case.b]]
        return {
            "share of A": float((shown == case.a).mean()),
            "share of B": float((shown == case.b).mean()),
            "share of others": float(((shown != case.a) & (shown != case.b)).mean()),
            "mean p(A)": float(pair[:, 0].mean()),
            "mean p(B)": float(pair[:, 1].mean()),
            "mean of the lesser": float(pair.min(1).mean()),
            "diversity": mean_distance(features) / mean_distance(data),
        }

    return errors


class Work:
    """The runs of the experiment."""

    def __init__(self, bench: Bench, network: Path, judge: Judge, none: int = 10) -> None:
        self.bench, self.network, self.judge, self.none = bench, network, judge, none
        self.data = judge.notes["data"]
        self.test = image_judge.data_of(self.data, "test")

    def floor(self, case: Case) -> None:
        """Writes what the judge says of A's own images with the result."""
        images = self.test.of_class(case.a)
        found = measures(self.judge, case, self.judge.features(images))(images)
        rows = {measure: {"mean": value, "sd": None} for measure, value in found.items()}
        self.bench.result.floors[title(case, self.data)] = rows

    def run(self, row: Row, case: Case, seed: int) -> None:
        """One run; the pilot is of the case itself."""
        name, budget = title(case, self.data), self.bench.budget
        tables = models(case, self.network, self.none, self.data)
        if name not in self.bench.result.floors:
            self.floor(case)
        features = self.judge.features(self.test.of_class(case.a))

        def pilot(kernel: str) -> dict:
            return self.bench.pilot(name, kernel, config_head(budget, name, tables, 1))

        head = config_head(budget, name, tables, seed)
        self.bench.run(row, name, head, seed, pilot, measures(self.judge, case, features))


class Page(Tables):
    """Tables and picture of a result."""

    def __init__(self, result: Result, cases: list[Case]) -> None:
        super().__init__(result, [title(case) for case in cases], SAMPLERS)
        self.known = [case for case in cases if title(case) in self.cases]

    def judged(self) -> str:
        """A row a case and sampler: what the judge says."""
        names = CLASSES["fashion"]
        rows = []
        for case in self.known:
            classes = f"{names[case.a]}, {names[case.b]}"
            of_data = [f"{self.result.floors[title(case)][m]['mean']:.2f}" for m in MEASURES]
            rows.append([title(case), classes, "*images of A*", *of_data])
            for sampler in self.samplers:
                if not self.runs(title(case), sampler):
                    continue
                cells = [self.cell(measure, title(case), sampler) for measure in MEASURES]
                rows.append([title(case), classes, sampler, *cells])
        return lines_of(["target", "A, B", "sampler", *MEASURES], rows, 3)

    def cell(self, measure: str, case: str, sampler: str) -> str:
        """Shares with binomial errors, others with the sd over seeds."""
        return (self.share if measure in SHARES else self.mean)(measure, case, sampler)

    def picture(self) -> str:
        """SVG: targets by samplers, the first chains of the first seed."""
        rows = []
        for case in self.cases:
            keys = [self.result.key(case, SCORES, sampler, 1) for sampler in self.samplers]
            panels = [kept_samples(self.result.name, key) for key in keys]
            if any(x is not None for x in panels):
                rows.append((case, [None if x is None else x[:NUM_SHOWN] for x in panels]))
        label = "Samples of compositions of classes"
        return sample_table(label, self.samplers, rows, NUM_SHOWN // 2) if rows else ""

    def write(self, folder: Path, pictures: Path) -> None:
        """All files."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures.mkdir(parents=True, exist_ok=True)
        (folder / f"{NAME}.md").write_text(self.judged())
        groups = {
            operator: [title(case) for case in self.known if case.operator == operator]
            for operator in dict.fromkeys(case.operator for case in self.known)
        }
        (folder / f"{NAME}-costs.md").write_text(self.costs(groups))
        (folder / f"{NAME}-weights.md").write_text(self.effective("exact"))
        if text := self.picture():
            (pictures / f"images-{NAME}.svg").write_text(text)


def parse() -> Namespace:
    """The command line."""
    parser = arguments(__doc__, SAMPLERS, seeds=1)
    names = [title(case) for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--chains", type=int, default=Budget.num_chains)
    parser.add_argument("--compute", choices=("float32", "bfloat16"), default="float32")
    return parser.parse_args()


def main() -> int:
    """Measures and renders."""
    args = parse()
    network = args.networks / "fashion"
    budget = Budget(num_chains=args.chains, compute=args.compute, tune=TUNE)
    result = Result(NAME, FOLDER)
    cases = [case for case in CASES if title(case) in args.cases]
    if not args.render:
        found = betas(network, budget.num_levels)
        bench = Bench(args.motet, budget, result, found, args.again)
        work = Work(bench, network, image_judge.judge_of("fashion"))
        rows = [row for row in ROWS if row.name in args.samplers]
        for seed in range(1, args.seeds + 1):
            for case in cases:
                for row in rows:
                    work.run(row, case, seed)
    if result.runs:
        Page(result, list(CASES)).write(FOLDER, PICTURES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
