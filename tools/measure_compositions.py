"""Runs the sampler "exact", unchanged, on other compositions: results/exact/compositions.{json,md}.

    tools/measure_compositions.py [--motet build/release/bin/motet] [--seeds 3] [--only NAME...]
        [--scores exact trained] [-- ARGUMENTS OF motet sample...]

With arguments, rows are printed and not kept. Each composition is sampled twice: on exact scores
whose log densities are hidden, and on networks trained on its factors (composition_networks.py,
which trains those that are not there). Every measure (composition_measures.py) stands beside its
floor: the same measure on as many exact draws. Also draws docs/img/compositions.svg.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import composition_measures as measures
import numpy as np
from composition_laws import FACTORS, MIXTURES, PLANE, law_toml
from composition_networks import FOLDER as CACHE
from composition_networks import NUM_STEPS, SHIPPED, TRAINED, network
from composition_pictures import picture, window
from motet_runs import ROOT, cell, mean_sd, smallest_ess

FOLDER = ROOT / "results" / "exact"
IMAGE = ROOT / "docs" / "img" / "compositions.svg"
NUM_CHAINS = 20000
NUM_FLOORS = 10
PICTURE_CELLS = 56
SCORES = ("exact", "trained")


class Composition:
    """A product of laws: its ground truth and how to draw from it exactly."""

    def __init__(self, name: str):
        self.name = name
        self.exponents = (PLANE | MIXTURES)[name]
        self.factors = [(FACTORS[factor], power) for factor, power in self.exponents.items()]
        self.in_plane = name in PLANE
        if self.in_plane:
            grid = ((0, 0), measures.SIDE, measures.CELLS)
            self.points, self.law = measures.grid_law(self.factors, *grid)
        else:
            self.law = measures.mixture_product(*(law for law, _ in self.factors))

    def has(self, scores: str) -> bool:
        """Whether its factors have such scores."""
        return scores == "exact" or all(f in TRAINED or f in SHIPPED for f in self.exponents)

    def errors(self, x: np.ndarray) -> dict:
        """Every measure of samples."""
        found = (measures.plane_errors if self.in_plane else measures.mixture_errors)(x, self.law)
        return {measure: float(value) for measure, value in found.items()}

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Exact draws."""
        if self.in_plane:
            return measures.draw_grid(self.points, self.law, NUM_CHAINS, rng)
        return measures.draw_mixture(self.law, NUM_CHAINS, rng)

    def toml(self, scores: str, motet: Path, seed: int) -> str:
        """The config of a run; beside the factors nothing but its size and seed."""
        text = f"num_samples = {NUM_CHAINS}\nseed = {seed}\n"
        for factor, power in self.exponents.items():
            text += f"[model.{factor}]\nexponent = {power}\n"
            if scores == "exact":
                text += "score_only = true\n" + law_toml(FACTORS[factor])
            else:
                text += f'weights = "{network(motet, factor)}"\n'
        return text


def sample(motet: Path, text: str, extra: list[str]) -> tuple[np.ndarray, dict]:
    """Points and JSON of one run."""
    with tempfile.TemporaryDirectory() as folder:
        config, out, report = (Path(folder) / name for name in ("c.toml", "x.npy", "x.json"))
        config.write_text(text)
        command = [motet, "sample", config, "--out", out, "--json", report, "--quiet", *extra]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        return np.load(out).astype(float), json.loads(report.read_text())


def points_file(name: str, scores: str) -> Path:
    """Where the points of a composition's last run lie."""
    return CACHE / f"{name} ({scores}).npy"


def measure(motet: Path, where: Composition, scores: str, seeds: range, extra: list[str]) -> dict:
    """One cell of the page; the points of its last run are kept for the picture."""
    errors, last = [], {}
    for seed in seeds:
        x, last = sample(motet, where.toml(scores, motet, seed), extra)
        errors.append(where.errors(x) | {"smallest share of effective chains": smallest_ess(last)})
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(points_file(where.name, scores), x.astype(np.float32))
    kept = {key: last[key] for key in ("evaluations_per_chain", "commit", "device")}
    return {"errors": mean_sd(errors), "runs": errors, **kept}


def floor(where: Composition) -> dict:
    """Every measure on exact draws."""
    rng = np.random.default_rng(0)
    return mean_sd([where.errors(where.draw(rng)) for _ in range(NUM_FLOORS)])


def table(rows: dict, names: dict) -> str:
    """Markdown: a row a measure of the compositions in `names`."""
    lines = [
        "| composition | measure | exact scores | trained networks | exact draws |",
        "|---|---|---:|---:|---:|",
    ]
    for name in names:
        if name not in rows:
            continue
        row = rows[name]
        for what in next(row[scores] for scores in SCORES if scores in row)["errors"]:
            cells = [row.get(scores, {}).get("errors", {}).get(what) for scores in SCORES]
            cells.append(row["floor"].get(what))
            lines.append(f"| {name} | {what} | " + " | ".join(map(cell, cells)) + " |")
    return "\n".join(lines) + "\n"


def picture_row(name: str) -> tuple:
    """The target by quadrature and the last samples, as histograms on the window of the target."""
    where = Composition(name)
    centre, half = window(where.points, where.law)
    _, law = measures.grid_law(where.factors, centre, half, PICTURE_CELLS)
    images = [measures.coarse(law, measures.FINE)]
    for file in (points_file(name, scores) for scores in SCORES):
        x = np.load(file) if file.is_file() else None
        images.append(x if x is None else measures.histogram(x, centre, half, PICTURE_CELLS))
    return where.name, f"a square of side {2 * half:.2f}", images


def write(rows: dict, seeds: range) -> None:
    """The numbers as JSON and Markdown; the picture, without panels whose points are missing."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    result = {
        "num_chains": NUM_CHAINS,
        "seeds": list(seeds),
        "num_floors": NUM_FLOORS,
        "networks": {"recipe": "motet", "num_steps": NUM_STEPS, "shipped": sorted(SHIPPED)},
        "rows": rows,
    }
    (FOLDER / "compositions.json").write_text(json.dumps(result, indent=1) + "\n")
    (FOLDER / "compositions-plane.md").write_text(table(rows, PLANE))
    (FOLDER / "compositions-mixtures.md").write_text(table(rows, MIXTURES))
    titles = ["target", "exact scores", "trained networks"]
    IMAGE.write_text(picture(titles, [picture_row(name) for name in PLANE]))


def main() -> int:
    """Measures every composition, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--only", nargs="+", default=[*PLANE, *MIXTURES])
    parser.add_argument("--scores", nargs="+", default=SCORES, choices=SCORES)
    parser.add_argument("--seeds", type=int, default=3)
    args, extra = parser.parse_known_args()
    extra = [word for word in extra if word != "--"]
    seeds = range(1, args.seeds + 1)
    file = FOLDER / "compositions.json"
    rows = json.loads(file.read_text())["rows"] if file.is_file() else {}
    for name in args.only:
        where = Composition(name)
        rows[name] = rows.get(name, {}) | {"floor": floor(where)}
        for scores in filter(where.has, args.scores):
            rows[name][scores] = measure(args.motet, where, scores, seeds, extra)
        print(table(rows, [name]), flush=True)
        if not extra:
            write(rows, seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
