"""Writes tests/golden/programs: a traced program of tools/export, and files that are none.

Needs: pip install safetensors torch. Run from the repository root.
"""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "export"))
from module import cosine_alpha_bars
from program import Input, Program, write_program

FOLDER = pathlib.Path("tests/golden/programs")


class Tiny(torch.nn.Module):
    """A convolution and a class."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.label = torch.nn.Embedding(5, 4)
        self.last = torch.nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """(B, 1, 4, 4) of x (B, 1, 4, 4), time (B) and label (B)."""
        shift = self.label(label) * torch.cos(time)[:, None]
        return self.last(torch.nn.functional.silu(self.first(x) + shift[:, :, None, None]))


def main() -> None:
    """Writes all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    module = Tiny()
    torch.save(module.state_dict(), FOLDER / "pickle.ts")
    example = (torch.zeros(2, 1, 4, 4), torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    torch.export.save(torch.export.export(module, example), FOLDER / "exported.pt2")
    program = Program(
        parameterisation="energy_norm",
        event_shape=(1, 4, 4),
        alpha_bars=cosine_alpha_bars(10),
        times=range(10),
        data_units="intensity",
        data_range=(-1.0, 1.0),
        inputs=[Input("class", (), "int64", 5)],
    )
    write_program(module, program, FOLDER / "traced.ts")
    for end in ("", ".motet.json", ".pairs.safetensors"):
        (FOLDER / f"traced.ts{end}").rename(FOLDER / f"traced.pt{end}")


if __name__ == "__main__":
    main()
