"""Times the paper's reference JAX samplers against motet, on the same networks, in the same run.

    git clone https://github.com/jackonelli/mcmc_corr_score_diffusion REF
    pip install jax dm-haiku distrax
    ./run build release
    python bench/reference_jax.py --reference REF --motet build/release/bin/motet --out F.json

Both codes load the same weights (--weights: a folder with ring.safetensors and bar.safetensors, and
for the energy rows ring-energy.safetensors and bar-energy.safetensors; models/ has the first two,
`motet reproduce table1` makes all four) and run the same chains: the published settings of each
row (motet: preset "paper"). Rows are interleaved, reference then motet, --repeats times; the
smallest time of each counts. A reference row is compiled first, outside the clock; motet's time is
`seconds.total` of its own report, and its network time is inside. A 2048^3 float32 matrix product
is timed beside each row: its rate says whether the machine was disturbed. The samples of both are
measured by `motet eval`, so that a fast row that is wrong shows.

Nothing is downloaded here: REF is a clone that you made, and missing packages are named.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from bench import commit, processor

NUM_LEVELS = 100
STEPS_PER_LEVEL = 10
LANGEVIN_STEP_SIZE = 0.001
LEAPFROG_STEP_SIZE = 0.03
NUM_LEAPFROG = 3
DAMPING = 0.5


@dataclass(frozen=True)
class Row:
    """One row of Table 1 and the reference class that makes it."""

    name: str  # "score/hmc-4-curve"
    sampler_class: str  # in the reference's sampler.py; "" for the reverse process
    num_points: int | None = None  # of the line rule

    @property
    def is_energy(self) -> bool:
        return self.name.startswith("energy/")

    @property
    def sampler(self) -> str:
        return self.name.split("/")[1]


ROWS = [
    Row("energy/reverse", ""),
    Row("energy/u-la", "AnnealedULASampler"),
    Row("energy/la-energy", "AnnealedMALASampler"),
    Row("energy/u-hmc", "AnnealedUHASampler"),
    Row("energy/hmc-energy", "AnnealedMUHASampler"),
    Row("score/reverse", ""),
    Row("score/u-la", "AnnealedULASampler"),
    Row("score/la-3-line", "AnnealedMALADiffSampler", 3),
    Row("score/la-5-line", "AnnealedMALADiffSampler", 5),
    Row("score/la-10-line", "AnnealedMALADiffSampler", 10),
    Row("score/u-hmc", "AnnealedUHASampler"),
    Row("score/hmc-3-line", "AnnealedMUHADiffSampler", 3),
    Row("score/hmc-4-curve", "AnnealedMUHADiffReuseSampler"),
    Row("score/hmc-5-line", "AnnealedMUHADiffSampler", 5),
    Row("score/hmc-10-line", "AnnealedMUHADiffSampler", 10),
]


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a safetensors file: 8 bytes of header length, JSON, data."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            raise SystemExit(f"{path}: {name} is {entry['dtype']}, must be F32")
        low, high = entry["data_offsets"]
        data = np.frombuffer(raw[start + low : start + high], dtype="<f4")
        tensors[name] = data.reshape(entry["shape"])
    return tensors


def haiku_params(tensors: dict[str, np.ndarray], module: str) -> dict:
    """motet's tensors under the names that Haiku gives the reference's layers.

    Haiku numbers layers in the order in which they are made: the input, then hidden, level, middle
    and output of each block, then the output. Its weights are (in, out), ours (out, in).
    """
    params: dict = {f"{module}/embed": {"embeddings": tensors["embedding.weight"]}}
    count = 0

    def linear(name: str) -> None:
        nonlocal count
        suffix = f"_{count}" if count else ""
        params[f"{module}/linear{suffix}"] = {
            "w": tensors[f"{name}.weight"].T.copy(),
            "b": tensors[f"{name}.bias"],
        }
        count += 1

    linear("input")
    num_blocks = sum(name.endswith(".hidden.weight") for name in tensors)
    for block in range(num_blocks):
        suffix = f"_{block}" if block else ""
        params[f"{module}/layer_norm{suffix}"] = {
            "scale": tensors[f"blocks.{block}.norm.weight"],
            "offset": tensors[f"blocks.{block}.norm.bias"],
        }
        for part in ("hidden", "level", "middle", "output"):
            linear(f"blocks.{block}.{part}")
    linear("output")
    return params


class Reference:
    """The reference's own classes, driven as its train_script_product.py drives them."""

    def __init__(self, clone: Path, weights: Path, num_chains: int, num_levels: int):
        self.jax, self.hk, self.distrax = import_jax()
        self.weights = weights
        self.num_chains = num_chains
        self.num_levels = num_levels
        self.samplers, self.models = import_reference(clone, self.jax)

    def product_params(self, row: Row, init_params: dict) -> dict:
        """Both networks as one parameter tree; every entry that the reference expects is filled."""
        suffix = "-energy" if row.is_energy else ""
        ring = read_safetensors(self.weights / f"ring{suffix}.safetensors")
        bar = read_safetensors(self.weights / f"bar{suffix}.safetensors")
        params = dict(init_params)
        found = haiku_params(ring, "resnet_diffusion_model")
        found |= haiku_params(bar, "resnet_diffusion_model_1")
        for module, entries in found.items():
            for name, value in entries.items():
                expected = init_params[module][name].shape
                if expected != value.shape:
                    raise SystemExit(f"{module}/{name}: shape {value.shape}, must be {expected}")
        return params | found

    def make(self, row: Row):
        """A compiled function: random key -> samples (num_chains, 2)."""
        jax, jnp = self.jax, self.jax.numpy

        def forward():
            return self.models.forward_fn_product(n_steps=NUM_LEVELS, ebm=row.is_energy)

        product = self.hk.multi_transform(forward)
        key = jax.random.PRNGKey(0)
        init = product.init(key, jnp.zeros((4, 2)))
        params = self.product_params(row, init)
        _, sample, _, _, gradient, energy = product.apply

        def level(x, index):
            return NUM_LEVELS - jnp.ones((x.shape[0],), dtype=jnp.int32) * index - 1

        def gradient_function(x, t):
            return -1 * gradient(params, key, x, level(x, t))

        def energy_function(x, t):
            return -1 * energy(params, key, x, level(x, t))

        if not row.sampler_class:
            return jax.jit(lambda k: sample(params, k, self.num_chains, jnp.inf))
        annealed = self.annealed(row, gradient_function, energy_function)
        return jax.jit(lambda k: annealed.sample(k, self.num_chains)[0])

    def annealed(self, row: Row, gradient_function, energy_function):
        jnp = self.jax.numpy
        start = self.distrax.MultivariateNormalDiag(jnp.zeros(2), jnp.ones(2))
        is_langevin = "-la" in row.name or "/la" in row.name
        size = LANGEVIN_STEP_SIZE if is_langevin else LEAPFROG_STEP_SIZE
        keywords = {
            "num_steps": self.num_levels,
            "num_samples_per_step": STEPS_PER_LEVEL,
            "step_sizes": jnp.full((self.num_levels,), size),
            "initial_distribution": start,
            "target_distribution": None,
            "gradient_function": gradient_function,
        }
        if not is_langevin:
            keywords |= {
                "damping_coeff": DAMPING,
                "mass_diag_sqrt": 1.0,
                "num_leapfrog_steps": NUM_LEAPFROG,
            }
        if row.sampler_class not in ("AnnealedULASampler", "AnnealedUHASampler"):
            keywords["energy_function"] = energy_function
        if row.sampler_class == "AnnealedMUHASampler":
            keywords["target_distribution"] = energy_function
        if row.num_points is not None:
            keywords["n_trapets"] = row.num_points
        return getattr(self.samplers, row.sampler_class)(**keywords)


