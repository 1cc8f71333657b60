"""The measures, tables and pictures of the image experiments, against numbers known otherwise.

Needs numpy, torch and safetensors; exit code 77 (skipped) without them.
"""

import json
import pathlib
import struct
import sys
import tempfile
import unittest
import zlib
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

try:
    import numpy as np
    import safetensors.torch  # noqa: F401
    import torch
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

import image_judge  # noqa: E402
import image_runs  # noqa: E402
import image_samplers  # noqa: E402

GOLDEN = json.loads((ROOT / "tests" / "golden" / "features.json").read_text())


def points(rows: int, columns: int, seed: float) -> np.ndarray:
    """The cloud of tools/golden_features.py."""
    i, j = np.arange(rows)[:, None], np.arange(columns)[None, :]
    return np.sin(1.7 * i + 0.3 * j * j + seed) + 0.2 * j * np.cos(0.9 * i * (j + 1) + 2 * seed)


class Measures(unittest.TestCase):
    def test_frechet_is_that_of_scipy(self) -> None:
        for case in GOLDEN["frechet"]:
            rows_a, rows_b, columns = case["shape"]
            a, b = points(rows_a, columns, 0.1), 1.2 * points(rows_b, columns, 0.8) + 0.1
            self.assertAlmostEqual(image_judge.frechet(a, b), case["frechet"], delta=1e-9)

    def test_mean_distance_is_that_of_scipy(self) -> None:
        rows, labels = points(31, 4, 0.4), np.arange(31) % 3
        for label, expected in enumerate(GOLDEN["diversity"]):
            found = image_judge.mean_distance(rows[labels == label])
            self.assertAlmostEqual(found, expected, delta=1e-9)

    def test_rows_that_are_all_the_same_have_no_diversity(self) -> None:
        self.assertEqual(image_judge.diversity(np.full((5, 3), 0.3), points(9, 3, 0.2)), 0)

    def test_floor_falls_with_the_number_of_rows(self) -> None:
        data = np.random.default_rng(1).normal(size=(400, 6))
        few, many = (image_judge.frechet_floor(data, rows)["mean"] for rows in (20, 150))
        self.assertGreater(few, 2 * many)

    def test_share_error_is_binomial_and_never_zero(self) -> None:
        self.assertAlmostEqual(image_runs.share_error(0.5, 10000), 0.005, delta=1e-5)
        self.assertGreater(image_runs.share_error(1.0, 48), 0.01)


class TheJudge(unittest.TestCase):
    def test_it_learns_digits_and_is_the_same_from_its_file(self) -> None:
        judge = image_judge.train("digits", seed=1, epochs=12)
        test = image_judge.digits("test")
        self.assertGreater(judge.accuracy(test), 0.85)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "judge.safetensors"
            judge.save(file)
            again = image_judge.load(file)
        self.assertEqual(again.notes, judge.notes)
        x = test.images[:20]
        np.testing.assert_array_equal(again.probabilities(x), judge.probabilities(x))
        np.testing.assert_allclose(judge.probabilities(x).sum(1), 1, atol=1e-12)
        self.assertEqual(judge.features(x).shape, (20, image_judge.NUM_FEATURES))

    def test_a_missing_file_names_what_makes_it(self) -> None:
        with self.assertRaises(SystemExit) as stopped:
            image_judge.load(pathlib.Path("nowhere.safetensors"))
        said = "nowhere.safetensors: no such file; "
        self.assertEqual(
            stopped.exception.code,
            said + "tools/image_judge.py --out nowhere.safetensors trains it",
        )

    def test_splits_share_no_image(self) -> None:
        parts = [image_judge.digits(name).images for name in ("train", "test")]
        self.assertEqual([len(part) for part in parts], [1348, 449])


def decode(data: bytes) -> np.ndarray:
    """The bytes of a PNG of image_runs.png(), whose rows have filter 0."""
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    assert depth == 8
    start = data.index(b"IDAT") + 4
    size = struct.unpack(">I", data[start - 8 : start - 4])[0]
    rows = np.frombuffer(zlib.decompress(data[start : start + size]), np.uint8)
    channels = {0: 1, 2: 3}[colour]
    return rows.reshape(height, -1)[:, 1:].reshape(height, width, channels)


class Pictures(unittest.TestCase):
    def test_png_keeps_the_bytes(self) -> None:
        for channels in (1, 3):
            image = np.arange(5 * 4 * channels, dtype=np.uint8).reshape(5, 4, channels)
            np.testing.assert_array_equal(decode(image_runs.png(image)), image)

    def test_grid_lays_images_out_row_after_row(self) -> None:
        x = np.array([-1.0, 0.0, 1.0])[:, None, None, None] * np.ones((3, 1, 2, 2))
        found = image_runs.grid(x, num_columns=2)[..., 0]
        self.assertEqual(found.shape, (5, 5))
        self.assertEqual((found[0, 0], found[0, 3], found[3, 0]), (0, 128, 255))

    def test_svgs_are_xml(self) -> None:
        x = np.zeros((4, 1, 3, 3))
        shown = image_runs.sample_table("a & b", ["one"], [("row", [x]), ("none", [None])], 2)
        panel = image_runs.line_plot(
            "p", ("x", "y"), {"a < b": ([0, 5], [0.1, 0.9]), "c": ([1], [1])}
        )
        for text in (shown, image_runs.plots("plots", [panel, panel, panel], 2)):
            ElementTree.fromstring(text)


class Steps(unittest.TestCase):
    def test_a_power_law_is_found_again(self) -> None:
        betas = np.linspace(1e-4, 0.02, 7)
        law = image_samplers.power_law(betas, 4.03 * betas**1.34)
        self.assertAlmostEqual(law["factor"], 4.03, delta=1e-9)
        self.assertAlmostEqual(law["power"], 1.34, delta=1e-9)
        self.assertLess(law["rms of log"], 1e-9)

    def test_levels_cost_what_the_budget_pays(self) -> None:
        budget = image_samplers.Budget(evaluations=100)
        counts = {row.name: len(row.levels(budget)) for row in image_samplers.ROWS[:-1]}
        self.assertEqual(counts["reverse"], 100)
        self.assertEqual(counts["la-3-line"], 20)
        self.assertEqual(counts["hmc-w"], 25)

    def test_step_sizes_go_between_the_pilots(self) -> None:
        budget = image_samplers.Budget(evaluations=12, num_levels=101)
        row = image_samplers.hmc("hmc", "hmc-4-curve")  # levels 100, 50, 0
        pilot = {"levels": [100, 0], "step_sizes": [1.0, 0.01]}
        self.assertEqual(image_samplers.step_sizes(budget, row, pilot), "[1, 0.1, 0.01]")


if __name__ == "__main__":
    torch.set_num_threads(1)
    unittest.main(argv=sys.argv[:1])
