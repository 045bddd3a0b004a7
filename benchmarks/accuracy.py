"""Measure the C of the accuracy contract: the largest error in units of eps times the condition.

Thousands of random problems are compared with 50 digits, for every quantity, dtype and available
backend. Needs the packages of the tests; writes ``results/accuracy.json`` and ``.md``.
"""

import argparse
import json
import platform
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, given, seed, settings
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import lpnested  # noqa: E402
from backends import BACKENDS, KERNELS, using  # noqa: E402
from problems import Conditioned  # noqa: E402
from units import SUBJECTS, Subject, worst  # noqa: E402

DTYPES = {"float32": torch.float32, "float64": torch.float64}
Largest = dict[str, dict[str, float]]  # by quantity, and by "backend, dtype"


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=2000, help="per kind and dtype")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tqdm(total=options.problems * len(SUBJECTS) * len(DTYPES), unit="problem") as bar:
        largest = {
            name: measure(subject, options.problems, options.seed, lambda: bar.update())
            for name, subject in SUBJECTS.items()
        }
    results = describe(options.problems, options.seed) | {"largest": largest}
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "accuracy.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.results / "accuracy.md").write_text(markdown(results))


def measure(subject: Subject, problems: int, start: int, tick: Callable[[], object]) -> Largest:
    """Return the largest error of each quantity."""
    largest: Largest = defaultdict(dict)
    for name, dtype in DTYPES.items():
        for backend, found in answers(subject, dtype, problems, start, tick):
            for quantity, units in found.items():
                of, column = largest[quantity], f"{backend}, {name}"
                of[column] = max(of.get(column, 0.0), units)
    return largest


def answers(
    subject: Subject, dtype: torch.dtype, problems: int, start: int, tick: Callable[[], object]
) -> list[tuple[str, dict[str, float]]]:
    """Return the errors of each backend on each problem, by quantity."""
    found = []

    @seed(start)
    @settings(
        max_examples=problems, deadline=None, database=None, suppress_health_check=HealthCheck
    )
    @given(subject.problems())
    def ask(problem: Conditioned) -> None:
        tick()
        question = subject.about(problem, dtype)
        for backend in BACKENDS if question else ():
            with using(backend):
                found.append((backend, worst(question, dtype)))

    ask()
    return found


def describe(problems: int, start: int) -> dict[str, Any]:
    """Return the date, settings and versions."""
    versions = {"torch": torch.__version__, "lpnested": lpnested.__version__}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "problems": problems,
        "seed": start,
        "kernels": KERNELS,
        "machine": platform.machine(),
        "versions": {name: str(version) for name, version in versions.items()},
    }


def markdown(results: dict[str, Any]) -> str:
    """Format a table with a row for every quantity."""
    columns = [f"{backend}, {dtype}" for backend in BACKENDS for dtype in DTYPES]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        f"Measured on {results['date']}, {results['machine']}, "
        f"kernels: {results['kernels'] or 'none'}; {versions}. The maximum over "
        f"{results['problems']:,} problems per kind and dtype, seed {results['seed']}.",
        "",
        "| | " + " | ".join(columns) + " |",
        "| --- |" + " --: |" * len(columns),
    ]
    for name, of_subject in results["largest"].items():
        lines.append(f"| **{name}** |" + " |" * len(columns))
        for quantity, of in of_subject.items():
            numbers = (f"{of[column]:.2g}" if column in of else "-" for column in columns)
            lines.append(f"| {quantity} | " + " | ".join(numbers) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
