"""What the tests of the image experiments share: networks trained for a moment by motet train."""

from collections.abc import Mapping
from pathlib import Path

from motet_runs import call  # the tests put tools/ on the path

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "experiments" / "train-digits.toml"


def train(motet: Path | str, config: Path, out: Path, settings: Mapping[str, object]) -> Path:
    """Trains by a config, with other settings, on one thread; returns the network's folder."""
    command = [motet, "train", config, "--out", out, "--quiet"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    done = call(command)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return out
