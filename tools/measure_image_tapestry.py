"""Measures tapestries of images: results/images/tapestry.{json,md}, pictures images-tapestry*.

    tools/measure_image_tapestry.py [--motet build/release/bin/motet] [--networks models]
        [--data fashion|digits] [--cases NAME...] [--samplers NAME...] [--seeds N]
        [--compute float32|bfloat16] [--again] [--render]

A 3 x 3 grid of windows on one canvas, each another class of a class-conditional network, by both
rules for overlaps (docs/tapestry.md) and, as the control, without overlap: nine images side by side
that know nothing of each other. Of every window the judge of image_judge.py says whether it shows
its class, and the seam score how visible the windows' edges are ("seams" in a run's JSON). What
images of the data show at the same places by themselves is its reference.

All samplers make as many evaluations a chain (image_plans.py). A canvas costs nine evaluations of
the network for each of a chain, each of 64 rows, filled up: 64 canvases cost what 1 costs. Digits
(8 x 8) need a folder "digits" in --networks, of experiments/train-digits.toml.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import image_judge
import image_plans
import image_runs
import numpy as np
from image_runs import FOLDER, PICTURES, arguments, facts, kept_samples, share_error
from motet_runs import Result, cell

NAME = "tapestry"
SIDE = 3  # windows along a side of the grid
SEEDS = 1
CANVASES = 64  # of a seed
EVALUATIONS = 100  # of a chain
TAPER_SHARE = 0.25  # of a window's side


@dataclass(frozen=True)
class Data:
    """A network, the classes of the nine windows, row by row, and how far they overlap."""

    name: str
    size: int
    overlap: int
    classes: tuple[int, ...]


DATA = {
    # ankle boot, bag, trouser / dress, sneaker, coat / sandal, shirt, T-shirt
    "fashion": Data("fashion", 28, 8, (9, 8, 1, 3, 7, 4, 5, 6, 0)),
    "digits": Data("digits", 8, 2, (0, 1, 2, 3, 4, 5, 6, 7, 8)),
}


@dataclass(frozen=True)
class Case:
    """A rule for the overlaps."""

    name: str
    rule: str = "cover"
    overlaps: bool = True
    tapers: bool = False
    samplers: tuple[str, ...] = ("reverse", "hmc-4-curve")

    def tables(self, data: Data) -> str:
        """The [tapestry] table."""
        names = [f"c{label}" for label in data.classes]
        rows = "; ".join(" ".join(names[i : i + SIDE]) for i in range(0, SIDE * SIDE, SIDE))
        text = f'[tapestry]\ngrid = "{rows}"\noverlap = {self.overlap(data)}\n'
        text += f'rule = "{self.rule}"\n'
        return text + (f"taper = {data.size * TAPER_SHARE:g}\n" if self.tapers else "")

    def overlap(self, data: Data) -> int:
        """Pixels that neighbours share."""
        return data.overlap if self.overlaps else 0

    def side(self, data: Data) -> int:
        """Pixels along a side of the canvas."""
        return SIDE * data.size - (SIDE - 1) * self.overlap(data)


SAMPLERS = ("reverse", "u-hmc", "hmc-4-curve", "exact")
ADJUSTED = ("hmc-4-curve", "exact")
CASES = {
    case.name: case
    for case in (
        Case("apart", overlaps=False),
        # No law: its weights stay 1, and no sampler is exact.
        Case("cover", samplers=("reverse", "u-hmc", "hmc-4-curve")),
        Case("cover, taper", tapers=True),
        Case("product", rule="product", samplers=SAMPLERS),
    )
}


def config(
    network: Path, data: Data, case: Case, sampler: str, seed: int, compute: str = "float32"
) -> str:
    """The config of a run."""
    text = f'num_samples = {CANVASES}\nseed = {seed}\ncompute = "{compute}"\n'
    text += image_plans.head(sampler, EVALUATIONS)
    for label in sorted(set(data.classes)):
        text += f'[model.c{label}]\nweights = "{network}"\n'
        text += f"[model.c{label}.inputs]\nclass_labels = {label}\n"
    text += case.tables(data)
    return text + image_plans.tables(sampler, EVALUATIONS, case.side(data) ** 2)


def windows_of(x: np.ndarray, data: Data, overlap: int) -> np.ndarray:
    """What each window sees of canvases (N, 1, H, W): (N, 9, 1, h, w)."""
    stride = data.size - overlap
    parts = [
        x[:, :, i * stride : i * stride + data.size, j * stride : j * stride + data.size]
        for i in range(SIDE)
        for j in range(SIDE)
    ]
    return np.stack(parts, axis=1)


def canvas_of_data(split: image_judge.Split, data: Data, count: int) -> np.ndarray:
    """Images of the data of the windows' classes, without overlap, on canvases (N, 1, H, W)."""
    rng = np.random.default_rng(0)
    parts = [rng.choice(split.of_class(label), count) for label in data.classes]
    lines = [np.concatenate(parts[i : i + SIDE], axis=3) for i in range(0, SIDE * SIDE, SIDE)]
    return np.concatenate(lines, axis=2)