def import_jax():
    """jax, haiku and distrax, or a message that names what is missing."""
    modules = []
    for name, package in (("jax", "jax"), ("haiku", "dm-haiku"), ("distrax", "distrax")):
        try:
            modules.append(importlib.import_module(name))
        except ImportError as error:
            raise SystemExit(
                f"python package {package} is missing: pip install jax dm-haiku distrax"
            ) from error
    return modules


def restore_old_names(jnp) -> None:
    """What the reference (written for JAX 0.4.13) calls by names that JAX has dropped since."""
    if not hasattr(jnp, "trapz"):
        jnp.trapz = jnp.trapezoid
    clip = jnp.clip
    jnp.clip = lambda x, a_min=None, a_max=None: clip(x, a_min, a_max)


def import_reference(clone: Path, jax):
    """The reference's sampler and models modules, under a JAX newer than they were written for."""
    if not (clone / "r_3_comp_2d" / "sampler.py").is_file():
        raise SystemExit(f"--reference {clone}: no r_3_comp_2d/sampler.py there; clone it first")
    restore_old_names(jax.numpy)
    importlib.import_module("chex").disable_asserts()  # one asks for int64 where JAX has int32
    for name in ("matplotlib", "matplotlib.pyplot"):  # imported there for plots, not needed here
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.path.insert(0, str(clone))
    return (
        importlib.import_module("r_3_comp_2d.sampler"),
        importlib.import_module("r_3_comp_2d.models"),
    )


