"""The GPU benchmark where no GPU is: all of it with a few rows, and what it does in trouble."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gpu
import gpu_cases
import gpu_kernels
import gpu_processes
import gpu_tables
import gpu_worker
import pytest
import torch
from densities import FORWARD, IN_BOTH, MODES, NORMAL, OURS
from gpu_cases import (
    CALLS,
    COMPILE,
    COMPILED,
    EAGER,
    GRAPH,
    KERNELS,
    PROCESSES,
    SAMPLE,
    TIME,
    WAYS,
    GpuCase,
)
from measure_memory import count_kernels
from torch.autograd import DeviceType

from lpnested import ISA

ROOT = Path(gpu.__file__).resolve().parents[1]
CASE = GpuCase(EAGER, "5 x 4", 2048, FORWARD)


def copy_of_what_is_tracked(folder):
    """What the program needs of a checkout, alone."""
    hidden = shutil.ignore_patterns("__pycache__", "results")
    for name in ("lpnested", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=hidden)
    (folder / "tests").mkdir()
    for name in ("tests/conftest.py", "tests/cases.py", "tests/test_cuda.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)


def test_the_rehearsal_runs_from_a_copy_in_another_folder(tmp_path):
    checkout, out, elsewhere = tmp_path / "copy", tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy_of_what_is_tracked(checkout)
    command = ["bash", str(checkout / "benchmarks" / "gpu.sh"), "--rehearse", "../out"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("CUDA tests done: ")
    assert "gradient in z and exponents" in done.stdout
    tests = (out / "gpu-tests.txt").read_text()
    assert " passed" in tests.splitlines()[0] and "SKIPPED" in tests
    results = json.loads((out / "gpu.json").read_text())
    assert results["left_out"] == results["failed"] == [] and results["card"] is None
    assert {(row["way"], row["call"]) for row in results["rows"]} == {
        (way, call) for way in WAYS for call in CALLS
    }
    assert not [row for row in results["rows"] if "error" in str(row)]
    assert all(
        row["contenders"][OURS]["ratio"]["median"] > 0
        for row in results["rows"]
        if row["quantity"] == TIME
    )
    text = (out / "gpu.md").read_text()
    assert text.startswith("**A rehearsal") and "## Kernels of a call" in text
    prior, z = ISA([4] * 5, 2.1, 2.2, validate_args=False), torch.randn(32, 20)
    prior.log_prob(z)
    assert f"| {count_kernels(lambda: prior.log_prob(z))} operations |" in text
    assert list(elsewhere.iterdir()) == []


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"device": "cpu", "out": None}, "name another folder"),
        ({"device": "cpu", "out": gpu.RESULTS / ".." / "results"}, "name another folder"),
        ({"device": "cpu", "minutes": 0.0}, "must be positive"),
        ({"device": "cpu"}, ""),
        ({"device": "cuda"}, "torch finds no GPU here"),
    ],
)
def test_a_rehearsal_never_becomes_a_result(flags, reason, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = {"device": "cuda", "tiny": True, "out": tmp_path, "minutes": 1.0} | flags
    refusal = gpu.refusal(argparse.Namespace(**given))
    assert reason in refusal and bool(reason) == bool(refusal)


def test_the_shell_script_asks_a_rehearsal_for_a_folder():
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--rehearse"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "name a folder" in done.stderr


class OneRow:
    """In place of a process: a row, and then an interruption."""

    def __init__(self, name, device, tiny):
        self.stopped = False
        EVERY.append(self)

    def rows(self, deadline):
        yield timed(EAGER, 6.25)
        raise KeyboardInterrupt

    def failure(self):
        return []

    def stop(self):
        self.stopped = True


EVERY: list[OneRow] = []


def test_what_was_measured_is_kept_on_ctrl_c(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "Worker", OneRow)
    monkeypatch.setattr(gpu.signal, "signal", lambda *_: None)
    EVERY.clear()
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path)]) == 130
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert kept["rows"] == [timed(EAGER, 6.25)] and kept["left_out"]
    assert len(EVERY) == len(PROCESSES) and all(worker.stopped for worker in EVERY)
    assert "kept" in capsys.readouterr().err


def test_where_nothing_could_be_timed_the_status_says_so(monkeypatch, tmp_path):
    broken = timed(EAGER, 6.25) | {"rounds": 0, "contenders": {OURS: {"error": "no"}}}
    monkeypatch.setattr(OneRow, "rows", lambda self, deadline: iter([broken]))
    monkeypatch.setattr(gpu, "Worker", OneRow)
    monkeypatch.setattr(gpu.signal, "signal", lambda *_: None)
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path)]) == 1


# The plan ---------------------------------------------------------------------------------------


def test_the_layout_of_the_paper_comes_first_and_whole():
    for process in PROCESSES:
        cases = gpu_cases.plan(process)
        assert len(cases) == len(set(cases))
        first = [c for c in cases if c.layout == "5 x 4" and c.quantity == cases[0].quantity]
        assert cases[: len(first)] == first
        assert {case.call for case in first} == set(CALLS)
    counts = {case.count for case in gpu_cases.plan(EAGER)}
    assert counts == {2048, 65_536, 1_000_000, 10_000_000}


def test_what_no_card_holds_is_not_planned_but_named():
    planned = gpu_cases.plan(EAGER)
    never = gpu_cases.never()
    assert not set(planned) & set(never)
    assert GpuCase(EAGER, "16 x 16", 10_000_000, FORWARD) in never
    assert all(case.numbers <= gpu_cases.LARGEST for case in planned)


def test_cases_that_differ_in_their_number_of_rows_are_named_together():
    cases = [CASE, replace(CASE, count=65_536), replace(CASE, call=SAMPLE)]
    assert gpu_cases.described(cases) == [
        "time, eager, 5 x 4, forward: N = 2,048 and 65,536",
        "time, eager, 5 x 4, sample: N = 2,048",
    ]


def test_what_is_compiled_is_measured_before_the_rest_is_compiled():
    cases = [replace(CASE, way=COMPILED, call=call) for call in MODES]
    forward, in_value, in_both = cases
    assert gpu_worker.in_order(cases, {in_both.key}) == [
        in_both,
        replace(forward, quantity=COMPILE),
        forward,
        replace(in_value, quantity=COMPILE),
        in_value,
    ]


# Budgets ----------------------------------------------------------------------------------------


def test_cases_that_do_not_fit_the_time_are_left_out_and_smaller_ones_are_not():
    now = 100.0
    large = replace(CASE, count=10_000_000)
    cases = [CASE, large, replace(CASE, count=65_536)]

    def row(case):
        nonlocal now
        now += 1.0
        return case.keys

    deadline = now + 1.0 + 2 * CASE.seconds
    rows = list(gpu_worker.in_time(cases, row, deadline, clock=lambda: now))
    assert large.seconds > 2.0
    assert rows == [cases[0].keys, cases[2].keys]
    named = gpu.left_out(rows, tiny=False)
    assert "time, eager, 5 x 4, forward: N = 1,000,000 and 10,000,000" in named
    assert not [line for line in named if line.startswith("time, eager, 5 x 4, forward: N = 2")]


def test_nothing_is_left_out_where_every_case_has_a_row():
    rows = [case.keys for process in PROCESSES for case in gpu_cases.plan(process)]
    assert gpu.left_out(rows, tiny=False) == []


def worker_of(script, monkeypatch, tmp_path):
    (tmp_path / "gpu_worker.py").write_text(script)
    monkeypatch.setattr(gpu_processes, "HERE", tmp_path)
    return gpu_processes.Worker(EAGER, "cpu", tiny=True)


def test_a_process_that_is_stuck_is_cut_off_and_its_rows_are_kept(monkeypatch, tmp_path):
    script = "import time\nprint('{\"count\": 1}', flush=True)\nprint('{\"co', end='', flush=True)"
    worker = worker_of(f"{script}\ntime.sleep(600)", monkeypatch, tmp_path)
    monkeypatch.setattr(gpu_processes, "GRACE", 15.0)  # a shared machine may be slow to start it
    found = []
    for row in worker.rows(time.time()):
        found.append(row)
        monkeypatch.setattr(gpu_processes, "GRACE", 0.0)
    worker.stop()
    assert found == [{"count": 1}]
    assert worker.failure() == ["eager: cut off when its time was up"]


def test_a_process_that_fails_says_why(monkeypatch, tmp_path):
    worker = worker_of("raise SystemExit('no such card')", monkeypatch, tmp_path)
    assert list(worker.rows(time.time() + 60)) == []
    worker.stop()
    assert worker.failure() == ["eager: ended with status 1: no such card"]


def test_what_compiles_for_too_long_is_an_error():
    with pytest.raises(TimeoutError, match="not compiled within"), gpu_worker.limit(0.05):
        time.sleep(60)


# Errors -----------------------------------------------------------------------------------------


def test_an_erring_case_is_a_row_with_its_error(monkeypatch):
    def refuse(*_):
        raise RuntimeError("the card\nis on fire")

    monkeypatch.setattr(gpu_worker, "measure", refuse)
    maker = gpu_worker.Maker("cpu", gpu_cases.as_it_is, tiny=True)
    assert maker.row(CASE) == CASE.keys | {"error": "RuntimeError: the card is on fire"}


def test_an_erring_contender_leaves_the_other_its_time(monkeypatch):
    monkeypatch.setattr(gpu_cases, "peak_on_cpu", lambda call: 80.0)
    maker = gpu_worker.Maker("cpu", gpu_cases.as_it_is, tiny=True)
    case = replace(CASE, count=8)
    maker.row(case)
    maker.made[case.key].functions[OURS] = gpu_cases.raises(ValueError("not here"))
    found = maker.row(case)["contenders"]
    assert found[OURS] == {"error": "ValueError: not here"}
    assert found[NORMAL]["ratio"]["median"] == 1.0
    assert found[NORMAL]["peak"] == 80 / (4 * 8 * 20)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can capture it")
def test_a_call_that_cannot_be_captured_says_so_when_it_is_timed():
    call = gpu_cases.replayed(lambda: None)
    with pytest.raises(Exception, match=r"CUDA|NVIDIA|device"):
        call()


def test_a_function_that_does_not_compile_is_not_tried_again():
    tried = []

    def wrap(function):
        def call(*arguments):
            tried.append(function)
            raise RuntimeError("graph break")

        return call

    maker = gpu_worker.Maker("cpu", wrap, tiny=True)
    case = GpuCase(COMPILED, "5 x 4", 8, IN_BOTH, COMPILE)
    row = maker.row(case)
    assert row["contenders"][OURS] == {"error": "RuntimeError: graph break"}
    assert "difference" not in row and len(tried) == 2
    timed = maker.row(replace(case, quantity=TIME))
    assert timed["rounds"] == 0 and len(tried) == 2
    assert timed["contenders"][NORMAL] == {"error": "RuntimeError: graph break"}


def test_a_compiled_function_that_differs_by_nan_is_an_error():
    with pytest.raises(ArithmeticError, match="differs from eager by nan"):
        gpu_worker.difference(torch.ones(2), torch.tensor([1.0, torch.nan]))
    assert gpu_worker.difference(torch.ones(2), torch.tensor([1.0, 1.5])) == 0.5


# Kernels and tables -----------------------------------------------------------------------------


def test_kernels_on_the_device_are_counted_not_what_launches_or_annotates_them():
    event = SimpleNamespace(device_type=DeviceType.CUDA, is_user_annotation=False)
    others = [
        SimpleNamespace(device_type=DeviceType.CPU, is_user_annotation=False),
        SimpleNamespace(device_type=DeviceType.CUDA, is_user_annotation=True),
    ]
    assert gpu_kernels.launched([event, *others, event]) == 2


def test_without_events_operations_are_counted_and_only_of_eager_calls(monkeypatch):
    monkeypatch.setattr(gpu_kernels, "_wake_profiler", lambda: None)
    monkeypatch.setattr(gpu_kernels, "_events", lambda call: [])
    x = torch.ones(3)
    expected = {"value": 2, "by": "operations"}
    assert gpu_kernels.kernels(lambda: (x + 1) * 2, "cuda") == expected
    assert gpu_kernels.kernels(lambda: (x + 1) * 2, "cpu") == expected
    assert "error" in gpu_kernels.kernels(lambda: x + 1, "cuda", eager=False)


def statistic(median):
    return {"median": median, "q1": median, "q3": median}


def results(*rows):
    versions = dict.fromkeys(("python", "torch", "lpnested"), "1.2")
    card = {"name": "H100", "memory_gib": 79.1, "capability": "9.0", "driver": None, "cuda": "13"}
    return {
        "date": "2026-01-01",
        "rehearsal": False,
        "budget_minutes": 1.3,
        "minutes": 1.2,
        "machine": {"versions": versions, "cores": 16, "cpu": "x86"},
        "card": card,
        "too_large": ["time, eager, 16 x 16, forward: N = 10,000,000"],
        "left_out": ["time, compiled, 5 x 4, sample: N = 65,536"],
        "failed": ["compiled: cut off when its time was up"],
        "rows": list(rows),
    }


def timed(way, ratio, count=2048):
    contenders = {
        OURS: {"seconds": statistic(2e-6 * ratio), "ratio": statistic(ratio), "peak": 2.5},
        NORMAL: {"seconds": statistic(2e-6), "ratio": statistic(1.0), "peak": 4.0},
    }
    keys = replace(CASE, way=way, count=count).keys
    return keys | {"reference": NORMAL, "rounds": 5, "contenders": contenders}


def test_the_table_has_the_card_the_ratios_and_what_is_missing():
    broken = replace(CASE, way=GRAPH).keys | {"error": "RuntimeError: no `capture`"}
    counted = replace(CASE, quantity=KERNELS).keys | {
        "contenders": {
            OURS: {"value": 38, "by": "profiler"},
            NORMAL: {"value": 9, "by": "operations"},
        }
    }
    found = results(timed(EAGER, 6.25), broken, timed(COMPILED, 1.5, count=65_536), counted)
    text = gpu_tables.markdown(found)
    assert "H100 (79.1 GiB, compute capability 9.0, driver unknown, CUDA 13)" in text
    assert "| 5 x 4 | 2,048 | 2 µs | 6.25 [6.25, 6.25] | failed | failed | - | - |" in text
    assert "| 5 x 4 | 65,536 | - | - | - | - | 2 µs | 1.5 [1.5, 1.5] |" in text
    assert "| 5 x 4 | 2,048 | log_prob | eager | 38 | 9 operations |" in text
    assert "| 5 x 4 | 2,048 | log_prob | eager | 2.5 | 4 |" in text
    assert "- `compiled: cut off when its time was up`" in text
    assert "RuntimeError: no 'capture'" in text
    assert "Not reached in 1.3 minutes:\n\n- time, compiled, 5 x 4, sample: N = 65,536" in text
    assert "rehearsal" not in text


def test_the_summary_has_the_ratios_of_the_first_layout():
    text = gpu_tables.summary(results(timed(EAGER, 6.25), timed(GRAPH, 2.5)))
    assert "eager 6.25   CUDA graph 2.5   compiled -" in text
    assert text.splitlines()[-1] == "1 errors, 1 cases left out"


def test_a_driver_that_nobody_can_tell_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.driver() is None
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint('580.65')\n")
    program.chmod(0o755)
    assert gpu.driver() == "580.65"
