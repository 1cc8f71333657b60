"""Exports any torch module or function as a program that motet loads.

Usage: module.py PACKAGE.MODULE:NAME SPEC.toml OUT.ts|OUT.pt2 [--weights FILE] [--weights-key KEY]
                 [--seed N]

NAME is found as Python imports it (the current folder counts): a module, a class of modules, which
is made with the spec's [arguments], or a function f(x, time, *inputs); with factory = true in the
spec, a function that makes one of these from [arguments]. --weights is a state dict: .safetensors,
or a checkpoint of torch.save, which is read with weights_only = True, so that no code of it runs;
--weights-key takes an entry of the checkpoint ("model", "ema.shadow").

The spec:

    parameterisation = "epsilon"       # or sample, v_prediction, score, energy_norm,
                                       # energy_residual, energy: NAME returns E (B)
    event_shape = [3, 32, 32]
    times = "index"                    # of the levels: 0, 1, ...; "sigma"; or a list
    schedule = {type = "linear", num_levels = 1000, beta_first = 1e-4, beta_last = 0.02}
                                       # or scaled_linear, cosine (num_levels, offset, max_beta),
                                       # {alpha_bars = [...]}, {sigmas = [...]}: x_0 + sigma n (EDM)
    data = {units = "RGB intensities", range = [-1.0, 1.0]}
    # and where they are not these:
    time_dtype = "float32"             # or int64
    dtype = "float32"                  # or float64, float16, bfloat16: of x and the weights
    batch_size = 0                     # rows of a call; 0: any (.ts), or motet's own pieces (.pt2)
    log_density = "-E"                 # of an energy; or "-E / sigma"
    factory = false
    inputs = [{name = "class", dtype = "int64", num_values = 10}, {name = "text", shape = [77, 8]}]
    arguments = {width = 64}

Writes OUT, OUT.motet.json and OUT.pairs.safetensors (tools/export/program.py). A package (.pt2)
takes a minute or more, needs a C++ compiler, and runs on CPUs that have what this one has.
"""

import argparse
import importlib
import inspect
import math
import pathlib
import sys
import tomllib
from collections.abc import Callable

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from program import ExportError, Input, Program, write_program

REQUIRED = ("parameterisation", "event_shape", "times", "schedule", "data")
OPTIONAL = ("time_dtype", "dtype", "batch_size", "log_density", "factory", "inputs", "arguments")
PARAMETERISATIONS = (
    "epsilon",
    "sample",
    "v_prediction",
    "score",
    "energy_norm",
    "energy_residual",
    "energy",
)


def cosine_alpha_bars(num_levels: int, offset: float = 0.008, max_beta: float = 0.999) -> list:
    """Nichol and Dhariwal (2021), eq. 17, its betas clipped."""

    def at(u: float) -> float:
        return math.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2

    betas = [
        min(1 - at((i + 1) / num_levels) / at(i / num_levels), max_beta) for i in range(num_levels)
    ]
    return from_betas(betas)


def from_betas(betas: list) -> list:
    """alpha_bars: products of 1 - beta."""
    bars, product = [], 1.0
    for beta in betas:
        product *= 1.0 - beta
        bars.append(product)
    return bars


def linear_alpha_bars(
    num_levels: int, beta_first: float = 1e-4, beta_last: float = 0.02, power: float = 1.0
) -> list:
    """beta^(1 / power) linear: power 1 is "linear" (Ho et al. 2020), 2 "scaled_linear"."""
    first, last = beta_first ** (1 / power), beta_last ** (1 / power)
    step = (last - first) / max(num_levels - 1, 1)
    return from_betas([(first + i * step) ** power for i in range(num_levels)])


def alpha_bars_of(schedule: dict) -> list:
    """The alpha_bars of a spec's schedule."""
    numbers = dict(schedule)
    kind = numbers.pop("type", None)
    makers = {
        "linear": linear_alpha_bars,
        "scaled_linear": lambda **k: linear_alpha_bars(
            **{"beta_first": 0.00085, "beta_last": 0.012} | k, power=2.0
        ),
        "cosine": cosine_alpha_bars,
    }
    if kind is None and list(numbers) == ["alpha_bars"]:
        return list(numbers["alpha_bars"])
    if kind is None and list(numbers) == ["sigmas"]:
        return [1.0 / (1.0 + sigma * sigma) for sigma in numbers["sigmas"]]
    if kind not in makers:
        raise ExportError(
            f"schedule = {schedule}: type must be one of {', '.join(makers)}, or give alpha_bars "
            "or sigmas alone"
        )
    try:
        return makers[kind](**numbers)
    except TypeError as error:
        raise ExportError(f"schedule = {schedule}: {error}") from None


