"""Measure lpnested against plain torch: `python benchmarks/run.py [--help]`."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.distributions import Gamma, Independent, Normal
from torch.utils.benchmark import timer

import tables
from lpnested import ISA
from peers import IN_VALUE, MODES, NAIVE, NORMAL, OURS, RECURSION, Problem, contenders
from targets import CASES, FOURS, GAMMA, LARGE, MANY, SMALL, WIDE
from timing import Row, interleave, machine, one_line, peak, spread

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
HELP = """\
Times log_prob and its gradients against Independent(Normal), a plain recursion, an ISA as a user
would write it, and all of them compiled; then sampling, constructors, two threads, import, and a
training step and MIG of the example; measures memory; and reports targets met and missed.

In every round each contender of a case is timed once, in random order, and ratios are taken within
rounds, which makes them robust on a busy machine. For results to publish, leave the machine idle.

groups: import, constructor, memory, sample, log_prob, threads, example

examples:
  python benchmarks/run.py                         # everything: about half an hour
  python benchmarks/run.py --quick                 # part of every group: three minutes
  python benchmarks/run.py --only log_prob sample  # some groups
  LPNESTED_KERNELS=off python benchmarks/run.py --quick    # another backend of the density

files:
  table.md      targets met, targets missed and by how much, and every row
  results.json  every number, with the machine, settings and versions
  log_prob.png  log_prob compared to its peers

