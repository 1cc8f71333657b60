"""Samplers of images at equal evaluations a chain, and the pilot runs that find their step sizes.

A sampler with MCMC steps pays for them by visiting fewer noise levels. The sampler "exact" without
weights finds step sizes on given levels (motet tune); samplers of one kernel, adjusted or not, take
the same ones, so that they differ in what their names say alone.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from image_runs import facts, run
from image_tables import SCORES
from motet_runs import Result


@dataclass(frozen=True)
class Budget:
    """What a run may cost, and on what."""

    evaluations: int = 100  # of every factor, by a chain
    num_chains: int = 32
    num_pilot: int = 24  # chains of a pilot
    num_levels: int = 1000  # of the networks
    compute: str = "float32"
    tune: str = ""  # more keys of a pilot's table [tune]


@dataclass(frozen=True)
class Row:
    """A sampler: what a level costs a chain decides how many it visits."""

    name: str
    sampler: str
    kernel: str = ""  # whose pilot gives the step sizes: "hmc" or "mala"
    steps: int = 0  # MCMC steps after each reverse step
    step_cost: int = 0  # evaluations of one
    rule: str = ""  # of [ratio], where not the sampler's own
    has_power_law: bool = False
    share: float = 1.0  # of the evaluations that it spends

    def levels(self, budget: Budget) -> list[int]:
        """As many levels as the evaluations pay for, evenly spread from the first to the last."""
        count = int(self.share * budget.evaluations) // (1 + self.steps * self.step_cost)
        return [round(level) for level in np.linspace(budget.num_levels - 1, 0, count)]


def hmc(name: str, sampler: str, **more: object) -> Row:
    """One trajectory of three leapfrogs a level."""
    return Row(name, sampler, "hmc", steps=1, step_cost=3, **more)


ROWS = (
    Row("reverse", "reverse"),
    Row("reverse, a quarter of the levels", "reverse", share=0.25),
    Row("u-la", "u-la", "mala", steps=4, step_cost=1),
    Row("la-3-line", "la-3-line", "mala", steps=2, step_cost=2),
    Row("la-3-line, power law", "la-3-line", "mala", steps=2, step_cost=2, has_power_law=True),
    hmc("u-hmc", "u-hmc"),
    hmc("hmc-4-curve", "hmc-4-curve"),
    hmc("hmc-w", "hmc-4-curve", rule="polynomial"),
    hmc("hmc-w, power law", "hmc-4-curve", rule="polynomial", has_power_law=True),
    Row("exact", "exact"),
)
# A pilot has the levels and costs of the rows that take its step sizes.
PILOTS = {
    "hmc": (hmc("pilot", "exact"), 'type = "hmc"\nnum_leapfrog = 3\n', 'type = "curve"\n'),
    "mala": (
        Row("pilot", "exact", "mala", steps=2, step_cost=2),
        'type = "mala"\n',
        'type = "line"\nrule = "trapezoid"\nnum_points = 3\n',
    ),
}


def config_head(budget: Budget, target: str, models: str, seed: int) -> str:
    """A config without its sampler: {sampler} stands where that goes."""
    return (
        f'target = "{target}"\nnum_samples = {budget.num_chains}\nseed = {seed}\n'
        f'compute = "{budget.compute}"\n{{sampler}}{models}'
    )


def tables(budget: Budget, row: Row, step_sizes: str) -> str:
    """The tables of a published sampler's config that say how it is run here."""
    text = f'[anneal]\nlast_map = "tweedie"\nlevels = {row.levels(budget)}\n'
    if row.steps:
        text += f'placement = "after_reverse"\nsteps_per_level = {row.steps}\n'
        text += f"[kernel]\nstep_size = {step_sizes}\n"
    return text + (f'[ratio]\nrule = "{row.rule}"\n' if row.rule else "")


