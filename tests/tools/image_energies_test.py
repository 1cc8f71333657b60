"""A small version of docs/image-experiments.md, Scores and energies: digits of 8 x 8, few steps.

Usage: image_energies_test.py MOTET. Needs torch and safetensors; exit code 77 (skipped) without.
"""

import os
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
import measure_energies as energies  # noqa: E402

MOTET = pathlib.Path("motet")
SEED = 1
SMALL = (
    "network.block_out_channels=[8, 16]",
    "network.attention_head_dim=16",
    "train.num_steps=150",
    "train.warmup_steps=10",
    "train.held_out_every=150",
    "train.held_out_size=100",
)
PREDICTIONS = ("epsilon", "energy_norm")


class EnergiesTest(unittest.TestCase):
    """The same small network trained as a score and as an energy, one class sampled."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.data = energies.DATA["digits"]
        cls.networks = {
            prediction: energies.network(MOTET, cls.folder, cls.data, prediction, SEED, SMALL)
            for prediction in PREDICTIONS
        }

    def report(self, prediction: str, sampler: str) -> dict:
        """A run's report, of class 0."""
        text = energies.config(
            self.networks[prediction], self.data, prediction, energies.SAMPLERS[sampler], 0, SEED
        )
        outcome = image_runs.sample(MOTET, text)
        self.assertEqual(outcome.exit_code, 0, outcome.message)
        return outcome.report

    def test_both_learn_the_noise(self) -> None:
        """A network that says 0 has the loss 1 in every tenth of the levels."""
        for prediction in PREDICTIONS:
            losses = energies.held_out(self.folder, self.data, prediction, SEED)
            print(prediction, "held-out losses:", [round(loss, 3) for loss in losses])
            self.assertLess(losses[-1], 0.5, prediction)
            self.assertLess(losses[0], 0.98, prediction)

    def test_the_integral_of_an_energys_scores_accepts_as_its_difference_does(self) -> None:
        """They are the same number but for the integral's error, at equal steps."""
        accepted = {
            sampler: image_runs.mean_acceptance(self.report("energy_norm", sampler))
            for sampler in ("hmc-energy", "hmc-4-curve")
        }
        print("acceptance:", accepted)
        self.assertLess(abs(accepted["hmc-energy"] - accepted["hmc-4-curve"]), 0.1)
        self.assertGreater(accepted["hmc-energy"], 0.3)

    def test_an_energy_costs_more(self) -> None:
        """Its score is a gradient: a pass forth and one back."""
        energies.COST_ROUNDS, energies.COST_LENGTHS = 1, (10, 60)
        cost = energies.evaluation_cost(MOTET, self.networks)
        ratio = cost["energy_norm"] / cost["epsilon"]
        print("an evaluation of the energy over one of the score:", round(ratio, 2))
        self.assertGreater(ratio, 1.3)

    def test_scores_have_no_exact_ratio(self) -> None:
        """A network that predicts noise is refused, with what it lacks."""
        sampler = energies.SAMPLERS["hmc-energy"]
        text = energies.config(self.networks["epsilon"], self.data, "epsilon", sampler, 0, SEED)
        outcome = image_runs.sample(MOTET, text)
        self.assertEqual(outcome.exit_code, 2)
        self.assertFalse(sampler.fits("epsilon"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: image_energies_test.py MOTET")
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    MOTET = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