def edges(size: int, length: int, overlap: int) -> np.ndarray:
    """Which pairs of neighbours along a canvas have an edge of a window between them."""
    found = np.zeros(length - 1, bool)
    for i in range(SIDE):
        start = i * (size - overlap)
        for edge in (start, start + size):
            if 0 < edge < length:
                found[edge - 1] = True
    return found


def seam_score(x: np.ndarray, data: Data, overlap: int) -> float:
    """Mean |difference| of neighbours across windows' edges over that elsewhere, as motet's own.

    x (N, 1, H, W). An edge along a window's whole side runs through the canvas in a full grid.
    """
    found = edges(data.size, x.shape[2], overlap)
    down, right = np.abs(np.diff(x, axis=2)), np.abs(np.diff(x, axis=3))
    at_seams = np.concatenate([down[:, :, found].ravel(), right[:, :, :, found].ravel()])
    elsewhere = np.concatenate([down[:, :, ~found].ravel(), right[:, :, :, ~found].ravel()])
    return float(at_seams.mean() / elsewhere.mean())


def reference_seams(split: image_judge.Split, data: Data, overlap: int) -> float:
    """The seam score of images of the data, at the places where canvases have windows' edges.

    Without overlap these are their own borders, side by side. With overlap each image is taken for
    a window, with the edges of its neighbours across it.
    """
    if overlap == 0:
        return seam_score(canvas_of_data(split, data, 100), data, 0)
    stride, found = (
        data.size - overlap,
        edges(data.size, SIDE * data.size - (SIDE - 1) * overlap, overlap),
    )
    sums, counts = np.zeros(2), np.zeros(2)
    for number, label in enumerate(data.classes):
        x = split.of_class(label)
        for axis, place in ((2, number // SIDE), (3, number % SIDE)):
            seen = found[place * stride : place * stride + data.size - 1]
            steps = np.abs(np.diff(x, axis=axis)).mean((0, 1, 5 - axis))
            sums += steps[seen].sum(), steps[~seen].sum()
            counts += seen.sum(), (~seen).sum()
    means = sums / counts
    return float(means[0] / means[1])


class Work:
    """The experiment being measured."""

    def __init__(
        self, motet: Path, networks: Path, data: str, compute: str = "float32", again: bool = False
    ) -> None:
        self.motet, self.data, self.compute, self.again = motet, DATA[data], compute, again
        self.network = networks.resolve() / self.data.name
        self.result = Result(NAME, FOLDER)
        self.judge = image_judge.judge_of(data)
        self.test = image_judge.data_of(data, "test")

    def floor(self) -> None:
        """What images of the data score, side by side: accuracies of the judge, seams."""
        if self.data.name in self.result.floors:
            return
        x = canvas_of_data(self.test, self.data, 30)
        seams = {
            case.name: reference_seams(self.test, self.data, case.overlap(self.data))
            for case in CASES.values()
        }
        self.result.floors[self.data.name] = self.errors(x, 0) | {
            "judge": self.judge.notes,
            "seam score": seams,
        }
        self.result.write()

    def errors(self, x: np.ndarray, overlap: int) -> dict:
        """Measures of canvases (N, 1, H, W)."""
        windows = windows_of(x, self.data, overlap)
        probabilities = self.judge.probabilities(windows.reshape(-1, *windows.shape[2:]))
        wanted = np.tile(self.data.classes, len(x))
        hits = (probabilities.argmax(1) == wanted).reshape(len(x), -1)
        return {
            "accuracy": float(hits.mean()),
            "canvases with all nine": float(hits.all(1).mean()),
            "centre": float(hits[:, SIDE * SIDE // 2].mean()),
            "seam score": seam_score(x, self.data, overlap),
        }

    def run(self, case: Case, sampler: str, seed: int) -> None:
        """A run, measured and written."""
        key = Result.key(self.data.name, case.name, sampler, seed)
        if key in self.result.runs and not self.again:
            return
        text = config(self.network, self.data, case, sampler, seed, self.compute)
        outcome = image_runs.run(self.motet, text, NAME, key)
        if outcome.exit_code:
            sys.exit(f"{key}: {outcome.message}")
        overlap = case.overlap(self.data)
        self.result.runs[key] = {
            "exit_code": 0,
            "config": text.replace(str(self.network.parent), "models"),
            "errors": self.errors(outcome.x, overlap),
            "per window": self.per_window(outcome.x, overlap),
            "seams": outcome.report.get("seams"),
        } | facts(outcome.report)
        self.result.write()
        print(key, self.result.runs[key]["errors"], flush=True)

    def per_window(self, x: np.ndarray, overlap: int) -> list[float]:
        """Accuracy of every window."""
        windows = windows_of(x, self.data, overlap)
        return [
            float((self.judge.probabilities(windows[:, i]).argmax(1) == label).mean())
            for i, label in enumerate(self.data.classes)
        ]


# --- pages ---------------------------------------------------------------------------------------


def table(result: Result, data: str) -> str:
    """Markdown: rules by samplers."""
    lines = [
        f"| {data}: windows | sampler | evaluations of each window | acceptance "
        "| windows that show their class | the centre | seam score | of the data there "
        "| seconds a canvas |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    floor = result.floors[data]
    for case in CASES:
        for sampler in SAMPLERS:
            runs = result.of(data, case, sampler)
            if not runs:
                continue
            errors = result.errors(data, case, sampler)
            count = sum(run["num_chains"] for run in runs)
            accepted = [image_runs.mean_acceptance(run) or np.nan for run in runs]
            shares = []
            for name, windows in (("accuracy", SIDE * SIDE * count), ("centre", count)):
                mean = errors[name]["mean"]
                shares.append(f"{mean:.3f} ± {share_error(mean, windows):.3f}")
            seconds = sum(run["seconds"]["total"] for run in runs) / count
            lines.append(
                f"| {case} | {sampler} | {runs[0]['evaluations_per_chain']} "
                f"| {f'{np.mean(accepted):.3f}' if sampler in ADJUSTED else '-'} | "
                + " | ".join(shares)
                + f" | {cell(errors['seam score'])} | {floor['seam score'][case]:.2f} "
                f"| {seconds:.1f} |"
            )
    lines.append(
        f"| images of the data | | | | {floor['accuracy']:.3f} | {floor['centre']:.3f} | | | |"
    )
    return "\n".join(lines) + "\n"


def window_table(result: Result, data: Data) -> str:
    """Markdown: the accuracy of every class, by rule, over samplers and seeds."""
    names = image_judge.CLASSES[data.name]
    lines = [
        f"| {data.name}: windows | " + " | ".join(names[label] for label in data.classes) + " |",
        "|---|" + "---:|" * len(data.classes),
    ]
    for case in CASES:
        runs = [run for sampler in SAMPLERS for run in result.of(data.name, case, sampler)]
        if runs:
            mean = np.mean([run["per window"] for run in runs], axis=0)
            lines.append(f"| {case} | " + " | ".join(f"{share:.2f}" for share in mean) + " |")
    return "\n".join(lines) + "\n"


def picture(data: Data) -> None:
    """Two canvases of every rule and sampler."""
    rows = []
    for case in CASES:
        panels = []
        for sampler in SAMPLERS:
            x = kept_samples(NAME, Result.key(data.name, case, sampler, 1))
            panels.append(None if x is None else x[:1])
        rows.append((case, panels))
    if any(panel is not None for _, panels in rows for panel in panels):
        scale = 2 if data.name == "fashion" else 5
        text = image_runs.sample_table(f"Tapestries of {data.name}", list(SAMPLERS), rows, 1, scale)
        (PICTURES / f"images-{NAME}-{data.name}.svg").write_text(text)


def render() -> None:
    """Tables and pictures of what there is."""
    result = Result(NAME, FOLDER)
    measured = [data for data in DATA.values() if data.name in result.floors]
    parts = [
        text for data in measured for text in (table(result, data.name), window_table(result, data))
    ]
    (FOLDER / f"{NAME}.md").write_text("\n".join(parts))
    for data in measured:
        picture(data)


def main() -> int:
    """Measures what is not there yet, then renders."""
    parser = arguments(__doc__, list(SAMPLERS), SEEDS)
    parser.add_argument("--data", choices=DATA, default="fashion")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--compute", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    if not args.render:
        work = Work(args.motet, args.networks, args.data, args.compute, args.again)
        work.floor()
        for seed in range(1, args.seeds + 1):
            for name in args.cases:
                for sampler in args.samplers:
                    if sampler in CASES[name].samplers:
                        work.run(CASES[name], sampler, seed)
    render()
    return 0


if __name__ == "__main__":
    sys.exit(main())
