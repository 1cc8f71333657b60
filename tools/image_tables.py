"""Markdown tables of runs on images: samplers by cases, with errors, costs and acceptances.

Runs are kept by motet_runs.Result under (case, "networks", sampler, seed), with `errors`, a number
a measure, and what image_runs.facts() takes from the report.
"""

from collections.abc import Callable, Sequence

import numpy as np
from image_runs import mean_acceptance, share_error
from motet_runs import Result, cell, mean_sd

SCORES = "networks"  # what the samplers know, in a Result's keys


def lines_of(head: Sequence[str], rows: Sequence[Sequence[str]], num_names: int = 1) -> str:
    """A table; the first num_names columns are names, the others numbers."""
    rule = "|" + "---|" * num_names + "---:|" * (len(head) - num_names)
    return (
        "\n".join([f"| {' | '.join(row)} |" if row else rule for row in (head, (), *rows)]) + "\n"
    )


class Tables:
    """Tables of a result: its cases and samplers, as far as they were run."""

    def __init__(self, result: Result, cases: Sequence[str], samplers: Sequence[str]) -> None:
        self.result = result
        self.samplers = [name for name in samplers if any(self.runs(c, name) for c in cases)]
        self.cases = [case for case in cases if any(self.runs(case, s) for s in self.samplers)]

    def runs(self, case: str, sampler: str) -> list[dict]:
        """The runs of all seeds that ended well."""
        return self.result.of(case, SCORES, sampler)

    def all_runs(self, sampler: str) -> list[dict]:
        """Those of all cases."""
        return [run for case in self.cases for run in self.runs(case, sampler)]

    def share(self, measure: str, case: str, sampler: str) -> str:
        """A share over the chains of all seeds, with its binomial error."""
        runs = self.runs(case, sampler)
        if not runs:
            return "-"
        count = sum(run["num_chains"] for run in runs)
        share = sum(run["errors"][measure] * run["num_chains"] for run in runs) / count
        return f"{share:.2f} ± {share_error(share, count):.2f}"

    def mean(self, measure: str, case: str, sampler: str) -> str:
        """Mean and sd over seeds."""
        runs = self.runs(case, sampler)
        return cell(mean_sd([run["errors"] for run in runs])[measure] if runs else None)

    def table(
        self, measure: str, text: Callable[[str, str, str], str], data: dict[str, str] | None = None
    ) -> str:
        """Samplers by cases: text(measure, case, sampler); `data`: what images of the data have."""
        rows = [[name, *(text(measure, c, name) for c in self.cases)] for name in self.samplers]
        if data:
            rows.insert(0, ["*images of the data*", *(data.get(case, "-") for case in self.cases)])
        return lines_of([measure, *self.cases], rows)

    def acceptance(self, sampler: str, cases: Sequence[str]) -> str:
        """Mean over cases, seeds and steps; samplers without a Metropolis test have none."""
        found = [mean_acceptance(run) for case in cases for run in self.runs(case, sampler)]
        known = [value for value in found if value is not None]
        return f"{np.mean(known):.2f}" if known and not sampler.startswith("u-") else "-"

    def costs(self, groups: dict[str, Sequence[str]]) -> str:
        """What a sampler cost, how its chains fared, and its acceptance over groups of cases."""
        head = ["sampler", "levels", "evaluations", "seconds a chain", "largest R-hat"]
        rows = []
        for name in self.samplers:
            runs = self.all_runs(name)
            seconds = np.mean([run["seconds"]["total"] / run["num_chains"] for run in runs])
            rhats = [run["rhat"] for run in runs if run["rhat"]]
            row = [name, str(len(runs[0]["levels"])), str(runs[0]["evaluations_per_chain"])]
            row += [f"{seconds:.2f}", f"{max(rhats):.2f}" if rhats else "-"]
            rows.append(row + [self.acceptance(name, cases) for cases in groups.values()])
        return lines_of([*head, *(f"acceptance, {name}" for name in groups)], rows)

    def effective(self, sampler: str) -> str:
        """How many chains the weights of a sampler leave at the worst level, as a share."""
        rows = [
            [case, f"{run['smallest_ess']:.3f}", str(run["num_chains"])]
            for case in self.cases
            for run in self.runs(case, sampler)
            if "smallest_ess" in run
        ]
        return lines_of(["case", "smallest effective share", "chains"], rows)
