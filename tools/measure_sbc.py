"""Calibration of posterior samplers: results/composition/sbc.{json,md} and docs/img/sbc.svg.

    cmake --preset bench && ninja -C build/bench measure_sbc motet
    tools/measure_sbc.py [--only TEXT...] && tools/render_docs.py

The program is bench/measure_sbc.cpp; every case that sbc.json has already by the same arguments is
kept, --only runs those whose name contains one of the words. Cases with a network train it first,
into out/sbc/. --table makes the table and the picture of what is there. Needs matplotlib
(.venv/bin/pip install matplotlib). --power prints what such a test can see.
"""

import argparse
import datetime
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import NormalDist

from bench import commit, processor

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "results" / "composition" / "sbc.json"
NETWORKS = ROOT / "out" / "sbc"
NUM_DRAWS = 1000
SAMPLERS = ("exact", "hmc-4-curve", "exact-unweighted", "u-la", "reverse")
TITLES = {
    "exact": "exact",
    "hmc-4-curve": "hmc-4-curve",
    "exact-unweighted": "exact, no weights",
    "u-la": "u-la",
    "reverse": "reverse",
}
# d, measurement, prior, samplers, RANKS, ISLAND of bench/measure_sbc.cpp: 8 bins of 125 draws.
# Networks cost more, so their islands are smaller.
PROBLEMS = (
    (2, "half", "exact", SAMPLERS, 7, 48),
    (2, "matrix", "exact", SAMPLERS, 7, 48),
    (10, "half", "exact", SAMPLERS, 7, 48),
    (50, "half", "exact", SAMPLERS, 7, 48),
    (2, "half", "network", ("exact", "reverse"), 7, 16),
    (10, "half", "network", ("exact", "reverse"), 7, 16),
    (10, "half", "long-network", ("exact", "reverse"), 7, 16),
    (50, "half", "network", ("exact", "reverse"), 7, 16),
)
# Training steps by kind of network: the test shows where the network's own error takes over.
STEPS = {"network": 1500, "long-network": 6000}
# Below it a test fails: .05 over the tests of one row (Bonferroni), of which there are four.
LEVEL = 0.05 / 4
TRAINING = """seed = {d}
[data]
law = "gaussian_mixture"
component_weights = {weights}
means = {means}
sds = {sds}
[train]
recipe = "motet"
num_steps = {steps}
batch_size = 2000
ema_decay = {decay}
mixed_precision = {mixed}
"""


def cases() -> dict[str, list[str]]:
    """Name of each case -> arguments of the program, but for the network's file."""
    table = {}
    for d, measurement, prior, samplers, num_ranks, island_size in PROBLEMS:
        for sampler in samplers:
            words = ["run", d, measurement, sampler, NUM_DRAWS, num_ranks, island_size]
            table[f"{d}-{measurement}-{prior}-{sampler}"] = [str(word) for word in words]
    return table


def one_thread() -> dict:
    """The environment of every run."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def has_amx() -> bool:
    """Whether training can run in mixed precision here."""
    return "amx_bf16" in Path("/proc/cpuinfo").read_text()


def network(binaries: Path, d: int, kind: str) -> Path:
    """Weights of a network of the program's prior, trained unless there by the same config."""
    prior = json.loads(
        subprocess.run(
            [binaries / "measure_sbc", "prior", str(d)], check=True, capture_output=True
        ).stdout
    )
    steps = STEPS[kind]
    text = TRAINING.format(
        d=d, steps=steps, decay=1 - 15 / steps, mixed=str(has_amx()).lower(), **prior
    )
    stem = f"mixture-{d}" if kind == "network" else f"mixture-{d}-long"
    config, weights = NETWORKS / f"{stem}.toml", NETWORKS / f"{stem}.safetensors"
    if weights.is_file() and config.is_file() and config.read_text() == text:
        return weights
    NETWORKS.mkdir(parents=True, exist_ok=True)
    weights.unlink(missing_ok=True)
    config.write_text(text)
    command = [binaries / "motet", "train", config, "--out", weights, "--quiet"]
    subprocess.run([str(word) for word in command], check=True, env=one_thread())
    return weights


def measure(binaries: Path, name: str, words: list[str]) -> dict:
    """The record of one case."""
    kind = next((kind for kind in ("long-network", "network") if f"-{kind}-" in name), None)
    extra = [network(binaries, int(words[1]), kind)] if kind else []
    begin = time.monotonic()
    command = [str(word) for word in (binaries / "measure_sbc", *words, *extra)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=one_thread()).stdout
    return (
        {
            "name": name,
            "arguments": words,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "commit": commit(),
            "device": processor(),
            "command": f"tools/measure_sbc.py --only {name}",
            "seconds": round(time.monotonic() - begin, 1),
        }
        | json.loads(found)
        | ({"training_steps": STEPS[kind]} if kind else {})
    )


def keep(records: dict[str, dict]) -> None:
    """Writes all records, in the order of the cases."""
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    rows = [records[name] for name in cases() if name in records]
    partial = RESULT.with_suffix(".partial")
    partial.write_text(json.dumps(rows, indent=1) + "\n")
    partial.rename(RESULT)


def is_current(record: dict | None, words: list[str]) -> bool:
    """Whether a record was measured by these arguments."""
    return record is not None and record["arguments"] == words


def number(p_value: float) -> str:
    """A p-value, in bold where the test fails."""
    text = f"{p_value:.3f}" if p_value >= 5e-4 else "<.001"
    return f"**{text}**" if p_value < LEVEL else text