class Motet:
    """The motet command line on the same networks."""

    def __init__(self, binary: Path, weights: Path, num_chains: int, folder: Path, num_levels: int):
        self.binary = binary
        self.weights = weights.resolve()
        self.num_chains = num_chains
        self.folder = folder
        self.num_levels = num_levels

    def levels(self, row: Row) -> list[str]:
        """--set for a plan shorter than the published one, with the reference's off-by-ones."""
        if self.num_levels == NUM_LEVELS or row.sampler == "reverse":
            return []
        first, last = NUM_LEVELS - 1, NUM_LEVELS - self.num_levels
        if row.sampler.startswith("u-"):
            last += 1
        elif row.sampler.startswith("hmc"):
            first -= 1
        levels = list(range(first, last - 1, -1))
        return ["--set", f"anneal.levels={levels}"]

    def sample(self, row: Row, compute: str, seed: int, samples: Path) -> dict:
        suffix = "-energy" if row.is_energy else ""
        named = f'sampler = "{row.sampler}"\npreset = "paper"\n'
        return self.run(named, suffix, compute, seed, samples, self.levels(row))

    def sample_exact(self, compute: str, seed: int, samples: Path) -> dict:
        """motet's own sampler, its pilot run included."""
        return self.run('sampler = "exact"\n', "", compute, seed, samples, [])

    def run(
        self, named: str, suffix: str, compute: str, seed: int, samples: Path, more: list[str]
    ) -> dict:
        config = self.folder / "product.toml"
        text = f'num_samples = {self.num_chains}\n{named}compute = "{compute}"\nseed = {seed}\n'
        for factor in ("ring", "bar"):
            weights = json.dumps(str(self.weights / f"{factor}{suffix}.safetensors"))
            text += f"[model.{factor}]\nweights = {weights}\n"
        config.write_text(text)
        report = self.folder / "report.json"
        command = [self.binary, "sample", config, "--out", samples, "--json", report, "--quiet"]
        self.call([*command, *more])
        return json.loads(report.read_text())

    def evaluate(self, samples: Path) -> dict:
        report = self.folder / "eval.json"
        self.call([self.binary, "eval", samples, "--target", "product", "--json", report])
        metrics = json.loads(report.read_text())["metrics"]
        return {key: metrics[key] for key in ("ll_paper", "w2_paper", "gmm_paper")}

    @staticmethod
    def call(command: list) -> None:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")


def gemm_gflops(size: int = 2048, repeats: int = 5) -> float:
    """Best float32 rate of a size^3 matrix product (numpy's BLAS), in GFLOP/s."""
    a = np.ones((size, size), dtype=np.float32)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best / 1e9


def time_reference(function, reference: Reference, seed: int, samples: Path) -> float:
    key = reference.jax.random.PRNGKey(seed)
    start = time.perf_counter()
    x = function(key).block_until_ready()
    seconds = time.perf_counter() - start
    np.save(samples, np.asarray(x, dtype=np.float32))
    return seconds


def bench_row(row: Row, reference: Reference, motet: Motet, args: argparse.Namespace) -> dict:
    start = time.perf_counter()
    function = reference.make(row).lower(reference.jax.random.PRNGKey(0)).compile()
    result: dict = {"compile_seconds": time.perf_counter() - start}
    seconds: dict[str, list[float]] = {"reference": []} | {compute: [] for compute in args.compute}
    metrics: dict[str, dict] = {}
    gemm = []
    for repeat in range(args.repeats):
        samples = motet.folder / "reference.npy"
        gemm.append(gemm_gflops())
        seconds["reference"].append(time_reference(function, reference, repeat, samples))
        if repeat == 0:
            metrics["reference"] = motet.evaluate(samples)
        for compute in args.compute:
            samples = motet.folder / "motet.npy"
            report = motet.sample(row, compute, repeat, samples)
            seconds[compute].append(report["seconds"]["total"])
            if repeat == 0:
                metrics[compute] = motet.evaluate(samples)
                result["evaluations_per_chain"] = report["evaluations_per_chain"]
    best = {name: min(list_of) for name, list_of in seconds.items()}
    result |= {"seconds": seconds, "metrics": metrics, "gemm_gflops": gemm}
    result["times_as_fast"] = {name: best["reference"] / best[name] for name in args.compute}
    return result


