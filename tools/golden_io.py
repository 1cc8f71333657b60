"""Writes the files of tests/golden/io: what PyPI safetensors and numpy make.

Needs: pip install numpy safetensors torch. Run from the repository root. The numbers are counted up
from 0, so that the test knows them; the refused files are those that numpy users meet most often.
"""

import pathlib

import numpy
import safetensors.torch
import torch

FOLDER = pathlib.Path("tests/golden/io")


def counting(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    num_elements = torch.Size(shape).numel()
    return torch.arange(num_elements, dtype=torch.float64).reshape(shape).to(dtype)


def write_safetensors() -> None:
    tensors = {
        "f64": counting((2,), torch.float64),
        "f32": counting((2, 3), torch.float32),
        "f16": counting((3,), torch.float16),
        "bf16": counting((5,), torch.bfloat16),
        "i64": counting((1, 2), torch.int64),
        "i32": counting((3,), torch.int32),
        "i16": counting((3,), torch.int16),
        "i8": counting((3,), torch.int8),
        "u8": counting((5,), torch.uint8),
        "bool": torch.tensor([False, True, True]),
        "scalar": torch.tensor(0.0),
        "none": torch.zeros((0, 2)),
    }
    # One entry only: the order of several is random there.
    safetensors.torch.save_file(tensors, FOLDER / "pypi.safetensors", metadata={"made by": "PyPI"})


def write_npy() -> None:
    array = numpy.arange(6.0).reshape(3, 2)
    numpy.save(FOLDER / "float32.npy", array.astype("<f4"))
    numpy.save(FOLDER / "float64.npy", array.ravel())
    for major in (2, 3):
        with open(FOLDER / f"version{major}.npy", "wb") as file:
            numpy.lib.format.write_array(file, array, version=(major, 0))
    numpy.save(FOLDER / "fortran.npy", numpy.asfortranarray(array))
    numpy.save(FOLDER / "big_endian.npy", array.astype(">f8"))
    numpy.save(FOLDER / "int64.npy", array.astype("<i8"))
    numpy.save(FOLDER / "structured.npy", numpy.zeros(2, dtype=[("x", "<f4")]))
    numpy.save(FOLDER / "object.npy", numpy.array([None, 1.5]), allow_pickle=True)
    numpy.save(FOLDER / "scalar.npy", numpy.float32(1.5))
    numpy.savez(FOLDER / "archive.npz", array=array)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_safetensors()
    write_npy()
