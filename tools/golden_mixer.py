"""Writes tests/golden/mixer.json: outputs of MLP-Mixer score networks in numpy, float64.

The forward pass is written from galaxygrad 0.2.1's models_eqx.py and equinox's definitions of its
layers, apart from the C++. Weights come from a formula that both sides know, so only sizes, times
and outputs are stored. With --eqx FILE --out FILE.npy it runs an .eqx file instead, for checks
against real weights.

    python tools/golden_mixer.py
"""

import argparse
import json
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "mixer.json"


def weight(index: int, shape: tuple[int, ...]) -> np.ndarray:
    """Entries cos(.7 index + 1.3 i) / sqrt(fan in) of leaf `index`, i counting in C order."""
    size = int(np.prod(shape, dtype=int))
    fan_in = size / shape[0] if len(shape) > 1 else 1.0
    values = np.cos(0.7 * index + 1.3 * np.arange(size)) / np.sqrt(fan_in)
    return values.astype(np.float32).astype(np.float64).reshape(shape)


def point(shape: tuple[int, ...]) -> np.ndarray:
    """Entries sin(.37 i) of an image."""
    size = int(np.prod(shape))
    return np.sin(0.37 * np.arange(size)).astype(np.float32).astype(np.float64).reshape(shape)


def leaf_shapes(c: dict) -> list[tuple[int, ...]]:
    """Shapes of equinox's leaves, in order, without t1."""
    p, hidden = c["patch_size"], c["hidden_size"]
    patches = (c["height"] // p) * (c["width"] // p)

    def mlp(size: int, width: int) -> list[tuple[int, ...]]:
        return [(width, size), (width,), (size, width), (size,)]

    shapes = [(hidden, c["num_channels"] + 1, p, p), (hidden, 1, 1)]
    shapes += [(c["num_channels"], hidden, p, p), (c["num_channels"], 1, 1)]
    for _ in range(c["num_blocks"]):
        shapes += mlp(patches, c["mix_patch"]) + mlp(hidden, c["mix_hidden"])
        shapes += [(hidden, patches)] * 2 + [(patches, hidden)] * 2
    return shapes + [(hidden, patches)] * 2


def layer_norm(x: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Over all entries."""
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * gain + bias


def mlp(x: np.ndarray, leaves: list[np.ndarray]) -> np.ndarray:
    """Along the last dimension."""
    first, bias, second, last = leaves
    return np.maximum(x @ first.T + bias, 0.0) @ second.T + last


def conv_in(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Patches of (C, H, W) to (hidden, H / p, W / p)."""
    p = kernel.shape[-1]
    channels, height, width = x.shape
    patches = x.reshape(channels, height // p, p, width // p, p)
    return np.einsum("ocij,chiwj->ohw", kernel, patches) + bias


def conv_out(y: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """As equinox: y spread out with p - 1 zeros between its entries, then a correlation."""
    p = kernel.shape[-1]
    hidden, rows, columns = y.shape
    spread = np.zeros((hidden, rows * p + p - 1, columns * p + p - 1))
    spread[:, p - 1 : p - 1 + rows * p : p, p - 1 : p - 1 + columns * p : p] = y
    out = np.zeros((kernel.shape[0], rows * p, columns * p))
    for i in range(p):
        for j in range(p):
            window = spread[:, i : i + rows * p, j : j + columns * p]
            out += np.einsum("oc,chw->ohw", kernel[:, :, i, j], window)
    return out + bias


def forward(leaves: list[np.ndarray], x: np.ndarray, time: float, last_time: float) -> np.ndarray:
    """The network at one image (C, H, W)."""
    clock = np.full((1, *x.shape[1:]), time / last_time)
    y = conv_in(np.concatenate([x, clock]), leaves[0], leaves[1])
    _, rows, columns = y.shape
    y = y.reshape(len(y), -1)
    for block in range((len(leaves) - 6) // 12):
        of = leaves[4 + 12 * block : 16 + 12 * block]
        y = y + mlp(layer_norm(y, of[8], of[9]), of[0:4])
        y = y.T
        y = y + mlp(layer_norm(y, of[10], of[11]), of[4:8])
        y = y.T
    y = layer_norm(y, leaves[-2], leaves[-1]).reshape(-1, rows, columns)
    return conv_out(y, leaves[2], leaves[3])


def read_eqx(path: Path) -> tuple[list[np.ndarray], float]:
    """Leaves of an .eqx file, and t1."""
    leaves = []
    with path.open("rb") as file:
        size = path.stat().st_size
        while file.tell() < size:
            leaves.append(np.load(file, allow_pickle=False).astype(np.float64))
    return leaves[:-1], float(leaves[-1])


def write_golden() -> None:
    """Two shapes: several blocks on a square, two channels on a rectangle."""
    sizes = {"patch_size": 2, "hidden_size": 6, "mix_patch": 10, "mix_hidden": 7}
    cases = []
    for num_channels, height, width, num_blocks in ((1, 8, 8, 3), (2, 4, 6, 1)):
        config = {"num_channels": num_channels, "height": height, "width": width}
        config |= sizes | {"num_blocks": num_blocks, "last_time": 10.0}
        leaves = [weight(i, shape) for i, shape in enumerate(leaf_shapes(config))]
        for time in (0.02, 4.5):
            output = forward(leaves, point((num_channels, height, width)), time, 10.0)
            rounded = [float(f"{value:.9g}") for value in output.flatten()]
            cases.append({"config": config, "time": time, "output": rounded})
    GOLDEN.write_text(json.dumps({"maker": "tools/golden_mixer.py", "cases": cases}) + "\n")


def main() -> None:
    """Writes the golden file, or runs real weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eqx", type=Path)
    parser.add_argument("--time", type=float, default=0.02)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.eqx is None:
        write_golden()
        return
    leaves, last_time = read_eqx(arguments.eqx)
    side = round(np.sqrt(leaves[4].shape[1])) * leaves[0].shape[-1]
    x = point((leaves[0].shape[1] - 1, side, side))
    np.save(arguments.out, forward(leaves, x, arguments.time, last_time))


if __name__ == "__main__":
    main()
