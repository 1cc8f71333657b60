"""What tools/render_docs.py prints, writes and returns, in a small repository of its own."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "render_docs.py"
PART = "<!-- generated from {} -->\n{}<!-- end generated -->\n"


class RenderDocs(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        subprocess.run(["git", "init", "--quiet", self.root], check=True)
        (self.root / ".gitignore").write_text("/out/\n")
        (self.root / "out").mkdir()

    def render(self, *arguments: str) -> tuple[int, str]:
        """Exit status and output."""
        done = subprocess.run(
            [sys.executable, SCRIPT, "--root", self.root, *arguments],
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def test_missing_source_fails_and_is_named(self) -> None:
        text = PART.format("numbers.md", "old\n")
        self.write("README.md", text)
        message = (
            "README.md: a part is generated from numbers.md, which the repository does not have;"
            " add the file or remove the part\n"
        )
        self.assertEqual(self.render("--check"), (1, message))
        self.assertEqual(self.render(), (1, message))
        self.assertEqual((self.root / "README.md").read_text(), text)

    def test_ignored_source_is_a_missing_one(self) -> None:
        self.write("out/numbers.md", "1\n")
        self.write("README.md", PART.format("out/numbers.md", "\n1\n\n"))
        status, output = self.render("--check")
        self.assertEqual(status, 1)
        self.assertIn("generated from out/numbers.md, which the repository does not", output)

    def test_stale_part_is_reported_then_rendered(self) -> None:
        self.write("numbers.md", "1\n")
        self.write("README.md", PART.format("numbers.md", "old\n"))
        stale = "README.md: generated parts are out of date; run tools/render_docs.py\n"
        self.assertEqual(self.render("--check"), (1, stale))
        self.assertEqual(self.render(), (0, "README.md: rendered\n"))
        self.assertEqual(
            (self.root / "README.md").read_text(), PART.format("numbers.md", "\n1\n\n")
        )
        self.assertEqual(self.render("--check"), (0, ""))


if __name__ == "__main__":
    unittest.main()
