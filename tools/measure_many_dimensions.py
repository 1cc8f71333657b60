"""Measures whether what holds of log ratios in the plane holds of images: d = 2, 64, 784 and 3072.

    ./run build bench && tools/measure_many_dimensions.py [--programs build/bench/bin]
        [--networks models] [--cases NAME...] [--again] [--render]

Of trained networks and of Gaussian mixtures whose means are images (densities known): curl and path
dependence, acceptance against step size, errors of the rules on the line and on the curve, and
bfloat16 (bench/measure_many_dimensions.cpp); of laws that bend in every coordinate, the rules alone
(bench/measure_dimension.cpp). Writes results/images/many-dimensions.json after every law, then
tables (many-dimensions-*.md) and plots (docs/img/many-dimensions-*.svg); laws that are there are
not measured again without --again. Networks that are not there are left out. Seed 1; errors are
those over chains. One thread, most of the time for the networks of 784 and 3072 coordinates.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import many_dimensions_plots
import many_dimensions_tables
from motet_runs import ROOT, Result

from bench import commit, processor

NAME = "many-dimensions"
FOLDER = ROOT / "results" / "images"
SEED = 1
FASHION = "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
DIGITS = str(ROOT / "tests" / "golden" / "digits.safetensors")
SIGMAS = [0.05, 0.15, 0.3, 0.5, 0.75, 0.95]
FEW_SIGMAS = [0.15, 0.5, 0.95]
# A mixture in many dimensions is one Gaussian but where the noise is so strong that modes merge.
HIGH_SIGMAS = [0.5, 0.95, 0.99]
NO_CLASS = {"class_labels": 10}
NO_POSITION = {"class_labels": [0.0] * 128}


@dataclass(frozen=True)
class Case:
    """A law: what the measuring program is given."""

    name: str
    dim: int
    data: dict
    network: str = ""  # in the folder of networks
    mixture: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)
    num_chains: int = 128
    sigmas: list[float] = field(default_factory=lambda: SIGMAS)

    def spec(self, networks: Path) -> dict:
        """The program's input."""
        law = {"weights": str(networks / self.network)} if self.network else self.mixture
        return {
            "data": self.data,
            "law": law,
            "inputs": self.inputs,
            "bfloat16": bool(self.network),
            "sigmas": self.sigmas,
            "num_chains": self.num_chains,
            "num_tuning": 24,
            "num_law_steps": 20,
            "seed": SEED,
        }

    def is_there(self, networks: Path) -> bool:
        """Whether the network and the data are."""
        files = [self.data["file"]] if "file" in self.data else []
        files += [networks / self.network] if self.network else []
        return all(Path(file).exists() for file in files)


RING, SCENES = {"set": "ring"}, {"set": "scenes", "size": 32}
IMAGES = {"num_means": 16, "sd": 0.1}
SOME = {"num_chains": 64, "sigmas": FEW_SIGMAS}
FEW = {"num_chains": 32, "sigmas": FEW_SIGMAS}
HIGH = {"num_chains": 48, "sigmas": HIGH_SIGMAS}
CASES = [
    Case("ring, network", 2, RING, "ring.safetensors", num_chains=256),
    Case("digits, network", 64, {"file": DIGITS}, "digits", inputs=NO_CLASS, **SOME),
    Case("ring, exact", 2, RING, mixture=RING, **HIGH | {"num_chains": 256}),
    Case("digits, exact", 64, {"file": DIGITS}, mixture=IMAGES, **HIGH | {"num_chains": 96}),
    Case("fashion, exact", 784, {"file": FASHION}, mixture=IMAGES, **HIGH),
    Case("fashion, network", 784, {"file": FASHION}, "fashion", inputs=NO_CLASS, **FEW),
    Case("scenes, exact", 3072, SCENES, mixture=IMAGES, **HIGH | {"num_chains": 24}),
    Case("scenes, network", 3072, SCENES, "scenes", inputs=NO_POSITION, **FEW),
    Case("ring, energy network", 2, RING, "ring-energy.safetensors", sigmas=FEW_SIGMAS),
    Case(
        "digits, energy network",
        64,
        {"file": DIGITS},
        "digits-energy",
        inputs=NO_CLASS,
        **FEW,
    ),
]
SEPARABLE = "bends in every coordinate"
SEPARABLE_DIMS = (2, 64, 784, 3072)


