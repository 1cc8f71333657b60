"""The exporters of tools/export: what they write says what the network is, and refuses what is not.

Usage: export_test.py [MOTET] [--slow]. Needs torch and safetensors; exit code 77 (skipped) without
them. The tests of pipelines are left out, and say so, where diffusers and transformers are not
installed. With MOTET, the binary, the programs are sampled too. --slow: pipelines and compiled
packages, which take minutes.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "export"))

try:
    import safetensors.torch
    import torch
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

import diffusers_pipeline  # noqa: E402
import module  # noqa: E402
from program import ExportError, Program, write_program  # noqa: E402

HAS_DIFFUSERS = all(importlib.util.find_spec(name) for name in ("diffusers", "transformers"))
MOTET = ""
IS_SLOW = False

NETS = """
import torch

class Tiny(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = torch.nn.Linear(2, width)
        self.last = torch.nn.Linear(width, 2)

    def forward(self, x, time):
        return self.last(torch.sin(self.first(x) + 0.1 * time[:, None]))

class Labelled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.label = torch.nn.Embedding(3, 2)

    def forward(self, x, time, label):
        return x - self.label(label)

def energy(x, time):
    return 0.5 * (x * x).sum(1)

def broken_batch(x, time):
    return x.reshape(int(x.shape[0]), 2)[: len(x)] * torch.arange(1, len(x) + 1)[:, None]
"""

SPEC = {
    "parameterisation": "epsilon",
    "event_shape": [2],
    "times": "index",
    "schedule": {"type": "cosine", "num_levels": 12},
    "data": {"units": "metres"},
}


class ExportTest(unittest.TestCase):
    """A folder of its own, with modules that can be imported."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "export_test_nets.py").write_text(NETS)
        sys.path.insert(0, str(self.folder))
        self.addCleanup(sys.path.remove, str(self.folder))
        sys.modules.pop("export_test_nets", None)
        torch.manual_seed(0)

    def export(self, name: str, out: str = "net.ts", spec: dict | None = None, **options) -> dict:
        """What motet.json says of the exported module."""
        arguments = {"weights": None, "key": None, "seed": 0} | options
        path = self.folder / out
        module.export(f"export_test_nets:{name}", spec or SPEC, str(path), **arguments)
        return json.loads(pathlib.Path(f"{path}.motet.json").read_text())

    def sample(self, out: str, lines: str = "", sampler: str = "reverse") -> None:
        """Samples the program with the binary, where there is one."""
        if not MOTET:
            return
        config = self.folder / "sample.toml"
        config.write_text(
            f'num_samples = 8\nsampler = "{sampler}"\n[model.net]\nweights = "{out}"\n{lines}\n'
        )
        command = [MOTET, "sample", str(config), "--out", str(self.folder / "samples.npy")]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)