def table(records: list[dict]) -> str:
    """The Markdown table, a row a case."""
    quantities = [test["quantity"] for test in records[0]["tests"]]
    heads = ["d", "measurement", "prior", "sampler", "evaluations", *quantities, "verdict"]
    lines = ["| " + " | ".join(heads) + " |", "|---:|---|---|---|---:|" + "---:|" * 4 + "---|"]
    for record in records:
        p_values = [test["p_value"] for test in record["tests"]]
        cells = [str(record["d"]), record["measurement"], prior_of(record)]
        cells += [TITLES[record["sampler"]], str(record["evaluations_per_chain"])]
        cells += [number(p) for p in p_values]
        cells += ["fails" if min(p_values) < LEVEL else "passes"]
        lines.append("| " + " | ".join(cells) + " |")
    first = records[0]
    note = (
        f"p-values of the chi-square test that ranks are uniform, {first['num_draws']} draws of "
        f"(theta, y) a row; bold: below {LEVEL:.4f}, .05 over the four tests of a row. "
        "`tools/measure_sbc.py`, "
        f"seed {first['seed']}, commits "
        + ", ".join(sorted({record["commit"][:12] for record in records}))
        + f"; {first['device']}."
    )
    return "\n".join(lines) + "\n\n" + note + "\n"


def prior_of(record: dict) -> str:
    """What the prior's scores are of."""
    steps = record.get("training_steps")
    return f"{record['prior']}, {steps:,} steps" if steps else record["prior"]


def row_name(record: dict) -> str:
    """What a row of the picture shows."""
    return f"d = {record['d']}, {record['measurement']}\n{prior_of(record)}"


def draw_panel(axis, record: dict, title: str) -> None:
    """Rank counts of the log likelihood, and the range of 99 % of the counts of a uniform law."""
    test = next(test for test in record["tests"] if test["quantity"] == "log likelihood")
    counts = test["counts"]
    expected = sum(counts) / len(counts)
    spread = 2.576 * math.sqrt(expected * (1 - 1 / len(counts)))
    axis.axhspan(expected - spread, expected + spread, color="#999999", alpha=0.35, linewidth=0)
    colour = "#0072b2" if test["p_value"] >= LEVEL else "#d55e00"
    axis.bar(range(len(counts)), counts, width=0.9, color=colour)
    axis.set(xticks=[], yticks=[], ylim=(0, max(2.2 * expected, 1.05 * max(counts))))
    axis.set_title(title, fontsize=8)


def picture(records: list[dict], file: Path) -> None:
    """Histograms of the log likelihood's rank, a row a problem, a column a sampler."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "motet", "font.family": "sans-serif"}
    )
    rows = list(dict.fromkeys(row_name(record) for record in records))
    size = (1.7 * len(SAMPLERS), 1.25 * len(rows))
    figure, axes = plt.subplots(
        len(rows), len(SAMPLERS), figsize=size, squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for record in records:
        row, column = rows.index(row_name(record)), SAMPLERS.index(record["sampler"])
        axis = axes[row][column]
        axis.set_axis_on()
        draw_panel(axis, record, TITLES[record["sampler"]] if row == 0 or column == 0 else "")
        if column == 0:
            axis.set_ylabel(row_name(record), fontsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def power(shift: float, scale: float, num_ranks: int = 7, repeats: int = 400) -> float:
    """Share of tests that fail for a Gaussian posterior of which all samples are off alike."""
    import numpy as np

    rng = np.random.default_rng(1)
    freedom = num_ranks  # of num_ranks + 1 bins
    z = NormalDist().inv_cdf(1 - LEVEL)
    critical = freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3
    expected = NUM_DRAWS / (num_ranks + 1)
    failed = 0
    for _ in range(repeats):
        truth = rng.standard_normal((NUM_DRAWS, 1))
        samples = shift + scale * rng.standard_normal((NUM_DRAWS, num_ranks))
        counts = np.bincount((samples < truth).sum(1), minlength=num_ranks + 1)
        failed += ((counts - expected) ** 2).sum() / expected > critical
    return failed / repeats


def print_power() -> None:
    """What a test of one quantity finds, and how often."""
    for shift, scale in ((0, 1), (0.1, 1), (0.15, 1), (0.2, 1), (0, 0.9), (0, 0.85), (0, 0.8)):
        print(f"shift {shift} sd, width {scale}: fails in {power(shift, scale):.3f}")


def main() -> int:
    """Runs what is missing, then makes the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", type=Path, default=ROOT / "build" / "bench" / "bin")
    parser.add_argument("--only", nargs="*", default=[""])
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--power", action="store_true", help="measure the test, not a sampler")
    args = parser.parse_args()
    if args.power:
        print_power()
        return 0
    records = {}
    if RESULT.is_file():
        records = {record["name"]: record for record in json.loads(RESULT.read_text())}
    for name, words in cases().items():
        wanted = not args.table and any(word in name for word in args.only)
        if wanted and not is_current(records.get(name), words):
            records[name] = measure(args.binaries.resolve(), name, words)
            keep(records)
            p_values = [f"{test['p_value']:.4f}" for test in records[name]["tests"]]
            print(f"{name}: {records[name]['seconds']} s, p {' '.join(p_values)}", flush=True)
    rows = [records[name] for name in cases() if name in records]
    if not rows:
        print("no case measured yet", file=sys.stderr)
        return 1
    RESULT.with_suffix(".md").write_text(table(rows))
    picture(rows, ROOT / "docs" / "img" / "sbc.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
