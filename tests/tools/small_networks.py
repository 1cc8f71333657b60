"""What the tests of the image experiments share: networks trained for a moment by motet train."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "experiments" / "train-digits.toml"


def train(motet: Path | str, config: Path, out: Path, settings: Mapping[str, object]) -> Path:
    """Trains by a config, with other settings, on one thread; returns the network's folder."""
    command = [motet, "train", config, "--out", out, "--quiet"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env={"OMP_NUM_THREADS": "1"} | os.environ,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return out
