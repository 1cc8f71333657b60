"""What runs of motet on the cases of composition_cases.py measured, against their laws.

How a run is made and kept: motet_runs.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from composition_cases import ALL_LAWS, Case, Grid
from composition_measures import GridTruth, histogram
from composition_pictures import picture, window
from composition_zoo import NETWORKS, Law
from motet_runs import ROOT, Outcome, Result, about, cell, mean_sd
from study_kernels_laws import NUM_LEVELS

IMAGES = ROOT / "docs" / "img"
POINTS = NETWORKS / "points"
NUM_FLOORS = 10
SHARE = "share of the first component"  # by exact densities, over the samples
PICTURE_CELLS = 48


def score_network(law: Law) -> str:
    """The keys of a law's score network."""
    return f'weights = "{law.score_network}"\n'


def energy_network(law: Law) -> str:
    """The keys of a law's energy network."""
    return f'weights = "{law.energy_network}"\n'


# What the sampler gets to know of a law.
SCORES: dict[str, Callable[[Law], str]] = {
    "exact densities": lambda law: law.toml,
    "exact scores": lambda law: law.toml + "score_only = true\n",
    "score networks": score_network,
    "energy networks": energy_network,
    "ring's energy, bar's scores": lambda law: (
        energy_network(law) if law.name == "ring" else score_network(law)
    ),
    "ring's scores, bar's energy": lambda law: (
        energy_network(law) if law.name == "bar" else score_network(law)
    ),
}


def has_scores(case: Case, scores: str) -> bool:
    """Whether a case is run with them, and all networks that it asks for are there."""
    if case.only and scores not in case.only:
        return False
    keys = [SCORES[scores](ALL_LAWS[name]) for name in case.laws]
    return all(Path(text.split('"')[1]).is_file() for text in keys if "weights" in text)


@dataclass(frozen=True)
class Sampler:
    """A sampler of motet by name; the published ones with so many steps after each reverse step.

    They visit every stride-th level.
    """

    name: str
    steps_per_level: int = 0
    stride: int = 1

    def head(self) -> str:
        """Its keys outside all tables."""
        return f'sampler = "{self.name}"\n'

    def tables(self) -> str:
        """Its tables."""
        if self.steps_per_level == 0:
            return ""
        text = f'[anneal]\nplacement = "after_reverse"\nsteps_per_level = {self.steps_per_level}\n'
        if self.stride > 1:
            levels = [*range(NUM_LEVELS - 1, 0, -self.stride), 0]
            text += f"levels = {levels}\n"
        return text


def config(case: Case, scores: str, sampler: Sampler, num_chains: int, seed: int) -> str:
    """The config of a run."""
    models = "".join(f"[model.{name}]\n{SCORES[scores](ALL_LAWS[name])}" for name in case.laws)
    return (
        f'target = "{case.expression}"\nnum_samples = {num_chains}\nseed = {seed}\n'
        f"{sampler.head()}{models}{case.tables}{sampler.tables()}"
    )


def points_file(result: str, case: str, scores: str, sampler: str) -> Path:
    """Where the samples of the last seed lie."""
    name = f"{result}, {case}, {scores}, {sampler}.npy"
    return POINTS / name.replace("/", ":")


class Truths:
    """The law of each case, made when it is first asked for."""

    def __init__(self) -> None:
        self.grid = Grid()
        self.known: dict[str, GridTruth] = {}

    def __getitem__(self, case: Case) -> GridTruth:
        if case.name not in self.known:
            self.known[case.name] = GridTruth(self.grid.points, case.log_density(self.grid))
        return self.known[case.name]

    def errors(self, case: Case, x: np.ndarray) -> dict:
        """Every measure of samples."""
        found = self[case].errors(x)
        if case.share is not None:
            found[SHARE] = self[case].average(x, case.share(self.grid))
        return found

    def floor(self, case: Case, num_chains: int) -> dict:
        """Every measure on exact draws."""
        rng = np.random.default_rng(0)
        draws = (self[case].draw(num_chains, rng) for _ in range(NUM_FLOORS))
        return mean_sd([self.errors(case, x) for x in draws])


def numbers(outcome: Outcome, case: Case, truths: Truths) -> dict:
    """What is kept of a run."""
    row = {"exit_code": outcome.exit_code, "message": outcome.message}
    if outcome.exit_code == 0:
        row["errors"] = truths.errors(case, outcome.x)
        row |= about(outcome.report)
    return row


def table(result: Result, rows: list[tuple[str, str]], columns: list[str], measure: str) -> str:
    """Markdown: (case, scores) by sampler, one measure."""
    lines = [
        f"| {measure} | scores | exact draws | " + " | ".join(columns) + " |",
        "|---|---|" + "---:|" * (1 + len(columns)),
    ]
    for case, scores in rows:
        found = [result.errors(case, scores, sampler) for sampler in columns]
        if not any(found):
            continue
        cells = [cell(errors and errors[measure]) for errors in found]
        bottom = cell(result.floors.get(case, {}).get(measure))
        lines.append(f"| {case} | {scores} | {bottom} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def share_table(result: Result, rows: list[tuple[str, str]], columns: list[str]) -> str:
    """Markdown: the share of each mixture's first component, by exact densities and as reported."""
    lines = ["| mixture | scores | sampler | weight | share by exact densities | as reported |"]
    lines.append("|---|---|---|---:|---:|---:|")
    for case, scores in rows:
        for sampler in columns:
            runs = [run for run in result.of(case, scores, sampler) if "components" in run]
            if not runs:
                continue
            first = [run["components"][0] for run in runs]
            reported = mean_sd([{"share": part["share"]} for part in first])["share"]
            measured = result.errors(case, scores, sampler)[SHARE]
            texts = [case, scores, sampler, f"{first[0]['weight']:g}", cell(measured)]
            lines.append("| " + " | ".join([*texts, cell(reported)]) + " |")
    return "\n".join(lines) + "\n"


def pictures(
    result: Result, truths: Truths, cases: list[Case], columns: list[tuple[str, str]], count: int
) -> str:
    """An SVG: cases by (scores, sampler), exact draws first, as many points everywhere."""
    rows = []
    for case in cases:
        truth = truths[case]
        centre, half = window(truth.points, truth.probabilities)
        draws = [truth.draw(count, np.random.default_rng(0))]
        for scores, sampler in columns:
            file = points_file(result.name, case.samples_of or case.name, scores, sampler)
            draws.append(np.load(file) if file.is_file() else None)
        images = [x if x is None else histogram(x, centre, half, PICTURE_CELLS) for x in draws]
        rows.append((case.expression, case.operator, images))
    titles = ["exact draws"] + [f"{sampler}, {scores}" for scores, sampler in columns]
    return picture(titles, rows)
