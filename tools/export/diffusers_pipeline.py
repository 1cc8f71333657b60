"""Exports the U-Net of a pipeline of diffusers as a program, and the embeddings of prompts.

Usage: diffusers_pipeline.py PIPELINE OUT.ts|OUT.pt2 [--dtype float32] [--batch-size N]
                             [--ignore-clipping] [--seed N]
       diffusers_pipeline.py PIPELINE --prompt TEXT PROMPT.safetensors [--dtype float32]

PIPELINE is a folder, or a name on the hub where there is internet (then diffusers fetches it).
Known are pipelines whose "unet" is a UNet2DModel (motet loads such folders itself, without this) or
a UNet2DConditionModel: Stable Diffusion 1 and 2, SDXL, DeepFloyd IF's first stage. The program's
inputs beside x and the time, by name:

    encoder_hidden_states (L, D)     what the pipeline's text encoder makes of a prompt
    text_embeds (P), time_ids (6)    of SDXL: the pooled prompt, and sizes and crops of the picture
    class_labels                     a class, where the U-Net has a table of classes

The second form runs the pipeline's own text encoder once and writes these inputs of one prompt to a
safetensors file; TEXT "" is the prompt of nothing, for classifier-free guidance. Weights are read
from safetensors, or with weights_only = True: no code of them runs. A scheduler that clips or
thresholds its estimates of x_0 samples another law than its network's, so it is refused without
--ignore-clipping; with it motet samples the unclipped law. Pipelines of latents (Stable Diffusion)
are exported in latents: decoding them is not motet's.
"""

import argparse
import os
import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from program import DTYPES, ExportError, Input, Program, write_program

UNETS = ("UNet2DModel", "UNet2DConditionModel")
PREDICTIONS = ("epsilon", "sample", "v_prediction")
# Schedulers of discrete variance-preserving noise: alphas_cumprod and times 0, 1, ...
SCHEDULERS = (
    "DDPMScheduler DDIMScheduler PNDMScheduler DPMSolverMultistepScheduler EulerDiscreteScheduler "
    "EulerAncestralDiscreteScheduler LMSDiscreteScheduler HeunDiscreteScheduler "
    "UniPCMultistepScheduler DPMSolverSinglestepScheduler DEISMultistepScheduler "
    "KDPM2DiscreteScheduler"
).split()
# Settings of UNet2DConditionModel that ask for inputs which are not named here, and their harmless
# values.
UNSUPPORTED = {"time_cond_proj_dim": (None,), "class_embed_type": (None,)}
ADDITIONS = (None, "text", "text_time")


def _config(pipeline: str, subfolder: str) -> dict:
    """config.json or scheduler_config.json of a part of the pipeline."""
    import diffusers

    maker = diffusers.DDPMScheduler if subfolder == "scheduler" else diffusers.UNet2DModel
    return dict(maker.load_config(pipeline, subfolder=subfolder))


def clipping_of(config: dict) -> str:
    """What the scheduler does to x_0 that its network does not; "" for nothing."""
    clips_by_default = config["_class_name"] in ("DDPMScheduler", "DDIMScheduler")
    if config.get("thresholding", False):
        return "thresholding is true"
    if config.get("clip_sample", clips_by_default):
        given = "clip_sample" in config
        return "clip_sample is true" + (
            "" if given else f" (the default of {config['_class_name']})"
        )
    return ""


def levels_of(config: dict, ignore_clipping: bool) -> tuple[list, str]:
    """alpha_bars and prediction_type of a scheduler_config.json. Raises ExportError."""
    import diffusers

    name = config["_class_name"]
    if name not in SCHEDULERS:
        raise ExportError(f"scheduler {name} is not known; known: {', '.join(SCHEDULERS)}")
    clipping = clipping_of(config)
    if clipping and not ignore_clipping:
        raise ExportError(
            f"scheduler_config.json: {clipping}: it samples another law than the network's own, "
            "which motet samples and corrects; export that with --ignore-clipping"
        )
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ExportError(
            f"prediction_type = {prediction}, must be one of {', '.join(PREDICTIONS)}"
        )
    keys = (
        "num_train_timesteps beta_start beta_end beta_schedule trained_betas rescale_betas_zero_snr"
    )
    own = {key: config[key] for key in keys.split() if key in config}
    bars = diffusers.DDPMScheduler(**own).alphas_cumprod.double().tolist()
    if bars[-1] == 0.0:  # pure noise, where no score is known: no level of motet's
        bars.pop()
    return bars, prediction


