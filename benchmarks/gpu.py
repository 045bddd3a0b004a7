"""Measure lpnested on a GPU: `python benchmarks/gpu.py [--help]`."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from gpu_rows import plan
from peers import NORMAL, OURS
from tables import duration, spread, table
from timing import Row, machine

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BACKENDS = {"reference": "0", "triton": "1"}  # LPNESTED_TRITON
if find_spec("triton") is None:
    del BACKENDS["triton"]
HELP = """\
Times log_prob, its gradients and sampling on a GPU, in float32, against Independent(Normal) and
Gamma(1/p): eager, replayed as a CUDA graph, and with torch.compile; and counts the launches per
call. This is done for the reference and, if installed, for Triton (LPNESTED_TRITON=1), each in a
separate process, so that a failure does not affect the other. Every row is written immediately;
cases that did not fit into the time are listed.

examples:
  bash benchmarks/gpu.sh                        # the tests on the GPU, then this: 2.5 minutes
  python benchmarks/gpu.py                      # only this: 1.5 minutes
  python benchmarks/gpu.py --minutes 5          # with time for all compiled cases
  python benchmarks/gpu.py --device cpu --tiny --out runs/gpu    # a rehearsal without a GPU

files: gpu.json has every number, with the GPU and the versions; gpu.md has them as tables
"""


def process(
    backend: str, until: float, chosen: argparse.Namespace, failed: list[str]
) -> Iterator[Row]:
    """Yield the rows of one backend; its process is killed shortly after its time is up."""
    command = [sys.executable, str(HERE / "gpu_rows.py"), str(until), chosen.device]
    command += ["tiny"] if chosen.tiny else []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as messages:
        child = subprocess.Popen(
            command,
            env=os.environ | {"LPNESTED_TRITON": BACKENDS[backend]},
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            start_new_session=True,  # includes compiler processes
        )
        killer = threading.Timer(max(0, until + 1 - time.time()), end, [child])
        killer.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                if line.endswith("\n"):  # a killed process may leave half a line
                    yield json.loads(line)
            if child.wait():
                messages.seek(0)
                tail = " ".join(messages.read()[-500:].split())
                late = child.returncode == -signal.SIGKILL
                reason = "cut off when its time was up" if late else f"ended: {tail}"
                failed.append(f"{backend}: {reason}")
        finally:
            killer.cancel()
            end(child)
            with child:  # closes the pipe and waits
                pass


def end(child: subprocess.Popen[str]) -> None:
    """Kill a process with its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def options(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="gpu.py", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.5, help="time limit (default 1.5)")
    parser.add_argument("--out", type=Path, help="output folder (default benchmarks/results)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a few rows, as a dry run")
    chosen = parser.parse_args(argv)
    if reason := refusal(chosen):
        parser.error(reason)
    return chosen


def refusal(chosen: argparse.Namespace) -> str:
    """Return why these flags are invalid, or an empty string."""
    if not 0 < chosen.minutes < float("inf"):
        return f"--minutes must be positive, but is {chosen.minutes}"
    if chosen.device == "cuda" and not torch.cuda.is_available():
        return "torch finds no GPU here; for a rehearsal add `--device cpu --tiny --out FOLDER`"
    if (chosen.device == "cpu" or chosen.tiny) and (chosen.out or RESULTS).resolve() == RESULTS:
        return "a rehearsal is not a result: name another folder with --out"
    return ""


def main(argv: Sequence[str]) -> int:
    """Return the exit status: 0 if something was measured, 1 if nothing was, 130 if stopped."""
    began, chosen = time.time(), options(argv)
    results = {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "rehearsal": chosen.tiny or chosen.device == "cpu",
        "left_out": [],
        "machine": machine(),
        "card": card() if chosen.device == "cuda" else "no GPU",
        "backends": {},
        "failed": [],
        "rows": [],
    }
    folder, stopped = chosen.out or RESULTS, False
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for count, name in enumerate(BACKENDS, 1):  # unused time goes to the next backend
            until = began + 60 * chosen.minutes * count / len(BACKENDS)
            for row in process(name, until, chosen, results["failed"]):
                if "backends" in row:
                    results["backends"][name] = row["backends"]
                else:
                    results["rows"].append({"backend": name} | row)
                results["minutes"] = (time.time() - began) / 60
                write(results, folder)
    except KeyboardInterrupt:
        stopped = True
        print("stopped; measurements so far are kept", file=sys.stderr)
    write(results, folder)
    print(f"{times(results)}\nWritten to {folder}: gpu.json, gpu.md", flush=True)
    return 130 if stopped else int(not any(row.get("times") for row in results["rows"]))


