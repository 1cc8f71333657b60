"""Checks that every file of include/ and src/ includes only from layers to its left.

The layers, and why: docs/architecture.md.
A file belongs to the layer that its name starts with (src/metrics_w2.cpp: metrics); files with
other names, and folders, are listed in OTHER. Also reports files so long that they want splitting.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS = """version error rng schedule model likelihood compose expression ratio kernel anneal
    preset train metrics diagnose io pretrained run evaluate demo reproduce cli""".split()
# Files whose layer their name does not tell.
OTHER = {
    "src/philox": "rng",
    "src/json_object": "error",
    "src/nets/": "model",
    "src/cli/": "cli",
    "src/analytic": "model",
    "src/callable": "model",
    "src/denoiser": "model",
    "include/motet/tapestry": "compose",
    "src/tapestry": "compose",
    "src/data": "train",
    "src/safetensors": "io",
    "src/npy": "io",
    "src/idx": "io",
    "src/png": "io",
    "include/motet/image": "io",
    "src/image": "io",
    "src/weights": "io",
    "src/config": "run",
    "src/settings": "run",
    "src/sample": "run",
    "src/checkpoint": "run",
    # run() writes the pages that report.hpp declares, and these show a RunReport: one layer.
    "include/motet/report": "run",
    "src/report": "run",
    "src/svg": "run",
    "src/citation": "run",
}
# torch/torch.h costs 14 s a file: only where modules and optimisers are built.
TORCH_H_ALLOWED = ("src/nets/", "src/train")
MAX_LINES = {".hpp": 250, ".cpp": 600, ".inc": 600, ".inl": 600}
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<((?:torch|ATen)/[^>]+)>)')


def layer_of(path: str) -> int | None:
    """Rank of the layer of `path` (relative to the root), None when it has none."""
    for prefix, layer in OTHER.items():
        if path.startswith(prefix):
            return LAYERS.index(layer)
    stem = Path(path).stem
    for layer in LAYERS:
        if stem == layer or stem.startswith(layer + "_"):
            return LAYERS.index(layer)
    return None


def resolve(include: str, source: Path) -> str | None:
    """The file of ours that `include` names, relative to the root."""
    for folder in (ROOT / "include", ROOT / "src", source.parent):
        if (folder / include).is_file():
            return str((folder / include).resolve().relative_to(ROOT))
    return None


def check_includes(source: Path) -> list[str]:
    """What is wrong with the includes of one file."""
    name = str(source.relative_to(ROOT))
    rank = layer_of(name)
    if rank is None:
        return [f"{name}: belongs to no layer; add it to OTHER in tools/check_layering.py"]
    problems = []
    for number, line in enumerate(source.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        ours, torch = match.groups()
        if torch == "torch/torch.h" and not name.startswith(TORCH_H_ALLOWED):
            problems.append(
                f"{name}:{number}: <torch/torch.h> is slow to compile; use <torch/types.h>"
            )
        if torch and name.startswith("include/") and torch.startswith("torch/"):
            problems.append(
                f"{name}:{number}: a public header includes <{torch}>; use <ATen/core/...>"
            )
        target = resolve(ours, source) if ours else None
        target_rank = layer_of(target) if target else None
        if target_rank is not None and target_rank > rank:
            later = LAYERS[target_rank]
            problems.append(f"{name}:{number}: {LAYERS[rank]} includes {ours}, of layer {later}")
    return problems


def check_length(source: Path) -> list[str]:
    """Whether the file is too long to be one thing."""
    lines = len(source.read_text().splitlines())
    limit = MAX_LINES[source.suffix]
    return (
        [f"{source.relative_to(ROOT)}: {lines} lines, over {limit}: split it"]
        if lines > limit
        else []
    )


def main() -> int:
    """Prints every problem; exit status 1 when there is one."""
    files = (p for top in ("include", "src") for p in (ROOT / top).rglob("*"))
    sources = sorted(p for p in files if p.suffix in MAX_LINES)
    problems = [
        problem for source in sources for problem in check_includes(source) + check_length(source)
    ]
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
