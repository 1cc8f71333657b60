"""Writes tests/golden/networks.json: the residual MLP, energies, loss and gradients by torch.nn.

Needs: pip install torch. Run from the repository root. An implementation of its own, of torch.nn
modules and their state dict, float64 throughout; the weights are random and rounded to float32, so
that float32 code can be given the very same numbers.
"""

import json
import pathlib

import numpy as np
import torch
from torch import nn

CONFIG = {
    "event_dim": 2,
    "width": 4,
    "num_blocks": 2,
    "widen": 2,
    "embedding_dim": 3,
    "num_levels": 3,
}
NUM_ROWS = 5
SIGMAS = [0.05, 0.4, 0.9]


class Block(nn.Module):
    def __init__(self, width: int, inner: int, embedding_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, inner)
        self.level = nn.Linear(embedding_dim, inner)
        self.middle = nn.Linear(inner, inner)
        self.output = nn.Linear(inner, width)
        self.activation = nn.SiLU()

    def forward(self, h: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        y = self.hidden(self.activation(self.norm(h))) + self.level(embedded)
        return h + self.output(self.activation(self.middle(self.activation(y))))


class ResidualMlp(nn.Module):
    def __init__(
        self,
        event_dim: int,
        width: int,
        num_blocks: int,
        widen: int,
        embedding_dim: int,
        num_levels: int,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_levels, embedding_dim)
        self.input = nn.Linear(event_dim, width)
        self.blocks = nn.ModuleList(
            Block(width, widen * width, embedding_dim) for _ in range(num_blocks)
        )
        self.output = nn.Linear(width, event_dim)

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        embedded = self.embedding(level)
        h = self.input(x)
        for block in self.blocks:
            h = block(h, embedded)
        return self.output(h)


def energy(network: ResidualMlp, kind: str, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    f = network(x, level)
    return ((f - x if kind == "energy_residual" else f) ** 2).sum(dim=1)


def predicted_noise(
    network: ResidualMlp, kind: str, x: torch.Tensor, level: torch.Tensor
) -> torch.Tensor:
    if kind == "score":
        return network(x, level)
    leaf = x.clone().requires_grad_()
    total = energy(network, kind, leaf, level).sum()
    return torch.autograd.grad(total, leaf, create_graph=True)[0]


def case(network: ResidualMlp, kind: str, x, level, noise, sigma) -> dict:
    network.zero_grad()
    prediction = predicted_noise(network, kind, x, level)
    loss = nn.functional.mse_loss(prediction, noise)
    loss.backward()
    result = {
        "parameterisation": kind,
        "noise": prediction.tolist(),
        "score": (-prediction / sigma[:, None]).tolist(),
        "loss": loss.item(),
        "gradients": {name: p.grad.flatten().tolist() for name, p in network.named_parameters()},
    }
    if kind != "score":
        result["energy"] = energy(network, kind, x, level).tolist()
    return result


def main() -> None:
    torch.set_default_dtype(torch.float64)
    random = np.random.default_rng(20240607)

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal(shape).astype(np.float32)).double()

    network = ResidualMlp(**CONFIG)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = np.float32(parameter.shape[-1] ** -0.5)
            parameter.copy_((normal(*parameter.shape) * float(scale)).float().double())
    x = normal(NUM_ROWS, CONFIG["event_dim"])
    noise = normal(NUM_ROWS, CONFIG["event_dim"])
    level = torch.arange(NUM_ROWS) % CONFIG["num_levels"]
    sigma = torch.tensor(SIGMAS)[level]
    golden = {
        "source": f"torch.nn {torch.__version__.split('+')[0]}, float64",
        "config": CONFIG,
        "sigmas": SIGMAS,
        "weights": {name: p.flatten().tolist() for name, p in network.named_parameters()},
        "x": x.tolist(),
        "added_noise": noise.tolist(),
        "level": level.tolist(),
        "f": network(x, level).tolist(),
        "cases": [
            case(network, kind, x, level, noise, sigma)
            for kind in ("score", "energy_norm", "energy_residual")
        ],
    }
    path = pathlib.Path("tests/golden/networks.json")
    path.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
