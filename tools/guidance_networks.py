"""Trains the networks of docs/guidance.md into out/composition/guidance/.

    tools/guidance_networks.py [--motet build/release/bin/motet] [--only NAME...]

Two score networks, of one class and of all points, and two classifiers of noisy points: of x alone,
and with the features of x that score networks have. A network that is there already, by the same
config, is kept: what makes it is in NAME.toml beside it.
"""

import argparse
import sys
from pathlib import Path

from guidance_laws import GUIDED, law_toml
from trained_network import trained_network

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "out" / "composition" / "guidance"
NUM_STEPS = 2000
# Averaged over the same share of the run as the shipped networks' 15,000 steps.
EMA_DECAY = 1 - 0.001 * 15000 / NUM_STEPS
SEEDS = {"conditional": 51, "unconditional": 52, "classifier-features": 53, "classifier": 54}


def config_of(name: str) -> str:
    """The training config of one network."""
    train = f'[train]\nrecipe = "motet"\nnum_steps = {NUM_STEPS}\nema_decay = {EMA_DECAY}\n'
    head = f"seed = {SEEDS[name]}\n[data]\n"
    if name.startswith("classifier"):
        # Plain autograd, and a smooth function: a smaller network and batch do.
        network = '[network]\nparameterisation = "classifier"\nwidth = 64\nnum_blocks = 2\n'
        if name == "classifier":
            network += "frequencies = []\n"
            train += 'level_law = "uniform"\n'
        return head + law_toml(labels=True) + network + train + "batch_size = 1000\n"
    law = law_toml(GUIDED if name == "conditional" else None)
    return head + law + train + "batch_size = 2000\nmixed_precision = true\n"


def network(motet: Path, name: str) -> Path:
    """The weights of a network, trained if need be."""
    return trained_network(motet, FOLDER, name, config_of(name))


def main() -> int:
    """Trains every network, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--only", nargs="*", default=list(SEEDS), choices=SEEDS)
    args = parser.parse_args()
    for name in args.only:
        print(network(args.motet, name), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
