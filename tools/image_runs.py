"""Runs of motet on images, as the measuring tools of docs/image-experiments.md keep them.

A run keeps its samples and whole report in out/images/<experiment>/, and what facts() takes from
the report in results/images/<experiment>.json (motet_runs.Result). Pictures are PNGs of samples and
SVGs of curves or of labelled samples, made with numpy and the standard library alone.
"""

import argparse
import base64
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from motet_runs import ROOT, Outcome, about, sample

FOLDER = ROOT / "results" / "images"
PICTURES = ROOT / "docs" / "img"
KEPT = ROOT / "out" / "images"
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2430}.title{font-weight:600}"
    ".minor{fill:#5d6675;font-size:11px}.axis{stroke:#aab2bf;fill:none}"
    "image{image-rendering:pixelated}path,polyline{fill:none;stroke-width:1.6}"
    "@media (prefers-color-scheme:dark){text{fill:#e6e9ef}.minor{fill:#a3adbb}"
    ".axis{stroke:#566070}}"
)
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#65a30d")


def arguments(doc: str | None, samplers: Sequence[str], seeds: int) -> argparse.ArgumentParser:
    """What every measuring tool of images takes; a tool may add its own."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--motet", type=Path, default=ROOT / "build" / "release" / "bin" / "motet")
    parser.add_argument("--networks", type=Path, default=ROOT / "models", metavar="FOLDER")
    parser.add_argument("--samplers", nargs="+", choices=samplers, default=samplers)
    parser.add_argument("--seeds", type=int, default=seeds, help="seeds 1 to N")
    parser.add_argument("--again", action="store_true", help="make runs that are there anew")
    parser.add_argument("--render", action="store_true", help="only tables and pictures")
    return parser


def kept_file(experiment: str, name: str, suffix: str) -> Path:
    """Where the samples (.npy) or the report (.json) of a run lie."""
    plain = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in name)
    return KEPT / experiment / f"{plain}{suffix}"


def run(motet: Path, text: str, experiment: str, name: str) -> Outcome:
    """Runs a config; keeps samples, log weights where there are, and report under its name."""
    outcome = sample(motet, text)
    if outcome.exit_code == 0:
        file = kept_file(experiment, name, ".npy")
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, outcome.x.astype(np.float32))
        file.with_suffix(".json").write_text(json.dumps(outcome.report) + "\n")
    return outcome


def kept_samples(experiment: str, name: str) -> np.ndarray | None:
    """The samples (N, C, H, W) of a run, or None where this machine did not make it."""
    file = kept_file(experiment, name, ".npy")
    return np.load(file) if file.is_file() else None


def facts(report: dict) -> dict:
    """What is kept of a run's report.

    Seconds (in all, in the networks), evaluations a chain, commit, device, arithmetic, R-hat,
    smallest ESS over the levels as a share of the chains, and of each level its index, step size,
    steps, acceptance, evaluations and, where there are weights, ESS.
    """
    wanted = ("index", "step_size", "num_steps", "acceptance", "evaluations", "ess", "families")
    levels = [{key: level[key] for key in wanted if key in level} for level in report["levels"]]
    parts = {key: report[key] for key in ("tune", "compute_used", "num_threads") if key in report}
    convergence = report.get("convergence") or {}
    return about(report) | parts | {"ess_bulk": convergence.get("ess_bulk"), "levels": levels}


def mean_acceptance(row: dict) -> float | None:
    """Of the levels with Metropolis steps, weighed by their steps; None where there are none."""
    levels = [level for level in row["levels"] if level["num_steps"] and level["acceptance"]]
    steps = sum(level["num_steps"] for level in levels)
    return (
        sum(level["acceptance"] * level["num_steps"] for level in levels) / steps if steps else None
    )


def share_error(share: float, count: int) -> float:
    """Standard error of a share of `count` independent samples, by Agresti and Coull (1998)."""
    middle = (share * count + 2) / (count + 4)
    return float(np.sqrt(middle * (1 - middle) / (count + 4)))


# --- pictures ------------------------------------------------------------------------------------


def as_bytes(x: np.ndarray) -> np.ndarray:
    """Images in [-1, 1] as bytes; what lies beyond is drawn as black or white."""
    return np.round(np.clip((np.nan_to_num(x, nan=-1) + 1) * 127.5, 0, 255)).astype(np.uint8)


def grid(x: np.ndarray, num_columns: int, gap: int = 1, scale: int = 1) -> np.ndarray:
    """Images (N, C, H, W) in [-1, 1], C 1 or 3, as one of bytes (H', W', C), row after row."""
    count, channels, height, width = x.shape
    num_rows = -(-count // num_columns)
    out = np.full(
        (num_rows * (height + gap) - gap, num_columns * (width + gap) - gap, channels),
        255,
        np.uint8,
    )
    for number, image in enumerate(as_bytes(x).transpose(0, 2, 3, 1)):
        top, left = (number // num_columns) * (height + gap), (number % num_columns) * (width + gap)
        out[top : top + height, left : left + width] = image
    return out.repeat(scale, 0).repeat(scale, 1)


def png(image: np.ndarray) -> bytes:
    """A PNG file of bytes (H, W, C): C is 1, grey, or 3, RGB."""
    height, width, channels = image.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with filter 0: none
    rows[:, 1:] = image.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def write_png(file: Path, image: np.ndarray) -> None:
    """Writes bytes (H, W, C) as a PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(png(image))


def svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """An SVG of the parts, described by a label."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" role="img" aria-label="{escape(label)}"><style>{STYLE}</style>'
        + "".join(parts)
        + "</svg>\n"
    )


def text_at(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    """A line of text in an SVG."""
    return f'<text class="{style}" text-anchor="{anchor}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def sample_table(
    label: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[np.ndarray | None]]],
    num_columns: int,
    scale: int = 1,
) -> str:
    """An SVG: rows by columns of panels, each a few samples (N, C, H, W), num_columns abreast.

    None leaves a panel out. The samples lie in the SVG as PNGs.
    """
    shown = next(x for _, panels in rows for x in panels if x is not None)
    tall, wide, _ = grid(shown, num_columns).shape
    left, top, gap = 8 + 7 * max(len(name) for name, _ in rows), 24, 10
    width, height = (
        left + len(columns) * (wide * scale + gap),
        top + len(rows) * (tall * scale + gap),
    )
    step_x, step_y = wide * scale + gap, tall * scale + gap
    parts = [
        text_at(left + i * step_x + wide * scale / 2, 16, name, "title", "middle")
        for i, name in enumerate(columns)
    ]
    for row, (name, panels) in enumerate(rows):
        y = top + row * step_y
        parts.append(text_at(4, y + tall * scale / 2 + 4, name))
        for column, x in enumerate(panels):
            if x is None:
                continue
            data = base64.b64encode(png(grid(x, num_columns))).decode()
            parts.append(
                f'<image x="{left + column * step_x:g}" y="{y:g}" width="{wide * scale}" '
                f'height="{tall * scale}" href="data:image/png;base64,{data}"/>'
            )
    return svg(width, height, label, parts)


def nice_ticks(low: float, high: float) -> np.ndarray:
    """Four to eight round numbers in [low, high]."""
    step = 10.0 ** np.floor(np.log10((high - low) / 4))
    step *= next(times for times in (1, 2, 2.5, 5, 10) if (high - low) / (step * times) <= 7)
    numbers = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1)
    return numbers * step + 0.0  # no -0


@dataclass(frozen=True)
class Frame:
    """The axes of a plot: ranges of x and y, the panel's size in pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = 380
    height: int = 240
    left: int = 46
    top: int = 26
    bottom: int = 40

    def across(self, x: float) -> float:
        """The pixel of an x."""
        span = self.width - self.left - 8
        return self.left + (x - self.x[0]) / (self.x[1] - self.x[0]) * span

    def down(self, y: float) -> float:
        """The pixel of a y."""
        span = self.height - self.top - self.bottom
        return self.top + (self.y[1] - y) / (self.y[1] - self.y[0]) * span

    def parts(self, title: str, axes: tuple[str, str]) -> list[str]:
        """Title, axes, ticks and their names."""
        base, middle = self.height - self.bottom, (self.top + self.height - self.bottom) / 2
        line = f"M{self.left},{self.top}V{base}H{self.width - 8}"
        parts = [text_at(self.left, 16, title, "title"), f'<path class="axis" d="{line}"/>']
        for tick in nice_ticks(*self.x):
            parts.append(text_at(self.across(tick), base + 15, f"{tick:g}", "minor", "middle"))
        for tick in nice_ticks(*self.y):
            parts.append(text_at(self.left - 5, self.down(tick) + 4, f"{tick:g}", "minor", "end"))
        name = text_at(0, 0, axes[1], "minor", "middle")
        parts.append(f'<g transform="translate(12,{middle:g}) rotate(-90)">{name}</g>')
        centre = (self.left + self.width) / 2
        return [*parts, text_at(centre, self.height - 6, axes[0], "minor", "middle")]


def span(values: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Least and largest of all values, 1 apart where they are the same."""
    every = np.concatenate([np.asarray(part, float) for part in values])
    low, high = float(every.min()), float(every.max())
    return low, high if high > low else low + 1


def line_plot(
    title: str,
    axes: tuple[str, str],
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    y_range: tuple[float, float] | None = None,
) -> tuple[str, int, int]:
    """A plot of curves (x, y) by name with a legend on its right: SVG parts, width, height.

    plots() puts them into one SVG.
    """
    x_range = span([x for x, _ in curves.values()])
    frame = Frame(x_range, y_range or span([y for _, y in curves.values()]))
    parts = frame.parts(title, axes)
    for number, (name, (x, y)) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        pairs = zip(x, y, strict=True)
        points = " ".join(f"{frame.across(a):.1f},{frame.down(b):.1f}" for a, b in pairs)
        parts.append(f'<polyline stroke="{colour}" points="{points}"/>')
        y_of = frame.top + 10 + 18 * number
        parts.append(f'<path stroke="{colour}" d="M{frame.width + 4},{y_of - 4}h18"/>')
        parts.append(text_at(frame.width + 27, y_of, name))
    width = frame.width + 34 + 7 * max(len(name) for name in curves)
    return "".join(parts), width, max(frame.height, frame.top + 18 * len(curves) + 10)


def plots(label: str, panels: Sequence[tuple[str, int, int]], num_columns: int = 1) -> str:
    """An SVG of line_plot()s, row after row."""
    wide, tall = max(panel[1] for panel in panels), max(panel[2] for panel in panels)
    parts = []
    for number, (text, _, _) in enumerate(panels):
        at = f"translate({number % num_columns * wide},{number // num_columns * tall})"
        parts.append(f'<g transform="{at}">{text}</g>')
    num_rows = -(-len(panels) // num_columns)
    return svg(wide * min(num_columns, len(panels)), tall * num_rows, label, parts)