class ModuleTest(ExportTest):
    """tools/export/module.py."""

    def test_a_class_is_made_from_the_spec_and_its_weights_are_loaded(self) -> None:
        state = {
            "first.weight": torch.ones(5, 2),
            "first.bias": torch.zeros(5),
            "last.weight": torch.ones(2, 5),
            "last.bias": torch.tensor([1.0, 2.0]),
        }
        torch.save({"ema": {"net": state}}, self.folder / "state.pt")
        said = self.export(
            "Tiny",
            spec=SPEC | {"arguments": {"width": 5}},
            weights=str(self.folder / "state.pt"),
            key="ema.net",
        )
        self.assertEqual(said["event_shape"], [2])
        self.assertEqual(said["times"], list(range(12)))
        self.assertEqual(said["batch_size"], 0)
        loaded = torch.jit.load(str(self.folder / "net.ts"))
        torch.testing.assert_close(
            loaded(torch.zeros(1, 2), torch.zeros(1)), torch.tensor([[1.0, 2.0]])
        )
        self.sample("net.ts", sampler="la-3-line")

    def test_a_checkpoint_that_runs_code_is_refused(self) -> None:
        class Evil:
            def __reduce__(self):
                return (os.system, ("true",))

        torch.save({"first.weight": Evil()}, self.folder / "evil.pt")
        with self.assertRaisesRegex(Exception, "weights_only|Weights only"):
            module.load_state_dict(str(self.folder / "evil.pt"), None)

    def test_energies_return_the_energy_and_motet_differentiates_it(self) -> None:
        said = self.export("energy", spec=SPEC | {"parameterisation": "energy"})
        self.assertEqual((said["returns"], said["log_density"]), ("energy", "-E"))
        pairs = safetensors.torch.load_file(self.folder / "net.ts.pairs.safetensors")
        torch.testing.assert_close(pairs["gradient"], pairs["x"])
        torch.testing.assert_close(pairs["energy"], 0.5 * pairs["x"].square().sum(1))
        self.sample("net.ts")

    def test_pairs_are_of_the_module_at_three_levels(self) -> None:
        self.export("Labelled", spec=SPEC | {"inputs": [LABEL]})
        pairs = safetensors.torch.load_file(self.folder / "net.ts.pairs.safetensors")
        self.assertEqual(pairs["time"].tolist(), [0.0, 5.0, 11.0])
        self.assertEqual(pairs["input.label"].dtype, torch.int64)
        self.assertEqual(pairs["output"].shape, (3, 2))
        self.sample("net.ts", "[model.net.inputs]\nlabel = 2")

    def test_a_program_of_one_batch_size_says_so(self) -> None:
        said = self.export("broken_batch")
        self.assertEqual(said["batch_size"], 64)

    def test_denoisers_of_noise_levels_have_their_own_coordinates(self) -> None:
        spec = SPEC | {"parameterisation": "sample", "times": "sigma"}
        said = self.export(
            "Tiny", spec=spec | {"schedule": {"sigmas": [0.1, 1.0, 3.0]}, "arguments": {"width": 3}}
        )
        self.assertEqual(said["coordinates"], "variance_exploding")
        self.assertEqual(said["times"], [0.1, 1.0, 3.0])
        self.assertAlmostEqual(said["alpha_bars"][1], 0.5)

    def test_specs_that_cannot_be_are_refused(self) -> None:
        refused = {
            "spec: unknown keys: ['event'], missing keys: []": SPEC | {"event": 1},
            "spec: unknown keys: [], missing keys: ['times']": {
                key: value for key, value in SPEC.items() if key != "times"
            },
            'times = sigma: must be "index", a list, or "sigma" where schedule has sigmas': SPEC
            | {"times": "sigma"},
            "alpha_bars[1] = 0.9: must fall strictly, in (0, 1)": SPEC
            | {"schedule": {"alpha_bars": [0.5, 0.9]}},
            "1 times for 12 levels, must be one each": SPEC | {"times": [1.0]},
            "[arguments] are for a class, or a function with factory = true": SPEC
            | {"arguments": {"a": 1}},
        }
        for message, spec in refused.items():
            with self.subTest(message), self.assertRaises(ExportError) as raised:
                self.export("energy", spec=spec)
            self.assertEqual(str(raised.exception), message)

    def test_nothing_is_left_when_the_program_cannot_be_written(self) -> None:
        with self.assertRaisesRegex(ExportError, "must end in .ts"):
            self.export("energy", out="net.onnx")
        self.assertEqual(list(self.folder.glob("net*")), [])

    def test_packages_hold_the_energy_and_its_gradient(self) -> None:
        if not IS_SLOW:
            self.skipTest("compiles for a minute; runs with --slow")
        spec = SPEC | {"parameterisation": "energy_norm", "batch_size": 4}
        said = self.export("Tiny", "net.pt2", spec | {"arguments": {"width": 3}})
        self.assertEqual(said["returns"], "energy_and_gradient")
        self.assertEqual((said["parameterisation"], said["log_density"]), ("energy", "-E / sigma"))
        self.assertEqual(said["batch_size"], 4)
        self.sample("net.pt2")


