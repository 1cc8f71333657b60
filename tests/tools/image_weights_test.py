"""What weights are worth in many dimensions, in small: laws of digits, and a network trained here.

Usage: image_weights_test.py MOTET [SEED]. What docs/many-dimensions.md finds of weights must be
found here too, in direction. Needs numpy, torch and safetensors; exit code 77 (skipped) without
them. SEED is of everything, to see by how much the claims hold.
"""

import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

try:
    import numpy  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

import measure_image_weights as weights  # noqa: E402
from motet_runs import Result  # noqa: E402
from small_networks import DIGITS, train  # noqa: E402

MOTET = pathlib.Path()
SEED = 1
NUM_CHAINS = 160


class Experiment(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.path = pathlib.Path(folder.name)
        cls.result = Result("weights", cls.path)
        cls.work = weights.Work(MOTET, cls.result, False, NUM_CHAINS)

    def found(self, case: weights.Mixture | weights.Guided, end: str) -> dict:
        """A run's row."""
        self.work.run(case, end, SEED)
        kind = "mixture" if isinstance(case, weights.Mixture) else "network"
        key = Result.key(case.name, weights.SCORES[kind], end, SEED)
        row = self.result.runs[key]
        self.assertEqual(row["exit_code"], 0, row["message"])
        families = weights.last_families(row)
        print(f"{key}: {row['errors']}, families {families:.1f}", flush=True)
        return row | {"families": families}

    def test_weights_carry_the_masses_of_modes_of_other_widths(self) -> None:
        case = weights.Mixture("product", (1.0, 1.0), 1.0, 8, "digits")
        with_weights, without = (self.found(case, end) for end in ("exact", "none"))
        errors = [row["errors"]["total variation"] for row in (with_weights, without)]
        self.assertLess(errors[0], errors[1] - 0.2)

    def test_exact_keeps_families_where_all_levels_lose_them(self) -> None:
        small = {"seed": SEED, "train.num_steps": 250, "network.attention_head_dim": 16}
        train(MOTET, DIGITS, self.path / "digits", small)
        case = weights.Guided("digits", 3, 1.0, 8, self.path)
        chosen, all_levels = (self.found(case, end) for end in ("exact", "all levels"))
        self.assertGreater(chosen["lowest_level"], 0)
        self.assertGreater(chosen["families"], 1.5 * all_levels["families"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    MOTET = pathlib.Path(sys.argv[1])
    SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    unittest.main(argv=sys.argv[:1], verbosity=2)
