"""The Triton kernels, where Triton is installed: in its interpreter, and compiled for cards.

The interpreter must be chosen before Triton is imported, so each has a process of its own.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def run(name: str, interpreted: str) -> None:
    pytest_ = [sys.executable, "-m", "pytest", "-o", "addopts=--import-mode=importlib"]
    command = [*pytest_, "-q", "-p", "no:cacheprovider", HERE / name]
    environment = {**os.environ, "TRITON_INTERPRET": interpreted, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_laws_hold_in_the_interpreter() -> None:
    if tuple(map(int, version("triton").split(".")[:2])) < (3, 9):
        pytest.skip("the interpreter of an older Triton does not run with numpy 2.4")
    run("triton_laws.py", "1")


def test_the_kernels_compile() -> None:
    run("triton_compiled.py", "0")
