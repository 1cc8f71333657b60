"""Runs of motet as the measuring tools keep them: a config, what it left, one JSON file of results.

Needs numpy alone. A result is one JSON file of a folder of results: floors, and runs by case,
scores, sampler and seed. It is written after every run, and a run that is there already is not made
again.
"""

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "composition"


def mean_sd(rows: list[dict]) -> dict:
    """Mean and sd over runs of every number."""
    return {
        name: {
            "mean": statistics.fmean(row[name] for row in rows),
            "sd": statistics.stdev(row[name] for row in rows) if len(rows) > 1 else None,
        }
        for name in rows[0]
    }


def smallest_ess(run: dict) -> float:
    """Of the weights, over levels, as a share of the chains."""
    return min(level["ess"] for level in run["levels"] if "ess" in level)


def cell(numbers: dict | None) -> str:
    """A mean and its sd over runs."""
    if numbers is None:
        return "-"
    digits = max(0, 3 - len(f"{numbers['mean']:.0f}")) if numbers["mean"] >= 1 else 4
    spread = "" if numbers["sd"] is None else f" ± {numbers['sd']:.{digits}f}"
    return f"{numbers['mean']:.{digits}f}{spread}"


@dataclass
class Outcome:
    """What a run left: samples and report, or the exit code and message of a refusal."""

    exit_code: int
    message: str = ""
    x: np.ndarray | None = None
    report: dict | None = None


def call(command: Sequence[object]) -> subprocess.CompletedProcess[str]:
    """Runs a program, on one thread unless the environment says otherwise; keeps what it prints."""
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env={"OMP_NUM_THREADS": "1"} | os.environ,
    )


def sample(motet: Path, text: str) -> Outcome:
    """Runs a config."""
    with tempfile.TemporaryDirectory() as folder:
        file, out, report = (Path(folder) / name for name in ("run.toml", "x.npy", "x.json"))
        file.write_text(text)
        command = [motet, "sample", file, "--out", out, "--json", report, "--quiet"]
        done = call(command)
        if done.returncode != 0:
            return Outcome(done.returncode, done.stderr.replace(f"{folder}/", "").strip())
        return Outcome(0, "", np.load(out).astype(float), json.loads(report.read_text()))


# Of a run's report, what a result keeps.
KEPT = ("evaluations_per_chain", "num_chains", "commit", "device", "seconds", "components")


class Result:
    """One JSON file of results/composition, or of another folder."""

    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        self.name = name
        self.file = folder / f"{name}.json"
        kept = json.loads(self.file.read_text()) if self.file.is_file() else {}
        self.floors: dict[str, dict] = kept.get("floors", {})
        self.runs: dict[str, dict] = kept.get("runs", {})

    @staticmethod
    def key(case: str, scores: str, sampler: str, seed: int) -> str:
        """Where a run stands."""
        return " | ".join((case, scores, sampler, f"seed {seed}"))

    def write(self) -> None:
        """The file, by way of another, so that an interrupted write loses nothing."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"floors": self.floors, "runs": self.runs}, indent=1) + "\n"
        part = self.file.with_suffix(".part")
        part.write_text(text)
        part.replace(self.file)

    def of(self, case: str, scores: str, sampler: str) -> list[dict]:
        """The runs of all seeds that ended well."""
        start = self.key(case, scores, sampler, 0).removesuffix("0")
        found = [run for key, run in self.runs.items() if key.startswith(start)]
        return [run for run in found if run["exit_code"] == 0]

    def errors(self, case: str, scores: str, sampler: str) -> dict | None:
        """Mean and sd over seeds of every measure."""
        rows = [run["errors"] for run in self.of(case, scores, sampler)]
        return mean_sd(rows) if rows else None


def about(report: dict) -> dict:
    """What is kept of a run's report; the smallest ESS, where it has weights, as a share."""
    row = {key: report[key] for key in KEPT if key in report}
    row["rhat"] = (report.get("convergence") or {}).get("rhat")
    if any("ess" in level for level in report["levels"]):
        row["smallest_ess"] = smallest_ess(report)
    return row
