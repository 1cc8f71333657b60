"""Finds the objects of scenes: trains, measures and runs a small convolutional detector.

    tools/scene_detector.py [--motet build/release/bin/motet] [--steps N] [--seed S]

trains it on scenes that `motet scenes` draws, writes models/judges/scenes.safetensors and measures
it on others, of sizes 32 and 16, into results/images/scene-detector.{json,md}.

An image (3, P, P) of any size is first seen from above: bilinearly sampled where the camera of
src/data_scenes.cpp sees the points (x, y, HEIGHT) of a grid. A convolutional network then says of
each cell of a coarser grid whether an object's centre is in it, and where in it. Cells whose
probability is above 1/2 and the largest of their neighbours' are detections: places (x, y) in the
scenes' own coordinates.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from image_runs import share_error
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "models" / "judges" / "scenes.safetensors"
RESULT = ROOT / "results" / "images" / "scene-detector.json"

TOLERANCE = 0.2  # an object within it stands at an asked place: about its radius (.15 to .25)
SIDE = 1.25  # the grid covers [-SIDE, SIDE]^2, the scenes' centres [-1, 1]^2
CELLS = 20  # of the output, a side; centres of objects are two cells apart at least
CELL = 2 * SIDE / CELLS
HEIGHT = 0.2  # about the height of an object's centre
CHANNELS = 32
# The camera of src/data_scenes.cpp.
EYE = np.array([0.0, -3.3, 3.5])
TARGET = np.array([0.0, -0.08, 0.1])
HALF_WIDTH = 0.3


def seen_at(points: np.ndarray) -> np.ndarray:
    """Where the camera sees points (..., 3): (..., 2) in [-1, 1], to the right and down."""
    forward = (TARGET - EYE) / np.linalg.norm(TARGET - EYE)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    offset = points - EYE
    depth = offset @ forward * HALF_WIDTH
    return np.stack([offset @ right / depth, -(offset @ up) / depth], -1)


def from_above(images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, P, P) as (B, 3, 2 CELLS, 2 CELLS): row by y, column by x of the plane."""
    axis = (np.arange(2 * CELLS) + 0.5) / CELLS * SIDE - SIDE
    x, y = np.meshgrid(axis, axis)
    grid = seen_at(np.stack([x, y, np.full_like(x, HEIGHT)], -1))
    grid = torch.tensor(grid, dtype=torch.float32).expand(len(images), -1, -1, -1)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


class Detector(nn.Module):
    """Logit and place within its cell, in cells from the centre: (B, 3, CELLS, CELLS)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, CHANNELS, 4, stride=2, padding=1)
        self.middle = nn.ModuleList(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=step, dilation=step) for step in (1, 2, 1, 2)
        )
        self.last = nn.Conv2d(CHANNELS, 3, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Of images (B, 3, P, P) in [-1, 1]."""
        x = functional.silu(self.first(from_above(images)))
        for layer in self.middle:
            x = x + functional.silu(layer(x))
        return self.last(x)


