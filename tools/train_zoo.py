"""Trains the networks of docs/composition.md into out/composition/, and lists them.

    tools/train_zoo.py [--motet build/release/bin/motet] [--only NAME...]  # what is missing
    tools/train_zoo.py --measure [--bin build/bench/bin]                   # networks.json

A score network for each law of tools/composition_zoo.py but the ring's and the bar's, which
models/ has, and an energy network (NAME-energy, E = ||f - x||^2) for some, by the recipe "motet" in
mixed precision. All have fewer steps than the 15,000 of models/, the single boxes fewest; the
weights are averaged over the same share of a run as there (EMA), or the average would still hold
the initial weights. A network that is there already, by the same config, is kept: what makes it is
in NAME.toml beside it. The second writes what each network there and in models/
is and its score errors to results/composition/networks.json.
"""

import argparse
import json
import struct
import sys
from pathlib import Path

from composition_zoo import BOX_LAWS, LAWS, MODELS, NETWORKS, ROOT
from measure_scores import error_of
from trained_network import trained_network

SUMMARY = ROOT / "results" / "composition" / "networks.json"
SCORE_STEPS = 3000
BOX_STEPS = 1500
ENERGY_STEPS = 1500
FIRST_SEED = 51
NUM_SAMPLES = 20000  # of a level's law, for a score error
SCORES = tuple(name for name in LAWS if LAWS[name].score_network.parent != MODELS)
ENERGIES = tuple(f"{name}-energy" for name in ("checkerboard", "moons", "blob"))
TRAINED = (*SCORES, *ENERGIES, *BOX_LAWS)
ALL_LAWS = LAWS | BOX_LAWS


def config_of(name: str) -> str:
    """The training config of one network."""
    is_energy = name in ENERGIES
    steps = ENERGY_STEPS if is_energy else BOX_STEPS if name in BOX_LAWS else SCORE_STEPS
    lines = [
        f"seed = {FIRST_SEED + TRAINED.index(name)}",
        "[data]",
        ALL_LAWS[name.removesuffix("-energy")].data_toml.rstrip(),
    ]
    if is_energy:
        lines += ["[network]", 'parameterisation = "energy_residual"']
    lines += ["[train]", 'recipe = "motet"']
    lines += [f"num_steps = {steps}", "batch_size = 2000"]
    lines += [f"ema_decay = {1 - 0.001 * 15000 / steps}", "mixed_precision = true"]
    return "\n".join(lines) + "\n"


def network(motet: Path, name: str) -> Path:
    """The weights of a network, trained if need be."""
    return trained_network(motet, NETWORKS, name, config_of(name))


def provenance(weights: Path) -> dict:
    """What a weights file says of its training."""
    with weights.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        notes = json.loads(file.read(size))["__metadata__"]
    prefix = "motet.provenance."
    found = {key.removeprefix(prefix): notes[key] for key in notes if key.startswith(prefix)}
    return found | {"parameterisation": notes["motet.parameterisation"]}


def row_of(name: str, weights: Path, binaries: Path) -> dict:
    """One network of the list; relative_error: of its scores, on levels, over exact draws."""
    notes = provenance(weights)
    result = error_of(binaries, weights, NUM_SAMPLES)
    return {
        "network": name,
        "file": str(weights.relative_to(ROOT)),
        "parameterisation": notes["parameterisation"],
        "num_steps": int(notes["num_steps"]),
        "seed": int(notes["seed"]),
        "commit": notes["commit"],
        "device": "cpu",  # all that motet train knows
        "arithmetic": notes["arithmetic"],
        "held_out_loss": float(notes["held_out_loss"]),
        "config": notes["config"],
    } | {key: result[key] for key in ("num_samples", "levels", "relative_error")}


def measure(binaries: Path) -> None:
    """Writes the list of every network that is there."""
    rows = []
    for name, law in ALL_LAWS.items():
        for label, weights in ((name, law.score_network), (f"{name}-energy", law.energy_network)):
            if weights.is_file():
                rows.append(row_of(label, weights, binaries))
                print(label, rows[-1]["held_out_loss"], rows[-1]["relative_error"], flush=True)
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    SUMMARY.write_text(json.dumps(rows, indent=1) + "\n")


def main() -> int:
    """Trains every network, or those named; or measures all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--only", nargs="*", default=TRAINED, choices=TRAINED)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--bin", type=Path, default=ROOT / "build" / "bench" / "bin")
    args = parser.parse_args()
    if args.measure:
        measure(args.bin)
        return 0
    for name in args.only:
        print(network(args.motet, name), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
