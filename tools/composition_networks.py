"""Trains a score network for each factor of docs/composition.md into out/compositions/.

    tools/composition_networks.py [--motet build/release/bin/motet] [--only NAME...]

By the recipe "motet" in mixed precision, with fewer steps than the 15,000 of models/, whose ring
and bar are used as they are. The weights are averaged over the same share of a run as there (EMA),
or the average would still hold the initial weights. A network that is there already, by the same
config, is kept: what makes it is in NAME.toml beside it.
"""

import argparse
import sys
from pathlib import Path

from composition_laws import FACTORS, law_toml
from trained_network import trained_network

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "out" / "compositions"
SHIPPED = {name: ROOT / "models" / f"{name}-motet.safetensors" for name in ("ring", "bar")}
TRAINED = tuple(
    name
    for name in FACTORS
    if name not in SHIPPED and not name.startswith(("mixture-2-", "mixture-50-"))
)
NUM_STEPS = 1500
EMA_DECAY = 1 - 0.001 * 15000 / NUM_STEPS
FIRST_SEED = 31


def config_of(name: str) -> str:
    """The training config of one factor."""
    seed = FIRST_SEED + TRAINED.index(name)
    return (
        f"seed = {seed}\n[data]\n{law_toml(FACTORS[name])}"
        f'[train]\nrecipe = "motet"\nnum_steps = {NUM_STEPS}\nbatch_size = 2000\n'
        f"ema_decay = {EMA_DECAY}\nmixed_precision = true\n"
    )


def network(motet: Path, name: str) -> Path:
    """The weights of a factor, trained if need be."""
    if name in SHIPPED:
        return SHIPPED[name]
    return trained_network(motet, FOLDER, name, config_of(name))


def main() -> int:
    """Trains every network, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--only", nargs="*", default=TRAINED, choices=TRAINED)
    args = parser.parse_args()
    for name in args.only:
        print(network(args.motet, name), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
