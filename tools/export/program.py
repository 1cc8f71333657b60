"""Writes exported programs as motet reads them: the program, its motet.json, its reference pairs.

A program is a function (x, time, *inputs) of a batch. It is written as TorchScript (NAME.ts;
gradients pass through it) or as an AOTInductor package (NAME.pt2; compiled, values only). Beside it
go NAME.ts.motet.json, whose keys are those of the class Program below (docs/loading.md says what
each means), and NAME.ts.pairs.safetensors: three inputs and what torch made of them here, which
motet replays when it loads the program.
"""

import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence

import torch

NUM_PAIRS = 3
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "bool": torch.bool,
}
# Relative to the largest number, what the written program may differ from the module by. Those of
# motet are the same or wider: it may run on another machine.
TOLERANCES = {"float64": 1e-6, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
ENERGIES = ("energy_norm", "energy_residual")


class ExportError(Exception):
    """What cannot be exported, in a sentence for the person who asked."""


@dataclasses.dataclass
class Input:
    """An input beside x and the time: one row has `shape`; num_values > 0 makes it a class."""

    name: str
    shape: Sequence[int] = ()
    dtype: str = "float32"
    num_values: int = 0

    def to_json(self) -> dict:
        """The entry of motet.json."""
        entry = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}
        return entry | ({"num_values": self.num_values} if self.num_values else {})

    def random_rows(self, rows: int, generator: torch.Generator) -> torch.Tensor:
        """(rows, *shape): classes, or standard normal numbers."""
        shape = (rows, *self.shape)
        if self.num_values:
            return torch.randint(self.num_values, shape, generator=generator)
        dtype = DTYPES[self.dtype]
        if dtype.is_floating_point:
            return torch.randn(shape, generator=generator).to(dtype)
        return torch.randint(2, shape, generator=generator).to(dtype)


