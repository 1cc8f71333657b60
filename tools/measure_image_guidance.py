"""Measures classifier guidance of images: results/images/guidance*.{json,md}, pictures.

    tools/measure_image_guidance.py [--motet build/release/bin/motet] [--networks models]
        [--scales S...] [--labels CLASS...] [--samplers NAME...] [--chains N] [--seeds N] [--again]
        [--render]

The target is p(x) p(y | x)^s: p(x) the U-Net of Fashion-MNIST with class 10, "none"; p(y | x) the
noise-aware classifier of another training. Every sampler gets as many evaluations a chain, so that
those with MCMC steps visit fewer levels. Step sizes come from one pilot run for each kernel and
scale, the same for all samplers of a kernel; rows "power law" take a beta^b instead, a and b fitted
to the pilot's. The judge (image_judge.py) is a third network. Runs that are in the JSON are not
made again unless --again says so; --render makes tables and pictures of what there is. Seeds are
the outermost loop, then classes: after the first of both, every sampler is there.
"""

import json
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import image_judge
import numpy as np
from image_judge import CLASSES, ClassMeasures
from image_runs import (
    FOLDER,
    PICTURES,
    arguments,
    kept_samples,
    line_plot,
    mean_acceptance,
    plots,
    sample_table,
)
from image_samplers import PILOTS, ROWS, Bench, Budget, Row, config_head
from image_tables import SCORES, Tables, lines_of
from motet_runs import Result, cell

NAME = "guidance"
SCALES = (1.0, 5.0, 10.0, 20.0)
LABELS = (6, 7)  # shirt, which is easily taken for four other classes, and sneaker
PILOT_LABEL = LABELS[0]
# A pilot of one step a level begins with steps that 784 coordinates accept, and goes by acceptance.
TUNE = "start = 0.3\nmax_disagreement = 1.0\n"
NUM_SHOWN = 8  # samples of a run in the picture
MEASURES = ("accuracy", "share with p > .5", "Frechet distance", "diversity")


def case_name(name: str, scale: float) -> str:
    """As in the JSON and in tables."""
    return f"{name}, scale {scale:g}"


def betas(network: Path, num_levels: int) -> np.ndarray:
    """Of a network's noise levels, which are linear."""
    file = network / "scheduler_config.json"
    if not file.is_file():
        sys.exit(f"{file}: no such file; motet train makes the network, see docs/training.md")
    keys = json.loads(file.read_text())
    if keys["beta_schedule"] != "linear":
        sys.exit(f"{file}: beta_schedule = {keys['beta_schedule']}; the power law takes linear")
    return np.linspace(keys["beta_start"], keys["beta_end"], num_levels)


@dataclass(frozen=True)
class Networks:
    """What is guided by what."""

    network: Path  # a U-Net with classes, the last of which is "none"
    classifier: Path
    none: int = 10

    def models(self, label: int) -> str:
        """The [model.*] tables."""
        return (
            f'[model.all]\nweights = "{self.network.resolve()}"\n'
            f"[model.all.inputs]\nclass_labels = {self.none}\n"
            f'[model.y]\nclassifier = "{self.classifier.resolve()}"\nlabel = {label}\n'
        )


class Work:
    """The runs of the experiment."""

    def __init__(self, bench: Bench, networks: Networks, judge: image_judge.Judge) -> None:
        self.bench, self.networks, self.judge = bench, networks, judge
        self.test = image_judge.data_of(judge.notes["data"], "test")
        self.names = CLASSES[judge.notes["data"]]
        self.known: dict[int, ClassMeasures] = {}

    def measures(self, label: int) -> ClassMeasures:
        """Of a class; what images of the data score is written with the result."""
        if label not in self.known:
            self.known[label] = ClassMeasures.of(self.judge, self.test, label)
            self.bench.result.floors[self.names[label]] = self.known[label].floors(
                self.test.of_class(label), self.bench.budget.num_chains
            )
        return self.known[label]

    def head(self, label: int, scale: float, seed: int) -> str:
        """The config of a place, without its sampler."""
        models = self.networks.models(label)
        return config_head(self.bench.budget, f"guide(all, y, {scale:g})", models, seed)

    def run(self, row: Row, label: int, scale: float, seed: int) -> None:
        """One run. Step sizes are found on the first class, for all."""
        measures = self.measures(label)

        def pilot(kernel: str) -> dict:
            return self.bench.pilot(f"scale {scale:g}", kernel, self.head(PILOT_LABEL, scale, 1))

        case, head = case_name(self.names[label], scale), self.head(label, scale, seed)
        self.bench.run(row, case, head, seed, pilot, measures.errors)


