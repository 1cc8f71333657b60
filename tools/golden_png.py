"""Makes tests/golden/png: small PNGs of every kind by Pillow, and the bytes they stand for.

Needs numpy and Pillow; the tests need only the files. Run from the repository's root:
python tools/golden_png.py
"""

import json
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "golden" / "png"


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:5, 0:7]
    grey = ((37 * x + 51 * y) % 256).astype(np.uint8)
    colour = np.stack([grey, 255 - grey, (grey // 3).astype(np.uint8)], axis=2)
    bits = ((x + y) % 2).astype(bool)
    Image.fromarray(grey).save(FOLDER / "grey.png")
    Image.fromarray(colour).save(FOLDER / "colour.png")
    Image.fromarray(bits).save(FOLDER / "bits.png")
    palette = Image.fromarray(colour).quantize(8)
    palette.save(FOLDER / "palette.png")
    alpha = np.dstack([colour, grey])
    Image.fromarray(alpha).save(FOLDER / "alpha.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(FOLDER / "sixteen.png")
    expected = {
        "made_by": "tools/golden_png.py",
        "versions": {"PIL": PIL.__version__, "numpy": np.__version__},
        "grey": grey.tolist(),
        "colour": colour.transpose(2, 0, 1).tolist(),
        "bits": (255 * bits.astype(np.uint8)).tolist(),
        "palette": np.asarray(palette.convert("RGB")).transpose(2, 0, 1).tolist(),
    }
    (FOLDER / "pixels.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
