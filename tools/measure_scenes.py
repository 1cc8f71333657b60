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
import subprocess
import sys
import tempfile
import tomllib
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scene_detector
from image_runs import (
    COLOURS,
    FOLDER,
    PICTURES,
    Frame,
    arguments,
    facts,
    grid,
    kept_samples,
    png,
    run,
    share_error,
    svg,
    text_at,
)
from image_tables import SCORES, Tables, lines_of
from motet_runs import Result
from scene_detector import TOLERANCE, detect, seen_at, stands_at

NAME = "scenes"
MAX_PLACES = 5  # as many objects has a scene
APART = 0.67  # of two asked places at least: two of the largest cubes, in any turn, fit
WITHIN = 0.85  # asked places are in [-WITHIN, WITHIN]^2, objects of the data in [-1, 1]^2
NUM_SHOWN = 2  # samples of a run in the picture
NUM_CHANCE = 20000  # scenes


@dataclass(frozen=True)
class Row:
    """A sampler at equal evaluations: what a level costs a chain decides how many it visits."""

    sampler: str
    kernel: str = ""  # whose pilot gives the step sizes
    steps: int = 0  # MCMC steps after each reverse step
    step_cost: int = 0  # evaluations of one

    def levels(self, setting: "Setting") -> list[int]:
        """As many levels as the evaluations pay for, evenly spread from the first to the last."""
        count = setting.evaluations // (1 + self.steps * self.step_cost)
        return [round(level) for level in np.linspace(setting.num_levels - 1, 0, count)]


ROWS = (
    Row("reverse"),
    Row("u-hmc", "hmc", steps=1, step_cost=3),
    Row("la-3-line", "mala", steps=2, step_cost=2),
    Row("hmc-4-curve", "hmc", steps=1, step_cost=3),
    Row("exact"),
)
# The sampler "exact" without weights finds step sizes on given levels; its pilot has the costs of
# the rows that take them.
PILOTS = {
    "hmc": (ROWS[3], 'type = "hmc"\nnum_leapfrog = 3\n', 'type = "curve"\n'),
    "mala": (
        ROWS[2],
        'type = "mala"\n',
        'type = "line"\nrule = "trapezoid"\nnum_points = 3\n',
    ),
}


@dataclass(frozen=True)
class Setting:
    """What is composed, and at which cost."""

    network: Path
    num_levels: int = 1000
    evaluations: int = 100
    num_chains: int = 64  # as many images pass through a network at once
    compute: str = "bfloat16"

    def models(self, places: np.ndarray) -> str:
        """The target, and the tables of its models."""
        names = [f"at{i + 1}" for i in range(len(places))]
        target, power = " * ".join(names), len(places) - 1
        if power > 0:
            target += " / any" + (f"^{power}" if power > 1 else "")
        conditions = {
            name: f"[{x:.4f}, {y:.4f}]" for name, (x, y) in zip(names, places, strict=True)
        }
        if power > 0:
            conditions["any"] = "[]"
        weights = f'weights = "{self.network.resolve()}"\n'
        return f'target = "{target}"\n{{keys}}' + "".join(
            f"[model.{name}]\n{weights}condition = {numbers}\n"
            for name, numbers in conditions.items()
        )

    def config(self, places: np.ndarray, seed: int, keys: str, tables: str) -> str:
        """The config of a run: keys before all tables, tables after those of the models."""
        keys += f'num_samples = {self.num_chains}\nseed = {seed}\ncompute = "{self.compute}"\n'
        return self.models(places).format(keys=keys) + tables


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


def sampler_config(setting: Setting, row: Row, places: np.ndarray, seed: int, steps: list) -> str:
    """The config of a row's run; steps: the step sizes of its levels, where it has any."""
    keys = f'sampler = "{row.sampler}"\n'
    if row.sampler == "exact":
        keys += f"evaluations = {setting.evaluations}\n"
        return setting.config(places, seed, keys, f"[tune]\nnum_chains = {setting.num_chains}\n")
    tables = f'[anneal]\nlast_map = "tweedie"\nlevels = {row.levels(setting)}\n'
    if row.steps:
        tables += f'placement = "after_reverse"\nsteps_per_level = {row.steps}\n'
        tables += "[kernel]\nstep_size = [" + ", ".join(f"{step:.6g}" for step in steps) + "]\n"
    return setting.config(places, seed, keys, tables)


