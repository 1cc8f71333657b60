"""Pictures of plane laws and samples as one SVG: a row a composition, a panel a histogram.

The histograms lie in the SVG as PNG images. Needs Pillow (.venv/bin/pip install pillow).
"""

import base64
import io
import textwrap

import numpy as np
from PIL import Image

PANEL, GAP, LEFT, TOP = 220, 14, 210, 34
LABEL = 28  # characters of a row's name in a line
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2430}.title{font-weight:600;font-size:13px}"
    ".minor{fill:#5d6675;font-size:11px}.frame{fill:none;stroke:#aab2bf}"
    "image{image-rendering:pixelated}"
    "@media (prefers-color-scheme:dark){text{fill:#e6e9ef}.minor{fill:#a3adbb}"
    ".frame{stroke:#566070}}"
)
# From nothing to much, as red, green, blue, opacity: to be seen on white and on black.
RAMP = np.array([[59, 130, 246, 0], [59, 130, 246, 150], [134, 46, 156, 255], [232, 89, 12, 255]])


def png(shades: np.ndarray) -> bytes:
    """Shades in [0, 1] (rows, columns), first row on top, through RAMP."""
    places = np.linspace(0, 1, len(RAMP))
    table = np.stack([np.interp(np.linspace(0, 1, 256), places, part) for part in RAMP.T], 1)
    table = np.round(table).astype(np.uint8)
    image = Image.fromarray(table[np.round(255 * np.clip(shades, 0, 1)).astype(np.uint8)], "RGBA")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def window(points: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and half width of the square that shows a law on a grid: all but .1 % an axis."""
    axis = points[:, 0, 0]
    below = [probabilities.sum(other).cumsum() for other in (1, 0)]
    ends = np.array([[axis[np.searchsorted(sums, q)] for q in (5e-4, 1 - 5e-4)] for sums in below])
    return ends.mean(1), 0.55 * (ends[:, 1] - ends[:, 0]).max()


def panel(image: np.ndarray, x: float, y: float) -> str:
    """One framed histogram (x by y, as np.histogram2d has it)."""
    data = base64.b64encode(png(image.T[::-1])).decode()
    box = f'x="{x}" y="{y}" width="{PANEL}" height="{PANEL}"'
    return f'<image {box} href="data:image/png;base64,{data}"/><rect class="frame" {box}/>'


def picture(titles: list[str], rows: list[tuple[str, str, list]]) -> str:
    """The SVG: of each row its name, a remark and histograms.

    The first histogram sets a row's shades; None leaves a panel out.
    """
    width = LEFT + len(titles) * (PANEL + GAP)
    height = TOP + len(rows) * (PANEL + GAP)
    label = "Histograms: " + ", ".join(name for name, _, _ in rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'role="img" aria-label="{label}"><style>{STYLE}</style>'
    ]
    for column, title in enumerate(titles):
        middle = LEFT + column * (PANEL + GAP) + PANEL / 2
        parts.append(f'<text class="title" text-anchor="middle" x="{middle}" y="20">{title}</text>')
    for row, (name, remark, images) in enumerate(rows):
        y = TOP + row * (PANEL + GAP)
        texts = [(part, "title") for part in textwrap.wrap(name, LABEL)] + [(remark, "minor")]
        for line, (text, style) in enumerate(texts):
            parts.append(f'<text class="{style}" x="4" y="{y + 20 + 18 * line}">{text}</text>')
        top = images[0].max()
        for column, image in enumerate(images):
            if image is not None:
                parts.append(panel((image / top) ** 0.5, LEFT + column * (PANEL + GAP), y))
    return "".join(parts) + "</svg>\n"
