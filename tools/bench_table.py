"""Writes results/bench/bench.md, the tables of docs/performance.md, from the JSON files beside it.

A file that is not there leaves its table out. Run tools/render_docs.py afterwards.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "bench"
JAX_TARGETS = {
    "u-hmc": (1.7, 4.5),
    "hmc-4-curve": (1.7, 4.5),
    "la-3-line": (3.0, 8.0),
    "hmc-3-line": (3.0, 8.0),
    "hmc-10-line": (3.0, 8.0),
}


def read(name: str) -> dict | None:
    """One bench's JSON, None when it was not run."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def table(title: str, head: list[str], rows: list[list[str]], source: dict) -> str:
    """A Markdown table under the words that say where it was measured."""
    made = f"{source['device']}, {source.get('threads', 2)} threads, commit {source['commit'][:12]}"
    lines = [f"### {title}", "", f"Measured on: {made}.", ""]
    lines += ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def forward() -> str:
    data = read("forward")
    if data is None:
        return ""
    targets = {"forward_float32": "85 %", "forward_bfloat16": "40 %"}
    rows = [
        [
            f"`{name}`",
            f"{one['milliseconds']:.2f}",
            f"{one['gflops']:.0f}",
            f"{100 * one['share_of_gemm']:.1f} %",
            targets.get(name, ""),
        ]
        for name, one in data["results"].items()
    ]
    head = ["pass, batch 2000", "ms", "GFLOP/s", "of the 2048^3 product's rate", "target"]
    return table("Network passes", head, rows, data)


UNET_TARGETS = {"forward_float32": ("60 %", "1.3"), "forward_bfloat16": ("60 %", "1.3")}


def unet() -> str:
    data = read("unet")
    if data is None:
        return ""
    rows = [
        [
            f"`{name}`",
            count,
            f"{one['milliseconds']:.1f}",
            f"{one['gflops']:.0f}",
            f"{100 * one['share_of_convolution']:.1f} %",
            f"{100 * one['share_of_gemm']:.1f} %",
            f"{100 * one['share_of_best']:.1f} %",
            UNET_TARGETS.get(name, ("", ""))[0],
            f"{one['times_eager']:.2f}",
            UNET_TARGETS.get(name, ("", ""))[1],
        ]
        for count, results in data["results"].items()
        for name, one in sorted(results.items())
    ]
    size, channels = data["size"], data["channels"]
    head = [f"batch {data['batch']}, {size} x {size}, {channels} channels", "threads", "ms"]
    head += ["GFLOP/s", "of the convolution's rate", "of the product's", "of the faster one's"]
    head += ["target", "times eager", "target"]
    text = table("U-Net passes", head, rows, data)
    peaks = data["memory"]["peak_bytes"]
    counts = sorted({count for peak in peaks.values() for count in peak}, key=int)
    rows = [
        [f"`{name}`", *(f"{peak[n] / 2**20:.0f}" if n in peak else "" for n in counts)]
        for name, peak in peaks.items()
    ]
    head = ["peak memory of a process, MiB, by rows of one pass"]
    head += [count if count != "0" else "none: the network alone" for count in counts]
    points = 2 * int(counts[-1]) * size * size * 4 / 2**20
    text += "\n" + table("U-Net memory", head, rows, data)
    return text + (
        f"\nRows that pass at once: {data['memory']['rows_at_once']}. Points and outputs of "
        f"{counts[-1]} rows take {points:.0f} MiB.\n"
    )


def batched() -> str:
    data = read("batched")
    if data is None:
        return ""
    names = ["float32_together", "bfloat16_together"]
    names += ["eager_stacked_of_eager", "eager_stacked_of_float32"]
    rows = [
        [
            f"{one['networks']} x {one['batch']}",
            f"{one['milliseconds']['float32_in_turn']:.2f}",
            *(f"{one['speed_up'][name]:.2f}" for name in names),
        ]
        for one in data["results"]
    ]
    head = ["networks x batch", "float32 in turn, ms", "together, times as fast"]
    head += ["bfloat16 together", "stacked, of eager in turn", "stacked, of float32 in turn"]
    return table("Several networks at the same points", head, rows, data)


