"""Makes a folder that motet loads of a checkpoint of guided-diffusion (Dhariwal and Nichol 2021).

Usage, with the flags of the reference code's scripts as they are (its README lists them):

    python3 tools/export/guided_diffusion.py --checkpoint 64x64_diffusion.pt --out adm64 \\
        --attention_resolutions 32,16,8 --class_cond True --image_size 64 --learn_sigma True ...
    python3 tools/export/guided_diffusion.py --classifier --checkpoint 64x64_classifier.pt \\
        --out adm64-classifier --classifier_depth 4 --noise_schedule cosine

writes adm64/model.safetensors, the tensors as they are, and adm64/motet.json, the flags. Flags that
are left out have the reference's defaults; those of the other network and of sampling are passed
over, so that one list of flags serves both. A classifier needs the diffusion's flags too
(noise_schedule, diffusion_steps, timestep_respacing, rescale_timesteps): those of the network that
it is to guide. Where the code was changed beside its flags, say so: --in_channels, --num_classes,
and for a classifier --classifier_channel_mult and --classifier_num_head_channels.

The checkpoint is read by torch.load(weights_only=True), which runs no code of the file's. Needs
torch and safetensors. Whether the tensors are those that the flags describe is checked by motet.
"""

import argparse
import json
import os
import pathlib
import sys

import torch
from safetensors.torch import save_file

# The reference code's defaults: diffusion_defaults(), model_and_diffusion_defaults(),
# classifier_defaults() of guided_diffusion/script_util.py.
DIFFUSION = {
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "timestep_respacing": "",
    "use_kl": False,
    "predict_xstart": False,
    "rescale_timesteps": False,
    "rescale_learned_sigmas": False,
    "learn_sigma": False,
}
NETWORK = {
    "image_size": 64,
    "num_channels": 128,
    "num_res_blocks": 2,
    "num_heads": 4,
    "num_heads_upsample": -1,
    "num_head_channels": -1,
    "attention_resolutions": "16,8",
    "channel_mult": "",
    "dropout": 0.0,
    "class_cond": False,
    "use_checkpoint": False,
    "use_scale_shift_norm": True,
    "resblock_updown": False,
    "use_fp16": False,
    "use_new_attention_order": False,
}
CLASSIFIER = {
    "image_size": 64,
    "classifier_use_fp16": False,
    "classifier_width": 128,
    "classifier_depth": 2,
    "classifier_attention_resolutions": "32,16,8",
    "classifier_use_scale_shift_norm": True,
    "classifier_resblock_updown": True,
    "classifier_pool": "attention",
}
# Fixed in the code, as options here and in motet.json; None: not written.
CONSTANTS = {"in_channels": ("in_channels", 3), "num_classes": ("num_classes", 1000)}
CLASSIFIER_CONSTANTS = {
    **CONSTANTS,
    "classifier_channel_mult": ("channel_mult", None),
    "classifier_num_head_channels": ("num_head_channels", 64),
}
# Of the sampling scripts.
SAMPLING = {
    "clip_denoised",
    "num_samples",
    "batch_size",
    "use_ddim",
    "model_path",
    "classifier_path",
    "classifier_scale",
}


def boolean(text: str) -> bool:
    """As the reference code reads them."""
    words = {"yes": True, "true": True, "t": True, "y": True, "1": True}
    words |= {"no": False, "false": False, "f": False, "n": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError("boolean value expected")
    return words[text.lower()]


def kind_of(default: object) -> type:
    if isinstance(default, bool):
        return boolean
    return str if default is None else type(default)


def parse(arguments: list[str]) -> tuple[argparse.Namespace, dict, dict]:
    """The paths, the flags of the network that is exported, and its constants."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="the .pt file")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--classifier", action="store_true", help="it is an EncoderUNetModel")
    constants = {name: default for name, (_, default) in CLASSIFIER_CONSTANTS.items()}
    for name, default in {**DIFFUSION, **NETWORK, **CLASSIFIER, **constants}.items():
        parser.add_argument(f"--{name}", type=kind_of(default))
    for name in SAMPLING:
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    given = vars(parser.parse_args(arguments))
    own = {**DIFFUSION, **(CLASSIFIER if given["classifier"] else NETWORK)}
    flags = {name: own[name] if given[name] is None else given[name] for name in own}
    fixed = {
        key: default if given[name] is None else given[name]
        for name, (key, default) in (
            CLASSIFIER_CONSTANTS if given["classifier"] else CONSTANTS
        ).items()
    }
    paths = argparse.Namespace(**{k: given[k] for k in ("checkpoint", "out", "classifier")})
    return paths, flags, {key: value for key, value in fixed.items() if value is not None}


def read_tensors(path: str) -> dict[str, torch.Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    is_state = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    )
    if not is_state:
        sys.exit(f"{path}: is no state dict of tensors (an optimiser's file?); give model*.pt")
    return {name: value.contiguous() for name, value in state.items()}


def check_kind(tensors: dict[str, torch.Tensor], classifier: bool, path: str) -> None:
    """The one mistake that motet could not explain from the shapes alone."""
    is_network = any(name.startswith("output_blocks.") for name in tensors)
    if is_network == classifier:
        found, option = ("a UNetModel", "leave out") if is_network else ("no UNetModel", "give")
        sys.exit(f"{path}: is {found} by its tensors; {option} --classifier")


def write_file(path: pathlib.Path, write) -> None:
    """By a temporary name, so that a broken file never has the right one."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    os.replace(partial, path)


def export(arguments: list[str]) -> None:
    paths, flags, constants = parse(arguments)
    tensors = read_tensors(paths.checkpoint)
    check_kind(tensors, paths.classifier, paths.checkpoint)
    description = {
        "format": "guided-diffusion",
        "version": 1,
        "network": "EncoderUNetModel" if paths.classifier else "UNetModel",
        "flags": flags,
        "constants": constants,
    }
    folder = pathlib.Path(paths.out)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "model.safetensors", lambda path: save_file(tensors, path))
    text = json.dumps(description, indent=2) + "\n"
    write_file(folder / "motet.json", lambda path: path.write_text(text))


if __name__ == "__main__":
    export(sys.argv[1:])
