"""Tables and plots of tools/measure_many_dimensions.py."""
from pathlib import Path


def render(runs: list[dict], folder: Path, images: Path) -> None:
    """All of them."""
