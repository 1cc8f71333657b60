"""Fills the generated parts of the Markdown files.

What stands between `<!-- generated from PATH -->` and `<!-- end generated -->` is replaced by the
contents of PATH (relative to the repository). With --check nothing is written, and the exit status
is 1 when a part is out of date.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- generated from (\S+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def documents() -> list[Path]:
    """The Markdown files that may have generated parts."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])


def render(text: str) -> str:
    """`text` with every generated part filled; parts whose source is not there stay as they are."""

    def fill(match: re.Match[str]) -> str:
        source = ROOT / match.group(2)
        if not source.is_file():
            return match.group(0)
        return f"{match.group(1)}\n{source.read_text().strip()}\n\n{match.group(3)}"

    return PART.sub(fill, text)


def main() -> int:
    """Renders or checks every document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, report")
    args = parser.parse_args()
    stale = 0
    for document in documents():
        text = document.read_text()
        rendered = render(text)
        if rendered == text:
            continue
        stale += 1
        name = document.relative_to(ROOT)
        if args.check:
            print(f"{name}: generated parts are out of date; run tools/render_docs.py")
        else:
            document.write_text(rendered)
            print(f"{name}: rendered")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
