"""The C interface under the address and undefined-behaviour sanitizers, with random calls."""

import os
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from backends import KERNELS
from lpnested.ops import library

pytest.importorskip("hatchling")  # hatch_build.py is a hook of its

HERE = Path(__file__).parent
BUILD: dict[str, Any] = runpy.run_path(str(HERE.parent.parent / "hatch_build.py"))
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g"]
ROUNDS = 300


def compiler() -> list[str]:
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["c++", "g++", "clang++"]
    found = next((name for name in names if shutil.which(shlex.split(name)[0])), None)
    if found is None:
        pytest.skip("no C++ compiler here")
    flags = [flag for flag in BUILD["FLAGS"].split() if not flag.startswith("-O")]
    return [*shlex.split(found), *flags]


def is_here(instruction_set: str) -> bool:
    """Whether this CPU runs it; what it does not run needs no sanitizer."""
    try:
        with library.using(instruction_set):
            return True
    except ValueError:
        return False


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert not done.returncode, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.skipif(not KERNELS, reason="no compiled kernels here")
def test_random_calls_touch_no_memory_but_theirs(tmp_path: Path) -> None:
    plain, native = compiler(), library.SOURCES
    empty = tmp_path / "empty.cpp"
    empty.write_text("int main() {}\n")
    probe = [*plain, *SANITIZERS, str(empty), "-o", str(tmp_path / "empty")]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no sanitizers here")
    objects, commands = [], []
    targets = next(x for x in BUILD["INSTRUCTION_SETS"].values() if KERNELS in x)
    for name, (flags, width) in targets.items():
        how = SANITIZERS if is_here(name) else ["-O0"]
        own = [*how, *flags.split(), f"-DTARGET={name}", f"-DBYTES={width}"]
        for file in ("kernels", "draws"):
            objects.append(str(tmp_path / f"{name}_{file}.o"))
            source = str(native / f"{file}.cpp")
            commands.append([*plain, *own, "-c", source, "-o", objects[-1]])
    failure = BUILD["run_all"](commands)
    assert not failure, failure
    fuzz, source = str(tmp_path / "fuzz"), str(HERE / "fuzz.cpp")
    what = [f"-I{native}", '-DSOURCE="fuzz"', "-fexceptions", source, *objects]
    run(*plain, *SANITIZERS, *what, "-pthread", "-o", fuzz)
    run(fuzz, "1", str(ROUNDS))
