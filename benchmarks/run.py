"""Measure lpnested against plain torch: `python benchmarks/run.py [--help]`."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import curves
import machine
import measure_log_prob
import tables
from groups import GROUPS, jobs
from plan import Case, Setting
from targets import TARGETS
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
HELP = """\
Times log_prob and its gradients, sampling, torch.compile, import and the parts of the example that
have a time limit; counts memory and kernels; and compares all that with plain torch and with the
project's targets. Contenders of a case are called in turn, so their ratios hold on a busy machine;
but leave it alone for a result to be kept.

groups:
  import     time of `import lpnested` after torch
  memory     peak memory, and kernels launched
  log_prob   log_prob, and with gradients, on four layouts
  sample     sampling
  scaling    how time grows with N, n, depth and nodes
  example    dSprites, a training step, MIG
  compile    torch.compile(fullgraph=True), against eager

examples:
  python benchmarks/run.py                         # everything: about 25 minutes on two cores
  python benchmarks/run.py --quick                 # under two minutes
  python benchmarks/run.py --only log_prob sample  # some groups

Ctrl-C keeps what has been measured.
"""


def options(argv: Sequence[str]) -> argparse.Namespace:
    """Flags."""
    parser = argparse.ArgumentParser(
        prog="run.py", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer cases, fewer rounds")
    parser.add_argument(
        "--only", nargs="+", choices=list(GROUPS), metavar="GROUP", help="these groups alone"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the results, whose files are replaced: by default benchmarks/results, "
        "or its subfolder partial for a run with --quick or --only",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 something failed, 130 stopped."""
    chosen = options(argv)
    partial = chosen.quick or chosen.only
    folder = chosen.out or (RESULTS / "partial" if partial else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    planned = jobs(chosen.only or list(GROUPS), chosen.quick)
    results = beginning(chosen.quick, planned)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    try:
        for row in measured(planned, chosen.quick, results["failed"]):
            results["rows"].append(row)
            results["minutes"] = (time.monotonic() - began) / 60
            write(json_text(results), folder / "results.json")
        results["complete"] = True
    except KeyboardInterrupt:
        print("stopped; what was measured is kept", file=sys.stderr)
    return finish(results, folder)


def beginning(quick: bool, planned: list[tuple[str, Setting, list[Case]]]) -> dict[str, Any]:
    """Results without rows."""
    settings = {str(setting): setting.environment() for _, setting, _ in planned}
    chosen = {group for group, _, _ in planned}
    return {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "quick": quick,
        "complete": False,
        "minutes": 0.0,
        "machine": machine.describe(),
        "environments": settings,
        "load": [machine.load()],
        "omitted": measure_log_prob.omitted() if "log_prob" in chosen else [],
        "failed": [],
        "rows": [],
    }


def measured(
    planned: list[tuple[str, Setting, list[Case]]], quick: bool, failed: list[str]
) -> Iterator[dict[str, Any]]:
    """Rows as they come, from one process after the other."""
    total = sum(len(cases) for _, _, cases in planned)
    with tqdm(total=total, unit="case", smoothing=0) as bar:
        for group, setting, cases in planned:
            bar.set_description(f"{group}, {setting}")
            count = 0
            for row in rows_of(group, setting, quick, failed):
                count += 1
                bar.update()
                yield row
            bar.update(len(cases) - count)


def rows_of(group: str, setting: Setting, quick: bool, failed: list[str]) -> Iterator[Any]:
    """Rows of one process, which ends with this generator however that ends."""
    command = [sys.executable, str(HERE / "worker.py"), group]
    for name, value in setting.keys().items():
        command += [f"--{name}", str(value)]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as messages:
        process = subprocess.Popen(
            [*command, "--quick"] if quick else command,
            env=os.environ | setting.environment(),
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            start_new_session=True,  # a group of its own: Ctrl-C is for us alone
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
            if process.wait() != 0:
                messages.seek(0)
                tail = messages.read()[-1500:]
                failed.append(f"Failed: {group}, {setting}: status {process.returncode}.")
                print(f"\n{failed[-1]}\n{tail}", file=sys.stderr)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started itself
                process.wait()
            process.stdout.close()


def finish(results: dict[str, Any], folder: Path) -> int:
    """Write everything, and say what there is."""
    if not results["rows"]:
        print("nothing was measured, nothing was written", file=sys.stderr)
        return 1 if results["complete"] else 130
    results["load"].append(machine.load())
    write(json_text(results), folder / "results.json")
    write(tables.markdown(results), folder / "table.md")
    pictures = curves.draw(results, folder)
    print(summary(results, folder, pictures), flush=True)
    errors = len(results["failed"]) + sum("error" in row for row in results["rows"])
    return 130 if not results["complete"] else int(errors > 0)


def summary(results: dict[str, Any], folder: Path, pictures: list[Path]) -> str:
    """The targets, and the files."""
    lines = []
    for target in TARGETS:
        found = target.measure(results["rows"])
        if found is not None:
            what, value, limit, verdict = tables.target_line(target, found)
            lines.append(f"  {verdict.strip('*'):7} {value:28} {limit:16} {what}")
    failed = "".join(f"\n{line}" for line in results["failed"])
    names = "".join(f"\n  {path.name}" for path in pictures)
    return f"""
{len(results["rows"])} cases in {results["minutes"]:.1f} minutes, {len(lines)} targets measured:
{chr(10).join(lines)}
{failed}
Written to {folder}:
  results.json  every number, with the machine, settings and versions
  table.md      the same as tables{names}"""


def json_text(results: dict[str, Any]) -> str:
    """Indented, but each row on a line of its own."""
    rows = ",\n".join("    " + json.dumps(row, allow_nan=False) for row in results["rows"])
    rest = json.dumps(results | {"rows": []}, indent=2, allow_nan=False)
    return rest.replace('"rows": []', f'"rows": [\n{rows}\n  ]') + "\n"


def write(text: str, path: Path) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
