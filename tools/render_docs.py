"""Fills the generated parts of the Markdown files.

What stands between `<!-- generated from PATH -->` and `<!-- end generated -->` is replaced by the
contents of PATH (relative to the repository). The exit status is 1 when the repository has no PATH;
with --check, which writes nothing, also when a part is out of date.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- generated from (\S+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def documents(root: Path) -> list[Path]:
    """The Markdown files that may have generated parts."""
    return sorted([*root.glob("*.md"), *(root / "docs").glob("**/*.md")])


def has_file(root: Path, name: str) -> bool:
    """Whether the repository at `root` has the file: there, and not ignored by git."""
    if not (root / name).is_file():
        return False
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "--", name], cwd=root)
    return ignored.returncode != 0  # 1: not ignored; 128: no git here, as in an unpacked archive


def render(text: str, root: Path) -> tuple[str, list[str]]:
    """`text` with its generated parts filled, and the sources that are missing.

    Parts without a source stay as they are.
    """
    missing = []

    def fill(match: re.Match[str]) -> str:
        name = match.group(2)
        if not has_file(root, name):
            missing.append(name)
            return match.group(0)
        return f"{match.group(1)}\n{(root / name).read_text().strip()}\n\n{match.group(3)}"

    return PART.sub(fill, text), missing


def main() -> int:
    """Renders or checks every document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, report")
    parser.add_argument("--root", type=Path, default=ROOT, help="of another repository")
    args = parser.parse_args()
    failed = False
    for document in documents(args.root):
        name = document.relative_to(args.root)
        text = document.read_text()
        rendered, missing = render(text, args.root)
        for source in missing:
            failed = True
            print(
                f"{name}: a part is generated from {source}, which the repository does not have;"
                " add the file or remove the part"
            )
        if rendered == text:
            continue
        if args.check:
            failed = True
            print(f"{name}: generated parts are out of date; run tools/render_docs.py")
        else:
            document.write_text(rendered)
            print(f"{name}: rendered")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
