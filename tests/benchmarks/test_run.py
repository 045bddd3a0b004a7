"""The program itself, on its smallest groups."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import run

PROGRAM = Path(run.__file__)
ROW = {"unit": "ms", "values": {"lpnested": [20.0, 19.0, 21.0]}}


@pytest.fixture(autouse=True)
def no_handler(monkeypatch):
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)


@pytest.mark.slow
def test_smoke(tmp_path):
    command = [sys.executable, str(PROGRAM), "--only", "constructor", "--quick", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "[1/1] constructor" in done.stdout and "log_prob ran on the" in done.stdout
    assert "constructor, of tensors" in done.stdout and str(tmp_path) in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "table.md"}
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["complete"] and results["environment"]["OMP_NUM_THREADS"] == "1"
    assert [row["case"] for row in results["rows"]] == ["of tensors", "of numbers, validated"]


def stopped(quick):
    yield ROW
    raise KeyboardInterrupt


def broken(quick):
    raise RuntimeError("the card\nis on fire")
    yield


def test_what_was_measured_is_kept_on_ctrl_c(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(run.GROUPS, "import", stopped)
    assert run.main(["--only", "import", "--out", str(tmp_path)]) == 130
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["rows"] == [{"group": "import"} | ROW] and not results["complete"]
    assert "Stopped before its end" in (tmp_path / "table.md").read_text()
    assert "kept" in capsys.readouterr().err


def test_a_group_that_fails_leaves_the_others(monkeypatch, tmp_path):
    monkeypatch.setitem(run.GROUPS, "import", broken)
    monkeypatch.setitem(run.GROUPS, "sample", lambda quick: iter([ROW]))
    assert run.main(["--only", "import", "sample", "--out", str(tmp_path)]) == 1
    assert "RuntimeError: the card is on fire" in (tmp_path / "table.md").read_text()


def test_nothing_is_written_where_nothing_was_measured(monkeypatch, tmp_path):
    monkeypatch.setitem(run.GROUPS, "import", broken)
    assert run.main(["--only", "import", "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()