def train_step() -> str:
    data = read("train_step")
    if data is None:
        return ""
    rows = [
        [
            f"`{name}`",
            f"{one['milliseconds']:.1f}",
            f"{one['gflops']:.0f}",
            f"{100 * one['ratio_to_gemm']:.1f} %",
            "75 %" if name == "score_float32" else "",
        ]
        for name, one in data["passes"].items()
    ]
    head = ["loss and gradient, batch 2000", "ms", "GFLOP/s", "of the float32 product's", "target"]
    return table("Training steps", head, rows, data)


def sample() -> str:
    data = read("sample")
    if data is None:
        return ""
    rows = [
        [f"`{sampler}`", compute, f"{one['seconds']:.2f}", f"{100 * one['share']:.1f} %", "5 %"]
        for sampler, computes in data["outside_network"].items()
        for compute, one in computes.items()
    ]
    head = ["2000 chains, 6 levels", "compute", "seconds", "outside the network", "target"]
    text = table("Sampling", head, rows, data)
    chains = data["chains"]
    rows = [
        [count, f"{one['microseconds_a_chain']:.1f}", f"{one['peak_rss_bytes'] / 2**20:.0f}"]
        for count, one in chains.items()
        if count.isdigit()
    ]
    head = ["chains (reverse, 3 levels)", "microseconds a chain", "peak memory, MiB"]
    text += "\n" + table("Many chains", head, rows, data)
    text += f"\nTime a chain, {chains['ratio_of_time_a_chain']:.3f} of the smaller run's.\n"
    w2 = data["w2_seconds_2000_points"]
    return text + (
        f"\nExact W2 of 2000 points: {w2['two_exact_sets']:.2f} s for two exact sets, "
        f"{w2['far_apart']:.2f} s for sets far apart.\n"
    )


def reference_jax() -> str:
    data = read("reference_jax")
    if data is None:
        return ""
    rows = []
    for name, row in data["rows"].items():
        parameterisation, sampler = name.split("/")
        target = (2.0, 2.0) if parameterisation == "energy" else JAX_TARGETS.get(sampler)
        rows.append(
            [
                f"`{name}`",
                f"{min(row['seconds']['reference']):.2f}",
                *(f"{row['times_as_fast'][c]:.2f}" for c in ("float32", "bfloat16")),
                "" if target is None else f"{target[0]}, {target[1]}",
            ]
        )
    head = [f"{data['num_chains']} chains, {data['num_levels']} levels", "JAX, seconds"]
    head += ["float32, times as fast", "bfloat16", "targets"]
    text = table("Against the reference JAX code", head, rows, data)
    if "exact" in data:
        one = data["exact"]
        rows = [
            [
                compute,
                f"{min(one['seconds'][compute]):.2f}",
                f"{one['times_as_fast'][compute]:.0f}",
                target,
            ]
            for compute, target in (("float32", "4 s, 40"), ("bfloat16", "1.5 s, 100"))
        ]
        head = ["sampler `exact`, 2000 chains, pilot run included", "seconds"]
        head += ["times as fast as JAX's hmc-4-curve", "targets"]
        text += "\n" + table("The whole product, to better quality", head, rows, data)
    return text


def build() -> str:
    data = read("build")
    if data is None:
        return ""
    rows = [
        [f"{preset}, from clean", f"{one['configure_seconds'] + one['build_seconds']:.0f}", "300"]
        for preset, one in data["from_clean"].items()
    ]
    one = data["one_file_to_test"]
    rows.append(
        [
            f"{one['edited']} touched, to its tests' end",
            f"{one['build_seconds'] + one['test_seconds']:.1f}",
            "20",
        ]
    )
    return table("Builds (without ccache)", ["what", "seconds", "target"], rows, data)


def main() -> int:
    """Writes the page's tables."""
    parts = [part() for part in (forward, unet, batched, train_step, sample, reference_jax, build)]
    (FOLDER / "bench.md").write_text("\n".join(part for part in parts if part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