def times_of(times: object, schedule: dict, num_levels: int) -> list:
    """The network's time at each level."""
    if times == "index":
        return list(range(num_levels))
    if times == "sigma" and "sigmas" in schedule:
        return list(schedule["sigmas"])
    if isinstance(times, list):
        return times
    raise ExportError(
        f'times = {times}: must be "index", a list, or "sigma" where schedule has sigmas'
    )


def program_of(spec: dict) -> Program:
    """What a spec says, as motet.json will. Raises ExportError for keys that are not known."""
    unknown = [key for key in spec if key not in REQUIRED + OPTIONAL]
    missing = [key for key in REQUIRED if key not in spec]
    if unknown or missing:
        raise ExportError(f"spec: unknown keys: {unknown}, missing keys: {missing}")
    if spec["parameterisation"] not in PARAMETERISATIONS:
        raise ExportError(
            f"parameterisation = {spec['parameterisation']}, must be one of "
            f"{', '.join(PARAMETERISATIONS)}"
        )
    if "log_density" in spec and spec["log_density"] not in ("-E", "-E / sigma"):
        raise ExportError(f'log_density = {spec["log_density"]}, must be "-E" or "-E / sigma"')
    schedule = spec["schedule"]
    bars = alpha_bars_of(schedule)
    return Program(
        parameterisation=spec["parameterisation"],
        event_shape=spec["event_shape"],
        alpha_bars=bars,
        times=times_of(spec["times"], schedule, len(bars)),
        data_units=spec["data"]["units"],
        data_range=spec["data"].get("range"),
        log_density=spec.get("log_density"),
        coordinates="variance_exploding" if "sigmas" in schedule else "variance_preserving",
        time_dtype=spec.get("time_dtype", "float32"),
        inputs=[Input(**item) for item in spec.get("inputs", [])],
        dtype=spec.get("dtype", "float32"),
        batch_size=spec.get("batch_size", 0),
    )


def load_state_dict(path: str, key: str | None) -> dict:
    """A state dict; nothing in the file is run."""
    if path.endswith(".safetensors"):
        import safetensors.torch

        return safetensors.torch.load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    for part in key.split(".") if key else []:
        if not isinstance(state, dict) or part not in state:
            raise ExportError(f"{path}: no entry {part!r} of {key!r}")
        state = state[part]
    return state


def find_function(name: str, spec: dict) -> Callable:
    """What PACKAGE.MODULE:NAME stands for, made where it is a class or a factory."""
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise ExportError(f"{name}: must be PACKAGE.MODULE:NAME")
    try:
        found = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ExportError(f"{name}: {error}") from None
    arguments = spec.get("arguments", {})
    if inspect.isclass(found) or spec.get("factory", False):
        return found(**arguments)
    if arguments:
        raise ExportError("[arguments] are for a class, or a function with factory = true")
    return found


def export(
    name: str, spec: dict, out: str, weights: str | None, key: str | None, seed: int
) -> Program:
    """Writes the program; returns what motet.json says."""
    program = program_of(spec)
    function = find_function(name, spec)
    if weights is not None:
        if not isinstance(function, torch.nn.Module):
            raise ExportError(f"{name} is no module, so it has no weights; leave --weights out")
        function.load_state_dict(load_state_dict(weights, key))
    return write_program(function, program, out, seed)


def main() -> int:
    """The command line; exit status 2 with a sentence for what cannot be exported."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="PACKAGE.MODULE:NAME")
    parser.add_argument("spec", metavar="SPEC.toml")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--weights", metavar="FILE")
    parser.add_argument("--weights-key", metavar="KEY")
    parser.add_argument("--seed", type=int, default=0, help="of the reference inputs")
    args = parser.parse_args()
    sys.path.insert(0, str(pathlib.Path.cwd()))
    try:
        spec = tomllib.loads(pathlib.Path(args.spec).read_text())
        program = export(args.name, spec, args.out, args.weights, args.weights_key, args.seed)
    except (ExportError, OSError, tomllib.TOMLDecodeError) as error:
        print(f"module.py: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: {program.parameterisation}, {len(program.times)} levels", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
