"""The GPU benchmark where no GPU is: all of it with a few rows, and what it does in trouble."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

import gpu
import gpu_rows
from peers import MODES, OURS

ROOT = Path(gpu.__file__).resolve().parents[1]
CHOSEN = argparse.Namespace(device="cpu", tiny=True)


def copy_of_what_is_tracked(folder):
    """What the program needs of a checkout, alone."""
    hidden = shutil.ignore_patterns("__pycache__", "results")
    for name in ("lpnested", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=hidden)
    (folder / "tests").mkdir()
    for path in [*(ROOT / "tests").glob("*.py"), ROOT / "pyproject.toml"]:
        shutil.copy(path, folder / path.relative_to(ROOT))


@pytest.mark.slow
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
    for name in gpu.BACKENDS:
        assert f"CUDA tests, {name}, done: " in done.stdout
    assert (out / "gpu-tests.txt").read_text().startswith("no GPU")
    results = json.loads((out / "gpu.json").read_text())
    assert results["left_out"] == results["failed"] == []
    assert [row for row in results["rows"] if row.get("errors")] == []
    timed = [row for row in results["rows"] if "times" in row]
    ways = {(row["backend"], row["way"]) for row in timed}
    assert len(ways) == len(gpu.BACKENDS) * 3
    assert all(row["times"][OURS]["ratio"][0] > 0 for row in timed)
    text = (out / "gpu.md").read_text()
    assert text.startswith("**A rehearsal") and "## Launches per call" in text
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"out": None}, "name another folder"),
        ({"out": gpu.RESULTS / ".." / "results"}, "name another folder"),
        ({"minutes": 0.0}, "must be positive"),
        ({}, ""),
        ({"device": "cuda"}, "torch finds no GPU here"),
    ],
)
def test_a_rehearsal_never_becomes_a_result(flags, reason, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = {"device": "cpu", "tiny": True, "out": tmp_path, "minutes": 1.0} | flags
    refusal = gpu.refusal(argparse.Namespace(**given))
    assert reason in refusal and bool(reason) == bool(refusal)


def test_the_shell_script_asks_a_rehearsal_for_a_folder():
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--rehearse"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "name a folder" in done.stderr


def test_what_was_measured_is_kept_on_ctrl_c(monkeypatch, tmp_path, capsys):
    row = dict(zip(gpu.KEYS, gpu.plan(True)[0], strict=True)) | {"errors": {"all": "no"}}

    def process(*_):
        yield row
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "process", process)
    monkeypatch.setattr(gpu.signal, "signal", lambda *_: None)
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path)]) == 130
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert kept["rows"] == [{"backend": "reference"} | row]
    assert len(kept["left_out"]) == len(gpu.BACKENDS) * len(gpu.plan(True)) - 1
    assert "kept" in capsys.readouterr().err


def process(script, seconds, monkeypatch, folder):
    (folder / "gpu_rows.py").write_text(script)
    monkeypatch.setattr(gpu, "HERE", folder)
    failed = []
    return list(gpu.process("reference", time.time() + seconds, CHOSEN, failed)), failed


@pytest.mark.slow
def test_a_process_that_is_stuck_is_cut_off_and_its_rows_are_kept(monkeypatch, tmp_path):
    script = "import time\nprint('{\"N\": 1}', flush=True)\nprint('{\"N', end='', flush=True)"
    found, failed = process(f"{script}\ntime.sleep(600)", 8, monkeypatch, tmp_path)
    assert found == [{"N": 1}] and failed == ["reference: cut off when its time was up"]


def test_a_process_that_fails_says_why(monkeypatch, tmp_path):
    found, failed = process("raise SystemExit('no such card')", 60, monkeypatch, tmp_path)
    assert found == [] and failed == ["reference: ended: no such card"]


def test_what_does_not_fit_the_time_is_left_out():
    assert [list(row) for row in gpu_rows.rows(time.time(), "cpu", True)] == [["backends"]]


def test_an_erring_case_is_a_row_with_its_error(monkeypatch):
    def refuse(*_):
        raise RuntimeError("the card\nis on fire")

    monkeypatch.setattr(gpu_rows, "measure", refuse)
    _, row, *_ = gpu_rows.rows(time.time() + 60, "cpu", True)
    assert row["errors"] == {"all": "RuntimeError: the card is on fire"}


def test_what_compiles_for_too_long_is_an_error():
    with pytest.raises(TimeoutError, match="not done within"), gpu_rows.limit(0.05):
        time.sleep(60)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can capture it")
def test_a_call_that_cannot_be_captured_says_so_when_it_is_timed():
    call = gpu_rows.replayed(lambda: None)
    with pytest.raises(Exception, match=r"CUDA|NVIDIA|device"):
        call()


@pytest.mark.slow
def test_kernels_on_the_device_are_counted_not_what_launches_or_annotates_them(monkeypatch):
    events = [
        SimpleNamespace(device_type=kind, is_user_annotation=noted)
        for kind, noted in [(DeviceType.CUDA, False)] * 2
        + [(DeviceType.CPU, False), (DeviceType.CUDA, True)]
    ]

    class Record:
        def __init__(self, **_): ...
        def __enter__(self):
            return SimpleNamespace(events=lambda: events)

        def __exit__(self, *_): ...

    monkeypatch.setattr(gpu_rows, "profile", Record)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert gpu_rows.launches(lambda: None, "cuda") == 2
    z = torch.ones(3, 4)
    assert gpu_rows.launches(lambda: z.T.unsqueeze(0).exp().sum(), "cpu") == "2 operations"


def test_the_table_has_both_backends_and_what_is_missing(monkeypatch):
    monkeypatch.setattr(gpu, "BACKENDS", {"reference": "0", "triton": "1"})
    way, layout, count, call = case = gpu.plan(False)[0]
    assert (layout, call) == ("5 x 4", MODES[0])
    times = {name: {"seconds": [2e-6] * 3, "ratio": [1.5] * 3} for name in (OURS, "unit")}
    row = dict(zip(gpu.KEYS, case, strict=True)) | {"reference": "unit", "times": times}
    rows = [{"backend": name} | row for name in gpu.BACKENDS]
    failed = {"backend": "triton", "errors": {"all": "no `capture`"}}
    rows.append(dict(zip(gpu.KEYS, gpu.plan(False)[1], strict=True)) | failed)
    results = {"rehearsal": False, "card": "H100", "date": "2026", "minutes": 1, "backends": {}}
    results |= {"machine": {"versions": {}}, "failed": ["x: y"], "rows": rows}
    text = gpu.markdown(results | {"left_out": gpu.left_out(results)})
    assert text.startswith("H100.") and "- x: y" in text and "- triton, eager" in text
    ours = "1.5 [1.5, 1.5]"
    assert f"| {layout} | {count:,} | {call} | {way} | 2 µs | {ours} | {ours} |" in text
    assert f"- reference, {way}, {layout}, {gpu.plan(False)[1][2]}" in text
