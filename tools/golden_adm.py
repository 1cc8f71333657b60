"""Writes tests/golden/adm.json: networks and diffusions of guided-diffusion at tiny sizes.

Usage: golden_adm.py CHECKOUT, from the repository root, where CHECKOUT is a clone of
github.com/openai/guided-diffusion (commit 22e0df8; nothing of it is installed). Needs torch, numpy.

Weights are not stored: weight() below and tests/golden/adm_test.cpp make the same numbers, and they
fill every tensor, since the reference code starts its last convolutions at zero.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import torch

ROWS = 2
TIMES = [999.0, 412.25]
UNETS = {
    "plain": {},
    "scale_shift": {"use_scale_shift_norm": True},
    "resblock_updown": {"resblock_updown": True, "use_scale_shift_norm": True},
    "pooled": {"conv_resample": False},
    "heads": {"num_heads": 4},
    "heads_upsample": {"num_heads": 4, "num_heads_upsample": 2},
    "head_channels": {"num_head_channels": 16},
    "new_order": {"num_heads": 4, "use_new_attention_order": True},
    "classes": {"num_classes": 7},
    "learned_sigma": {"out_channels": 6},
    "gray_deep": {
        "in_channels": 1,
        "out_channels": 1,
        "channel_mult": [0.5, 1, 1],
        "model_channels": 64,
        "num_res_blocks": 2,
        "attention_resolutions": [1, 4],
        "num_heads": 2,
    },
}
ENCODERS = {
    "adaptive": {"pool": "adaptive"},
    "attention": {"pool": "attention", "num_head_channels": 16},
    "spatial": {"pool": "spatial", "resblock_updown": True, "use_scale_shift_norm": True},
    "spatial_v2": {"pool": "spatial_v2", "num_heads": 2, "use_new_attention_order": True},
}
SIZES = {
    "image_size": 8,
    "in_channels": 3,
    "model_channels": 32,
    "num_res_blocks": 1,
    "attention_resolutions": [2],  # factors, as UNetModel counts them
    "channel_mult": [1, 2],
}
# MODEL_FLAGS of the reference's README for its published checkpoints.
PUBLISHED = {
    "64x64_diffusion": "--attention_resolutions 32,16,8 --class_cond True --diffusion_steps 1000 "
    "--dropout 0.1 --image_size 64 --learn_sigma True --noise_schedule cosine --num_channels 192 "
    "--num_head_channels 64 --num_res_blocks 3 --resblock_updown True "
    "--use_new_attention_order True --use_fp16 True --use_scale_shift_norm True",
    "128x128_diffusion": "--attention_resolutions 32,16,8 --class_cond True --diffusion_steps 1000 "
    "--image_size 128 --learn_sigma True --noise_schedule linear --num_channels 256 --num_heads 4 "
    "--num_res_blocks 2 --resblock_updown True --use_fp16 True --use_scale_shift_norm True",
    "256x256_diffusion_uncond": "--attention_resolutions 32,16,8 --class_cond False "
    "--diffusion_steps 1000 --image_size 256 --learn_sigma True --noise_schedule linear "
    "--num_channels 256 --num_head_channels 64 --num_res_blocks 2 --resblock_updown True "
    "--use_fp16 True --use_scale_shift_norm True",
    "512x512_diffusion": "--attention_resolutions 32,16,8 --class_cond True --diffusion_steps 1000 "
    "--image_size 512 --learn_sigma True --noise_schedule linear --num_channels 256 "
    "--num_head_channels 64 --num_res_blocks 2 --resblock_updown True --use_fp16 False "
    "--use_scale_shift_norm True",
}
PUBLISHED_CLASSIFIERS = {
    "64x64_classifier": "--classifier_depth 4",
    "128x128_classifier": "--image_size 128 --classifier_attention_resolutions 32,16,8 "
    "--classifier_depth 2 --classifier_width 128 --classifier_pool attention "
    "--classifier_resblock_updown True --classifier_use_scale_shift_norm True",
    "512x512_classifier": "--image_size 512",
}
DIFFUSIONS = [
    {"noise_schedule": "linear", "diffusion_steps": 1000},
    {"noise_schedule": "linear", "diffusion_steps": 4000, "rescale_timesteps": True},
    {"noise_schedule": "cosine", "diffusion_steps": 1000, "timestep_respacing": "250"},
    {"noise_schedule": "linear", "diffusion_steps": 1000, "timestep_respacing": "ddim50"},
    {"noise_schedule": "cosine", "diffusion_steps": 300, "timestep_respacing": "10,15,20"},
    {"noise_schedule": "linear", "diffusion_steps": 1000, "timestep_respacing": "90,60,60,20,20,1"},
    {
        "noise_schedule": "cosine",
        "diffusion_steps": 4000,
        "timestep_respacing": "100",
        "rescale_timesteps": True,
    },
]


def hashed(count: int, key: int) -> np.ndarray:
    """Numbers of [-1, 1) that look random and are the same everywhere: whole numbers over 2^15."""
    i = np.arange(count, dtype=np.int64)
    return ((i + 1) * (i + 7 + 13 * key) * 40503 + 30011 * key) % 65536 / 32768.0 - 1.0


def weight(name: str, shape: torch.Size, key: int) -> torch.Tensor:
    values = hashed(int(np.prod(shape)), key)
    if name.endswith("bias"):
        values = 0.1 * values
    elif len(shape) == 1:
        values = 1.0 + 0.3 * values
    else:
        values = values * np.sqrt(3.0 / (np.prod(shape) / shape[0]))
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def with_weights(network: torch.nn.Module) -> torch.nn.Module:
    names = sorted(network.state_dict())
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    network.load_state_dict({n: weight(n, shapes[n], key) for key, n in enumerate(names)})
    return network.eval()


def points(channels: int, size: int) -> torch.Tensor:
    values = hashed(ROWS * channels * size * size, 99).astype(np.float32)
    return torch.from_numpy(1.5 * values).reshape(ROWS, channels, size, size)


def rounded(tensor: torch.Tensor) -> list[float]:
    return [float(f"{value:.8g}") for value in tensor.detach().flatten().tolist()]


def fingerprint(network: torch.nn.Module) -> dict:
    """FNV-1a (64 bits) of the lines "NAME SIZE SIZE ...", sorted by name."""
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    text = "".join(f"{name} {' '.join(map(str, shapes[name]))}\n" for name in sorted(shapes))
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return {"num_tensors": len(shapes), "hash": f"{value:016x}"}


def parsed(text: str, script_util, defaults: dict) -> dict:
    parser = argparse.ArgumentParser()
    script_util.add_dict_to_argparser(parser, defaults)
    return vars(parser.parse_args(text.split()))


def unet_case(unet, name: str, options: dict) -> dict:
    config = {**SIZES, "out_channels": 3, **options}
    network = with_weights(unet.UNetModel(**config))
    labels = torch.arange(ROWS) + 3
    with torch.no_grad():
        f = network(
            points(config["in_channels"], config["image_size"]),
            torch.tensor(TIMES),
            labels if "num_classes" in config else None,
        )
    return {"name": name, "config": config, "tensors": fingerprint(network), "output": rounded(f)}


def encoder_case(unet, name: str, options: dict) -> dict:
    config = {**SIZES, "out_channels": 5, **options}
    network = with_weights(unet.EncoderUNetModel(**config))
    x = points(config["in_channels"], config["image_size"]).requires_grad_(True)
    f = network(x, torch.tensor(TIMES))
    share = torch.log_softmax(f, dim=-1)[:, 3]
    gradient = torch.autograd.grad(share.sum(), x)[0]
    return {
        "name": name,
        "config": config,
        "tensors": fingerprint(network),
        "output": rounded(f),
        "log_share": rounded(share),
        "gradient": rounded(gradient),
    }


def published(script_util) -> list[dict]:
    cases = []
    with torch.device("meta"):
        for name, text in PUBLISHED.items():
            flags = parsed(text, script_util, script_util.model_and_diffusion_defaults())
            network, _ = script_util.create_model_and_diffusion(**flags)
            cases.append({"name": name, "flags": flags, **fingerprint(network)})
        for name, text in PUBLISHED_CLASSIFIERS.items():
            flags = parsed(text, script_util, script_util.classifier_defaults())
            network = script_util.create_classifier(**flags)
            cases.append({"name": name, "flags": flags, **fingerprint(network)})
    return cases


def diffusion_case(script_util, flags: dict) -> dict:
    diffusion = script_util.create_gaussian_diffusion(
        steps=flags["diffusion_steps"],
        noise_schedule=flags["noise_schedule"],
        timestep_respacing=flags.get("timestep_respacing", ""),
        rescale_timesteps=flags.get("rescale_timesteps", False),
    )
    seen = []
    num = diffusion.num_timesteps
    picked = sorted({*range(0, num, max(1, num // 12)), num - 1})
    wrapped = diffusion._wrap_model(lambda x, ts: seen.append(ts.tolist()))
    wrapped(None, torch.tensor(picked))
    respaced = [] if num == flags["diffusion_steps"] else diffusion.timestep_map
    return {
        "flags": flags,
        "num_levels": num,
        "timestep_map": respaced,
        "levels": picked,
        "times": seen[0],
        "alphas_cumprod": diffusion.alphas_cumprod[picked].tolist(),
    }


def denoised_case(script_util, flags: dict) -> dict:
    """x_0 as p_mean_variance predicts it, through respaced times."""
    values = {**script_util.model_and_diffusion_defaults(), **flags}
    network, diffusion = script_util.create_model_and_diffusion(**values)
    with_weights(network)
    x = points(3, values["image_size"])
    labels = torch.arange(ROWS) + 3
    kwargs = {"y": labels} if values["class_cond"] else {}
    level = 3
    with torch.no_grad():
        result = diffusion.p_mean_variance(
            network, x, torch.tensor([level] * ROWS), clip_denoised=False, model_kwargs=kwargs
        )
    return {"flags": flags, "level": level, "x_0": rounded(result["pred_xstart"])}


def main(checkout: str) -> None:
    sys.path.insert(0, checkout)
    from guided_diffusion import script_util, unet

    tiny = {
        "image_size": 8,
        "num_channels": 32,
        "num_res_blocks": 1,
        "channel_mult": "1,1",
        "attention_resolutions": "4",
        "num_head_channels": 16,
        "timestep_respacing": "ddim25",
    }
    golden = {
        "source": "github.com/openai/guided-diffusion 22e0df8, float32, torch "
        + torch.__version__.split("+")[0],
        "times": TIMES,
        "unets": [unet_case(unet, name, options) for name, options in UNETS.items()],
        "encoders": [encoder_case(unet, name, options) for name, options in ENCODERS.items()],
        "published": published(script_util),
        "diffusions": [diffusion_case(script_util, flags) for flags in DIFFUSIONS],
        "denoised": [
            denoised_case(script_util, {**tiny, "class_cond": True, "learn_sigma": True}),
            denoised_case(script_util, {**tiny, "predict_xstart": True, "rescale_timesteps": True}),
        ],
    }
    path = pathlib.Path("tests/golden/adm.json")
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
