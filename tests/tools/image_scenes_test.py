"""The experiment of scenes in small: 16 x 16, a network trained here, the shipped detector.

Usage: image_scenes_test.py MOTET [SEED]. What docs/image-experiments.md finds of scenes must be
found here too, in direction. Needs numpy, torch and safetensors; exit code 77 (skipped) without
them. SEED is of everything, to see by how much the claims hold.
"""

import pathlib
import subprocess
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

import measure_scenes as scenes  # noqa: E402
import scene_detector  # noqa: E402
from image_samplers import Bench, Budget  # noqa: E402
from measure_image_guidance import betas  # noqa: E402
from motet_runs import Result  # noqa: E402

MOTET = pathlib.Path()
SEED = 1
TRAIN = """
[data]
set = "scenes"
size = 16
[network]
architecture = "unet"
block_out_channels = [16, 32]
down_block_types = ["DownBlock2D", "DownBlock2D"]
up_block_types = ["UpBlock2D", "UpBlock2D"]
class_embed_type = "identity"
[schedule]
type = "linear"
num_levels = 1000
[train]
num_steps = 400
batch_size = 48
learning_rate = 0.003
rate_schedule = "cosine"
warmup_steps = 20
drop_probability = 0.2
ema_decay = 0.99
ema_warmup = true
gradient_clip = 1.0
mixed_precision = true
held_out_every = 100000
held_out_size = 100
"""


class Experiment(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        path = pathlib.Path(folder.name)
        (path / "train.toml").write_text(f"seed = {SEED}\n{TRAIN}")
        command = [MOTET, "train", path / "train.toml", "--out", path / "scenes", "--quiet"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        budget = Budget(evaluations=60, num_chains=64, num_pilot=64, tune=scenes.TUNE)
        levels = betas(path / "scenes", budget.num_levels)
        cls.result = Result("scenes", path / "results")
        bench = Bench(MOTET, budget, cls.result, levels)
        cls.work = scenes.Work(bench, path / "scenes", scene_detector.load())

    def errors(self, sampler: str, count: int) -> dict:
        """What the detector finds in a run."""
        row = next(row for row in scenes.ROWS if row.name == sampler)
        self.work.run(row, count, SEED)
        case = scenes.case_name(count)
        run = self.result.runs[Result.key(case, scenes.SCORES, sampler, SEED)]
        self.assertEqual(run["exit_code"], 0, run["message"])
        print(f"{case}, {sampler}: {run['errors']}", flush=True)
        return run["errors"]

    def test_the_detector_finds_objects_where_the_renderer_put_them(self) -> None:
        images, objects = scene_detector.draw(MOTET, 200, 16, seed=SEED + 50)
        found = scene_detector.accuracy(scene_detector.load(), images, objects, seed=1)
        print(found, flush=True)
        self.assertGreater(found["recall"]["share"], 0.8)
        self.assertGreater(found["precision"]["share"], 0.8)

    def test_an_object_stands_at_an_asked_place(self) -> None:
        found = self.errors("reverse", 1)["success"]
        chance = self.result.floors[f"seed {SEED}"][scenes.case_name(1)]
        print(f"chance: {chance}", flush=True)
        self.assertGreater(found, chance + 0.2)

    def test_correction_helps_where_places_are_composed(self) -> None:
        plain, corrected = (self.errors(name, 2) for name in ("reverse", "hmc-4-curve"))
        self.assertGreater(corrected["single places"], plain["single places"])

    def test_asked_places_are_nested_and_apart(self) -> None:
        places = scenes.asked_places(SEED)
        np.testing.assert_array_equal(places, scenes.asked_places(SEED))
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(5, 1)]
        self.assertGreaterEqual(gaps.min(), scenes.APART)


if __name__ == "__main__":
    torch.set_num_threads(1)
    MOTET = pathlib.Path(sys.argv[1])
    SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    unittest.main(argv=sys.argv[:1], verbosity=2)
