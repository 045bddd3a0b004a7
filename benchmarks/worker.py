"""Measures one group in one setting; run.py starts it, with the environment of that setting.

Each case becomes one line of JSON on standard output as soon as it has been measured.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TextIO

import torch
from groups import GROUPS
from plan import Setting


def main(argv: Sequence[str]) -> None:
    """Measure, and write rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--malloc", choices=["tuned", "default"], default="tuned")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(argv)
    setting = Setting(options.threads, options.malloc, options.device)
    torch.set_num_threads(setting.threads)
    rows, sys.stdout = sys.stdout, sys.stderr  # whatever else prints stays out of the rows
    measure(options.group, setting, options.quick, rows)


def measure(group: str, setting: Setting, quick: bool, rows: TextIO) -> None:
    """One line for each case; one that fails says so in its line."""
    for case in GROUPS[group].cases(setting, quick):
        torch.manual_seed(0)
        try:
            found = case.measure()
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"[:500]}
        row = {"group": group, **case.keys, **setting.keys(), **found}
        print(json.dumps(row), file=rows, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