def bench_exact(curve: dict, motet: Motet, args: argparse.Namespace) -> dict:
    """The sampler "exact", whole, against the reference's hmc-4-curve on all its levels.

    Where fewer levels were timed, the reference's time is scaled up to all: they cost the same.
    """
    whole = min(curve["seconds"]["reference"]) * NUM_LEVELS / args.levels
    result: dict = {"reference_seconds_all_levels": whole, "seconds": {}, "metrics": {}}
    samples = motet.folder / "motet.npy"
    for compute in args.compute:
        reports = [motet.sample_exact(compute, seed, samples) for seed in range(args.repeats)]
        result["seconds"][compute] = [report["seconds"]["total"] for report in reports]
        result["metrics"][compute] = motet.evaluate(samples)
        result["evaluations_per_chain"] = reports[0]["evaluations_per_chain"]
    best = {name: min(list_of) for name, list_of in result["seconds"].items()}
    result["times_as_fast"] = {name: whole / seconds for name, seconds in best.items()}
    return result


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, required=True, help="clone of the reference code")
    parser.add_argument("--motet", type=Path, default=Path("build/release/bin/motet"))
    parser.add_argument("--weights", type=Path, default=Path("models"), help="folder of networks")
    parser.add_argument("--out", type=Path, required=True, help="JSON with every number")
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--compute", default="float32,bfloat16", help="of motet")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--num-chains", type=int, default=2000)
    parser.add_argument("--levels", type=int, default=NUM_LEVELS, help="fewer: a quick look")
    args = parser.parse_args()
    args.compute = args.compute.split(",")
    return args


def select_rows(selection: str) -> list[Row]:
    by_name = {row.name: row for row in ROWS}
    unknown = [name for name in selection.split(",") if name not in by_name]
    if unknown:
        raise SystemExit(f"--rows: unknown {unknown[0]}; known: {', '.join(by_name)}")
    return [by_name[name] for name in selection.split(",")]


def check_weights(folder: Path, rows: list[Row]) -> None:
    """Ends the program, before anything is timed, when a network that a row needs is missing."""
    suffixes = sorted({"-energy" if row.is_energy else "" for row in rows})
    names = [f"{factor}{suffix}.safetensors" for suffix in suffixes for factor in ("ring", "bar")]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise SystemExit(
            f"--weights {folder}: {', '.join(missing)} missing; make them with motet reproduce "
            "table1 (OUT/repeat-01), or leave their rows out with --rows"
        )


def main() -> None:
    args = parse_args()
    rows = select_rows(args.rows)
    check_weights(args.weights, rows)
    reference = Reference(args.reference, args.weights, args.num_chains, args.levels)
    summary: dict = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "device": processor(),
        "threads": len(os.sched_getaffinity(0)),
        "jax": reference.jax.__version__,
        "num_chains": args.num_chains,
        "num_levels": args.levels,
        "rows": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        motet = Motet(args.motet, args.weights, args.num_chains, Path(folder), args.levels)
        for row in rows:
            result = bench_row(row, reference, motet, args)
            summary["rows"][row.name] = result
            if row.name == "score/hmc-4-curve":
                summary["exact"] = bench_exact(result, motet, args)
                print("exact", json.dumps(summary["exact"]["times_as_fast"]), flush=True)
            args.out.write_text(json.dumps(summary, indent=1) + "\n")
            ratios = ", ".join(f"{k} {v:.2f} times" for k, v in result["times_as_fast"].items())
            seconds = min(result["seconds"]["reference"])
            print(f"{row.name:20s} reference {seconds:8.2f} s; motet as fast: {ratios}", flush=True)


if __name__ == "__main__":
    main()
