"""Runs the experiments on log ratios: results/ratios/{bias,order,levels}.json.

    cmake --preset bench && ninja -C build/bench && tools/measure_ratios.py
    tools/ratios_table.py && tools/render_docs.py

The programs are bench/measure_ratio_*.cpp; minutes on two cores. Every file says with which commit,
command and device it was made.
"""

import argparse
import datetime
import json
from pathlib import Path

from bench import commit, processor, run

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "ratios"
EXPERIMENTS = ["bias", "order", "levels"]


def main() -> int:
    """Runs the experiments asked for, each into a file of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", type=Path, default=ROOT / "build/bench/bin")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(EXPERIMENTS)}; default all")
    options = parser.parse_args()
    if unknown := set(options.names) - set(EXPERIMENTS):
        parser.error(f"unknown {', '.join(sorted(unknown))}; allowed: {', '.join(EXPERIMENTS)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in options.names or EXPERIMENTS:
        program = options.binaries.resolve() / f"measure_ratio_{name}"
        record = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "commit": commit(),
            "device": processor(),
            "threads": options.threads,
            "command": f"tools/measure_ratios.py {name}",
        } | run(program, options.threads)
        path = FOLDER / f"{name}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1) + "\n")
        partial.rename(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
