"""Times builds: results/bench/build.json (not part of ./run bench: it takes many minutes).

    tools/bench_build.py

Without ccache: every preset named in PRESETS from an empty folder, then one source file touched,
built again and its tests run, as after an edit.
"""

import json
import os
import shutil
import subprocess
import sys
import time

from bench import ROOT, commit, processor

PRESETS = ("release", "dev")
EDITED = "src/ratio.cpp"
FILTER = "LogRatio*"
FOLDER = ROOT / "build" / "timed"
ENVIRONMENT = dict(os.environ, CCACHE_DISABLE="1", OMP_NUM_THREADS="1")


def seconds(*command: object) -> float:
    """Wall time of a command that must succeed; its output is only shown when it does not."""
    start = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def from_clean(preset: str) -> dict:
    """Configure and build into an empty folder."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    configure = seconds("cmake", "--preset", preset, "-B", FOLDER)
    return {
        "configure_seconds": configure,
        "build_seconds": seconds("ninja", "-C", FOLDER, "-j", os.cpu_count()),
    }


def after_edit() -> dict:
    """One touched source file to its tests, in the dev build that from_clean() left."""
    os.utime(ROOT / EDITED)
    return {
        "edited": EDITED,
        "build_seconds": seconds("ninja", "-C", FOLDER, "motet_tests"),
        "test_seconds": seconds(FOLDER / "bin" / "motet_tests", f"--gtest_filter={FILTER}"),
    }


def main() -> int:
    """Times all and writes the file."""
    record = {"bench": "build", "commit": commit(), "device": processor(), "from_clean": {}}
    for preset in PRESETS:
        record["from_clean"][preset] = from_clean(preset)
    record["one_file_to_test"] = after_edit()
    shutil.rmtree(FOLDER)
    out = ROOT / "results" / "bench" / "build.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2) + "\n")
    print(out.read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
