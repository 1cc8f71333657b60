"""Writes scikit-learn's digits as images for `motet train`: tests/golden/digits.safetensors.

1,797 images of 8 x 8 in 17 greys, as bytes 0 to 255 under "images" (N, 1, 8, 8), and their
classes under "labels" (N). From the UCI set of Alpaydin and Kaynak (1998).
    .venv/bin/python tools/digits.py
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

OUT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "digits.safetensors"


def main() -> None:
    """Writes the file."""
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    save_file({"images": images, "labels": digits.target.astype(np.uint8)}, OUT)


if __name__ == "__main__":
    main()