def pilot_config(setting: Setting, kernel: str, places: np.ndarray) -> str:
    """The config whose step sizes motet tune finds."""
    row, kernel_keys, ratio_keys = PILOTS[kernel]
    return setting.config(
        places,
        1,
        'sampler = "exact"\n',
        f"[anneal]\nlevels = {row.levels(setting)}\nsteps_per_level = {row.steps}\n"
        f'placement = "after_reverse"\n[weights]\nenabled = false\n[kernel]\n{kernel_keys}'
        f"[ratio]\n{ratio_keys}[tune]\nnum_chains = {setting.num_chains}\n",
    )


def tune(motet: Path, text: str) -> dict:
    """The levels, step sizes and acceptances that motet tune writes for a config."""
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "pilot.toml", Path(folder) / "tuned.toml"
        file.write_text(text)
        command = [str(word) for word in (motet, "tune", file, "--out", out, "--quiet")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stderr.replace(f"{folder}/", "").strip())
        found = tomllib.loads(out.read_text())
    return {
        "levels": found["anneal"]["levels"],
        "step_sizes": found["kernel"]["step_size"],
        "acceptance": found["tuned"]["acceptance"],
    }


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

    def __init__(
        self, motet: Path, setting: Setting, detector: scene_detector.Detector, result: Result
    ) -> None:
        self.motet, self.setting, self.detector, self.result = motet, setting, detector, result

    def pilot(self, kernel: str, again: bool = False) -> dict:
        """The step sizes of a kernel, found on the first two places of seed 1."""
        key = self.result.key(case_name(2), "pilot", kernel, 1)
        if again or key not in self.result.runs:
            text = pilot_config(self.setting, kernel, asked_places(1)[:2])
            self.result.runs[key] = tune(self.motet, text)
            self.result.write()
        return self.result.runs[key]

    def run(self, row: Row, count: int, seed: int, again: bool) -> None:
        """One run on the first `count` places of a seed, unless it is there already."""
        key = self.result.key(case_name(count), SCORES, row.sampler, seed)
        if key in self.result.runs and not again:
            return
        places = asked_places(seed)
        if f"seed {seed}" not in self.result.floors:
            self.result.floors[f"seed {seed}"] = {"places": places.round(4).tolist()} | chance(
                self.motet, places
            )
        steps = self.pilot(row.kernel)["step_sizes"] if row.kernel else []
        text = sampler_config(self.setting, row, places[:count], seed, steps)
        outcome = run(self.motet, text, self.result.name, key)
        kept = {"exit_code": outcome.exit_code, "message": outcome.message}
        if outcome.exit_code == 0:
            kept["errors"] = measures(self.detector, outcome.x, places[:count])
            kept |= facts(outcome.report)
        self.result.runs[key] = kept
        self.result.write()
        print(f"{key}: {kept.get('errors', outcome.message)}", flush=True)


class Page(Tables):
    """Tables and pictures of a result."""

    def __init__(self, result: Result) -> None:
        cases = [case_name(count) for count in range(1, MAX_PLACES + 1)]
        super().__init__(result, cases, [row.sampler for row in ROWS])
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
    parser = arguments(__doc__, [row.sampler for row in ROWS], seeds=1)
    counts = range(1, MAX_PLACES + 1)
    parser.add_argument("--places", nargs="+", type=int, choices=counts, default=list(counts))
    parser.add_argument("--chains", type=int, default=Setting.num_chains)
    parser.add_argument("--evaluations", type=int, default=Setting.evaluations)
    parser.add_argument("--compute", choices=("float32", "bfloat16"), default=Setting.compute)
    return parser.parse_args()


def main() -> int:
    """Measures and renders."""
    args = parse()
    setting = Setting(
        args.networks / "scenes",
        evaluations=args.evaluations,
        num_chains=args.chains,
        compute=args.compute,
    )
    work = Work(args.motet, setting, scene_detector.load(), Result(NAME, FOLDER))
    for seed in range(1, args.seeds + 1) if not args.render else ():
        for count in args.places:
            for row in ROWS:
                if row.sampler in args.samplers:
                    work.run(row, count, seed, args.again)
    if work.result.runs:
        Page(work.result).write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