def card() -> str:
    """Describe the GPU, its driver and CUDA."""
    found = torch.cuda.get_device_properties(0)
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        driver = done.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        driver = "unknown"
    return (
        f"{found.name} ({found.total_memory / 2**30:.1f} GiB, compute capability "
        f"{found.major}.{found.minor}, driver {driver}, CUDA {torch.version.cuda})"
    )


def write(results: dict[str, Any], folder: Path) -> None:
    """Write both files atomically."""
    results["left_out"] = left_out(results)
    text = json.dumps(results | {"rows": []}, indent=2)
    lines = ",\n".join("    " + json.dumps(row) for row in results["rows"])
    text = text.replace('"rows": []', f'"rows": [\n{lines}\n  ]') + "\n"
    for name, content in (("gpu.json", text), ("gpu.md", markdown(results))):
        temporary = folder / f".{name}"
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(folder / name)


KEYS = ("way", "layout", "N", "call")


def left_out(results: dict[str, Any]) -> list[str]:
    """Return the planned cases without a row."""
    there = {(row["backend"], *(row[key] for key in KEYS)) for row in results["rows"]}
    cases = [(name, *case) for name in BACKENDS for case in plan(results["rehearsal"])]
    return [", ".join(map(str, case)) for case in cases if case not in there]


def markdown(results: dict[str, Any]) -> str:
    """Format the GPU, times, launches, failures and cases left out."""
    kind = "**A rehearsal, not a result.** " if results["rehearsal"] else ""
    used = "; ".join(f"{name}: `{found}`" for name, found in results["backends"].items())
    versions = ", ".join(f"{k} {v}" for k, v in results["machine"]["versions"].items())
    errors = results["failed"] + [
        f"{', '.join(str(row[key]) for key in ('backend', *KEYS))}, {name}: `{error}`"
        for row in results["rows"]
        for name, error in row.get("errors", {}).items()
    ]
    parts = [
        f"{kind}{results['card']}. {results['date']}, {results['minutes']:.1f} minutes; "
        f"{versions}. Backends: {used}.",
        "float32; medians over interleaved rounds, with quartiles in brackets, relative to the "
        "normal or, for sampling, to the same number of gammas; + in exponents is relative to the "
        "normal's backward in value.",
        times(results),
        "## Launches per call\n\n" + counts(results),
    ]
    for title, lines in (("Errors", errors), ("Out of time", results["left_out"])):
        parts += [f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines)] if lines else []
    return "\n\n".join(parts) + "\n"


def by_case(results: dict[str, Any], what: str) -> dict[tuple[Any, ...], dict[str, Row]]:
    """Group the rows that have such numbers by case and backend."""
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in results["rows"]:
        if row.get(what):
            found.setdefault(tuple(row[key] for key in KEYS), {})[row["backend"]] = row
    return found


def times(results: dict[str, Any]) -> str:
    """Tabulate the times of lpnested per backend, relative to the first backend's baseline."""
    lines = []
    for (way, layout, count, call), rows in by_case(results, "times").items():
        row = next(iter(rows.values()))
        unit = duration(row["times"][row["reference"]]["seconds"][0])
        ours = [rows[name]["times"].get(OURS) if name in rows else None for name in BACKENDS]
        cells = [spread(each["ratio"]) if each else "-" for each in ours]
        lines.append([layout, f"{count:,}", call, way, unit, *cells])
    return table(("layout", "N", "call", "way", "normal or gammas", *BACKENDS), lines)


def counts(results: dict[str, Any]) -> str:
    """Tabulate the launches of lpnested per backend, and of the normal."""
    lines = []
    for (_, layout, _, call), rows in by_case(results, "values").items():
        normal = next(iter(rows.values()))["values"][NORMAL]
        ours = [str(rows[name]["values"][OURS]) if name in rows else "-" for name in BACKENDS]
        lines.append([layout, call, str(normal), *ours])
    return table(("layout", "call", NORMAL, *BACKENDS), lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
