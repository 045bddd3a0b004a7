"""Measure lpnested on a GPU: `python benchmarks/gpu.py [--help]`."""

import argparse
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import gpu_tables
import machine
import torch
from gpu_cases import COMPILED, EAGER, GRAPH, KERNELS, PROCESSES, GpuCase, described, never, plan
from gpu_processes import Worker

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
# Of the minutes; who is done early leaves the others more.
UNTIL = {EAGER: 0.45, KERNELS: 0.55, GRAPH: 0.72, COMPILED: 0.98}
HELP = """\
Times log_prob, its gradients in z and in the exponents, and sampling on a GPU, in float32, for
N = 2048 to 10,000,000 rows of three layouts, against Independent(Normal) and Gamma(1/p): eager,
replayed as a CUDA graph, and by torch.compile. Counts kernels by the profiler, and peak memory.

Each way of calling is a process of its own, and so is the counting of kernels: one that fails
takes none along, and code is compiled while the others measure. The case that matters most comes
first, every row is written as it comes, and what did not fit the minutes is listed.

examples:
  bash benchmarks/gpu.sh                        # the tests on the GPU, then this: 2.5 minutes
  python benchmarks/gpu.py                      # this alone: 1.5 minutes
  python benchmarks/gpu.py --minutes 5          # every case
  python benchmarks/gpu.py --device cpu --tiny --out runs/gpu    # a rehearsal where none is

files:
  gpu.json  every number, with the card, its driver and the versions
  gpu.md    the same as tables
"""


def options(argv: Sequence[str]) -> argparse.Namespace:
    """Flags."""
    parser = argparse.ArgumentParser(
        prog="gpu.py", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.5, help="it ends then (default 1.5)")
    parser.add_argument("--out", type=Path, help="folder of the files: benchmarks/results")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a few rows: does all of it run?")
    chosen = parser.parse_args(argv)
    reason = refusal(chosen)
    if reason:
        parser.error(reason)
    return chosen


def refusal(chosen: argparse.Namespace) -> str:
    """Why these flags make no sense, or nothing."""
    if not 0 < chosen.minutes < math.inf:
        return f"--minutes must be positive, but is {chosen.minutes}"
    if chosen.device == "cuda" and not torch.cuda.is_available():
        return (
            "torch finds no GPU here; to rehearse on the CPU, add "
            "`--device cpu --tiny --out FOLDER`"
        )
    published = chosen.out is None or chosen.out.resolve() == RESULTS
    if published and (chosen.device == "cpu" or chosen.tiny):
        return "a rehearsal is no result: name another folder by --out"
    return ""


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 something was measured, 1 nothing was, 130 stopped."""
    began = time.time()
    chosen = options(argv)
    folder = chosen.out or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    workers = {name: Worker(name, chosen.device, chosen.tiny) for name in PROCESSES}
    try:
        return measure(workers, beginning(chosen), folder, began)
    finally:
        for worker in workers.values():
            worker.stop()


def measure(
    workers: Mapping[str, Worker], results: dict[str, Any], folder: Path, began: float
) -> int:
    """Rows of one process after the other, each written as it comes."""
    stopped = False
    try:
        for name, worker in workers.items():
            for row in worker.rows(began + 60 * results["budget_minutes"] * UNTIL[name]):
                results["rows"].append(row)
                write(results, folder, began)
            results["failed"] += worker.failure()
    except KeyboardInterrupt:
        stopped = True
        print("stopped; what was measured is kept", file=sys.stderr)
    write(results, folder, began)
    print(gpu_tables.summary(results))
    print(f"Written to {folder}: gpu.json, gpu.md", flush=True)
    return 130 if stopped else int(not any(row.get("rounds") for row in results["rows"]))


def beginning(chosen: argparse.Namespace) -> dict[str, Any]:
    """Results without rows."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "rehearsal": chosen.tiny or chosen.device == "cpu",
        "budget_minutes": chosen.minutes,
        "minutes": 0.0,
        "machine": machine.describe(),
        "card": card(chosen.device),
        "tiny": chosen.tiny,
        "too_large": described(never(chosen.tiny)),
        "failed": [],
        "rows": [],
    }


def card(device: str) -> dict[str, Any] | None:
    """The GPU, its driver and CUDA."""
    if device != "cuda":
        return None
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "memory_gib": round(found.total_memory / 2**30, 1),
        "capability": f"{found.major}.{found.minor}",
        "driver": driver(),
        "cuda": torch.version.cuda,
    }


def driver() -> str | None:
    """Its version, where nvidia-smi is there to tell."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None


def left_out(rows: Sequence[dict[str, Any]], tiny: bool) -> list[str]:
    """The cases that were planned and have no row."""
    names = GpuCase.__dataclass_fields__
    there = {GpuCase(**{name: row[name] for name in names}) for row in rows}
    planned = (case for name in PROCESSES for case in plan(name, tiny))
    return described(case for case in planned if case not in there)


def write(results: dict[str, Any], folder: Path, began: float) -> None:
    """Both files, each whole or not at all; a row of the first on a line of its own."""
    results["minutes"] = (time.time() - began) / 60
    results["left_out"] = left_out(results["rows"], results["tiny"])
    rows = ",\n".join("    " + json.dumps(row) for row in results["rows"])
    text = json.dumps(results | {"rows": []}, indent=2)
    text = text.replace('"rows": []', f'"rows": [\n{rows}\n  ]') + "\n"
    for name, content in (("gpu.json", text), ("gpu.md", gpu_tables.markdown(results))):
        temporary = folder / f".{name}"
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(folder / name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
