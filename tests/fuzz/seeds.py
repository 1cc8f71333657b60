"""Seeds of fuzz targets that no file of the repository is: CORPUS/fuzz_<name>/*.

    tests/fuzz/seeds.py CORPUS

Expressions of every operator, idx files plain and gzipped, a mixer's leaves, motet.json of
guided-diffusion, and the configs of the golden networks and schedules. Standard library only.
"""

import gzip
import hashlib
import json
import struct
import sys
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
EXPRESSIONS = (
    "ring * bar^0.5",
    "0.7 ring + 0.3 (bar * moons)",
    "ring / ramp(blob)^(-2)",
    "guide(a, b, -1.5) * 'a.safetensors'",
    "condition(score(a), y) / (a + b)^0.5",
)
UNET_FLAGS = {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "attention_resolutions": "8",
    "class_cond": True,
    "learn_sigma": True,
    "diffusion_steps": 100,
    "noise_schedule": "cosine",
    "timestep_respacing": "10,5",
}
CLASSIFIER_FLAGS = {
    "image_size": 16,
    "classifier_width": 32,
    "classifier_depth": 1,
    "classifier_attention_resolutions": "8",
    "classifier_pool": "spatial_v2",
    "timestep_respacing": "ddim50",
}


def idx(shape: tuple[int, ...]) -> bytes:
    """An idx file of bytes."""
    count = 1
    for size in shape:
        count *= size
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(range(count))


def npy(shape: tuple[int, ...], value: float) -> bytes:
    """A float32 array of one value, as numpy.save writes it; a float64 number where shape is ()."""
    descr, code = ("<f4", "f") if shape else ("<f8", "d")
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    count = 1
    for size in shape:
        count *= size
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    return head + struct.pack(f"<{count}{code}", *[value] * count)


def mixer() -> bytes:
    """The leaves of a galaxygrad mixer of one block: 4 x 4 pixels in 4 patches, 3 channels wide."""
    hidden, patches, wide = 3, 4, 5
    shapes = [(hidden, 2, 2, 2), (hidden, 1, 1), (1, hidden, 2, 2), (1, 1, 1)]
    for size in (patches, hidden):
        shapes += [(wide, size), (wide,), (size, wide), (size,)]
    shapes += [(hidden, patches)] * 2 + [(patches, hidden)] * 2 + [(hidden, patches)] * 2
    return b"".join(npy(shape, 0.1) for shape in shapes) + npy((), 10.0)


def guided(network: str, flags: dict, constants: dict) -> str:
    """A motet.json of guided-diffusion."""
    return json.dumps(
        {"format": "guided-diffusion", "network": network, "flags": flags, "constants": constants}
    )


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    networks = json.loads((GOLDEN / "unet2d.json").read_text())["cases"].values()
    schedules = json.loads((GOLDEN / "schedulers.json").read_text()).values()
    configs = [json.dumps(row["config"]) for row in (*networks, *schedules)]
    files = [
        guided("UNetModel", UNET_FLAGS, {"num_classes": 10}),
        guided("EncoderUNetModel", CLASSIFIER_FLAGS, {"channel_mult": "1,2", "num_classes": 3}),
    ]
    images = [idx((2, 3, 3)), idx((4,))]
    return {
        "expression": [text.encode() for text in EXPRESSIONS],
        "idx": images + [gzip.compress(image, mtime=0) for image in images],
        "mixer": [mixer()],
        "guided": [text.encode() for text in files],
        "diffusers": [text.encode() for text in configs],
    }


def main() -> int:
    """Writes them, each named by its hash."""
    if len(sys.argv) != 2:
        sys.exit("usage: seeds.py CORPUS")
    for target, texts in seeds().items():
        folder = Path(sys.argv[1]) / f"fuzz_{target}"
        folder.mkdir(parents=True, exist_ok=True)
        for text in texts:
            (folder / hashlib.md5(text).hexdigest()).write_bytes(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