def rounded(value: object) -> object:
    """Numbers with 5 digits, which is more than their errors leave."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list) else value


def slim(found: object) -> object:
    """Without the numbers that no table or plot takes."""
    if isinstance(found, dict):
        return {key: slim(part) for key, part in found.items() if key not in ("count", "mean")}
    return [slim(part) for part in found] if isinstance(found, list) else found


def call(program: Path, words: list[str]) -> dict:
    """What a measuring program prints, and its seconds. Raises RuntimeError with its message."""
    began = time.monotonic()
    done = subprocess.run(
        [str(program), *words],
        capture_output=True,
        text=True,
        env={"OMP_NUM_THREADS": "1"} | os.environ,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout) | {"seconds": time.monotonic() - began}


def measure(program: Path, spec: dict) -> dict:
    """What bench/measure_many_dimensions.cpp finds of a law."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "spec.json"
        file.write_text(json.dumps(spec))
        return call(program, [str(file)])


def shown(spec: dict) -> dict:
    """A spec without folders of this machine."""
    text = json.dumps(spec).replace(f"{ROOT}/", "")
    spec = json.loads(text)
    if "weights" in spec["law"]:
        spec["law"]["weights"] = f"models/{Path(spec['law']['weights']).name}"
    return spec


class Work:
    """The experiment being measured."""

    def __init__(self, programs: Path, networks: Path, again: bool) -> None:
        self.programs = programs
        self.networks = networks
        self.again = again
        self.result = Result(NAME, FOLDER)
        self.where = {"commit": commit(), "device": processor()}

    def keep(self, key: str, found: dict) -> None:
        """One run more, on disk at once."""
        self.result.runs[key] = rounded(found | self.where)
        self.result.write()
        print(f"{key}: {found['seconds']:.0f} s", flush=True)

    def run(self, case: Case) -> None:
        """A law, unless it is there."""
        key = case.name
        if key in self.result.runs and not self.again:
            return
        if not case.is_there(self.networks):
            print(f"{key}: no network or data, left out", flush=True)
            return
        spec = case.spec(self.networks)
        found = measure(self.programs / "measure_many_dimensions", spec)
        self.keep(key, {"spec": shown(spec)} | slim(found))

    def run_separable(self, dim: int) -> None:
        """The rules alone, on independent skewed coordinates."""
        key = f"{SEPARABLE}, d = {dim}"
        if key in self.result.runs and not self.again:
            return
        found = call(self.programs / "measure_dimension", ["separable", str(dim)])
        self.keep(key, found)


def main() -> int:
    """Measures and renders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*(case.name for case in CASES), SEPARABLE]
    parser.add_argument("--programs", type=Path, default=ROOT / "build" / "bench" / "bin")
    parser.add_argument("--networks", type=Path, default=ROOT / "models", metavar="FOLDER")
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--again", action="store_true", help="make runs that are there anew")
    parser.add_argument("--render", action="store_true", help="only tables and plots")
    args = parser.parse_args()
    work = Work(args.programs, args.networks, args.again)
    for case in CASES if not args.render else ():
        if case.name in args.cases:
            work.run(case)
    if SEPARABLE in args.cases and not args.render:
        for dim in SEPARABLE_DIMS:
            work.run_separable(dim)
    if work.result.runs:
        many_dimensions_tables.render(work.result.runs, FOLDER)
        many_dimensions_plots.render(work.result.runs, ROOT / "docs" / "img")
    return 0


if __name__ == "__main__":
    sys.exit(main())
