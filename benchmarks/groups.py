"""The groups of cases by name, in the order in which they are measured."""

import sys
from pathlib import Path
from types import ModuleType

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples" / "isa_vae"))

import measure_compile
import measure_example
import measure_import
import measure_log_prob
import measure_memory
import measure_sample
import measure_scaling
from plan import Case, Setting

# Each has plan(quick), its settings, and cases(setting, quick).
GROUPS: dict[str, ModuleType] = {
    "import": measure_import,
    "memory": measure_memory,
    "log_prob": measure_log_prob,
    "sample": measure_sample,
    "scaling": measure_scaling,
    "example": measure_example,
    "compile": measure_compile,
}


def jobs(names: list[str], quick: bool) -> list[tuple[str, Setting, list[Case]]]:
    """What to measure: one process for each."""
    return [
        (name, setting, GROUPS[name].cases(setting, quick))
        for name in GROUPS
        if name in names
        for setting in GROUPS[name].plan(quick)
    ]
