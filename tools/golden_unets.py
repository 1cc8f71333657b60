"""Writes tests/golden/unet2d.json, tests/golden/unet2d/ and schedulers.json by diffusers 0.42.1.

Needs: pip install torch diffusers==0.42.1. Run from the repository root. Each case is a tiny
UNet2DModel with one option of its config.json; its weights come from formula(), which the test
computes too, so that only the config and the output are stored. The folders are what
save_pretrained() writes, with random weights.
"""

import json
import math
import pathlib
import shutil

import diffusers
import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

GOLDEN = pathlib.Path("tests/golden")
NUM_ROWS = 2
BASE = {
    "sample_size": 8,
    "in_channels": 2,
    "out_channels": 2,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}
SKIPS = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["SkipDownBlock2D", "SkipDownBlock2D"],
    "up_block_types": ["SkipUpBlock2D", "SkipUpBlock2D"],
    "norm_num_groups": None,
}

# What each case changes of BASE, and the inputs of its pass beside x.
CASES = {
    "base": {},
    "ddpm": {
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "downsample_padding": 0,
        "norm_eps": 1e-6,
        "attention_head_dim": None,
    },
    "rectangular": {"sample_size": [8, 4]},
    "learned_variance": {"out_channels": 4},
    "centred": {"center_input_sample": True},
    "fourier": {"time_embedding_type": "fourier"},
    "learned_time": {"time_embedding_type": "learned", "num_train_timesteps": 20},
    "odd_time_channels": {"block_out_channels": [9, 12], "norm_num_groups": 3},
    "time_embedding_dim": {"time_embedding_dim": 24},
    "resnet_blocks": {
        "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["ResnetUpsampleBlock2D", "UpBlock2D"],
    },
    "resnet_resampling": {
        "down_block_types": ["AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        "downsample_type": "resnet",
        "upsample_type": "resnet",
    },
    "scale_shift": {"resnet_time_scale_shift": "scale_shift"},
    "scale_shift_attention_norm": {
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 2,
    },
    "swish": {"act_fn": "Swish"},
    "gelu": {"act_fn": "gelu"},
    "mish": {"act_fn": "mish"},
    "relu": {"act_fn": "relu"},
    "classes": {"num_class_embeds": 5},
    "class_timestep": {"class_embed_type": "timestep"},
    "class_identity": {"class_embed_type": "identity"},
    "no_middle": {"mid_block_type": None},
    "no_middle_attention": {"add_attention": False},
    "middle_scale": {"mid_block_scale_factor": 1.4142135623730951},
    "one_block": {
        "down_block_types": ["AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D"],
        "block_out_channels": [8],
        "layers_per_block": 3,
    },
    "three_blocks": {
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [8, 12, 16],
        "layers_per_block": 2,
    },
    "old_block_names": {
        "down_block_types": ["UNetResDownBlock2D", "UNetResAttnDownBlock2D"],
        "up_block_types": ["UNetResAttnUpBlock2D", "UNetResUpBlock2D"],
    },
    "heads_that_do_not_divide": {"block_out_channels": [8, 12]},
    "dropout": {"dropout": 0.3},
    "skip": SKIPS,
    "skip_attention": SKIPS
    | {
        "sample_size": 4,
        "down_block_types": ["AttnSkipDownBlock2D", "AttnSkipDownBlock2D"],
        "up_block_types": ["AttnSkipUpBlock2D", "AttnSkipUpBlock2D"],
        "block_out_channels": [32, 64],
        "norm_num_groups": 8,
        "time_embedding_type": "fourier",
        "center_input_sample": True,
        "mid_block_scale_factor": 1.4142135623730951,
    },
}
INPUTS = {
    "classes": [3, 0],
    "class_timestep": [7, 2],
    "class_identity": None,  # by the formula
}

SCHEDULES = {
    "linear": {},
    "linear_100": {"num_train_timesteps": 100, "beta_start": 0.001, "beta_end": 0.2},
    "scaled_linear": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
    },
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "cosine_64": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 64},
    "laplace": {"beta_schedule": "laplace", "num_train_timesteps": 200},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "trained_betas": {
        "trained_betas": [0.01 + 0.02 * k for k in range(12)],
        "num_train_timesteps": 12,
    },
    "zero_snr": {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True},
    "zero_snr_linear": {"rescale_betas_zero_snr": True, "num_train_timesteps": 50},
}
KINDS = (
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
)
STRIDE = 37  # of the alpha_bars that are stored


def formula(index: int, count: int) -> np.ndarray:
    """Numbers in [-1, 1] that look random: entry i of tensor `index`."""
    i = np.arange(count, dtype=np.float64)
    return np.cos(index + 0.618 * i * i)


