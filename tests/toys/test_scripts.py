"""The scripts as a user runs them: files, help and mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import factor_analysis
import force
import ica
import toy_figures
from records import UsageError, command, read_csv, read_json, rounded, write_csv, write_json

FOLDER = Path(ica.__file__).parent
FIGURES = FOLDER / "toy_figures.py"


@pytest.fixture(autouse=True)
def threads_as_found():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_figures_are_written_by_one_command(tmp_path):
    argv = [sys.executable, "-W", "error", FIGURES, "figure4", "--out", tmp_path]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["figure4_trees.png"]
    assert "figure4_trees.png" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figure1", "figure2", "figure3", "b3", "b4", "b5", "force"])
def test_every_figure_is_a_picture(name, tmp_path, capsys):
    assert command(toy_figures.run, [name, "--dpi", "30", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    assert path.name == toy_figures.FIGURES[name][0] and path.name in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_missing_results_file_is_named_with_the_command_that_makes_it(tmp_path, capsys):
    assert command(toy_figures.run, ["b3", "--results", str(tmp_path)]) == 2
    assert "python examples/toys/factor_analysis.py --out" in capsys.readouterr().err


def test_committed_figures_are_small():
    pictures = sorted((FOLDER / "results").glob("*.png"))
    assert len(pictures) == 8
    assert max(path.stat().st_size for path in pictures) < 150_000


@pytest.mark.slow
def test_factor_analysis_from_flags_to_file(tmp_path, capsys):
    argv = ["--num", "10", "--points", "5", "--out", str(tmp_path)]
    assert command(factor_analysis.run, argv) == 0
    results = read_json(tmp_path / factor_analysis.FILE)
    assert results["config"]["num"] == 10 and len(results["rotation"]["degrees"]) == 5
    assert str(tmp_path / factor_analysis.FILE) in capsys.readouterr().out


def test_ica_from_flags_to_files(tmp_path, capsys):
    argv = ["--seeds", "1", "--num", "20", "--em-steps", "2", "--noise-std", "0.5"]
    argv += ["--betas", "1.0", "4.0"]
    assert command(ica.run, [*argv, "--out", str(tmp_path)]) == 0
    assert len(read_csv(tmp_path / ica.TABLE)) == 2 * 3  # truth, after EM, converged
    assert len(read_json(tmp_path / ica.FILE)["overview"]) == 2 * 3
    assert "Written to" in capsys.readouterr().out


def test_force_from_flags_to_files(tmp_path, capsys):
    argv = ["--exponents", "2.0", "4.0", "--replicates", "2", "--samples", "64"]
    assert command(force.run, [*argv, "--out", str(tmp_path)]) == 0
    assert len(read_csv(tmp_path / force.TABLE)) == 4
    assert len(read_json(tmp_path / force.FILE)["plane"]) == 2
    assert "Written to" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("run", "argv", "message"),
    [
        (factor_analysis.run, "--noise 0.05", "--noise must be between 0 and 0.027165"),
        (factor_analysis.run, "--points 1", "--points must be 2 or more"),
        (ica.run, "--seeds 0", "--seeds must be positive"),
        (ica.run, "--noise-std -1", "--noise-std must be positive"),
        (force.run, "--exponents 0", "--exponents must be positive"),
        (force.run, "--replicates 1", "--replicates must be 2 or more"),
    ],
)
def test_mistakes_are_refused_by_name(run, argv, message, capsys):
    assert command(run, argv.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("module", [factor_analysis, force, ica])
def test_help(module, capsys):
    with pytest.raises(SystemExit) as stop:
        module.run(["--help"])
    assert stop.value.code == 0
    assert "--out" in capsys.readouterr().out


def test_ctrl_c_writes_nothing(capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    assert command(interrupted, []) == 130
    assert "nothing was written" in capsys.readouterr().err


def test_results_files_are_strict_and_whole(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_json({"a": [1.23456789, 2], "b": {"c": "x"}}, path)
    assert json.loads(path.read_text()) == {"a": [1.23457, 2], "b": {"c": "x"}}
    assert '"a": [ 1.23457, 2 ]' in path.read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_json({"a": float("nan")}, path)
    assert read_json(path)["b"] == {"c": "x"} and list(path.parent.iterdir()) == [path]


def test_tables_come_back_as_they_were(tmp_path):
    rows = [
        {"stage": "em", "value": 1.5, "step": 2},
        {"stage": "truth", "value": -0.25, "step": 3},
    ]
    write_csv(rows, tmp_path / "table.csv")
    assert read_csv(tmp_path / "table.csv") == rows
    with pytest.raises(UsageError, match="missing"):
        read_csv(tmp_path / "other.csv")


def test_rounding_reaches_into_lists_and_leaves_the_rest():
    assert rounded({"a": [0.1234567, 3, "text"]}) == {"a": [0.123457, 3, "text"]}