class Conditioned(torch.nn.Module):
    """A U-Net of diffusers as a function of x, the time and the inputs in their order."""

    def __init__(self, unet: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.unet = unet
        self.names = names

    def forward(self, x: torch.Tensor, time: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W), or (B, 2 C, H, W) of a network that learned its variance."""
        by_name = dict(zip(self.names, inputs, strict=True))
        arguments = {
            key: by_name.pop(key)
            for key in ("encoder_hidden_states", "class_labels")
            if key in by_name
        }
        if by_name:
            arguments["added_cond_kwargs"] = by_name
        return self.unet(x, time, return_dict=False, **arguments)[0]


def text_length(pipeline: str) -> int:
    """Tokens of a prompt: 77 of CLIP's, and of DeepFloyd IF's T5, which its pipeline cuts there."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(pipeline, subfolder="tokenizer")
    except (OSError, ValueError):
        return 77
    return min(int(tokenizer.model_max_length), 77)


def inputs_of(config: dict, length: int) -> list[Input]:
    """The inputs that a U-Net of this config.json takes. Raises ExportError for others."""
    for key, harmless in UNSUPPORTED.items():
        if config.get(key) not in harmless:
            raise ExportError(
                f"unet/config.json: {key} = {config[key]}: its input is not supported"
            )
    inputs = []
    if config["_class_name"] == "UNet2DConditionModel":
        width = config.get("encoder_hid_dim") or config["cross_attention_dim"]
        if isinstance(width, list):
            width = width[0]
        inputs.append(Input("encoder_hidden_states", (length, width)))
    if config.get("num_class_embeds"):
        inputs.append(Input("class_labels", (), "int64", config["num_class_embeds"]))
    addition = config.get("addition_embed_type")
    if addition not in ADDITIONS:
        raise ExportError(f"unet/config.json: addition_embed_type = {addition} is not supported")
    if addition == "text_time":
        pooled = (
            config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        )
        inputs += [Input("text_embeds", (pooled,)), Input("time_ids", (6,))]
    return inputs


def _sizes(config: dict) -> list[int]:
    size = config.get("sample_size")
    if size is None:
        raise ExportError("unet/config.json: sample_size is missing; add it")
    return list(size) if isinstance(size, list | tuple) else [size, size]


def export(
    pipeline: str, out: str, dtype: str, batch_size: int, ignore_clipping: bool, seed: int
) -> Program:
    """Writes the program of a pipeline's U-Net; returns what motet.json says."""
    import diffusers

    config = _config(pipeline, "unet")
    kind = config["_class_name"]
    if kind not in UNETS:
        raise ExportError(f"unet/config.json: {kind}, must be one of {', '.join(UNETS)}")
    bars, prediction = levels_of(_config(pipeline, "scheduler"), ignore_clipping)
    inputs = inputs_of(config, text_length(pipeline) if kind == UNETS[1] else 0)
    for item in inputs:
        item.dtype = dtype if item.dtype == "float32" else item.dtype
    unet = getattr(diffusers, kind).from_pretrained(
        pipeline, subfolder="unet", torch_dtype=DTYPES[dtype]
    )
    is_latent = "vae" in diffusers.DiffusionPipeline.load_config(pipeline)
    program = Program(
        parameterisation=prediction,
        event_shape=[config["in_channels"], *_sizes(config)],
        alpha_bars=bars,
        times=range(len(bars)),
        data_units="scaled latents of the pipeline's VAE" if is_latent else "RGB intensities",
        data_range=None if is_latent else (-1.0, 1.0),
        inputs=inputs,
        dtype=dtype,
        batch_size=batch_size,
        provenance={"pipeline": pipeline, "diffusers": diffusers.__version__},
    )
    return write_program(Conditioned(unet, [item.name for item in inputs]), program, out, seed)


def _text_parts(pipeline: str) -> object:
    """The pipeline without what prompts do not need: its U-Net, VAE and checkers."""
    import diffusers

    index = diffusers.DiffusionPipeline.load_config(pipeline)
    unused = [name for name in ("unet", "vae", "safety_checker", "watermarker") if name in index]
    return diffusers.DiffusionPipeline.from_pretrained(pipeline, **dict.fromkeys(unused))


def embed(pipeline: str, prompt: str, dtype: str) -> dict[str, torch.Tensor]:
    """The inputs of one prompt, without the batch, by the pipeline's own encode_prompt()."""
    parts = _text_parts(pipeline)
    names = [item.name for item in inputs_of(_config(pipeline, "unet"), 77)]
    if "encoder_hidden_states" not in names or not hasattr(parts, "encode_prompt"):
        raise ExportError(f"{pipeline}: takes no prompts")
    with torch.no_grad():
        results = parts.encode_prompt(
            prompt=prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    tensors = {"encoder_hidden_states": results[0][0]}
    if "text_embeds" in names:
        tensors["text_embeds"] = results[2][0]
        height, width = (8 * size for size in _sizes(_config(pipeline, "unet")))
        tensors["time_ids"] = torch.tensor([height, width, 0, 0, height, width])
    return {name: tensor.to(DTYPES[dtype]).contiguous() for name, tensor in tensors.items()}


def write_prompt(pipeline: str, prompt: str, out: str, dtype: str) -> None:
    """Writes embed() to a safetensors file, under a temporary name first."""
    import safetensors.torch

    target = pathlib.Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".partial")
    safetensors.torch.save_file(
        embed(pipeline, prompt, dtype), temporary, metadata={"prompt": prompt}
    )
    os.replace(temporary, target)


def main() -> int:
    """The command line; exit status 2 with a sentence for what cannot be exported."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pipeline", metavar="PIPELINE")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--prompt", metavar="TEXT")
    parser.add_argument("--dtype", default="float32", choices=[k for k in DTYPES if "float" in k])
    parser.add_argument("--batch-size", type=int, default=0, help="rows of a call; 0: motet's own")
    parser.add_argument("--ignore-clipping", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the reference inputs")
    args = parser.parse_args()
    try:
        if args.prompt is not None:
            write_prompt(args.pipeline, args.prompt, args.out, args.dtype)
        else:
            export(
                args.pipeline,
                args.out,
                args.dtype,
                args.batch_size,
                args.ignore_clipping,
                args.seed,
            )
    except (ExportError, OSError) as error:
        print(f"diffusers_pipeline.py: {error}", file=sys.stderr)
        return 2
    print(f"{args.out} is written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
