"""The program itself, on its smallest group, and its plan."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import run
from groups import GROUPS, jobs
from plan import Setting

PROGRAM = Path(run.__file__)


def test_smoke(tmp_path):
    command = [sys.executable, str(PROGRAM), "--only", "import", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "import lpnested, after torch" in done.stdout
    assert str(tmp_path) in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "table.md"}
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["complete"]
    assert [row["group"] for row in results["rows"]] == ["import"]
    assert results["machine"]["versions"]["torch"]
    assert results["environments"]["1 thread, default malloc"]["OMP_NUM_THREADS"] == "1"


def test_a_worker_that_fails_is_reported(monkeypatch, capsys):
    monkeypatch.setattr(run, "HERE", Path("nowhere"))
    failed = []
    assert list(run.rows_of("import", Setting(), True, failed)) == []
    assert "Failed: import, 1 thread: status" in failed[0]
    assert "nowhere" in capsys.readouterr().err


def test_what_was_measured_is_kept_on_ctrl_c(monkeypatch, tmp_path, capsys):
    row = {"group": "import", "threads": 1, "malloc": "default", "device": "cpu"}

    def measured(*_):
        yield row
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "measured", measured)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    assert run.main(["--only", "import", "--out", str(tmp_path)]) == 130
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["rows"] == [row]
    assert not results["complete"]
    assert "Stopped before its end" in (tmp_path / "table.md").read_text()
    assert "kept" in capsys.readouterr().err


def test_nothing_is_written_where_nothing_was_measured(monkeypatch, tmp_path):
    def measured(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(run, "measured", measured)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    assert run.main(["--only", "import", "--out", str(tmp_path)]) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("quick", [True, False])
def test_the_plan_covers_every_group(quick):
    planned = jobs(list(GROUPS), quick)
    assert {group for group, _, _ in planned} == set(GROUPS) - ({"scaling"} if quick else set())
    rows = [(group, str(case), setting) for group, setting, cases in planned for case in cases]
    assert len(rows) == len(set(rows))


def test_settings_become_an_environment():
    assert Setting(2).environment()["OMP_NUM_THREADS"] == "2"
    assert "MALLOC_TRIM_THRESHOLD_" in Setting(2).environment()
    assert "MALLOC_TRIM_THRESHOLD_" not in Setting(2, "default").environment()
