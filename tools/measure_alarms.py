"""How often motet diagnose is wrong: results/diagnose/alarms.{json,md}.

    tools/measure_alarms.py [--motet build/release/bin/motet] [--only NAME...]
        [--seeds-sound 10] [--seeds-broken 3] [--models FOLDER]

Set-ups that are known to be right count false alarms; set-ups with one known fault count
detections. Most are compositions of laws with known answers, whose log densities are hidden, so
that the sampler works from scores as on networks. What a set-up's samples are worth is measured
beside it where the truth is known (motet sample, the first seed). The fault of "networks as
published" is their density, which no check sees: their lights should be green all the same.
`--models` holds ring-short.safetensors and bar-short.safetensors, networks of a few training steps:

    motet train experiments/train-ring-motet.toml --set train.num_steps=100 --out ring-short...

Rows of a former run are kept where --only leaves them out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "diagnose"
EXACT = ROOT / "experiments" / "product-exact-scores.toml"
TRUTH = ("ll_true", "fraction_outside_modes", "w2_folded")
# The pilot run without its bound on the rules' disagreement.
BY_ACCEPTANCE = ("tune.max_disagreement=1.0",)


def gaussians(d: int) -> str:
    """A product of two Gaussians of d dimensions, scores only."""
    parts = ['seed = 1\nsampler = "exact"\nnum_samples = 2000\n']
    parts.append('[schedule]\ntype = "cosine"\nnum_levels = 100\n')
    for name, shift in (("left", 0.0), ("right", 0.2)):
        means = [shift + 0.1 * (i % 3) for i in range(d)]
        sds = [0.2 + 0.1 * ((i + (name == "left")) % 3) for i in range(d)]
        parts.append(
            f'[model.{name}]\nlaw = "gaussian_mixture"\nscore_only = true\n'
            f"means = [{means}]\nsds = [{sds}]\n"
        )
    return "\n".join(parts)


# name: (known to be right, config: a path or the text of one, settings, factor of the step sizes)
def setups(models: Path | None) -> dict:
    """Every set-up by name."""
    experiments = ROOT / "experiments"
    table = {
        "exact scores": (True, EXACT, (), 1),
        "exact scores, half the steps' length": (True, EXACT, (), 0.5),
        "Gaussians, d = 2": (True, gaussians(2), (), 1),
        "Gaussians, d = 10": (True, gaussians(10), (), 1),
        "networks of recipe motet": (True, experiments / "product-motet.toml", (), 1),
        "step sizes by acceptance alone": (False, EXACT, BY_ACCEPTANCE, 1),
        "step sizes x 2": (False, EXACT, (), 2),
        "step sizes x 4": (False, EXACT, (), 4),
        "one leapfrog (40 evaluations)": (False, EXACT, ("evaluations=40",), 1),
        "trapezoid rule": (
            False,
            EXACT,
            (*BY_ACCEPTANCE, 'ratio.rule="trapezoid"', "ratio.guard=0.0"),
            1,
        ),
        "momentum kept on rejection": (
            False,
            EXACT,
            ('kernel.type="hmc-unflipped"', "kernel.damping=0.9", *BY_ACCEPTANCE),
            1,
        ),
        "no weights": (False, EXACT, ("weights.enabled=false",), 1),
        "3 levels": (False, EXACT, ("anneal.levels=[57, 20, 0]",), 1),
        "networks as published": (False, experiments / "product.toml", (), 1),
    }
    if models is not None:
        text = tomllib.loads((experiments / "product-motet.toml").read_text())
        assert set(text["model"]) == {"ring", "bar"}
        short = (
            f'model.ring.weights="{models.resolve()}/ring-short.safetensors"',
            f'model.bar.weights="{models.resolve()}/bar-short.safetensors"',
        )
        table["networks of 100 training steps"] = (
            False,
            experiments / "product-motet.toml",
            short,
            1,
        )
    return table


def call(motet: Path, *words) -> None:
    """One run of motet."""
    command = [str(word) for word in (motet, *words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def options(settings: tuple) -> list[str]:
    """Settings as arguments of motet."""
    return [word for setting in settings for word in ("--set", setting)]


def longer_steps(motet: Path, config: Path, settings: tuple, factor: float, seed: int, out: Path):
    """`config` tuned, and its step sizes multiplied by `factor`, in the file `out`."""
    call(motet, "tune", config, *options((f"seed={seed}", *settings)), "-o", out)
    text = out.read_text()
    sizes = tomllib.loads(text)["kernel"]["step_size"]
    first, rest = text.split("step_size = [", 1)
    longer = ", ".join(repr(factor * size) for size in sizes)
    out.write_text(first + "step_size = [" + longer + rest[rest.index("]") :])


def run_setup(motet: Path, setup: tuple, seeds: range) -> dict:
    """Lights of every check at every seed, and the samples' quality at the first."""
    is_sound, config, settings, factor = setup
    runs, sample = [], None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "out.json"
        if isinstance(config, str):
            path = Path(folder) / "config.toml"
            path.write_text(config)
        else:
            path = config
        for seed in seeds:
            used, given = path, settings
            if factor != 1:
                used, given = Path(folder) / "tuned.toml", ()
                longer_steps(motet, path, settings, factor, seed, used)
            words = (used, "--seed", seed, *options(given), "--quiet", "--json", file)
            call(motet, "diagnose", *words)
            report = json.loads(file.read_text())
            diagnosis = report["diagnosis"]
            runs.append(
                {
                    "seed": seed,
                    "light": diagnosis["light"],
                    "checks": {check["name"]: check["light"] for check in diagnosis["checks"]},
                    "sentences": {
                        check["name"]: check["sentence"]
                        for check in diagnosis["checks"]
                        if check["light"] in ("amber", "red")
                    },
                }
            )
            if sample is None:
                call(motet, "sample", *words)
                metrics = json.loads(file.read_text()).get("metrics") or {}
                sample = {name: metrics[name] for name in TRUTH if name in metrics}
    return {
        "is_sound": is_sound,
        "settings": list(settings),
        "step_factor": factor,
        "truth": sample,
        **{key: report.get(key) for key in ("commit", "device", "num_chains")},
        "runs": runs,
    }