def targets(objects: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network should say of objects (B, 5, 3): presence (B, CELLS, CELLS), places."""
    presence = torch.zeros(len(objects), CELLS, CELLS)
    places = torch.zeros(len(objects), 2, CELLS, CELLS)
    rows, which = torch.nonzero(objects[:, :, 0].isfinite(), as_tuple=True)
    position = (objects[rows, which, :2] + SIDE) / CELL
    column, row = position.long().unbind(1)
    presence[rows, row, column] = 1
    places[rows, :, row, column] = (position - position.floor() - 0.5).float()
    return presence, places


def loss_of(output: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
    """Cross entropy of presence, and the squared error of places where there is an object."""
    presence, places = targets(objects)
    weight = 1 + 9 * presence  # one cell in 130 has an object
    entropy = functional.binary_cross_entropy_with_logits(output[:, 0], presence, weight)
    error = ((output[:, 1:] - places) ** 2).sum(1) * presence
    return entropy + error.sum() / presence.sum() / 10


def varied(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A batch at one of two sizes, with noise and contrast as samples may have them."""
    if torch.rand((), generator=generator) < 0.5:
        images = functional.avg_pool2d(images, 2)
    draws = torch.rand(2, len(images), 1, 1, 1, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    return images * (0.8 + 0.4 * draws[0]) + 0.15 * draws[1] * noise


def draw(motet: Path, num_scenes: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scenes of `motet scenes`: images (N, 3, size, size), objects (N, 5, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        images, objects = Path(folder) / "x.npy", Path(folder) / "o.npy"
        command = [motet, "scenes", "--out", images, "--objects", objects]
        command += ["--num-scenes", num_scenes, "--size", size, "--seed", seed]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        return torch.from_numpy(np.load(images)), torch.from_numpy(np.load(objects))


def train(images: torch.Tensor, objects: torch.Tensor, num_steps: int, seed: int) -> Detector:
    """Adam, batches of 32, a cosine learning rate from 4e-3; activations in bfloat16."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    detector = Detector().to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(detector.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps)
    for step in range(num_steps):
        rows = torch.randint(len(images), (32,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            output = detector(varied(images[rows], generator))
        loss = loss_of(output.float(), objects[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: loss {loss.item():.5f}", flush=True)
    return detector


def load(file: Path = WEIGHTS) -> Detector:
    """The trained detector."""
    detector = Detector()
    detector.load_state_dict(load_file(file))
    return detector.eval()


@torch.no_grad()
def detect(detector: Detector, images: np.ndarray | torch.Tensor) -> list[np.ndarray]:
    """Places (K, 2) of the objects that it finds in each of the images (N, 3, P, P)."""
    found = []
    for batch in torch.as_tensor(images, dtype=torch.float32).split(256):
        output = detector(batch)
        logit = output[:, 0]
        is_peak = (logit > 0) & (logit == functional.max_pool2d(logit, 3, 1, 1))
        for peaks, cells in zip(is_peak, output[:, 1:], strict=True):
            row, column = torch.nonzero(peaks, as_tuple=True)
            inside = cells[:, row, column].clamp(-1, 1)
            place = torch.stack([column + 0.5 + inside[0], row + 0.5 + inside[1]], 1)
            found.append((place * CELL - SIDE).double().numpy())
    return found


def stands_at(found: np.ndarray, places: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """Of places (n, 2), whether one of the objects (K, 2) is within the tolerance: (n) bool."""
    if len(found) == 0:
        return np.zeros(len(places), bool)
    distance = np.linalg.norm(found[None] - places[:, None], axis=-1)
    return distance.min(1) <= tolerance


def accuracy(detector: Detector, images: torch.Tensor, objects: torch.Tensor, seed: int) -> dict:
    """What it gets right, as shares of n.

    recall: of the objects, those found within TOLERANCE; precision: of what it finds, that within
    TOLERANCE of an object; false: of evenly drawn places farther than 2 TOLERANCE from all objects,
    those where it says that one stands.
    """
    rng = np.random.default_rng(seed)
    hits: dict[str, list] = {"recall": [], "precision": [], "false": []}
    errors = []
    for found, rows in zip(detect(detector, images), objects.numpy(), strict=True):
        truth = rows[np.isfinite(rows[:, 0]), :2]
        hits["recall"] += list(stands_at(found, truth))
        hits["precision"] += list(stands_at(truth, found))
        places = rng.uniform(-1, 1, (8, 2))
        empty = places[~stands_at(truth, places, 2 * TOLERANCE)]
        hits["false"] += list(stands_at(found, empty))
        if len(found):
            nearest = np.linalg.norm(found[None] - truth[:, None], axis=-1).min(1)
            errors += list(nearest[nearest <= TOLERANCE])
    shares = {name: share(np.array(values)) for name, values in hits.items()}
    return shares | {"rms error": float(np.sqrt(np.mean(np.square(errors))))}


def share(hits: np.ndarray) -> dict:
    """A share, and of how many."""
    return {"share": float(hits.mean()), "n": len(hits)}


def table(measured: dict) -> str:
    """Markdown: a row for each size and noise."""
    lines = [
        "| scenes | objects found | finds that are objects | empty places said to be taken "
        "| rms error of a place |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in measured.items():
        shares = [(row[key]["share"], row[key]["n"]) for key in ("recall", "precision", "false")]
        cells = [f"{value:.4f} ± {share_error(value, count):.4f}" for value, count in shares]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['rms error']:.3f} |")
    return "\n".join(lines) + "\n"


def measure(detector: Detector, motet: Path, num_scenes: int) -> dict:
    """Its accuracy on scenes that it was not trained on."""
    measured = {}
    for size in (32, 16):
        images, objects = draw(motet, num_scenes, size, seed=1000 + size)
        measured[f"{size} pixels"] = accuracy(detector, images, objects, seed=1)
        noise = 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
        noisy = accuracy(detector, images + noise, objects, seed=1)
        measured[f"{size} pixels, noise of .1"] = noisy
    return measured


def main() -> int:
    """Trains, writes, measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--scenes", type=int, default=4000, help="to train on")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--measure", action="store_true", help="measure the one that is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.measure:
        images, objects = draw(args.motet, args.scenes, 32, seed=args.seed)
        detector = train(images, objects, args.steps, args.seed)
        about = {"scenes": str(args.scenes), "steps": str(args.steps), "seed": str(args.seed)}
        tensors = {name: value.contiguous() for name, value in detector.state_dict().items()}
        save_file(tensors, WEIGHTS, about)
    measured = measure(load(), args.motet, num_scenes=1000)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    kept = {"tolerance": TOLERANCE, "scenes": 1000, "measured": measured}
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    RESULT.with_suffix(".md").write_text(table(measured))
    print(table(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