@dataclasses.dataclass
class Program:
    """What motet.json says; every key's meaning is in docs/loading.md."""

    parameterisation: str
    event_shape: Sequence[int]
    alpha_bars: Sequence[float]
    times: Sequence[float]
    data_units: str
    data_range: Sequence[float] | None = None
    returns: str = "output"
    log_density: str | None = None
    coordinates: str = "variance_preserving"
    output_shape: Sequence[int] | None = None
    time_dtype: str = "float32"
    inputs: Sequence[Input] = ()
    dtype: str = "float32"
    batch_size: int = 0
    provenance: dict[str, str] = dataclasses.field(default_factory=dict)

    def check(self) -> None:
        """Raises ExportError for what motet would refuse: levels that do not fall."""
        bars = self.alpha_bars
        for index, bar in enumerate(bars):
            if not 0.0 < bar < 1.0 or (index > 0 and bar >= bars[index - 1]):
                raise ExportError(f"alpha_bars[{index}] = {bar}: must fall strictly, in (0, 1)")
        if not bars or len(self.times) != len(bars):
            raise ExportError(f"{len(self.times)} times for {len(bars)} levels, must be one each")
        if self.dtype not in TOLERANCES:
            raise ExportError(f"dtype = {self.dtype}, must be one of {', '.join(TOLERANCES)}")

    def to_json(self) -> str:
        """The text of motet.json; keys that have their default are left out."""
        data = {"units": self.data_units}
        if self.data_range is not None:
            data["range"] = list(self.data_range)
        result = {
            "format": "motet.program",
            "version": 1,
            "parameterisation": self.parameterisation,
            "returns": self.returns,
            "coordinates": self.coordinates,
            "event_shape": list(self.event_shape),
            "dtype": self.dtype,
            "time_dtype": self.time_dtype,
            "batch_size": self.batch_size,
            "inputs": [item.to_json() for item in self.inputs],
            "data": data,
            "provenance": self.provenance,
            "alpha_bars": [float(bar) for bar in self.alpha_bars],
            "times": [float(time) for time in self.times],
        }
        if self.log_density is not None:
            result["log_density"] = self.log_density
        if self.output_shape is not None:
            result["output_shape"] = list(self.output_shape)
        return json.dumps(result, indent=1) + "\n"

    def rows_at_once(self) -> int:
        """Rows that motet passes through a network at once: 2^18 numbers, at most 64."""
        return max(1, min(64, (1 << 18) // math.prod(self.event_shape)))


class _AsWritten(torch.nn.Module):
    """A function as a module, which holds the one whose weights it reads."""

    def __init__(self, function: Callable, owner: Callable) -> None:
        super().__init__()
        self.function = function
        self.owner = owner if isinstance(owner, torch.nn.Module) else None

    def forward(self, x: torch.Tensor, time: torch.Tensor, *inputs: torch.Tensor):
        return self.function(x, time, *inputs)


def energy_of(function: Callable, parameterisation: str) -> Callable:
    """E (B) of a function f(x, time, *inputs): ||f||^2, ||f - x||^2, or f itself ("energy")."""

    def energy(x: torch.Tensor, time: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        f = function(x, time, *inputs)
        if parameterisation == "energy":
            return f
        rest = f - x if parameterisation == "energy_residual" else f
        return rest.double().square().flatten(1).sum(1)

    return energy


def with_gradient(energy: Callable) -> Callable:
    """(E, grad_x E) of an energy (B) whose rows do not depend on each other."""

    def both(x: torch.Tensor, time: torch.Tensor, *inputs: torch.Tensor):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            value = energy(leaf, time, *inputs)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    return both


def _results(module: Callable, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        result = module(*arguments)
    return [result] if isinstance(result, torch.Tensor) else list(result)


def _arguments(program: Program, rows: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Rows at the first, the middle and the last level, and so on: (x, time, *inputs)."""
    last = len(program.alpha_bars) - 1
    levels = [[0, last // 2, last][row % 3] for row in range(rows)]
    bars = torch.tensor([program.alpha_bars[level] for level in levels])
    bars = bars.reshape(-1, *([1] * len(program.event_shape)))
    shape = (rows, *program.event_shape)
    data = 0.5 * torch.randn(shape, generator=generator)
    x = bars.sqrt() * data + (1 - bars).sqrt() * torch.randn(shape, generator=generator)
    if program.coordinates == "variance_exploding":
        x = x / bars.sqrt()
    times = torch.tensor([float(program.times[level]) for level in levels])
    inputs = [item.random_rows(rows, generator) for item in program.inputs]
    return [x, times, *inputs]


def _as_called(program: Program, arguments: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The arguments in the dtypes that the program takes."""
    x, times, *inputs = arguments
    return (x.to(DTYPES[program.dtype]), times.to(DTYPES[program.time_dtype]), *inputs)


def _difference(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """The largest difference, as a share of the largest number expected."""
    worst = 0.0
    for got, wanted in zip(found, expected, strict=True):
        if got.shape != wanted.shape:
            return math.inf
        scale = max(wanted.double().abs().max().item(), 1e-30)
        worst = max(worst, (got.double() - wanted.double()).abs().max().item() / scale)
    return worst


def _trace(module: torch.nn.Module, arguments: Sequence[torch.Tensor]) -> torch.jit.ScriptModule:
    # Its warnings tell of what a trace freezes; that it serves other batches is tested instead.
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, tuple(arguments), check_trace=False)


def _write_torchscript(
    path: pathlib.Path, module: torch.nn.Module, program: Program, generator: torch.Generator
) -> None:
    """Traces, and sees to it that the trace serves other batches than its own."""
    rows = program.batch_size or NUM_PAIRS
    traced = _trace(module, _as_called(program, _arguments(program, rows, generator)))
    if not program.batch_size:
        other = _as_called(program, _arguments(program, rows + 2, generator))
        try:
            difference = _difference(_results(traced, other), _results(module, other))
        except RuntimeError:
            difference = math.inf
        if difference > TOLERANCES[program.dtype]:
            program.batch_size = program.rows_at_once()
            _write_torchscript(path, module, program, generator)
            return
    torch.jit.save(traced, str(path))


def _write_package(
    path: pathlib.Path, module: torch.nn.Module, program: Program, generator: torch.Generator
) -> None:
    """Compiles for one batch size: faster code, and motet's pieces have one anyway."""
    from torch._inductor import aoti_compile_and_package
    from torch._inductor import config as inductor
    from torch.fx.experimental.proxy_tensor import make_fx

    program.batch_size = program.batch_size or program.rows_at_once()
    arguments = _as_called(program, _arguments(program, program.batch_size, generator))
    if program.returns == "energy_and_gradient":
        # torch.export does not follow torch.autograd.grad; the recorded operations are plain ones.
        module = make_fx(module.function)(*arguments)
    with torch.no_grad():
        exported = torch.export.export(module, arguments)
        # The number of threads is the caller's, not that of the machine that compiled.
        with inductor.patch({"cpp.dynamic_threads": True}):
            aoti_compile_and_package(exported, package_path=str(path))


def _load(path: pathlib.Path) -> Callable:
    if path.suffix == ".pt2":
        return torch._inductor.aoti_load_package(str(path))
    return torch.jit.load(str(path))


def _called_in_batches(
    function: Callable, arguments: Sequence[torch.Tensor], batch_size: int
) -> list[torch.Tensor]:
    """Results of all rows, by calls of batch_size rows, the last filled up."""
    rows = len(arguments[0])
    step = batch_size or rows
    parts = []
    for first in range(0, rows, step):
        index = torch.arange(first, first + step).clamp_max(rows - 1)
        results = _results(function, [argument[index] for argument in arguments])
        parts.append([result[: min(step, rows - first)] for result in results])
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def _write_pairs(
    path: pathlib.Path, module: torch.nn.Module, program: Program, generator: torch.Generator
) -> None:
    """Stores what the module itself, not the written program, makes of three rows."""
    import safetensors.torch

    arguments = _arguments(program, NUM_PAIRS, generator)
    called = _as_called(program, arguments)
    expected = _called_in_batches(module, called, program.batch_size)
    written = _load(path)
    difference = _difference(
        _called_in_batches(written, called, program.batch_size), expected[: _num_results(program)]
    )
    if not difference <= TOLERANCES[program.dtype]:
        raise ExportError(
            f"the written program differs from the module by {difference:.3g} of the largest "
            f"number, more than {TOLERANCES[program.dtype]}: tracing or compiling changed it"
        )
    tensors = {"x": arguments[0], "time": arguments[1]}
    for item, rows in zip(program.inputs, arguments[2:], strict=True):
        tensors[f"input.{item.name}"] = rows
    names = ["output"] if program.returns == "output" else ["energy", "gradient"]
    for name, result in zip(names, expected, strict=True):
        tensors[name] = result
    tensors = {
        name: (tensor if name.startswith("input.") else tensor.float()).contiguous()
        for name, tensor in tensors.items()
    }
    safetensors.torch.save_file(tensors, f"{path}.pairs.safetensors")


def _num_results(program: Program) -> int:
    return 2 if program.returns == "energy_and_gradient" else 1


def _prepared(function: Callable, program: Program, kind: str) -> tuple[Callable, Callable]:
    """What is written and what the pairs hold, and the keys of `program` that follow from it."""
    if program.parameterisation == "energy":
        program.returns = "energy" if kind == ".ts" else "energy_and_gradient"
        program.log_density = program.log_density or "-E"
        energy = energy_of(function, "energy")
        both = with_gradient(energy)
        return (energy if kind == ".ts" else both), both
    if program.parameterisation in ENERGIES and kind == ".pt2":
        # No gradient passes through a package: the gradient is compiled too.
        both = with_gradient(energy_of(function, program.parameterisation))
        program.parameterisation, program.log_density = "energy", "-E / sigma"
        program.returns = "energy_and_gradient"
        return both, both
    program.returns = "output"
    return function, function


def _commit() -> str:
    """The commit of motet that exports; "unknown" outside its repository."""
    folder = pathlib.Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def write_program(function: Callable, program: Program, path: str, seed: int = 0) -> Program:
    """Writes PATH (.ts or .pt2), PATH.motet.json and PATH.pairs.safetensors.

    `function` is f(x, time, *inputs) on the CPU, x (B, *event_shape) in program.dtype, time (B) in
    program.time_dtype, inputs (B, *shape); a module is set to evaluation mode and to that dtype.
    An energy ("energy": f (B) is E) becomes a program that returns E (.ts) or E and its gradient
    (.pt2). Returns the program with what was filled in: output_shape, returns, batch_size. Takes a
    minute or more for a package, which needs a C++ compiler. Raises ExportError.
    """
    target = pathlib.Path(path)
    if target.suffix not in (".ts", ".pt2"):
        raise ExportError(f"{path}: must end in .ts (TorchScript) or .pt2 (AOTInductor)")
    program = dataclasses.replace(program)
    program.check()
    if isinstance(function, torch.nn.Module):
        function = function.eval().requires_grad_(False).to(DTYPES[program.dtype])
    written, paired = _prepared(function, program, target.suffix)
    generator = torch.Generator().manual_seed(seed)
    arguments = _arguments(program, NUM_PAIRS, generator)
    result = _results(written, _as_called(program, arguments))[0]
    if program.returns == "output":
        program.output_shape = list(result.shape[1:])
    elif result.shape != (NUM_PAIRS,):
        raise ExportError(f"the energy has shape {tuple(result.shape)}, must be ({NUM_PAIRS},)")
    program.provenance = {
        "torch": torch.__version__,
        "motet_commit": _commit(),
        "command": " ".join(sys.argv),
    } | program.provenance
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.stem}.partial{target.suffix}")
    write = _write_package if target.suffix == ".pt2" else _write_torchscript
    write(temporary, _AsWritten(written, function), program, generator)
    _write_pairs(temporary, _AsWritten(paired, function), program, generator)
    pathlib.Path(f"{target}.motet.json").write_text(program.to_json())
    os.replace(f"{temporary}.pairs.safetensors", f"{target}.pairs.safetensors")
    os.replace(temporary, target)
    return program
