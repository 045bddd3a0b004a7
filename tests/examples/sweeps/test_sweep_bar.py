"""The bar of a sweep: how far the runs are that have not ended yet."""

from dataclasses import replace

import pytest
import torch

from config import PRESETS
from sweeps import worker
from sweeps.experiments import Run
from sweeps.worker import SHARE, SweepBar, read_share, write_share

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folders(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    return folders


def test_runs_that_go_on_count_for_the_share_that_is_done(folders, capsys):
    write_share(folders[0], 0.25)  # as of a run that was interrupted before
    with SweepBar("some", 7, folders) as bar:
        assert bar.bar.initial == pytest.approx(4.25)
        write_share(folders[0], 0.75)
        write_share(folders[1], 0.1)
        bar.show()
        assert bar.bar.n == pytest.approx(4.85)
        bar.end(folders[0])
        assert bar.bar.n == pytest.approx(5.1)
        assert not (folders[0] / SHARE).exists()
        for folder in folders[1:]:
            bar.end(folder)
        assert bar.bar.n == 7
    assert "some: 100%" in capsys.readouterr().err
    assert not bar.thread.is_alive()


def test_the_bar_moves_by_itself(folders, monkeypatch):
    monkeypatch.setattr(worker, "INTERVAL", 0.01)
    with SweepBar("some", 3, folders) as bar:
        write_share(folders[2], 0.5)
        for _ in range(1000):
            if bar.bar.n == 0.5:
                break
            bar.closed.wait(0.01)
        assert bar.bar.n == 0.5


def test_the_bar_is_drawn_again_after_a_run_that_ended_early(folders):
    with SweepBar("some", 3, folders) as bar:
        bar.end(folders[0])
        write_share(folders[1], 0.01)
        bar.closed.wait(2 * bar.bar.mininterval)
        bar.show()
        assert bar.bar.last_print_n == pytest.approx(1.01)


def test_no_time_is_negative_where_a_run_goes_on_from_less_than_was_told(folders, capsys):
    """After a restart: its last checkpoint is older than its last word, or it begins anew."""
    for folder in folders[:2]:
        write_share(folder, 0.9)
    with SweepBar("some", 3, folders) as bar:
        assert bar.bar.n == pytest.approx(1.8)
        for share in (0.1, 0.5, 0.95):
            bar.closed.wait(0.05)
            for folder in folders[:2]:
                write_share(folder, share)
            bar.show()
            assert bar.bar.n == pytest.approx(2 * share)
            assert bar.bar.format_dict["initial"] <= bar.bar.n
            assert "-" not in str(bar.bar).partition("[")[2]
    said = capsys.readouterr().err
    assert "-" not in "".join(part.partition("]")[0] for part in said.split("[")[1:])


def test_nothing_that_can_be_read_is_nothing_done(folders):
    assert read_share(folders[0] / "missing") == 0
    (folders[0] / SHARE).write_text("0.5 of it")
    assert read_share(folders[0]) == 0


@pytest.mark.slow
def test_a_run_tells_its_share_and_keeps_to_its_threads(npz, tmp_path, monkeypatch):
    told, threads = [], []
    monkeypatch.setattr(worker, "write_share", lambda _, share: told.append(share))
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    small = {"hidden": 8, "batch_size": 16, "steps": 60, "sizes": (2, 2)}
    config = replace(PRESETS["small"], **small, data=npz, device="cpu")
    run = Run("some", "quick", "isa", config)
    row = worker.execute(run, tmp_path, keep_model=False, threads=2)
    assert told == [50 / 60] and row["steps"] == 60
    assert threads == [2]
