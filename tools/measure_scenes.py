"""Measures compositions of asked places in scenes: results/images/scenes*.{json,md}, pictures.

    tools/measure_scenes.py [--motet build/release/bin/motet] [--networks models]
        [--samplers NAME...] [--places N...] [--chains N] [--evaluations N] [--compute WORD]
        [--seeds N] [--again] [--render]

One network, models/scenes, knows p(x | an object stands at c) and p(x). Of n places c_1 .. c_n the
target is prod_i p(x | c_i) / p(x)^(n - 1), which is, by Bayes' rule, p(x) prod_i p(c_i | x): scenes
that have an object at every one of them. A seed asks for places of its own, so far apart that any
two objects fit; n takes the first n of them. Every sampler gets as many evaluations a chain, so
those with MCMC steps visit fewer levels. Their step sizes are found by a pilot run of each kernel
on two places, the same for all n.

success: a detector (scene_detector.py, its accuracy in results/images/scene-detector.md) finds an
object within its tolerance of all n places. Runs that are in the JSON are not made again unless
--again says so; --render makes tables and pictures of what there is. Seeds are the outermost loop.
"""

import base64
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scene_detector
from image_runs import (
    COLOURS,
    FOLDER,
    PICTURES,
    Frame,
    arguments,
    grid,
    kept_samples,
    png,
    share_error,
    svg,
    text_at,
)
from image_samplers import ROWS as ALL_ROWS
from image_samplers import Bench, Budget, Row, config_head
from image_tables import SCORES, Tables, lines_of
from measure_image_guidance import betas
from motet_runs import Result
from scene_detector import TOLERANCE, detect, seen_at, stands_at

NAME = "scenes"
ROWS = tuple(
    next(row for row in ALL_ROWS if row.name == name)
    for name in ("reverse", "u-hmc", "la-3-line", "hmc-4-curve", "exact")
)
MAX_PLACES = 5  # as many objects has a scene
APART = 0.67  # of two asked places at least: two of the largest cubes, in any turn, fit
WITHIN = 0.85  # asked places are in [-WITHIN, WITHIN]^2, objects of the data in [-1, 1]^2
NUM_CHAINS = 64  # as many images pass through a network at once: fewer cost as much
# A pilot of one step a level starts where 3072 coordinates accept, and goes by acceptance alone.
TUNE = "start = 0.2\nmax_disagreement = 1.0\n"
NUM_SHOWN = 2  # samples of a run in the picture
NUM_CHANCE = 4000  # scenes


def asked_places(seed: int) -> np.ndarray:
    """Places (MAX_PLACES, 2), evenly drawn under the condition that they are APART."""
    rng = np.random.default_rng(seed)
    while True:
        places = rng.uniform(-WITHIN, WITHIN, (MAX_PLACES, 2))
        distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
        if distances[np.triu_indices(MAX_PLACES, 1)].min() >= APART:
            return places


def case_name(count: int) -> str:
    """As in the JSON and in tables."""
    return f"{count} place" + ("s" if count > 1 else "")


def models(network: Path, places: np.ndarray) -> tuple[str, str]:
    """The target of asked places (n, 2), and the tables of its models."""
    names, power = [f"at{i + 1}" for i in range(len(places))], len(places) - 1
    conditions = {name: f"[{x:.4f}, {y:.4f}]" for name, (x, y) in zip(names, places, strict=True)}
    target = " * ".join(names)
    if power > 0:
        conditions["any"] = "[]"
        target += " / any" + (f"^{power}" if power > 1 else "")
    weights = f'weights = "{network.resolve()}"\n'
    tables = (f"[model.{name}]\n{weights}condition = {told}\n" for name, told in conditions.items())
    return target, "".join(tables)


def measures(detector: scene_detector.Detector, x: np.ndarray, places: np.ndarray) -> dict:
    """Of samples (N, 3, P, P): shares of asked places with an object, and objects a sample."""
    found = detect(detector, np.clip(x, -1, 1))
    hits = np.array([stands_at(one, places) for one in found])
    return {
        "success": float(hits.all(1).mean()),
        "single places": float(hits.mean()),
        "objects": float(np.mean([len(one) for one in found])),
    }


def chance(motet: Path, places: np.ndarray) -> dict[str, float]:
    """Share of the data's scenes with objects at the first n places, for each n."""
    _, objects = scene_detector.draw(motet, NUM_CHANCE, 8, seed=7)
    rows = [row[np.isfinite(row[:, 0]), :2] for row in objects.numpy()]
    hits = np.array([stands_at(row, places) for row in rows])
    return {
        case_name(count): float(hits[:, :count].all(1).mean())
        for count in range(1, len(places) + 1)
    }