class Page(Tables):
    """Tables and pictures of a result."""

    def __init__(self, result: Result, labels: list[str], scales: list[float]) -> None:
        self.places = [(case_name(name, scale), name, scale) for name in labels for scale in scales]
        super().__init__(result, [case for case, _, _ in self.places], [row.name for row in ROWS])
        self.places = [place for place in self.places if place[0] in self.cases]
        self.scales = list(dict.fromkeys(scale for _, _, scale in self.places))

    def measure_table(self, measure: str) -> str:
        """Samplers by cases."""
        is_share = measure in ("accuracy", "share with p > .5")
        data = {case: self.of_data(measure, name) for case, name, _ in self.places}
        return self.table(measure, self.share if is_share else self.mean, data)

    def of_data(self, measure: str, name: str) -> str:
        """What images of the class in the test split score; of the distance, as many as chains."""
        found = self.result.floors[name][measure]
        return cell(found) if found["sd"] is not None else f"{found['mean']:.2f}"

    def costs_by_scale(self) -> str:
        """Costs, and acceptance by scale."""
        groups = {
            f"scale {scale:g}": [case for case, _, other in self.places if other == scale]
            for scale in self.scales
        }
        return self.costs(groups)

    def pilots(self) -> dict[tuple[str, float], dict]:
        """What the pilots found, by kernel and scale."""
        keys = {
            (kernel, scale): self.result.key(f"scale {scale:g}", "pilot", kernel, 1)
            for kernel in PILOTS
            for scale in self.scales
        }
        return {at: self.result.runs[key] for at, key in keys.items() if key in self.result.runs}

    def laws(self) -> str:
        """Markdown: the fitted power laws."""
        rows = []
        for (kernel, scale), found in self.pilots().items():
            law, acceptance = found["power law"], np.mean(found["acceptance"])
            cells = [kernel, f"{scale:g}", f"{law['factor']:.3g}", f"{law['power']:.2f}"]
            cells += [f"{law['rms of log']:.2f}", f"{acceptance:.2f}"]
            rows.append(cells)
        head = ["kernel", "scale", "a", "b", "rms of log step", "acceptance of the pilot"]
        return lines_of(head, rows)

    def acceptance_plot(self) -> str:
        """SVG: acceptance by level, a panel a scale, of the first class and seed."""
        panels = []
        for case in (case for case, name, _ in self.places if name == self.places[0][1]):
            curves = {}
            for row in ROWS:
                runs = self.runs(case, row.name)
                if not runs or not mean_acceptance(runs[0]) or "u-" in row.name:
                    continue
                levels = [level for level in runs[0]["levels"] if level["num_steps"]]
                curves[row.name] = (
                    [level["index"] for level in levels],
                    [level["acceptance"] for level in levels],
                )
            if curves:
                panels.append(line_plot(case, ("level", "acceptance"), curves, (0.0, 1.0)))
        return plots("Acceptance by level", panels, 2) if panels else ""

    def step_plot(self, betas: np.ndarray) -> str:
        """SVG: the pilots' step sizes against beta, both as log10, a panel a kernel."""
        panels = []
        for kernel in PILOTS:
            curves = {
                f"scale {scale:g}": (
                    np.log10(betas[found["levels"]]),
                    np.log10(found["step_sizes"]),
                )
                for (other, scale), found in self.pilots().items()
                if other == kernel
            }
            if curves:
                panels.append(line_plot(kernel, ("log10 beta", "log10 step size"), curves))
        return plots("Step sizes of the pilots", panels, 2) if panels else ""

    def samples(self, name: str) -> str:
        """SVG: samplers by scales, the first chains of the first seed, of one class."""
        cases = [(case, scale) for case, other, scale in self.places if other == name]
        rows = []
        for row in ROWS:
            keys = [self.result.key(case, SCORES, row.name, 1) for case, _ in cases]
            panels = [kept_samples(self.result.name, key) for key in keys]
            if any(x is not None for x in panels):
                rows.append((row.name, [None if x is None else x[:NUM_SHOWN] for x in panels]))
        columns = [f"scale {scale:g}" for _, scale in cases]
        return sample_table(f"Samples of {name}", columns, rows, NUM_SHOWN) if rows else ""

    def write(self, folder: Path, pictures: Path, betas: np.ndarray) -> None:
        """All files."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures.mkdir(parents=True, exist_ok=True)
        start = self.result.name
        (folder / f"{start}.md").write_text("\n".join(self.measure_table(m) for m in MEASURES))
        (folder / f"{start}-costs.md").write_text(self.costs_by_scale())
        (folder / f"{start}-steps.md").write_text(self.laws())
        (folder / f"{start}-weights.md").write_text(self.effective("exact"))
        drawn = {"acceptance": self.acceptance_plot(), "steps": self.step_plot(betas)}
        names = dict.fromkeys(name for _, name, _ in self.places)
        drawn |= {name.replace(" ", "-"): self.samples(name) for name in names}
        for name, text in drawn.items():
            if text:  # samples are where they were made
                (pictures / f"images-{start}-{name}.svg").write_text(text)


def parse() -> Namespace:
    """The command line."""
    parser = arguments(__doc__, [row.name for row in ROWS], seeds=1)
    parser.add_argument("--scales", nargs="+", type=float, default=SCALES)
    parser.add_argument("--labels", nargs="+", type=int, default=LABELS, help="classes, 0 to 9")
    parser.add_argument("--chains", type=int, default=Budget.num_chains)
    parser.add_argument("--compute", choices=("float32", "bfloat16"), default="float32")
    return parser.parse_args()


def main() -> int:
    """Measures and renders."""
    args = parse()
    networks = Networks(args.networks / "fashion", args.networks / "fashion-classifier")
    budget = Budget(num_chains=args.chains, compute=args.compute, tune=TUNE)
    found = betas(networks.network, budget.num_levels)
    bench = Bench(args.motet, budget, Result(NAME, FOLDER), found, args.again)
    work = Work(bench, networks, image_judge.judge_of("fashion"))
    rows = [row for row in ROWS if row.name in args.samplers]
    for seed in range(1, args.seeds + 1) if not args.render else ():
        for label in args.labels:
            for scale in args.scales:
                for row in rows:
                    work.run(row, label, scale, seed)
    if bench.result.runs:
        names = [CLASSES["fashion"][label] for label in args.labels]
        Page(bench.result, names, args.scales).write(FOLDER, PICTURES, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