def counts(row: dict, check: str | None) -> str:
    """ "amber, red" of one check (None: overall) over the runs; "-" where it does not apply."""
    lights = [run["light"] if check is None else run["checks"][check] for run in row["runs"]]
    if all(light == "skipped" for light in lights):
        return "-"
    amber, red = lights.count("amber"), lights.count("red")
    return "." if amber + red == 0 else f"{amber}a {red}r"


def table(rows: dict) -> str:
    """Markdown: a line a set-up, a column a check."""
    checks = list(next(iter(rows.values()))["runs"][0]["checks"])
    titles = ["set-up", "LL", "outside", "folded W2", "runs", "overall", *checks]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for is_sound, title in ((True, "**known to be right**"), (False, "**known faults**")):
        lines.append(f"| {title} |" + " |" * (len(titles) - 1))
        for name, row in rows.items():
            if row["is_sound"] != is_sound:
                continue
            truth = row["truth"]
            digits = {"ll_true": 2, "fraction_outside_modes": 4, "w2_folded": 4}
            numbers = [f"{truth[key]:.{digits[key]}f}" if key in truth else "" for key in TRUTH]
            lights = [counts(row, check) for check in (None, *checks)]
            lines.append("| " + " | ".join([name, *numbers, str(len(row["runs"])), *lights]) + " |")
    lines.append("")
    lines.append(
        "a: amber, r: red, .: none, -: does not apply. Exact draws: LL 3.47, folded W2 .005."
    )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measures the set-ups and writes both files after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--seeds-sound", type=int, default=10)
    parser.add_argument("--seeds-broken", type=int, default=3)
    parser.add_argument("--models", type=Path, default=None)
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / "alarms.json"
    old = json.loads(file.read_text()) if file.exists() else {}
    rows = {}
    known = setups(args.models)
    for name in [*known, *(name for name in old if name not in known)]:
        if name in known and (not args.only or name in args.only):
            count = args.seeds_sound if known[name][0] else args.seeds_broken
            rows[name] = run_setup(args.motet, known[name], range(1, 1 + count))
            print(name, [counts(rows[name], None)], flush=True)
        elif name in old:
            rows[name] = old[name]
        merged = {**old, **rows}
        ordered = {key: merged[key] for key in [*known, *old] if key in merged}
        file.write_text(json.dumps(ordered, indent=1) + "\n")
        if ordered:
            (FOLDER / "alarms.md").write_text(table(ordered))
    return 0


if __name__ == "__main__":
    sys.exit(main())