Ctrl-C keeps the measurements so far.
"""
GIB = 2**30
# Without the first three, glibc returns every large temporary to the system, and from a few MB on
# page faults dominate the measurement. Threads wait passively, since spinning is unusable on a
# shared machine.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(8 * GIB),
    "MALLOC_TRIM_THRESHOLD_": str(32 * GIB),
    "MALLOC_TOP_PAD_": str(GIB // 16),
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": "1",  # a Timer sets torch's own number
    "MKL_NUM_THREADS": "1",
}
IMPORT = """
from time import process_time; began = process_time()
import torch; middle = process_time()
import lpnested; print(middle - began, process_time() - middle)
"""


def imports(quick: bool) -> Iterator[Row]:
    """Time imports in fresh interpreters with bytecode caches, which the first one fills."""
    with TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        run = partial(subprocess.run, capture_output=True, text=True, check=True, env=environment)
        command = [sys.executable, "-c", IMPORT]
        words = [run(command).stdout.split() for _ in range(3 if quick else 10)][1:]
    of_torch, ours = (spread([1e3 * float(w) for w in each]) for each in zip(*words, strict=True))
    yield {"unit": "ms", "values": {"torch": of_torch, OURS: ours}}


def constructor(quick: bool) -> Iterator[Row]:
    """Time constructors as in a training step, and as in interactive use."""
    p0, p = Problem(FOURS, (1,)).exponents()
    zeros, ones = torch.zeros(20), torch.ones(20)

    def normal(checked: bool) -> Independent:
        return Independent(Normal(zeros, ones, validate_args=checked), 1, validate_args=checked)

    for case, given in (("of tensors", (p0, p)), ("of numbers, validated", (2.1, 2.2))):
        checked = case != "of tensors"
        ours = partial(ISA, FOURS, *given, validate_args=checked)
        calls = {OURS: ours, NORMAL: partial(normal, checked)}
        yield {"case": case} | interleave(calls, NORMAL, 0.5 if quick else 3)


def memory(quick: bool) -> Iterator[Row]:
    """Measure the peak allocated memory, in sizes of z."""
    for mode in (IN_VALUE,) if quick else MODES:
        problem = Problem(FOURS, (MANY,), mode)
        calls, size = contenders(problem), problem.value().nbytes
        peaks = {name: peak(call) / size for name, call in calls.items()}
        yield {"mode": mode, "unit": "sizes of z", "values": peaks}


def sample(quick: bool) -> Iterator[Row]:
    """Time sampling, relative to one Gamma(1/p) per coordinate, all of the same shape."""
    for count in (SMALL, LARGE):
        problem = Problem(FOURS, (count,))
        p0, p = problem.exponents()
        gamma = Gamma(1 / p[0], torch.ones(()), validate_args=False)
        calls = {
            OURS: partial(problem.distribution(p0, p).sample, (count,)),
            GAMMA: partial(gamma.sample, (count, problem.tree.dim)),
            "torch.randn": partial(torch.randn, count, problem.tree.dim),
        }
        yield {"N": count} | interleave(calls, GAMMA, 1 if quick else 5)


def log_prob(quick: bool) -> Iterator[Row]:
    """Time every case in every mode, and compiled unless compilation takes minutes."""
    for case, (problem, limits) in CASES.items():
        if quick and not limits:
            continue
        compiled = [OURS, NORMAL] if case == WIDE else [OURS, NORMAL, RECURSION, NAIVE]
        for mode in MODES:
            skipped = quick and (case, mode) != (next(iter(CASES)), IN_VALUE)
            chosen = () if skipped else compiled
            calls = contenders(replace(problem, mode=mode), compiled=chosen)
            yield {"case": case, "mode": mode} | interleave(calls, NORMAL, 0.5 if quick else 5)


def threads(quick: bool) -> Iterator[Row]:
    """Time the same call with one and with two threads, in the same rounds."""
    for mode in (IN_VALUE,) if quick else MODES:
        call = contenders(Problem(FOURS, (MANY,), mode), [OURS])[OURS]
        calls, counts = {"one thread": call, "two threads": call}, {"two threads": 2}
        row = interleave(calls, "one thread", 1 if quick else 10, counts, timer)
        yield {"case": f"5 x 4, N = {MANY:,}", "mode": mode} | row


def example(quick: bool) -> Iterator[Row]:
    """Time a training step of examples/isa_vae and, with two threads, its MIG."""
    sys.path.append(str(HERE.parent / "examples" / "isa_vae"))
    import measure

    steps = measure.training_steps(256 if quick else 2048)
    yield {"case": "training step"} | interleave(steps, measure.ANALYTIC, 1 if quick else 150)
    torch.set_num_threads(2)
    found = measure.mig_error(11_520, samples=60 if quick else 250, runs=2 if quick else 4)
    yield {"case": "MIG error", "unit": "nats", "values": found}
    if not quick:
        yield {"case": "MIG", "unit": "s", "values": measure.mig_time()}
    torch.set_num_threads(1)


GROUPS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "import": imports,
    "constructor": constructor,
    "memory": memory,
    "sample": sample,
    "log_prob": log_prob,
    "threads": threads,
    "example": example,
}


def options(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="run.py", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer cases, fewer rounds")
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="GROUP", help="only these")
    parser.add_argument(
        "--out",
        type=Path,
        help="output folder, whose files are replaced (default benchmarks/results, or its "
        "subfolder partial with --quick or --only)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Return the exit status: 0 if done, 1 if something failed, 130 if stopped."""
    chosen = options(argv)
    folder = chosen.out or (RESULTS / "partial" if chosen.quick or chosen.only else RESULTS)
    results: dict[str, Any] = {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "quick": chosen.quick,
        "complete": False,
        "machine": machine(),
        "environment": ENVIRONMENT,
        "failed": [],
        "rows": [],
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        measure(chosen.only or list(GROUPS), results, folder)
        results["complete"] = True
    except KeyboardInterrupt:
        print("\nstopped; measurements so far are kept", file=sys.stderr)
    return finish(results, folder)


def measure(names: Sequence[str], results: dict[str, Any], folder: Path) -> None:
    """Measure one group after the other, and write each row immediately."""
    began = time.monotonic()
    for count, name in enumerate(names, 1):
        print(f"[{count}/{len(names)}] {name}", flush=True)
        torch.manual_seed(0)
        try:
            for row in GROUPS[name](results["quick"]):
                results["rows"].append({"group": name} | row)
                results["minutes"] = (time.monotonic() - began) / 60
                write(results, folder)
                print(f"  {results['minutes']:5.1f} min  {summary_line(row)}", flush=True)
        except Exception as error:
            results["failed"].append(f"Failed: {name}: `{one_line(error)}`")
            print(results["failed"][-1], file=sys.stderr)


def summary_line(row: Row) -> str:
    """Summarise a row in one line: the case and our numbers."""
    names = [name for name in (*row.get("times", ()), *row.get("values", ())) if name != NORMAL]
    found = "".join(f"  {name} {tables.cell(row, name)}" for name in names[:2])
    return (
        ", ".join(tables.words(row))
        + ":"
        + found
        + "".join(f"  {e}" for e in row.get("errors", {}).values())
    )


def finish(results: dict[str, Any], folder: Path) -> int:
    """Write all files and print a summary."""
    if not results["rows"]:
        print("nothing was measured, nothing was written", file=sys.stderr)
        return 1 if results["complete"] else 130
    write(results, folder)
    (folder / "table.md").write_text(tables.markdown(results), encoding="utf-8")
    names = ["table.md", "results.json"]
    if density := [row for row in results["rows"] if row["group"] == "log_prob"]:
        tables.draw(density, folder / "log_prob.png")
        names.append("log_prob.png")
    print(f"\n{tables.summary(results)}\nWritten to {folder}: {', '.join(names)}", flush=True)
    failed = results["failed"] or any(row.get("errors") for row in results["rows"])
    return 130 if not results["complete"] else int(bool(failed))


def write(results: dict[str, Any], folder: Path) -> None:
    """Write results.json atomically, one row per line."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join("    " + json.dumps(row, allow_nan=False) for row in results["rows"])
    text = json.dumps(results | {"rows": []}, indent=2)
    temporary = folder / ".results.json"
    temporary.write_text(text.replace('"rows": []', f'"rows": [\n{rows}\n  ]') + "\n", "utf-8")
    temporary.replace(folder / "results.json")


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | ENVIRONMENT)
    sys.exit(main(sys.argv[1:]))
