"""Measures a U-Net as scores against the same one as an energy: results/images/energies.{json,md}.

    tools/measure_energies.py [--motet build/release/bin/motet] [--data digits|fashion ...]
        [--networks out/images/energies] [--predictions NAME...] [--samplers NAME...] [--seeds N]
        [--again] [--render]

Each network is that of experiments/train-digits-energy.toml with network.prediction = epsilon,
energy_norm (E = |f|^2) or energy_residual (E = |f - x|^2): the same weights, data, steps and
arithmetic (float32). Seed k trains one of each and samples it, every class evenly, so the spread
over seeds is that of training and sampling. Networks that are in --networks are kept. All samplers
make as many evaluations a chain (image_plans.py).

A judge of its own (image_judge.py) gives the accuracy and the features whose Frechet distance to
the data is measured; its floor is that of as many images of the data. Cost is CPU time on one
thread: two lengths of run, in turn for all predictions, and the difference counts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import image_judge
import image_plans
import image_runs
import numpy as np
from image_runs import FOLDER, PICTURES, ROOT, arguments, facts, kept_samples
from motet_runs import Result, cell, mean_sd

NAME = "energies"
NETWORKS = ROOT / "out" / "images" / NAME
PREDICTIONS = ("epsilon", "energy_norm", "energy_residual")
SEEDS = 2
CHAINS_OF_A_CLASS = 64  # as many as pass through a network at once
EVALUATIONS = 100  # of a chain
COST_LENGTHS = (10, 40)  # of runs whose difference is a cost
COST_ROUNDS = 5
COST_CHAINS = 64


@dataclass(frozen=True)
class Data:
    """A data set, and what its networks are trained with beside the common config."""

    name: str
    size: int
    settings: tuple[str, ...] = ()


IDX = image_judge.FASHION
DATA = {
    "digits": Data("digits", 8),
    "fashion": Data(
        "fashion",
        28,
        (
            f'data.images="{IDX}/train-images-idx3-ubyte.gz"',
            f'data.labels="{IDX}/train-labels-idx1-ubyte.gz"',
            "network.block_out_channels=[16, 32, 32]",
            'network.down_block_types=["DownBlock2D", "DownBlock2D", "DownBlock2D"]',
            'network.up_block_types=["UpBlock2D", "UpBlock2D", "UpBlock2D"]',
            "train.batch_size=32",
        ),
    ),
}


@dataclass(frozen=True)
class Sampler:
    """A sampler of motet; `score_only` hides an energy, so that its ratios are integrals."""

    name: str
    score_only: bool = False
    energies_only: bool = False

    def fits(self, prediction: str) -> bool:
        """Whether a network of such a prediction can be sampled so."""
        return prediction.startswith("energy") or not self.energies_only


SAMPLERS = {
    one.name: one
    for one in (
        Sampler("reverse"),
        Sampler("u-hmc"),
        Sampler("hmc-4-curve", score_only=True),
        Sampler("hmc-energy", energies_only=True),
        Sampler("exact"),
    )
}


def config(
    network: Path, data: Data, prediction: str, sampler: Sampler, label: int, seed: int
) -> str:
    """The config of a run of one class."""
    text = f"num_samples = {CHAINS_OF_A_CLASS}\nseed = {100 * seed + label}\n"
    text += image_plans.head(sampler.name, EVALUATIONS)
    text += f'[model.image]\nweights = "{network}"\n'
    if sampler.score_only and prediction.startswith("energy"):
        text += "score_only = true\n"
    text += f"[model.image.inputs]\nclass_labels = {label}\n"
    return text + image_plans.tables(sampler.name, EVALUATIONS, data.size**2)


# --- networks ------------------------------------------------------------------------------------


def train_command(motet: Path, data: Data, prediction: str, seed: int, out: Path) -> list[str]:
    """Trains one network."""
    settings = (*data.settings, f"network.prediction={prediction}", f"seed={seed}")
    config_file = ROOT / "experiments" / "train-digits-energy.toml"
    command = [motet, "train", config_file, "--out", out, "--quiet"]
    return [str(word) for word in command] + [
        word for setting in settings for word in ("--set", setting)
    ]


def network(
    motet: Path, folder: Path, data: Data, prediction: str, seed: int, more: tuple[str, ...] = ()
) -> Path:
    """The network, trained if it is not there, from its checkpoint on if that is; `more` settings
    come last.
    """
    out = folder / f"{data.name}-{prediction}-{seed}"
    if (out / "config.json").is_file():
        return out
    folder.mkdir(parents=True, exist_ok=True)
    command = [*train_command(motet, data, prediction, seed, out), "--json", f"{out}.json"]
    command += [word for setting in more for word in ("--set", setting)]
    command += ["--resume"] if Path(f"{out}.checkpoint").is_file() else []
    subprocess.run(command, check=True, env={"OMP_NUM_THREADS": "1"} | os.environ)
    return out


def held_out(folder: Path, data: Data, prediction: str, seed: int) -> list[float]:
    """The last held-out losses of a network, in the noise, one for each tenth of the levels."""
    report = json.loads((folder / f"{data.name}-{prediction}-{seed}.json").read_text())
    return report["held_out"][-1]["per_level"]


# --- cost ----------------------------------------------------------------------------------------


def cpu_seconds(command: list[str]) -> float:
    """CPU time of a program on one thread, its children's too."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)  # its own time, not that of all children
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: failed: {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def slopes(commands: dict[str, dict[int, list[str]]]) -> dict[str, float]:
    """By name, the median over rounds of what one more unit of length costs, in CPU seconds.

    `commands` are a short and a long one of every name; all are run in turn in every round.
    """
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(COST_ROUNDS):
        for name, lengths in commands.items():
            (short, first), (long, second) = sorted(lengths.items())
            found[name].append((cpu_seconds(second) - cpu_seconds(first)) / (long - short))
    return {name: float(np.median(values)) for name, values in found.items()}


def training_cost(motet: Path, data: Data, predictions: list[str]) -> dict[str, float]:
    """CPU seconds a training step."""
    with tempfile.TemporaryDirectory() as folder:
        commands = {}
        for prediction in predictions:
            commands[prediction] = {}
            for steps in COST_LENGTHS:
                out = Path(folder) / f"{prediction}-{steps}"
                short = [f"train.num_steps={steps}", f"train.held_out_every={steps}"]
                short += ["train.held_out_size=16", "train.warmup_steps=1"]
                command = train_command(motet, data, prediction, 1, out)
                command += [word for setting in short for word in ("--set", setting)]
                commands[prediction][steps] = command
        return slopes(commands)


def evaluation_cost(motet: Path, networks: dict[str, Path]) -> dict[str, float]:
    """CPU seconds an evaluation of one sample, by prediction."""
    with tempfile.TemporaryDirectory() as folder:
        commands = {}
        for prediction, path in networks.items():
            commands[prediction] = {}
            for levels in COST_LENGTHS:
                file = Path(folder) / f"{prediction}-{levels}.toml"
                file.write_text(
                    f'num_samples = {COST_CHAINS}\nsampler = "reverse"\n[model.image]\n'
                    f'weights = "{path}"\nnum_levels = {levels}\n'
                    "[model.image.inputs]\nclass_labels = 0\n"
                )
                command = [motet, "sample", file, "--out", file.with_suffix(".npy"), "--quiet"]
                commands[prediction][levels] = [str(word) for word in command]
        return {name: cost / COST_CHAINS for name, cost in slopes(commands).items()}


# --- measuring -----------------------------------------------------------------------------------


class Work:
    """The experiment being measured."""

    def __init__(self, motet: Path, networks: Path, data: str, again: bool = False) -> None:
        self.motet, self.networks, self.data, self.again = motet, networks, DATA[data], again
        self.result = Result(NAME, FOLDER)
        self.judge = image_judge.judge_of(data)
        test, train = (image_judge.data_of(data, split) for split in ("test", "train"))
        self.num_classes = len(image_judge.CLASSES[data])
        features = [self.judge.features(part.images) for part in (test, train)]
        self.features = np.concatenate(features)
        self.labels = np.concatenate([test.labels, train.labels])

    def floor(self, num_rows: int) -> None:
        """The Frechet distance of as many images of the data."""
        if self.data.name not in self.result.floors:
            found = image_judge.frechet_floor(self.features, num_rows)
            self.result.floors[self.data.name] = {"Frechet distance": found} | {
                "judge": self.judge.notes
            }

    def errors(self, samples: list[np.ndarray]) -> dict:
        """Measures of the samples of all classes; diversity is a mean over them."""
        outputs = [self.judge.outputs(x) for x in samples]
        hits = [(p.argmax(1) == label).mean() for label, (p, _) in enumerate(outputs)]
        spreads = [
            image_judge.diversity(features, self.features[self.labels == label])
            for label, (_, features) in enumerate(outputs)
        ]
        features = np.concatenate([features for _, features in outputs])
        return {
            "accuracy": float(np.mean(hits)),
            "Frechet distance": image_judge.frechet(features, self.features),
            "diversity": float(np.mean(spreads)),
        }

    def run(self, prediction: str, sampler: Sampler, seed: int) -> None:
        """A run of every class, measured and written."""
        key = Result.key(self.data.name, prediction, sampler.name, seed)
        if key in self.result.runs and not self.again:
            return
        weights = network(self.motet, self.networks, self.data, prediction, seed)
        outcomes = [
            image_runs.run(
                self.motet,
                config(weights, self.data, prediction, sampler, label, seed),
                NAME,
                f"{key} | class {label}",
            )
            for label in range(self.num_classes)
        ]
        failed = [outcome for outcome in outcomes if outcome.exit_code]
        if failed:
            sys.exit(f"{key}: {failed[0].message}")
        self.floor(self.num_classes * CHAINS_OF_A_CLASS)
        rows = [facts(outcome.report) for outcome in outcomes]
        errors = self.errors([outcome.x for outcome in outcomes])
        accepted = [image_runs.mean_acceptance(row) for row in rows]
        if sampler.name not in ("reverse", "u-hmc"):
            errors["acceptance"] = float(np.mean(accepted))
        self.result.runs[key] = {
            "exit_code": 0,
            "config": config(Path(weights.name), self.data, prediction, sampler, 0, seed),
            "held out": held_out(self.networks, self.data, prediction, seed),
            "errors": errors,
        } | rows[0]
        self.result.write()
        print(key, errors, flush=True)

    def cost(self, predictions: list[str]) -> None:
        """Costs of all predictions, measured in one run."""
        key = Result.key(self.data.name, "all", "cost", 1)
        if key in self.result.runs and not self.again:
            return
        networks = {p: network(self.motet, self.networks, self.data, p, 1) for p in predictions}
        self.result.runs[key] = {
            "exit_code": 0,
            "date": time.strftime("%Y-%m-%d"),
            "seconds a training step": training_cost(self.motet, self.data, predictions),
            "seconds an evaluation": evaluation_cost(self.motet, networks),
        }
        self.result.write()
        print(key, self.result.runs[key], flush=True)


# --- pages ---------------------------------------------------------------------------------------


def quality_table(result: Result, data: str) -> str:
    """Markdown: predictions by samplers."""
    floor = result.floors[data]
    lines = [
        f"| {data}: prediction | sampler | evaluations | acceptance | accuracy | "
        "Frechet distance | diversity |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for prediction in PREDICTIONS:
        for sampler in SAMPLERS:
            runs = result.of(data, prediction, sampler)
            if not runs:
                continue
            errors = mean_sd([run["errors"] for run in runs])
            evaluations = runs[0]["evaluations_per_chain"]
            cells = [cell(errors.get("acceptance")), cell(errors["accuracy"])]
            cells += [cell(errors["Frechet distance"]), cell(errors["diversity"])]
            lines.append(
                f"| {prediction} | {sampler} | {evaluations} | " + " | ".join(cells) + " |"
            )
    accuracy = float(floor["judge"]["accuracy on the test split"])
    lines.append(
        f"| images of the data | | | | {accuracy:.4f} | {cell(floor['Frechet distance'])} | 1 |"
    )
    return "\n".join(lines) + "\n"


def cost_table(result: Result, data: str) -> str:
    """Markdown: what a step and an evaluation cost, and how well the networks predict noise."""
    costs = result.runs.get(Result.key(data, "all", "cost", 1))
    if costs is None:
        return ""
    lines = [
        f"| {data}: prediction | ms a training step | over epsilon's "
        "| ms an evaluation of a sample | over epsilon's | held-out loss, first tenth of levels "
        "| all tenths |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    steps, evaluations = costs["seconds a training step"], costs["seconds an evaluation"]
    for prediction in steps:
        runs = result.of(data, prediction, "reverse")
        losses = [
            {"first": run["held out"][0], "all": float(np.mean(run["held out"]))} for run in runs
        ]
        loss = mean_sd(losses)
        lines.append(
            f"| {prediction} | {1e3 * steps[prediction]:.1f} "
            f"| {steps[prediction] / steps['epsilon']:.2f} "
            f"| {1e3 * evaluations[prediction]:.3f} "
            f"| {evaluations[prediction] / evaluations['epsilon']:.2f} "
            f"| {cell(loss['first'])} | {cell(loss['all'])} |"
        )
    return "\n".join(lines) + "\n"


def render() -> None:
    """The tables, and samples of every prediction and sampler."""
    result = Result(NAME, FOLDER)
    measured = [data for data in DATA if data in result.floors]
    tables = [part(result, data) for data in measured for part in (quality_table, cost_table)]
    (FOLDER / f"{NAME}.md").write_text("\n".join(table for table in tables if table))
    for data in measured:
        rows = []
        for prediction in PREDICTIONS:
            panels = []
            for sampler in SAMPLERS:
                key = Result.key(data, prediction, sampler, 1)
                kept = [kept_samples(NAME, f"{key} | class {label}") for label in range(10)]
                found = [x[:3] for x in kept if x is not None]
                order = np.concatenate(found).reshape(10, 3, *found[0].shape[1:]) if found else None
                panels.append(None if order is None else np.concatenate(order.swapaxes(0, 1)))
            rows.append((prediction, panels))
        if any(panel is not None for _, panels in rows for panel in panels):
            scale = 2 if data == "digits" else 1
            text = image_runs.sample_table(f"Samples, {data}", list(SAMPLERS), rows, 10, scale)
            (PICTURES / f"images-{NAME}-{data}.svg").write_text(text)


def main() -> int:
    """Measures what is not there yet, then renders."""
    parser = arguments(__doc__, list(SAMPLERS), SEEDS)
    parser.set_defaults(networks=NETWORKS)
    parser.add_argument("--data", nargs="+", choices=DATA, default=["digits"])
    parser.add_argument("--predictions", nargs="+", choices=PREDICTIONS, default=PREDICTIONS)
    args = parser.parse_args()
    if not args.render:
        for data in args.data:
            work = Work(args.motet, args.networks.resolve(), data, args.again)
            for seed in range(1, args.seeds + 1):
                for prediction in args.predictions:
                    for label in args.samplers:
                        if SAMPLERS[label].fits(prediction):
                            work.run(prediction, SAMPLERS[label], seed)
            work.cost(list(args.predictions))
    render()
    return 0


if __name__ == "__main__":
    sys.exit(main())
