"""Trains a network unless it is there already, by the same config."""

import os
import subprocess
from pathlib import Path


def trained_network(motet: Path, folder: Path, name: str, config_text: str) -> Path:
    """folder/NAME.safetensors by that config, which stands beside it as NAME.toml."""
    config, weights = folder / f"{name}.toml", folder / f"{name}.safetensors"
    if weights.is_file() and config.is_file() and config.read_text() == config_text:
        return weights
    folder.mkdir(parents=True, exist_ok=True)
    weights.unlink(missing_ok=True)
    config.write_text(config_text)
    command = [motet, "train", config, "--out", weights, "--json", weights.with_suffix(".json")]
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    subprocess.run([*map(str, command), "--quiet"], check=True, env=environment)
    return weights
