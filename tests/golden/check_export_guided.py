"""Converts checkpoints of guided-diffusion, which motet's test binary then loads.

Usage: check_export_guided.py MOTET_TESTS. Exit code 77 (skipped) without torch or safetensors.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import torch
    from safetensors.torch import load_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

SCRIPT = pathlib.Path(__file__).parents[2] / "tools" / "export" / "guided_diffusion.py"
# One list for both, as the reference's classifier_sample.py takes it.
FLAGS = (
    "--image_size 8 --in_channels 1 --num_classes 5 --num_channels 32 --num_res_blocks 1 "
    "--channel_mult 1,2 --attention_resolutions 4 --num_heads 4 --resblock_updown True "
    "--learn_sigma True --class_cond True --noise_schedule cosine --timestep_respacing 25 "
    "--rescale_timesteps True --classifier_width 32 --classifier_depth 1 "
    "--classifier_attention_resolutions 4 --classifier_channel_mult 1,2 "
    "--classifier_num_head_channels 32 --classifier_scale 2.0 --clip_denoised True"
).split()


class Hostile:
    """A pickle that would run a command."""

    def __reduce__(self):
        return (os.mkdir, ("hostile-was-here",))


def check(claim: str, holds: bool) -> None:
    if not holds:
        sys.exit(f"check_export_guided: not so: {claim}")


def run_test(binary: str, name: str, folder: pathlib.Path) -> None:
    subprocess.run(
        [binary, "--gtest_brief=1", f"--gtest_filter=GuidedExport.{name}"],
        env={**os.environ, "MOTET_CHECK_EXPORT": str(folder)},
        check=True,
    )


def export(folder: pathlib.Path, checkpoint: str, out: str, *options: str):
    command = [sys.executable, str(SCRIPT), "--checkpoint", checkpoint, "--out", out]
    return subprocess.run(
        [*command, *options, *FLAGS], cwd=folder, capture_output=True, text=True, check=False
    )


def check_refusals(folder: pathlib.Path) -> None:
    result = export(folder, "network.pt", "none", "--classifier")
    check("a network is no classifier", result.returncode == 1)
    check("and the message", "is a UNetModel by its tensors; leave out --class" in result.stderr)
    result = export(folder, "classifier.pt", "none")
    check("a classifier is no network", "is no UNetModel by its tensors" in result.stderr)
    torch.save({"tensor": Hostile()}, folder / "hostile.pt")
    result = export(folder, "hostile.pt", "none")
    check("a hostile pickle is refused", result.returncode != 0)
    check("and runs nothing", not (folder / "hostile-was-here").exists())
    check("nothing is written", not (folder / "none").exists())


def main(binary: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run_test(binary, "WritesNetworksToConvert", folder)
        for kind in ("network", "classifier"):
            torch.save(load_file(folder / kind / "model.safetensors"), folder / f"{kind}.pt")
        for out, options in (("converted", ()), ("converted-classifier", ("--classifier",))):
            kind = "classifier" if options else "network"
            result = export(folder, f"{kind}.pt", out, *options)
            check(f"{kind} is converted: {result.stderr}", result.returncode == 0)
            files = sorted(path.name for path in (folder / out).iterdir())
            check("two files", files == ["model.safetensors", "motet.json"])
            flags = json.loads((folder / out / "motet.json").read_text())["flags"]
            check("no flags of sampling", "clip_denoised" not in flags)
        check_refusals(folder)
        run_test(binary, "ConvertedNetworksAreTheSame", folder)


if __name__ == "__main__":
    main(sys.argv[1])
