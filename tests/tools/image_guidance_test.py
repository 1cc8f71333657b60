"""The experiments of guidance and of compositions in small: digits, 8 x 8, networks trained here.

Usage: image_guidance_test.py MOTET [SEED]. What they find on Fashion-MNIST must be found on digits
too, in direction. Seen with seed 1: accuracy .21, .88, .97 at scales 0, 1, 5 and diversity 1.13 and
.87 at the last two; without a classifier p(8) .55 and .91, diversity 1.05 and .45 at scales 0 and
3; shares of mixtures .48 of .5 and .75 of .8, a standard deviation being .05 and .04. Needs numpy,
torch and safetensors; exit code 77 (skipped) without them. SEED is
of everything.
"""

import pathlib
import sys
import tempfile
import unittest

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
import measure_image_compositions as compositions  # noqa: E402
import measure_image_guidance as guidance  # noqa: E402
from image_samplers import ROWS, Bench, Budget  # noqa: E402
from motet_runs import Result  # noqa: E402
from small_networks import train  # noqa: E402

SEED = 1
DIGITS = ROOT / "tests" / "golden" / "digits.safetensors"
DATA = (
    f'[data]\nimages = "{DIGITS}"\nlabels = "{DIGITS}"\n'
    '[schedule]\ntype = "linear"\nnum_levels = 1000\n'
)
TRAIN = (
    '[train]\nbatch_size = 64\nrate_schedule = "cosine"\nwarmup_steps = 20\nema_decay = 0.99\n'
    "ema_warmup = true\ngradient_clip = 1.0\nheld_out_every = 100000\nheld_out_size = 100\n"
)
UNET = (
    DATA
    + '[network]\narchitecture = "unet"\nprediction = "epsilon"\nblock_out_channels = [16, 32]\n'
    'down_block_types = ["DownBlock2D", "DownBlock2D"]\n'
    'up_block_types = ["UpBlock2D", "UpBlock2D"]\n'
    "layers_per_block = 1\nnorm_num_groups = 4\nnum_class_embeds = 11\n"
    + TRAIN
    + "num_steps = 400\nlearning_rate = 0.002\ndrop_probability = 0.2\nmixed_precision = true\n"
)
CLASSIFIER = (
    DATA + '[network]\narchitecture = "encoder_unet"\nnum_channels = 32\nnum_res_blocks = 1\n'
    'channel_mult = [1.0, 1.0]\nattention_resolutions = [64]\npool = "spatial"\n'
    + TRAIN
    + "num_steps = 400\nlearning_rate = 0.003\n"
)
THREE, EIGHT, ONE, ZERO = 3, 8, 1, 0


def trained(motet: str, folder: pathlib.Path, name: str, text: str) -> pathlib.Path:
    """A network of a training config."""
    (folder / f"{name}.toml").write_text(f"seed = {SEED}\n{text}")
    return train(motet, folder / f"{name}.toml", folder / name, {})


class Experiments(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        path = pathlib.Path(folder.name)
        network = trained(MOTET, path, "network", UNET)
        networks = guidance.Networks(network, trained(MOTET, path, "classifier", CLASSIFIER))
        judge = image_judge.train("digits", SEED, epochs=15)
        budget = Budget(evaluations=60, num_chains=96, num_pilot=16)
        betas = guidance.betas(network, budget.num_levels)

        def bench(name: str) -> Bench:
            return Bench(pathlib.Path(MOTET), budget, Result(name, path / "results"), betas)

        cls.guided = guidance.Work(bench("guidance"), networks, judge)
        cls.composed = compositions.Work(bench("compositions"), network, judge)

    def errors(self, case: compositions.Case, sampler: str) -> dict:
        """What the judge says of a composition."""
        row = next(row for row in ROWS if row.name == sampler)
        self.composed.run(row, case, SEED)
        name = compositions.title(case, "digits")
        key = Result.key(name, "networks", sampler, SEED)
        return self.measured(self.composed.bench.result.runs[key], f"{name}, {sampler}")

    def measured(self, run: dict, name: str) -> dict:
        """Of a run that ended well."""
        self.assertEqual(run["exit_code"], 0, run["message"])
        numbers = {measure: round(value, 3) for measure, value in run["errors"].items()}
        print(f"{name}: {numbers}", flush=True)
        return run["errors"]

    def test_a_classifier_guides_and_more_of_it_guides_more(self) -> None:
        row = next(row for row in ROWS if row.name == "hmc-w")
        found = []
        for scale in (0.0, 1.0, 5.0):
            self.guided.run(row, THREE, scale, SEED)
            case = guidance.case_name("3", scale)
            key = Result.key(case, "networks", "hmc-w", SEED)
            found.append(self.measured(self.guided.bench.result.runs[key], case))
        none, once, sharp = found
        self.assertGreater(once["accuracy"], none["accuracy"] + 0.2)
        self.assertGreaterEqual(sharp["accuracy"], once["accuracy"])
        self.assertLess(sharp["diversity"], once["diversity"])

    def test_guidance_without_a_classifier_sharpens_and_narrows(self) -> None:
        plain, sharp = (
            self.errors(compositions.guided(EIGHT, ONE, scale), "hmc-4-curve")
            for scale in (0.0, 3.0)
        )
        self.assertGreater(sharp["mean p(A)"], plain["mean p(A)"])
        self.assertLess(sharp["diversity"], plain["diversity"])

    def test_a_mixture_keeps_its_weights(self) -> None:
        for target, share in (("0.5 {a} + 0.5 {b}", 0.5), ("0.8 {a} + 0.2 {b}", 0.8)):
            case = compositions.Case("A or B", target, ZERO, ONE)
            found = self.errors(case, "reverse")
            sd = np.sqrt(share * (1 - share) / self.composed.bench.budget.num_chains)
            self.assertLess(abs(found["share of A"] - share), 4 * sd)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("image_guidance_test: the binary motet is missing; give its path")
    MOTET = sys.argv[1]
    SEED = int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    torch.set_num_threads(1)
    unittest.main(argv=sys.argv[:1])
