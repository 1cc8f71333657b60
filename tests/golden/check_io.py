"""Reads with PyPI safetensors and numpy what motet's test binary writes.

Usage: check_io.py MOTET_TESTS. Exit code 77 (skipped) when numpy or safetensors are not installed.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy
    import safetensors
    import safetensors.numpy
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


def check(claim: str, holds: bool) -> None:
    if not holds:
        sys.exit(f"check_io: not so: {claim}")


def check_safetensors(path: pathlib.Path) -> None:
    with safetensors.safe_open(path, framework="numpy") as file:
        check("metadata", file.metadata() == {"key": "caf\u00e9", "other": '"\n'})
    tensors = safetensors.numpy.load_file(path)
    expected = {
        "a": numpy.arange(6, dtype="<f4").reshape(2, 3),
        "b": numpy.arange(3, dtype="<f8"),
        "c": numpy.arange(5, dtype="<i8"),
        "d": numpy.array([False, True]),
        "e": numpy.zeros((0, 2), dtype="<f4"),
        "f": numpy.arange(3, dtype="u1"),
    }
    check("names of the tensors", sorted(tensors) == sorted(expected))
    for name, array in expected.items():
        check(f"dtype of {name}", tensors[name].dtype == array.dtype)
        check(f"values of {name}", numpy.array_equal(tensors[name], array))


def check_npy(path: pathlib.Path, expected: numpy.ndarray) -> None:
    array = numpy.load(path, allow_pickle=False)
    check(f"dtype of {path.name}", array.dtype == expected.dtype)
    check(f"values of {path.name}", numpy.array_equal(array, expected))


def main(binary: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [binary, "--gtest_brief=1", "--gtest_filter=IoGoldenTest.WritesFilesForOtherReaders"],
            env={**os.environ, "MOTET_CHECK_IO": folder},
            check=True,
        )
        path = pathlib.Path(folder)
        check_safetensors(path / "tensors.safetensors")
        check_npy(path / "float64.npy", numpy.arange(24, dtype="<f8").reshape(2, 3, 4))
        check_npy(path / "rows.npy", numpy.arange(10, dtype="<f4").reshape(5, 2))


if __name__ == "__main__":
    main(sys.argv[1])
