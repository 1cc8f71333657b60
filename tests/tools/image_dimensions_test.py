"""tools/measure_many_dimensions.py in small: networks of digits, 8 x 8, and a mixture of digits.

Usage: image_dimensions_test.py MOTET MEASURE_MANY_DIMENSIONS. Needs numpy; exit code 77 (skipped)
without it. Trains a score network and an energy network for a few hundred steps and checks
directions: a score network's log ratios depend on the path and an energy network's do not, the
curve is better than a line of the same cost, acceptance falls with the step and by theory.
"""

import itertools
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

try:
    import many_dimensions_tables as tables
    import measure_many_dimensions as study
    from small_networks import DIGITS, train
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

MOTET, PROGRAM = "", pathlib.Path()
SIGMA = 0.5
SMALL = {
    "network.block_out_channels": "[8, 16]",
    "network.attention_head_dim": 8,
    "train.batch_size": 32,
    "train.held_out_every": 1000,
    "train.mixed_precision": "false",
}


def measured(case: str, networks: pathlib.Path) -> dict:
    """What the experiment finds of a case at one level, with few chains."""
    found = next(one for one in study.CASES if one.name == case)
    spec = found.spec(networks) | {"sigmas": [SIGMA], "num_chains": 48, "num_tuning": 12}
    return study.measure(PROGRAM, spec | {"bfloat16": False})


class Dimensions(unittest.TestCase):
    """Directions of the effects, at d = 64."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        networks = pathlib.Path(cls.folder.name)
        energy = {"train.num_steps": 40, "network.prediction": "energy_norm"}
        train(MOTET, DIGITS, networks / "digits", SMALL | {"train.num_steps": 300})
        train(MOTET, DIGITS, networks / "digits-energy", SMALL | energy)
        names = ("digits, network", "digits, energy network", "digits, exact")
        cls.runs = {name: measured(name, networks) for name in names}

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()

    def level(self, name: str) -> dict:
        """The one level of a case."""
        return self.runs[name]["levels"][0]

    def dependence(self, name: str) -> float:
        """The sd of line minus trajectory at the sampler's step, nats."""
        return tables.sampler_step(self.level(name))["path_dependence"]["sd"]

    def test_log_ratios_of_a_score_network_depend_on_the_path(self) -> None:
        self.assertGreater(self.dependence("digits, network"), 1e-3)
        self.assertGreater(self.level("digits, network")["paths"]["curl"][0], 1e-2)

    def test_log_ratios_of_an_energy_network_do_not(self) -> None:
        energy = self.dependence("digits, energy network")
        self.assertLess(energy, 0.1 * self.dependence("digits, network"))
        self.assertLess(self.level("digits, energy network")["paths"]["curl"][0], 2e-3)

    def test_the_curve_is_better_than_a_line_of_the_same_cost(self) -> None:
        rules = self.level("digits, exact")
        for share in ("0.5", "0.9", "0.99"):
            curve = tables.rule_of(rules, "polynomial on the curve", 0)["error"]["quantiles"]
            line = tables.rule_of(rules, "trapezoid on the line", 2)["error"]["quantiles"]
            self.assertLess(curve[share], line[share], share)
        ways = tables.cost_rows(rules)
        curve = ways["4 leapfrogs, curve, polynomial"]["decision_error"][0]
        for name in ("4 leapfrogs, line, trapezoid 2", "3 leapfrogs, line, trapezoid 3"):
            self.assertLess(curve, ways[name]["decision_error"][0], name)

    def test_acceptance_falls_with_the_step_as_the_theory_has_it(self) -> None:
        for name in self.runs:
            for kernel in ("hmc", "mala"):
                rows = self.level(name)["steps"][kernel][:5]
                chances = [row["acceptance"] for row in rows]
                for before, after in itertools.pairwise(chances):
                    self.assertLess(after[0] - before[0], 3 * (after[1] + before[1]), name)
                self.assertLess(chances[-1][0], chances[0][0] - 0.1, (name, kernel))
        for row in self.level("digits, exact")["steps"]["mala"]:
            expected = tables.acceptance_of(row["log_accept"]["sd"])
            self.assertLess(abs(row["acceptance"][0] - expected), 0.15, row)


class Theory(unittest.TestCase):
    """What the tables are held against."""

    def test_one_leapfrog_of_a_gaussian_is_the_optimal_scaling_of_mala(self) -> None:
        step = 0.1
        self.assertAlmostEqual(
            tables.gaussian_sd(10000, step, 1) / (100 * step**3 / 4), 1.0, delta=0.01
        )

    def test_steps_at_a_fixed_acceptance_fall_by_the_powers_of_the_theory(self) -> None:
        for kernel, (_, power) in tables.KERNELS.items():
            if kernel != "hmc, fixed length":  # whose steps are few: pi / 2 over whole numbers
                steps = [tables.gaussian_crossing(kernel, dim) for dim in (10**4, 10**5, 10**6)]
                found = tables.exponent(list(zip((10**4, 10**5, 10**6), steps, strict=True)))
                self.assertAlmostEqual(found[0], power, delta=0.005)

    def test_the_crossing_is_interpolated(self) -> None:
        self.assertAlmostEqual(tables.crossing([1.0, 2.0, 4.0], [1.0, 0.9, 0.7]), 8**0.5)
        self.assertIsNone(tables.crossing([1.0, 2.0], [0.7, 0.6]))


if __name__ == "__main__":
    MOTET, PROGRAM = sys.argv[1], pathlib.Path(sys.argv[2])
    unittest.main(argv=sys.argv[:1])