def config(budget: Budget, row: Row, head: str, step_sizes: str) -> str:
    """The config of a run; head as of config_head()."""
    if row.sampler == "exact":
        lines = f'sampler = "exact"\nevaluations = {budget.evaluations}\n'
        return head.format(sampler=lines) + f"[tune]\nnum_chains = {budget.num_pilot}\n"
    lines = f'sampler = "{row.sampler}"\n'
    return head.format(sampler=lines) + tables(budget, row, step_sizes)


def pilot_config(budget: Budget, kernel: str, head: str) -> str:
    """The config whose step sizes motet tune finds.

    It says itself how many steps a level takes; the evaluations only have to allow them.
    """
    row, kernel_keys, ratio_keys = PILOTS[kernel]
    return (
        head.format(sampler=f'sampler = "exact"\nevaluations = {4 * budget.evaluations}\n')
        + f"[anneal]\nlevels = {row.levels(budget)}\nsteps_per_level = {row.steps}\n"
        + f"[weights]\nenabled = false\n[kernel]\n{kernel_keys}[ratio]\n{ratio_keys}"
        + f"[tune]\nnum_chains = {budget.num_pilot}\n{budget.tune}"
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


def power_law(betas: np.ndarray, step_sizes: Sequence[float]) -> dict[str, float]:
    """factor and power of factor beta^power by least squares of logarithms, with the residual."""
    power, log_factor = np.polyfit(np.log(betas), np.log(step_sizes), 1)
    rest = np.log(step_sizes) - log_factor - power * np.log(betas)
    return {
        "factor": float(np.exp(log_factor)),
        "power": float(power),
        "rms of log": float(np.sqrt((rest**2).mean())),
    }


def step_sizes(budget: Budget, row: Row, pilot: dict) -> str:
    """kernel.step_size: the pilot's at the row's levels, or the power law fitted to them."""
    if row.has_power_law:
        law = pilot["power law"]
        return f"{{factor = {law['factor']:.6g}, power = {law['power']:.6g}}}"
    known = pilot["levels"][::-1], np.log(pilot["step_sizes"][::-1])
    found = np.exp(np.interp(row.levels(budget), *known))
    return "[" + ", ".join(f"{step:.6g}" for step in found) + "]"


@dataclass(frozen=True)
class Bench:
    """Makes and keeps the runs of an experiment."""

    motet: Path
    budget: Budget
    result: Result
    betas: np.ndarray  # of the networks' levels
    again: bool = False  # makes runs that are there anew; never pilots

    def pilot(self, name: str, kernel: str, head: str) -> dict:
        """The step sizes of a kernel under a name, found with the config of `head`."""
        key = self.result.key(name, "pilot", kernel, 1)
        if key not in self.result.runs:
            found = tune(self.motet, pilot_config(self.budget, kernel, head))
            found["power law"] = power_law(self.betas[found["levels"]], found["step_sizes"])
            self.result.runs[key] = {"exit_code": 0} | found
            self.result.write()
        return self.result.runs[key]

    def run(
        self,
        row: Row,
        case: str,
        head: str,
        seed: int,
        pilot: Callable[[str], dict],
        errors: Callable[[np.ndarray], dict],
    ) -> None:
        """One run, unless it is there already; pilot(kernel) where it needs one, errors(x)."""
        key = self.result.key(case, SCORES, row.name, seed)
        if key in self.result.runs and not self.again:
            return
        sizes = step_sizes(self.budget, row, pilot(row.kernel)) if row.kernel else ""
        text = config(self.budget, row, head, sizes)
        outcome = run(self.motet, text, self.result.name, key)
        plain = re.sub(r'"/[^"]*/([^"/]+)"', r'"\1"', text)  # folders are of this machine
        kept = {"exit_code": outcome.exit_code, "message": outcome.message, "config": plain}
        if outcome.exit_code == 0:
            kept["errors"] = errors(outcome.x)
            kept |= facts(outcome.report)
        self.result.runs[key] = kept
        self.result.write()
        print(f"{key}: {kept.get('errors', outcome.message)}", flush=True)
