"""Runs bench programs and keeps what they measured, with where and when (called by ./run bench).

Every program prints one JSON object; date, commit, device and threads are added here, so that no
bench repeats it. Files are written whole or not at all.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def processor() -> str:
    """The processor's own name, with its number of usable cores."""
    name = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def commit() -> str:
    """The commit of the checkout, "-dirty" after it when files have changed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def run(program: Path, threads: int) -> dict:
    """The JSON object that `program` prints; its stderr passes through."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    process = subprocess.Popen([program], stdout=subprocess.PIPE, env=environment, cwd=ROOT)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)  # its own peak memory, not that of all children
    if status != 0:
        raise SystemExit(f"bench: {program.name} failed: {os.waitstatus_to_exitcode(status)}")
    return json.loads(output) | {"peak_rss_bytes": 1024 * usage.ru_maxrss}


def main() -> int:
    """Runs every program whose name contains the filter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", type=Path, default=ROOT / "build/bench/bin")
    parser.add_argument("--out", type=Path, default=ROOT / "results/bench")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("filter", nargs="?", default="")
    options = parser.parse_args()

    programs = sorted(p for p in options.binaries.glob("bench_*") if options.filter in p.name)
    if not programs:
        print(
            f'bench: no program in {options.binaries} has "{options.filter}" in its name',
            file=sys.stderr,
        )
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    for program in programs:
        print(f"bench: {program.name}", file=sys.stderr)
        record = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "commit": commit(),
            "device": processor(),
            "threads": options.threads,
        }
        # What the program itself says of these is empty or the same.
        record = run(program, options.threads) | record
        path = options.out / f"{program.name.removeprefix('bench_')}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=2) + "\n")
        partial.rename(path)
        print(path.read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
