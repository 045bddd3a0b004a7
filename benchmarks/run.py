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

import tables
import torch
from peers import IN_VALUE, MODES, NAIVE, NORMAL, OURS, RECURSION, Problem, contenders
from targets import CASES, FOURS, GAMMA, LARGE, MANY, SMALL, WIDE
from timing import Row, interleave, machine, peak, said, spread
from torch.distributions import Gamma, Independent, Normal
from torch.utils.benchmark import timer

from lpnested import ISA

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
HELP = """\
Times log_prob and its gradients against Independent(Normal), a plain recursion, an ISA as a user
writes it, and all of them compiled; then sampling, constructors, two threads, import, and a
training step and MIG of the example; counts memory; and says which targets were met or missed.

In every round each contender of a case is timed once, in an order drawn anew, and ratios are taken
within rounds: they hold on a busy machine. Leave it alone for a result to be kept.

groups: import, constructor, memory, sample, log_prob, threads, example

examples:
  python benchmarks/run.py                         # everything: about half an hour
  python benchmarks/run.py --quick                 # some of every group: three minutes
  python benchmarks/run.py --only log_prob sample  # some groups
  LPNESTED_KERNELS=off python benchmarks/run.py --quick    # another backend of the density

files:
  table.md      what was met, what was missed and by how much, every row
  results.json  every number, with the machine, settings and versions
  log_prob.png  log_prob beside its peers

Ctrl-C keeps what has been measured.
"""
GIB = 2**30
# Without the first three, glibc returns every large temporary to the system, and page faults, not
# arithmetic, are what is measured from a few MB on. Sleeping threads: spinning ones are unusable
# on a machine that does anything else.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(8 * GIB),
    "MALLOC_TRIM_THRESHOLD_": str(32 * GIB),
    "MALLOC_TOP_PAD_": str(GIB // 16),
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": "1",  # a Timer sets those of torch
    "MKL_NUM_THREADS": "1",
}
IMPORT = """
from time import process_time; began = process_time()
import torch; middle = process_time()
import lpnested; print(middle - began, process_time() - middle)
"""


def imports(quick: bool) -> Iterator[Row]:
    """In fresh interpreters that may keep bytecode; the first only fills the caches."""
    with TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        run = partial(subprocess.run, capture_output=True, text=True, check=True, env=environment)
        command = [sys.executable, "-c", IMPORT]
        words = [run(command).stdout.split() for _ in range(3 if quick else 10)][1:]
    of_torch, ours = (spread([1e3 * float(w) for w in each]) for each in zip(*words, strict=True))
    yield {"unit": "ms", "values": {"torch": of_torch, OURS: ours}}


def constructor(quick: bool) -> Iterator[Row]:
    """As a training step makes it, and as a user does."""
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
    """Peak of what is allocated at once, in sizes of z."""
    for mode in (IN_VALUE,) if quick else MODES:
        problem = Problem(FOURS, (MANY,), mode)
        calls, size = contenders(problem), problem.value().nbytes
        peaks = {name: peak(call) / size for name, call in calls.items()}
        yield {"mode": mode, "unit": "sizes of z", "values": peaks}


def sample(quick: bool) -> Iterator[Row]:
    """In units of one Gamma(1/p) for each coordinate, all of the same shape."""
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
    """Every case in every mode; compiled too, but for what would be minutes of compiling each."""
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
    """The same call with one and with two, in the same rounds."""
    for mode in (IN_VALUE,) if quick else MODES:
        call = contenders(Problem(FOURS, (MANY,), mode), [OURS])[OURS]
        calls, counts = {"one thread": call, "two threads": call}, {"two threads": 2}
        row = interleave(calls, "one thread", 1 if quick else 10, counts, timer)
        yield {"case": f"5 x 4, N = {MANY:,}", "mode": mode} | row


def example(quick: bool) -> Iterator[Row]:
    """A training step of examples/isa_vae, and with two threads its MIG."""
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
    """Flags."""
    parser = argparse.ArgumentParser(
        prog="run.py", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer cases, fewer rounds")
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="GROUP", help="these groups")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the files, which are replaced: by default benchmarks/results, or its "
        "subfolder partial for a run with --quick or --only",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 something failed, 130 stopped."""
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
        print("\nstopped; what was measured is kept", file=sys.stderr)
    return finish(results, folder)


def measure(names: Sequence[str], results: dict[str, Any], folder: Path) -> None:
    """Rows of one group after the other, each written as it comes."""
    began = time.monotonic()
    for count, name in enumerate(names, 1):
        print(f"[{count}/{len(names)}] {name}", flush=True)
        torch.manual_seed(0)
        try:
            for row in GROUPS[name](results["quick"]):
                results["rows"].append({"group": name} | row)
                results["minutes"] = (time.monotonic() - began) / 60
                write(results, folder)
                print(f"  {results['minutes']:5.1f} min  {told(row)}", flush=True)
        except Exception as error:
            results["failed"].append(f"Failed: {name}: `{said(error)}`")
            print(results["failed"][-1], file=sys.stderr)


def told(row: Row) -> str:
    """In one line: what it is, and ours."""
    names = [name for name in (*row.get("times", ()), *row.get("values", ())) if name != NORMAL]
    found = "".join(f"  {name} {tables.cell(row, name)}" for name in names[:2])
    return (
        ", ".join(tables.words(row))
        + ":"
        + found
        + "".join(f"  {e}" for e in row.get("errors", {}).values())
    )


def finish(results: dict[str, Any], folder: Path) -> int:
    """Write everything, and say what there is."""
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
    """results.json, whole or not at all, each row on a line of its own."""
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
