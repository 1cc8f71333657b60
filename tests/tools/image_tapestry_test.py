"""A small version of docs/image-experiments.md, Tapestry: digits of 8 x 8, a network of a minute.

Usage: image_tapestry_test.py MOTET. Needs torch and safetensors; exit code 77 (skipped) without.
"""

import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

try:
    import safetensors  # noqa: F401
    import torch
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

import image_runs  # noqa: E402
import measure_image_tapestry as tapestry  # noqa: E402
from small_networks import DIGITS, train  # noqa: E402

MOTET = pathlib.Path("motet")
SEED = 1
SMALL = {"seed": SEED, "train.num_steps": 400, "train.held_out_every": 1000000}


class TapestryTest(unittest.TestCase):
    """One trained network, tapestries by each rule."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        folder = pathlib.Path(cls.folder.name)
        image_runs.KEPT, tapestry.FOLDER = folder / "kept", folder / "results"
        tapestry.EVALUATIONS = 40
        train(MOTET, DIGITS, folder / "digits", SMALL)
        cls.work = tapestry.Work(MOTET, folder, "digits")
        cls.work.floor()
        for case, sampler in (
            ("apart", "reverse"),
            ("cover", "reverse"),
            ("cover", "hmc-4-curve"),
            ("product", "reverse"),
        ):
            cls.work.run(tapestry.CASES[case], sampler, SEED)

    def of(self, case: str, sampler: str) -> dict:
        """What was kept of a run."""
        return self.work.result.of("digits", case, sampler)[0]

    def test_windows_show_their_classes(self) -> None:
        """Chance is 1 in 10; each window is asked for a class of its own."""
        for case, sampler in (
            ("apart", "reverse"),
            ("cover", "reverse"),
            ("cover", "hmc-4-curve"),
            ("product", "reverse"),
        ):
            self.assertGreater(self.of(case, sampler)["errors"]["accuracy"], 0.6, (case, sampler))

    def test_windows_that_overlap_agree(self) -> None:
        """Edges show about as much as in images of the data at the same places."""
        seams = self.work.result.floors["digits"]["seam score"]
        excess = {
            case: self.of(case, "reverse")["errors"]["seam score"] / seams[case]
            for case in ("apart", "cover")
        }
        print("seam score over that of the data:", excess)
        self.assertLess(excess["cover"], 1.4)
        self.assertLess(abs(excess["apart"] - 1), 0.2)

    def test_the_seam_score_is_that_of_the_run(self) -> None:
        """By numpy here, by motet in the run's JSON: of different code, one number."""
        for case in ("apart", "cover", "product"):
            kept = self.of(case, "reverse")
            self.assertAlmostEqual(
                kept["seams"]["score"], kept["errors"]["seam score"], delta=1e-5, msg=case
            )

    def test_corrected_steps_are_accepted(self) -> None:
        """Neither none nor all: the step size is one that a canvas bears."""
        accepted = image_runs.mean_acceptance(self.of("cover", "hmc-4-curve"))
        self.assertGreater(accepted, 0.3)
        self.assertLess(accepted, 0.999)

    def test_every_window_is_paid_for(self) -> None:
        """A chain of a canvas makes as many evaluations as one of a window, by any sampler.

        The first level of a chain with trajectories comes without a reverse step before it.
        """
        for sampler, least in (("reverse", 0), ("hmc-4-curve", 4)):
            found = self.of("cover", sampler)["evaluations_per_chain"]
            self.assertLessEqual(found, tapestry.EVALUATIONS, sampler)
            self.assertGreaterEqual(found, tapestry.EVALUATIONS - least, sampler)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: image_tapestry_test.py MOTET")
    torch.set_num_threads(1)
    MOTET = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