def fill(model: torch.nn.Module) -> None:
    """Weights by the formula, tensors counted in the order of their names."""
    for index, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        values = formula(index, tensor.numel())
        if tensor.dim() > 1:
            values *= math.sqrt(3.0 / (tensor.numel() / tensor.shape[0]))
        elif name.endswith("weight"):
            values = 1.0 + 0.1 * values
        else:
            values *= 0.1
        tensor.copy_(torch.from_numpy(values.reshape(tensor.shape)).float())


def numbers(tensor: torch.Tensor) -> list[float]:
    return [float(f"{value:.8g}") for value in tensor.double().flatten().tolist()]


def image(model: UNet2DModel) -> torch.Tensor:
    size = model.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    shape = (NUM_ROWS, model.config.in_channels, height, width)
    return torch.from_numpy(1.5 * formula(1000, math.prod(shape)).reshape(shape)).float()


def case(name: str, changes: dict) -> dict:
    model = UNet2DModel(**(BASE | changes)).eval()
    fill(model)
    times = [3.0, 11.0]
    inputs = {}
    if name in INPUTS:
        labels = INPUTS[name]
        width = 4 * model.config.block_out_channels[0]
        labels = (
            torch.tensor(labels)
            if labels
            else torch.from_numpy(formula(2000, NUM_ROWS * width).reshape(NUM_ROWS, width)).float()
        )
        inputs["class_labels"] = labels
    time = torch.tensor(times)
    if model.config.time_embedding_type == "learned":
        time = time.long()
    output = model(image(model), time, **inputs).sample
    size = output.std().item()
    assert 0.1 < size < 10, f"{name}: outputs of size {size}"
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    return {
        "config": config,
        "times": times,
        "labels": {key: numbers(value) for key, value in inputs.items()},
        "output": numbers(output),
        "shapes": {key: list(value.shape) for key, value in sorted(model.state_dict().items())}
        if name in ("base", "skip_attention")
        else {},
    }


def folders() -> dict:
    """A pipeline and a network in shards, as save_pretrained writes them, and what they give."""
    root = GOLDEN / "unet2d"
    shutil.rmtree(root, ignore_errors=True)
    torch.manual_seed(0)
    config = BASE | {"sample_size": 4, "block_out_channels": [4, 4], "norm_num_groups": 2}
    model = UNet2DModel(**(config | {"attention_head_dim": 4, "num_class_embeds": 3})).eval()
    scheduler = DDPMScheduler(
        num_train_timesteps=40,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
    )
    DDPMPipeline(unet=model, scheduler=scheduler).save_pretrained(root / "pipeline")
    model.save_pretrained(root / "sharded", max_shard_size="6KB")
    scheduler.save_pretrained(root / "sharded")
    for path in root.rglob("README.md"):
        path.unlink()
    output = model(image(model), torch.tensor(9), class_labels=torch.tensor([2, 2])).sample
    return {
        "time": 9,
        "class": 2,
        "alpha_bar": scheduler.alphas_cumprod[9].item(),
        "num_weights": sum(tensor.numel() for tensor in model.state_dict().values()),
        "output": numbers(output),
    }


def schedule(kind: type, changes: dict) -> dict:
    scheduler = kind(**changes)
    alpha_bars = scheduler.alphas_cumprod.tolist()
    kept = sorted({*range(0, len(alpha_bars), STRIDE), len(alpha_bars) - 1})
    config = {key: value for key, value in scheduler.config.items() if value is not None}
    return {
        "config": json.loads(json.dumps(config | {"_class_name": kind.__name__})),
        "index": kept,
        "alpha_bar": [alpha_bars[index] for index in kept],
    }


def defaults() -> dict:
    """Each scheduler with nothing given: the law of its noise and whether it clips."""
    found = {}
    for name in KINDS:
        scheduler = getattr(diffusers, name)()
        alpha_bars = scheduler.alphas_cumprod
        clips = scheduler.config.get("clip_sample", False)
        found[f"{name}.defaults"] = {
            "config": {"_class_name": name},
            "index": [0, 999],
            "alpha_bar": [alpha_bars[0].item(), alpha_bars[999].item()],
            "clips": clips or scheduler.config.get("thresholding", False),
        }
    return found


def write(name: str, content: dict) -> None:
    (GOLDEN / name).write_text(json.dumps(content, separators=(",", ":")) + "\n")


def main() -> None:
    assert diffusers.__version__ == "0.42.1", diffusers.__version__
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    cases = {name: case(name, changes) for name, changes in CASES.items()}
    write("unet2d.json", {"cases": cases, "folders": folders()})
    schedules = {
        f"{kind.__name__}.{name}": schedule(kind, changes)
        for kind in (DDPMScheduler, DDIMScheduler)
        for name, changes in SCHEDULES.items()
        if not (kind is DDIMScheduler and changes.get("beta_schedule") in ("laplace", "sigmoid"))
    }
    write("schedulers.json", schedules | defaults())


if __name__ == "__main__":
    main()