LABEL = {"name": "label", "dtype": "int64", "num_values": 3}


@unittest.skipUnless(HAS_DIFFUSERS, "diffusers and transformers are not installed")
class PipelineTest(ExportTest):
    """tools/export/diffusers_pipeline.py on tiny random pipelines."""

    def setUp(self) -> None:
        if not IS_SLOW:
            self.skipTest("takes a minute; runs with --slow")
        super().setUp()

    def unet(self, **settings):
        """A tiny text-conditional U-Net."""
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel(
            **{
                "sample_size": 8,
                "in_channels": 4,
                "out_channels": 4,
                "layers_per_block": 1,
                "block_out_channels": (8, 16),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                "cross_attention_dim": 12,
                "attention_head_dim": 4,
                "norm_num_groups": 4,
            }
            | settings
        )

    def tokenizer(self):
        """CLIP's, of a few letters."""
        from transformers import CLIPTokenizer

        letters = [letter + end for letter in "abcdot" for end in ("", "</w>")]
        words = [*letters, "<|startoftext|>", "<|endoftext|>"]
        (self.folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
        (self.folder / "merges.txt").write_text("#version: 0.2\n")
        return CLIPTokenizer(
            str(self.folder / "vocab.json"), str(self.folder / "merges.txt"), model_max_length=7
        )

    def stable_diffusion(self, **scheduler) -> str:
        """The folder of a tiny Stable Diffusion."""
        from diffusers import DDIMScheduler, StableDiffusionPipeline
        from transformers import CLIPTextConfig, CLIPTextModel

        tokenizer = self.tokenizer()
        text = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=12,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=7,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        settings = {"clip_sample": False, "num_train_timesteps": 10} | scheduler
        StableDiffusionPipeline(
            vae=None,
            text_encoder=CLIPTextModel(text),
            tokenizer=tokenizer,
            unet=self.unet(),
            scheduler=DDIMScheduler(**settings),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(self.folder / "sd")
        return str(self.folder / "sd")

    def export_pipeline(self, pipeline: str, ignore_clipping: bool = False) -> dict:
        """What motet.json says of the exported pipeline."""
        out = self.folder / "unet.ts"
        diffusers_pipeline.export(pipeline, str(out), "float32", 0, ignore_clipping, 0)
        return json.loads(pathlib.Path(f"{out}.motet.json").read_text())

    def test_text_conditional_pipelines_take_the_embeddings_of_prompts(self) -> None:
        pipeline = self.stable_diffusion(prediction_type="v_prediction")
        said = self.export_pipeline(pipeline)
        self.assertEqual(said["parameterisation"], "v_prediction")
        self.assertEqual(said["event_shape"], [4, 8, 8])
        self.assertEqual(
            said["inputs"],
            [{"name": "encoder_hidden_states", "shape": [7, 12], "dtype": "float32"}],
        )
        self.assertEqual(said["data"]["units"], "scaled latents of the pipeline's VAE")
        for name, prompt in {"cat": "a cat", "none": ""}.items():
            out = self.folder / f"{name}.safetensors"
            diffusers_pipeline.write_prompt(pipeline, prompt, str(out), "float32")
            self.assertEqual(
                safetensors.torch.load_file(out)["encoder_hidden_states"].shape, (7, 12)
            )
        self.guide()

    def guide(self) -> None:
        """Classifier-free guidance: two models of one program, exponents 1 + w and -w."""
        if not MOTET:
            return
        (self.folder / "guided.toml").write_text(
            'num_samples = 2\nsampler = "reverse"\n'
            '[model.cat]\nweights = "unet.ts"\nexponent = 3.0\n'
            '[model.cat.inputs]\nencoder_hidden_states = "cat.safetensors"\n'
            '[model.none]\nweights = "unet.ts"\nexponent = -2.0\n'
            '[model.none.inputs]\nencoder_hidden_states = "none.safetensors"\n'
        )
        command = [MOTET, "sample", "guided.toml", "--out", "samples.npy"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_alpha_bars_are_the_schedulers(self) -> None:
        from diffusers import DDIMScheduler

        pipeline = self.stable_diffusion(beta_schedule="squaredcos_cap_v2")
        bars = DDIMScheduler.from_pretrained(pipeline, subfolder="scheduler").alphas_cumprod
        self.assertEqual(self.export_pipeline(pipeline)["alpha_bars"], bars.double().tolist())

    def test_a_last_level_of_pure_noise_is_left_out(self) -> None:
        pipeline = self.stable_diffusion(rescale_betas_zero_snr=True)
        self.assertEqual(len(self.export_pipeline(pipeline)["times"]), 9)

    def test_the_first_stage_of_a_cascade_learns_its_variance(self) -> None:
        from diffusers import DDPMScheduler

        folder = self.folder / "if"
        unet = self.unet(in_channels=3, out_channels=6, encoder_hid_dim=5)
        unet.save_pretrained(folder / "unet")
        DDPMScheduler(
            num_train_timesteps=10, variance_type="learned_range", thresholding=True
        ).save_pretrained(folder / "scheduler")
        (folder / "model_index.json").write_text(
            '{"_class_name": "IFPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
        )
        with self.assertRaises(ExportError) as raised:
            self.export_pipeline(str(folder))
        self.assertEqual(
            str(raised.exception),
            "scheduler_config.json: thresholding is true: it samples another law than the "
            "network's own, which motet samples and corrects; export that with --ignore-clipping",
        )
        said = self.export_pipeline(str(folder), ignore_clipping=True)
        self.assertEqual(said["output_shape"], [6, 8, 8])
        self.assertEqual(said["inputs"][0]["shape"], [77, 5])
        self.assertEqual(said["data"], {"units": "RGB intensities", "range": [-1.0, 1.0]})

    def test_unconditional_pipelines_have_classes_or_no_inputs(self) -> None:
        from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

        unet = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(8, 8),
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            num_class_embeds=3,
        )
        scheduler = DDPMScheduler(num_train_timesteps=10, clip_sample=False)
        DDPMPipeline(unet, scheduler).save_pretrained(self.folder / "ddpm")
        said = self.export_pipeline(str(self.folder / "ddpm"))
        self.assertEqual(
            said["inputs"],
            [{"name": "class_labels", "shape": [], "dtype": "int64", "num_values": 3}],
        )

    def test_added_conditions_of_sdxl_are_inputs(self) -> None:
        unet = self.unet(
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=34,
        )
        names = [
            item.name
            for item in diffusers_pipeline.inputs_of(
                dict(unet.config) | {"_class_name": "UNet2DConditionModel"}, 7
            )
        ]
        self.assertEqual(names, ["encoder_hidden_states", "text_embeds", "time_ids"])
        program = Program("epsilon", (4, 8, 8), [0.9, 0.5, 0.1], [0, 1, 2], "latents")
        program.inputs = diffusers_pipeline.inputs_of(
            dict(unet.config) | {"_class_name": "UNet2DConditionModel"}, 7
        )
        function = diffusers_pipeline.Conditioned(unet, names)
        write_program(function, program, self.folder / "xl.ts")
        self.assertTrue((self.folder / "xl.ts.pairs.safetensors").exists())

    def test_clipping_by_default_is_clipping(self) -> None:
        self.assertEqual(
            diffusers_pipeline.clipping_of({"_class_name": "DDPMScheduler"}),
            "clip_sample is true (the default of DDPMScheduler)",
        )
        self.assertEqual(diffusers_pipeline.clipping_of({"_class_name": "PNDMScheduler"}), "")


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    IS_SLOW = "--slow" in sys.argv
    MOTET = arguments[0] if arguments else ""
    unittest.main(argv=sys.argv[:1])
