"""Checks the Markdown files: links, named files and tests exist, quoted programs are the real ones.

A code block right after a line `<!-- quoted from PATH -->` must be a contiguous part of that file.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
# Paths of the repository written as code: `docs/errors.md`, `tools/check_docs.py`.
FOLDERS = "include|src|tests|docs|tools|examples|experiments|models|bench|results|cmake"
PATH = re.compile(rf"`((?:{FOLDERS})/[A-Za-z0-9_./-]+)`")
QUOTE = re.compile(r"<!-- quoted from (\S+) -->\s*```\w*\n(.*?)```", re.DOTALL)
# `./run test FILTER`, up to the end of the command.
FILTER = re.compile(r"\./run test +(?!#|--)'?([\w./*:-]+)'?")
SUITE = re.compile(r"^\w*TEST\w*\( *(\w+)", re.MULTILINE)


def test_exists(pattern: str) -> bool:
    """Whether `./run test PATTERN` runs something.

    As in run: with a dot or star it names suites, else it is part of a test file's name.
    """
    files = sorted((ROOT / "tests").glob("*/*_test.cpp"))
    if not re.search("[.*:]", pattern):
        return any(
            pattern in f"{file.parent.name}/{file.stem.removesuffix('_test')}" for file in files
        )
    suites = {name for file in files for name in SUITE.findall(file.read_text())}
    return all(part.split(".")[0].strip("*") in suites for part in pattern.split(":"))


def documents() -> list[Path]:
    """Every Markdown file that git knows or would add."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def check(document: Path) -> list[str]:
    """What is wrong with one document."""
    text = document.read_text()
    name = document.relative_to(ROOT)
    problems = []
    for link in LINK.findall(text):
        if (
            "://" not in link
            and not link.startswith("mailto:")
            and not (document.parent / link).exists()
        ):
            problems.append(f"{name}: link to {link}, which does not exist")
    for path in PATH.findall(text):
        if not (ROOT / path).exists():
            problems.append(f"{name}: names `{path}`, which does not exist")
    for pattern in FILTER.findall(text):
        if not test_exists(pattern):
            problems.append(f"{name}: ./run test {pattern} runs no test")
    for path, quoted in QUOTE.findall(text):
        source = ROOT / path
        if not source.is_file():
            problems.append(f"{name}: quotes {path}, which does not exist")
        elif quoted.strip() not in source.read_text():
            problems.append(f"{name}: the block quoted from {path} is no longer in that file")
    return problems


def main() -> int:
    """Prints every problem; exit status 1 when there is one."""
    problems = [problem for document in documents() for problem in check(document)]
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
