"""A judge of images: a small network of its own that knows classes of clean images, and measures.

    tools/image_judge.py [--data fashion|digits] [--seed N] [--epochs N] [--out FILE.safetensors]

trains a judge on the train split and states its accuracy on the test split. No sampler sees it: a
guided sampler is pulled by a noise-aware classifier of other weights, and asked here what its
images show. models/judges/fashion.safetensors is the one of Fashion-MNIST; that of the digits is
trained when asked for, in seconds. Distances and diversities are in the 32 features before the
judge's last layer. Needs numpy, torch and safetensors.

Fashion-MNIST: Debian's dataset-fashion-mnist, 60,000 and 10,000 images of 28 x 28. Digits:
tests/golden/digits.safetensors, 1,797 of 8 x 8; the test split is every fourth. Images are float32
(N, 1, H, W) in [-1, 1].
"""

import argparse
import gzip
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from motet_runs import ROOT
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import nn

FASHION = Path("/usr/share/datasets/fashion-mnist")
FASHION_JUDGE = ROOT / "models" / "judges" / "fashion.safetensors"
CLASSES = {
    "fashion": (
        *("T-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "digits": tuple("0123456789"),
}
NUM_FEATURES = 32
NUM_FLOORS = 20  # draws of a floor


@dataclass(frozen=True)
class Split:
    """Images (N, 1, H, W), float32 in [-1, 1], and their classes (N)."""

    images: np.ndarray
    labels: np.ndarray

    def of_class(self, label: int) -> np.ndarray:
        """The images of one class."""
        return self.images[self.labels == label]


def as_images(bytes_: np.ndarray) -> np.ndarray:
    """Bytes as motet's networks see them: 0 is -1, 255 is 1."""
    return (bytes_.astype(np.float32) / 127.5 - 1)[:, None]


def read_idx(file: Path) -> np.ndarray:
    """The bytes of a gzipped idx file (MNIST's format), in its shape."""
    if not file.is_file():
        sys.exit(f"{file}: no such file; install the Debian package dataset-fashion-mnist")
    data = gzip.decompress(file.read_bytes())
    num_dims = data[3]
    shape = np.frombuffer(data, ">i4", num_dims, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * num_dims).reshape(shape)


def fashion(split: str) -> Split:
    """Fashion-MNIST: "train" or "test"."""
    part = "t10k" if split == "test" else split
    images = read_idx(FASHION / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(FASHION / f"{part}-labels-idx1-ubyte.gz")
    return Split(as_images(images), labels.astype(np.int64))


def digits(split: str) -> Split:
    """scikit-learn's digits: every fourth is of the "test" split, the others of "train"."""
    data = load_file(ROOT / "tests" / "golden" / "digits.safetensors")
    is_test = np.arange(len(data["labels"])) % 4 == 3
    chosen = is_test if split == "test" else ~is_test
    return Split(as_images(data["images"][chosen, 0]), data["labels"][chosen].astype(np.int64))


def data_of(name: str, split: str) -> Split:
    """A split of "fashion" or "digits"."""
    return {"fashion": fashion, "digits": digits}[name](split)


class Network(nn.Module):
    """Three convolutions, two halvings, 32 features, one number a class."""

    def __init__(self, side: int, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.third = nn.Conv2d(32, 48, 3, padding=1)
        self.features = nn.Linear(48 * (side // 4) ** 2, NUM_FEATURES)
        self.last = nn.Linear(NUM_FEATURES, num_classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits and the features they are made of."""
        x = torch.max_pool2d(torch.relu(self.first(x)), 2)
        x = torch.max_pool2d(torch.relu(self.second(x)), 2)
        x = torch.relu(self.third(x)).flatten(1)
        features = torch.relu(self.features(nn.functional.dropout(x, 0.25, self.training)))
        return self.last(features), features


class Judge:
    """What a trained network says of images (N, 1, H, W) in [-1, 1]."""

    def __init__(self, network: Network, notes: dict[str, str]) -> None:
        self.network = network.eval()
        self.notes = notes  # data, seed, epochs, accuracy on the test split

    def outputs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (N, K) and features (N, 32), float64."""
        parts = torch.from_numpy(np.ascontiguousarray(x, np.float32)).split(500)
        with torch.no_grad():
            found = [self.network(part) for part in parts]
        logits, features = (torch.cat(part).double() for part in zip(*found, strict=True))
        return logits.softmax(1).numpy(), features.numpy()

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """p(class | image), (N, K)."""
        return self.outputs(x)[0]

    def features(self, x: np.ndarray) -> np.ndarray:
        """What the last layer sees, (N, 32)."""
        return self.outputs(x)[1]

    def accuracy(self, split: Split) -> float:
        """Share of the images whose likeliest class is theirs."""
        return float((self.probabilities(split.images).argmax(1) == split.labels).mean())

    def save(self, file: Path) -> None:
        """Weights, and in the header what they were trained on and how well."""
        weights = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        save_file(weights, file, metadata=self.notes)


def train(data: str, seed: int, epochs: int) -> Judge:
    """A judge trained by AdamW at batch 128, the rate falling to 0 as a cosine.

    The same seed and number of threads give the same weights. One core: a minute or two an epoch
    of Fashion-MNIST, half a second of digits.
    """
    split = data_of(data, "train")
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    torch.manual_seed(seed)
    network = Network(images.shape[-1], len(CLASSES[data]))
    num_steps = epochs * (len(labels) // 128)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps)
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for rows in order[: len(labels) // 128 * 128].split(128):
            loss = nn.functional.cross_entropy(network(images[rows])[0], labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
    judge = Judge(network, {"data": data, "seed": str(seed), "epochs": str(epochs)})
    judge.notes["accuracy on the test split"] = f"{judge.accuracy(data_of(data, 'test')):.4f}"
    return judge


def load(file: Path) -> Judge:
    """A judge that save() wrote."""
    if not file.is_file():
        sys.exit(f"{file}: no such file; tools/image_judge.py --out {file} trains it")
    with safe_open(file, "pt") as weights:
        state = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
        notes = dict(weights.metadata())
    side = 4 * round((state["features.weight"].shape[1] / 48) ** 0.5)
    network = Network(side, len(state["last.bias"]))
    network.load_state_dict(state)
    return Judge(network, notes)


def judge_of(data: str) -> Judge:
    """The judge of "fashion", from models/, or of "digits", trained now."""
    return load(FASHION_JUDGE) if data == "fashion" else train("digits", 1, 40)


def square_root(matrix: np.ndarray) -> np.ndarray:
    """Of a symmetric matrix without negative eigenvalues, those within rounding of 0 taken as 0."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of the Gaussians with the means and covariances of two sets of rows.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2), as frechet_distance() of
    include/motet/metrics_features.hpp. Biased upwards for few rows: see frechet_floor().
    """
    first, second = (np.cov(rows, rowvar=False) for rows in (a, b))
    root = square_root(first)
    cross = np.linalg.eigvalsh(root @ second @ root)
    trace = np.trace(first) + np.trace(second) - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + trace)


def frechet_floor(features: np.ndarray, num_rows: int, seed: int = 0) -> dict[str, float]:
    """frechet() of num_rows drawn from the data against the others: mean and sd over draws.

    What a perfect sampler would score with as many samples. Exits where fewer than 2 are left.
    """
    if not 2 <= num_rows <= len(features) - 2:
        sys.exit(f"frechet_floor: num_rows = {num_rows}, must be in [2, {len(features) - 2}]")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(NUM_FLOORS):
        order = rng.permutation(len(features))
        found.append(frechet(features[order[:num_rows]], features[order[num_rows:]]))
    return {"mean": float(np.mean(found)), "sd": float(np.std(found, ddof=1))}


def mean_distance(features: np.ndarray) -> float:
    """Mean Euclidean distance over pairs of different rows; 0 for rows that are all the same."""
    total = sum(np.linalg.norm(features - row, axis=1).sum() for row in features)
    return float(total) / (len(features) * (len(features) - 1))


def diversity(features: np.ndarray, data: np.ndarray) -> float:
    """mean_distance() of samples over that of the data's features of the same class; 1: as much."""
    return mean_distance(features) / mean_distance(data)


@dataclass(frozen=True)
class ClassMeasures:
    """Measures of samples asked to show one class, against its images in the test split."""

    judge: Judge
    label: int
    data: np.ndarray  # features of the test split's images of the class

    @staticmethod
    def of(judge: Judge, test: Split, label: int) -> "ClassMeasures":
        """With the data's features made once."""
        return ClassMeasures(judge, label, judge.features(test.of_class(label)))

    def errors(self, x: np.ndarray) -> dict[str, float]:
        """All measures; x (N, 1, H, W), N > 1."""
        probabilities, features = self.judge.outputs(x)
        return {
            "accuracy": float((probabilities.argmax(1) == self.label).mean()),
            "share with p > .5": float((probabilities[:, self.label] > 0.5).mean()),
            "Frechet distance": frechet(features, self.data),
            "diversity": diversity(features, self.data),
        }

    def floors(self, images: np.ndarray, num_rows: int) -> dict[str, dict]:
        """What images of the class in the test split score: mean, and sd where there is one.

        Shares are those of all; the distance is that of num_rows of them, half of them at most,
        against the others.
        """
        found = self.errors(images)
        rows = {measure: {"mean": value, "sd": None} for measure, value in found.items()}
        return rows | {
            "Frechet distance": frechet_floor(self.data, min(num_rows, len(images) // 2))
        }


def main() -> int:
    """Trains a judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=CLASSES, default="fashion")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    judge = train(args.data, args.seed, args.epochs)
    test = data_of(args.data, "test")
    hits = judge.probabilities(test.images).argmax(1) == test.labels
    for label, name in enumerate(CLASSES[args.data]):
        print(f"{name}: {hits[test.labels == label].mean():.3f}")
    print(f"all: {judge.notes['accuracy on the test split']}")
    if args.out:
        judge.save(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