class Work:
    """The runs of an experiment."""

    def __init__(self, bench: Bench, network: Path, detector: scene_detector.Detector) -> None:
        self.bench, self.network, self.detector = bench, network, detector

    def head(self, places: np.ndarray, seed: int) -> str:
        """The config of a run without its sampler."""
        return config_head(self.bench.budget, *models(self.network, places), seed)

    def pilot(self, kernel: str) -> dict:
        """The step sizes of a kernel, found on the first two places of seed 1."""
        return self.bench.pilot(case_name(2), kernel, self.head(asked_places(1)[:2], 1))

    def run(self, row: Row, count: int, seed: int) -> None:
        """One run on the first `count` places of a seed, unless it is there already."""
        places = asked_places(seed)
        floors = self.bench.result.floors
        if f"seed {seed}" not in floors:
            found = {"places": places.round(4).tolist()} | chance(self.bench.motet, places)
            floors[f"seed {seed}"] = found
        places = places[:count]
        self.bench.run(
            row,
            case_name(count),
            self.head(places, seed),
            seed,
            self.pilot,
            lambda x: measures(self.detector, x, places),
        )


class Page(Tables):
    """Tables and pictures of a result."""

    def __init__(self, result: Result) -> None:
        cases = [case_name(count) for count in range(1, MAX_PLACES + 1)]
        super().__init__(result, cases, [row.name for row in ROWS])
        self.counts = [int(case.split()[0]) for case in self.cases]

    def chances(self) -> list[float]:
        """Of the scenes of the data, by case, over the seeds."""
        floors = self.result.floors.values()
        return [float(np.mean([floor[case] for floor in floors])) for case in self.cases]

    def ceiling(self) -> list[float]:
        """Of perfect samples the detector would pass as many: recall^n."""
        kept = json.loads(scene_detector.RESULT.read_text())["measured"]
        recall = kept["32 pixels"]["recall"]["share"]
        return [recall**count for count in self.counts]

    def successes(self) -> str:
        """Markdown: share of samples with objects at all asked places."""
        rows = [
            ["*scenes of the data (chance)*", *(f"{share:.4f}" for share in self.chances())],
            ["*perfect samples, by the detector*", *(f"{share:.2f}" for share in self.ceiling())],
        ]
        for name in self.samplers:
            rows.append([name, *(self.share("success", case, name) for case in self.cases)])
        return lines_of(["success", *self.cases], rows)

    def curves(self) -> dict[str, tuple[list[int], list[float], list[float]]]:
        """Of each sampler: numbers of places, success, its standard error."""
        found = {}
        for name in self.samplers:
            counts, shares, errors = [], [], []
            for count, case in zip(self.counts, self.cases, strict=True):
                runs = self.runs(case, name)
                if runs:
                    chains = sum(run["num_chains"] for run in runs)
                    hits = sum(run["errors"]["success"] * run["num_chains"] for run in runs)
                    counts.append(count)
                    shares.append(hits / chains)
                    errors.append(share_error(hits / chains, chains))
            found[name] = (counts, shares, errors)
        return found

    def plot(self) -> str:
        """SVG: success against the number of places, with standard errors."""
        frame = Frame((0.8, MAX_PLACES + 0.2), (0.0, 1.0))
        parts = frame.parts("Samples with objects at all asked places", ("asked places", "share"))
        curves = self.curves() | {"chance": (self.counts, self.chances(), [0.0] * len(self.counts))}
        for number, (name, curve) in enumerate(curves.items()):
            colour = COLOURS[number] if name != "chance" else "#8a93a3"
            shift = 0.03 * (number - len(curves) / 2)
            points = []
            for count, share, error in zip(*curve, strict=True):
                x = frame.across(count + shift)
                points.append(f"{x:.1f},{frame.down(share):.1f}")
                low, high = (frame.down(min(max(share + sign * error, 0), 1)) for sign in (-1, 1))
                parts.append(f'<path stroke="{colour}" d="M{x:.1f},{low:.1f}V{high:.1f}"/>')
            parts.append(f'<polyline stroke="{colour}" points="{" ".join(points)}"/>')
            y = frame.top + 10 + 18 * number
            parts.append(f'<path stroke="{colour}" d="M{frame.width + 4},{y - 4}h18"/>')
            parts.append(text_at(frame.width + 27, y, name))
        return svg(frame.width + 130, frame.height, "Success by number of places", parts)

    def samples(self, scale: int = 2) -> str:
        """SVG: samplers by numbers of places, the first chains of seed 1, places marked."""
        shown: dict[tuple[str, int], np.ndarray] = {}
        for name in self.samplers:
            for count, case in zip(self.counts, self.cases, strict=True):
                x = kept_samples(NAME, self.result.key(case, SCORES, name, 1))
                if x is not None:
                    shown[name, count] = x[:NUM_SHOWN]
        if not shown:
            return ""
        side = next(iter(shown.values())).shape[-1] * scale
        wide, tall, left, top = NUM_SHOWN * (side + scale) + 10, side + 10, 96, 24
        parts = []
        for column, count in enumerate(self.counts):
            middle = left + column * wide + (wide - 10) / 2
            parts.append(text_at(middle, 16, case_name(count), "title", "middle"))
            for row, name in enumerate(self.samplers):
                y = top + row * tall
                if column == 0:
                    parts.append(text_at(4, y + side / 2, name))
                if (name, count) in shown:
                    at = (left + column * wide, y)
                    places = asked_places(1)[:count]
                    parts += panel(shown[name, count], places, at, scale)
        size = (left + wide * len(self.counts), top + tall * len(self.samplers))
        return svg(*size, "Samples of scenes with asked places", parts)

    def write(self, folder: Path = FOLDER, pictures: Path = PICTURES) -> None:
        """All files."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures.mkdir(parents=True, exist_ok=True)
        singles = self.table("single places", self.share)
        objects = self.table("objects", self.mean)
        start = self.result.name
        (folder / f"{start}.md").write_text("\n".join([self.successes(), singles, objects]))
        (folder / f"{start}-costs.md").write_text(self.costs({case: [case] for case in self.cases}))
        (folder / f"{start}-weights.md").write_text(self.effective("exact"))
        (pictures / f"images-{start}-success.svg").write_text(self.plot())
        if text := self.samples():
            (pictures / f"images-{start}.svg").write_text(text)


def panel(
    x: np.ndarray, places: np.ndarray, corner: tuple[float, float], scale: int
) -> Sequence[str]:
    """SVG parts: samples (N, 3, P, P) abreast, a ring of the tolerance around each asked place."""
    image = grid(x, len(x))
    data = base64.b64encode(png(image)).decode()
    left, top = corner
    parts = [
        f'<image x="{left:g}" y="{top:g}" width="{image.shape[1] * scale}" '
        f'height="{image.shape[0] * scale}" href="data:image/png;base64,{data}"/>'
    ]
    half = x.shape[-1] * scale / 2
    for number in range(len(x)):
        for place in places:
            centre = half * (1 + seen_at(np.array([*place, scene_detector.HEIGHT])))
            edge = half * (1 + seen_at(np.array([place[0] + TOLERANCE, place[1], 0.2])))
            radius = float(edge[0] - centre[0])
            across = left + number * (2 * half + scale) + centre[0]
            parts.append(
                f'<circle cx="{across:.1f}" cy="{top + centre[1]:.1f}" r="{radius:.1f}" '
                'fill="none" stroke="#fff" stroke-width="1"/>'
            )
    return parts


def parse() -> Namespace:
    """The command line."""
    parser = arguments(__doc__, [row.name for row in ROWS], seeds=1)
    counts = range(1, MAX_PLACES + 1)
    parser.add_argument("--places", nargs="+", type=int, choices=counts, default=list(counts))
    parser.add_argument("--chains", type=int, default=NUM_CHAINS)
    parser.add_argument("--evaluations", type=int, default=Budget.evaluations)
    parser.add_argument("--compute", choices=("float32", "bfloat16"), default="float32")
    return parser.parse_args()


def main() -> int:
    """Measures and renders."""
    args = parse()
    result = Result(NAME, FOLDER)
    if not args.render:
        budget = Budget(args.evaluations, args.chains, args.chains, compute=args.compute, tune=TUNE)
        network = args.networks / "scenes"
        levels = betas(network, budget.num_levels)
        bench = Bench(args.motet, budget, result, levels, args.again)
        work = Work(bench, network, scene_detector.load())
        for seed in range(1, args.seeds + 1):
            for count in args.places:
                for row in ROWS:
                    if row.name in args.samplers:
                        work.run(row, count, seed)
    if result.runs:
        Page(result).write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
