"""sweep.py: every run of the table has a row in the end, whatever happens on the way."""

import csv
import json
import math
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
import figures
import sweep as script
import train
from claims import verdicts
from config import PRESETS, UsageError, check
from models import make_prior
from running import checkpoint
from sweeps import engines, experiments, pool, worker
from sweeps import rows as table_module

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
FOLDER = Path(script.__file__).parent


def tiny(arms=("normal", "isa-learned"), seeds=2, **changes):
    base = replace(
        PRESETS["small"], hidden=8, batch_size=16, steps=60, sizes=(2, 2), scores="mig", **changes
    )
    table = experiments.subset(arms, experiments.ARMS | experiments.METHODS)
    return experiments.grid("tiny", "quick", base, table, seeds=seeds)


@pytest.fixture
def table(monkeypatch):
    """Replace the experiments by a small one, which each test may set."""
    runs = {"tiny": tiny()}
    monkeypatch.setattr(script, "experiments", lambda: runs)
    return runs


@pytest.fixture
def here(monkeypatch):
    """Runs one after the other in this process: workers take seconds to start."""
    monkeypatch.setattr(
        script, "in_pool", lambda tasks, function, *_: ((task, function(task)) for task in tasks)
    )


@pytest.fixture
def flags(npz, tmp_path):
    return ["tiny", "--data", str(npz), "--out", str(tmp_path / "sweeps"), "--workers", "2"]


def rows_of(tmp_path):
    return table_module.read_folder(tmp_path / "sweeps" / "tiny" / "rows")


def numbers(row):
    row = json.loads(json.dumps(row))
    return {key: value for key, value in row.items() if key != "seconds"}


# --- the tables of runs ---


def test_the_papers_runs_are_enumerated(capsys):
    assert script.main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "1280 runs" in printed
    assert all(name in printed for name in experiments.experiments())
    paper = [run for name in experiments.OF_THE_PAPER for run in experiments.experiments()[name]]
    assert len(paper) == 1280


def test_every_run_has_settings_that_can_work_and_a_key_of_its_own():
    for runs in experiments.experiments().values():
        for run in runs:
            check(run.config)
        assert max(Counter(run.key for run in runs).values()) == 1


def test_the_arms_of_the_reproduction():
    quick = experiments.experiments()["fig5a-quick"]
    assert min(Counter(run.arm for run in quick).values()) >= 30
    assert {run.config.data_set for run in quick} == {"dsprites"}
    released = next(run.config for run in quick if run.arm == "isa-released")
    prior = make_prior(replace(released, device="cpu"))()
    variance = float(prior.variance[0])
    assert variance == pytest.approx(0.495, abs=1e-3)
    assert pytest.approx(variance, rel=1e-3) == experiments.RELEASED_DEVIATION**2
    betas = {run.config.beta for run in experiments.experiments()["fig5b-quick"]}
    assert betas >= set(experiments.BETAS)


def test_seeds_are_outermost_so_that_a_cut_sweep_is_balanced():
    for runs in experiments.experiments().values():
        seeds = [run.config.seed for run in runs]
        assert seeds == sorted(seeds)


# --- a sweep ---


def test_a_sweep_writes_a_row_for_each_run_and_a_table(table, flags, tmp_path, capsys):
    published = tmp_path / "results"
    assert script.main([*flags, "--keep-models", "--publish", str(published)]) == 0
    rows = rows_of(tmp_path)
    assert len(rows) == 4 and {row["status"] for row in rows} == {"done"}
    with (published / "tiny.csv").open() as file:
        lines = list(csv.DictReader(file))
    wanted = {"arm", "seed", "beta", "rung", "mig", "mig_scale", "mig_posX", "mig_posY"}
    wanted |= {"mig_orientation", "log_px", "kl", "active_units", "status", "p0", "p1", "p2"}
    assert wanted <= set(lines[0])
    assert len(lines) == 4
    by_key = {(row["arm"], row["seed"]): row for row in rows}
    for line in lines:
        row = by_key[line["arm"], int(line["seed"])]
        assert float(line["mig"]) == pytest.approx(row["mig"], rel=1e-5)
        assert (line["p1"] == "") == (line["arm"] == "normal")
        gaps = [row[f"mig_{name}"] for name in ("scale", "orientation", "posX", "posY")]
        assert row["mig"] == pytest.approx(np.mean(gaps))
    learned = by_key["isa-learned", 0]
    assert learned["p0"] == pytest.approx(2.1) and learned["p1"] != pytest.approx(2.2, abs=1e-6)
    assert [line["step"] for line in learned["history"]] == [50]
    assert learned["history"][0].keys() >= {"objective", "log_px", "kl", "p0", "p1", "p2"}
    printed = capsys.readouterr().out
    assert "4 rows (4 done, 0 diverged)" in printed and str(published / "tiny.csv") in printed

    folder = tmp_path / "sweeps/tiny/runs/isa-learned-beta1-seed0"
    assert not (folder / checkpoint.CHECKPOINT).exists()
    flags = ["--scores", "light", "--data", flags[2]]
    sampled = ["--sampled-mig", "200", "--device", "cpu"]
    assert evaluate.main([str(folder), *flags, *sampled]) == 0
    scores = json.loads((folder / evaluate.SCORES).read_text())
    assert scores["scores"]["mig"] == pytest.approx(learned["mig"], rel=1e-6)
    assert scores["exponents"]["p1"] == pytest.approx(learned["p1"], rel=1e-6)
    more = scores["scores"]["more"]
    assert more["mig_histogram20"] is not None
    both = [more[f"mig_{how}_of_200_rows"] for how in ("sampled", "quadrature")]
    assert both[0] == pytest.approx(both[1], abs=0.05)
    assert evaluate.main([str(folder), "--sampled-mig", "0"]) == 2
    others = [str(folder.with_name(f"isa-learned-beta1-seed{seed}")) for seed in (0, 1)]
    table = ["--table", str(tmp_path / "scores.csv")]
    assert evaluate.main([*others, *flags[2:], "--scores", "light", "--udr", *table]) == 0
    with (tmp_path / "scores.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["model"] for line in lines] == [Path(name).name for name in others]
    assert {"mig", "mig_histogram20", "udr_spearman", "data"} <= set(lines[0])
    scores = json.loads((folder / evaluate.SCORES).read_text())
    assert 0 <= scores["scores"]["more"]["udr_spearman"] <= 1
    (folder / evaluate.SCORES).unlink()  # a mistake is found before the work
    assert evaluate.main([others[0], *flags[2:], "--udr"]) == 2
    assert evaluate.main([others[0], str(tmp_path), *flags[2:]]) == 2
    assert not (folder / evaluate.SCORES).exists()
    assert "is not the folder of a trained model" in capsys.readouterr().err


def test_a_run_of_a_sweep_is_the_run_of_train(table, here, flags, tmp_path, npz):
    assert script.main([*flags, "--arms", "normal", "--seeds", "1"]) == 0
    (row,) = rows_of(tmp_path)
    alone = [
        *("--data", str(npz), "--prior", "normal", "--scale", "unit-variance", "--seed", "1"),
        *("--sizes", "2", "2", "--hidden", "8", "--batch-size", "16", "--steps", "60"),
        *("--device", "cpu", "--out", str(tmp_path / "alone")),
    ]
    assert train.main(alone) == 0
    metrics = json.loads((tmp_path / "alone/metrics.json").read_text())
    assert metrics["scores"]["mig"] == row["mig"]
    assert metrics["scores"]["log_likelihood"] == row["log_px"]
    assert metrics["history"] == row["history"]


def test_only_what_is_not_there_is_run_again(table, here, flags, tmp_path, capsys):
    assert script.main(flags) == 0
    before = {row["arm"] + str(row["seed"]): row for row in rows_of(tmp_path)}
    rows = tmp_path / "sweeps/tiny/rows"
    missing = rows / "normal-beta1-seed1.json"
    missing.unlink()
    kept = {path: path.stat().st_mtime_ns for path in rows.iterdir()}
    assert script.main(flags) == 0
    assert missing.exists()
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    for row in rows_of(tmp_path):
        assert numbers(row) == numbers(before[row["arm"] + str(row["seed"])])


def test_what_is_published_is_neither_run_again_nor_lost(table, here, flags, tmp_path, capsys):
    publish = ["--publish", str(tmp_path / "results")]
    assert script.main([*flags, *publish, "--seeds", "0"]) == 0
    published = tmp_path / "results/tiny.csv"
    before = published.read_text()
    for path in (tmp_path / "sweeps/tiny/rows").iterdir():
        path.unlink()  # as on another machine
    assert script.main([*flags, *publish, "--seeds", "0"]) == 0
    assert published.read_text() == before and rows_of(tmp_path) == []
    assert script.main([*flags, *publish]) == 0
    assert {row["seed"] for row in rows_of(tmp_path)} == {1}
    lines = published.read_text().splitlines()
    assert len(lines) == 5 and set(before.splitlines()) < set(lines)
    table["tiny"] = [replace(r, config=replace(r.config, steps=61)) for r in table["tiny"]]
    assert script.main([*flags[:3], "--out", str(tmp_path / "other"), *publish]) == 2
    assert "with 60 steps, but this sweep has 61" in capsys.readouterr().err


def test_a_run_that_diverges_is_recorded(table, here, flags, tmp_path, capsys):
    table["tiny"] = tiny(arms=["normal"], seeds=1, learning_rate=1e30)
    assert script.main(flags) == 0
    (row,) = rows_of(tmp_path)
    assert row["status"] == "diverged" and row["mig"] is None and row["log_px"] is None
    assert "1 rows (0 done, 1 diverged)" in capsys.readouterr().out
    with (tmp_path / "sweeps/tiny/tiny.csv").open() as file:
        assert [line["status"] for line in csv.DictReader(file)] == ["diverged"]


@pytest.mark.parametrize("arm", ["beta-tcvae", "isa-beta-tcvae", "factorvae"])
def test_every_method_trains_and_resumes_to_the_same_numbers(
    table, here, flags, tmp_path, arm, npz
):
    table["tiny"] = tiny(arms=[arm], seeds=1)
    assert script.main(flags) == 0
    (whole,) = rows_of(tmp_path)
    assert whole["history"][0].keys() >= {"objective", "log_px", "kl"}
    run = replace(
        table["tiny"][0], config=replace(table["tiny"][0].config, data=npz, device="cpu")
    )
    stopped = tmp_path / "stopped"
    train.StopRequest, before = Stop, train.StopRequest
    try:
        with pytest.raises(train.StoppedError):
            worker.execute(run, stopped, keep_model=False)
    finally:
        train.StopRequest = before
    assert checkpoint.read_checkpoint(stopped)["step"] == 1
    assert numbers(worker.execute(run, stopped, keep_model=False)) == numbers(whole)


class Stop(train.StopRequest):
    """Asks for a stop from the first step on."""

    def __init__(self):
        super().__init__()
        self.signal = signal.SIGINT


# --- what may go wrong ---


def test_only_a_diverged_training_is_recorded_as_one(table, npz, tmp_path, monkeypatch):
    run = replace(
        table["tiny"][0], config=replace(table["tiny"][0].config, data=npz, device="cpu")
    )

    def broken(*args, **kwargs):
        raise ValueError("a mistake in the code")

    monkeypatch.setattr(worker, "score", broken)
    with pytest.raises(ValueError, match="a mistake in the code"):
        worker.execute(run, tmp_path / "run", keep_model=False)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_model_without_finite_scores_is_recorded_as_diverged(
    part, table, npz, tmp_path, monkeypatch, capsys
):
    config = replace(table["tiny"][0].config, data=npz, device="cpu", batch_size=300)
    fit = train.fit

    def broken(*args, **kwargs):
        state = fit(*args, **kwargs)
        torch.nn.init.constant_(next(getattr(state.vae, part).parameters()), math.nan)
        return state

    monkeypatch.setattr(train, "fit", broken)
    row = worker.execute(replace(table["tiny"][0], config=config), tmp_path, keep_model=True)
    assert row["status"] == "diverged" and row["mig"] is None
    assert "recorded as diverged" in capsys.readouterr().err


def test_a_batch_larger_than_the_set_is_refused(table, npz, tmp_path):
    config = replace(table["tiny"][0].config, data=npz, device="cpu", batch_size=10_000)
    with pytest.raises(UsageError, match="--batch-size 10000 is more than"):
        worker.execute(replace(table["tiny"][0], config=config), tmp_path / "run", False)


def test_a_checkpoint_of_other_pictures_is_not_gone_on_with(table, npz, tmp_path, capsys):
    config = replace(table["tiny"][0].config, data=npz, device="cpu")
    run = replace(table["tiny"][0], config=config)
    state = train.make_state(config, 1)
    checkpoint.save(state, config, "of other pictures", tmp_path)
    row = worker.execute(run, tmp_path, keep_model=False)
    assert row["status"] == "done"
    assert "has a checkpoint of different images; restarting that run" in capsys.readouterr().err


def test_signals_end_a_sweep_as_ctrl_c_does_and_are_put_back(monkeypatch):
    def run_all(_):
        assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(script, "run_all", run_all)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    try:
        term = signal.getsignal(signal.SIGTERM)
        assert script.main(["none"]) == 130
        assert signal.getsignal(signal.SIGTERM) == term
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_help_of_the_scripts_teaches(capsys):
    for main, flags in (
        (script.main, ("--engine", "--publish", "--keep-models", "--gpus")),
        (evaluate.main, ("--udr", "--scores", "--eval-images", "--table")),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["--help"])
        said = capsys.readouterr().out
        assert stop.value.code == 0 and all(flag in said for flag in flags)


def test_bad_flags_are_named(table, flags, capsys):
    assert script.main(["none"]) == 2
    assert "no experiment 'none'" in capsys.readouterr().err
    for flag, value in (("--arms", "gaussian"), ("--seeds", "77"), ("--betas", "3")):
        assert script.main([*flags, flag, value]) == 2
        assert f"{flag}: tiny has" in capsys.readouterr().err
    assert script.main([*flags, "--gpus", "1.5"]) == 2
    assert "--gpus must be a share of one, or a whole number" in capsys.readouterr().err
    assert script.main([*flags[:2], "nothing.npz", *flags[3:]]) == 2


@pytest.mark.parametrize("flag", ["--out", "--publish"])
def test_a_file_in_place_of_a_folder_is_named(table, flags, tmp_path, capsys, flag):
    (tmp_path / "file").write_text("mine")
    assert script.main([*flags, flag, str(tmp_path / "file")]) == 2
    assert f"{flag} must be a folder, but {tmp_path / 'file'} is a file" in capsys.readouterr().err


def test_the_smoke_sweep_is_a_small_one():
    """Six runs of some seconds; three pairs, so that there is no verdict, whatever they show."""
    runs = experiments.experiments()["smoke"]
    assert Counter(run.arm for run in runs) == {"normal": 3, "isa-released": 3}
    assert {run.rung for run in runs} == {"smoke"}
    assert max(run.config.steps * run.config.hidden for run in runs) <= 300 * 64


def test_runs_without_a_model_are_named_where_models_are_asked_for(
    table, here, flags, tmp_path, capsys
):
    table["tiny"] = tiny(arms=["normal"]) + tiny(arms=["isa-unit"], seeds=1, learning_rate=1e30)
    assert script.main(flags) == 0
    assert "--keep-models" not in capsys.readouterr().err
    assert script.main([*flags, "--keep-models"]) == 0  # of the one that diverged nothing is said
    said = capsys.readouterr().err
    assert "2 finished runs have no model here (normal-beta1-seed0, normal-beta1-seed1)" in said
    rows = tmp_path / "sweeps/tiny/rows"
    assert f"delete their files in {rows}" in said
    (rows / "normal-beta1-seed1.json").unlink()
    assert script.main([*flags, "--keep-models"]) == 0
    assert "1 finished runs have no model here (normal-beta1-seed0)" in capsys.readouterr().err
    assert (tmp_path / "sweeps/tiny/runs/normal-beta1-seed1" / checkpoint.MODEL).exists()


def test_flags_that_no_run_has_together_are_refused(table, flags, capsys):
    table["tiny"] = tiny(arms=["normal"], seeds=1) + tiny(arms=["isa-unit"], seeds=2)[1:]
    assert script.main([*flags, "--arms", "normal", "--seeds", "1"]) == 2
    assert "no run of tiny matches --arms, --betas and --seeds" in capsys.readouterr().err


def test_runs_anywhere_find_the_files(table, npz, monkeypatch):
    monkeypatch.chdir(npz.parent)
    sweep = script.Sweep("tiny", data=Path(npz.name), cache=Path("cache"))
    config = script.select_runs(sweep)[0].config
    assert (config.data, config.cache) == (npz, npz.parent / "cache")


def die_once(path):
    """Kill the process on the first call with this path."""
    if not path.exists():
        path.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def fail(task):
    raise ValueError(task)


def test_a_dead_worker_is_named_and_replaced_and_its_task_tried_again(tmp_path):
    tasks, messages = [tmp_path / name for name in "abc"], []
    results = dict(pool.in_pool(tasks, die_once, 2, report=messages.append))
    assert results == {task: task.name for task in tasks}
    assert len(messages) == 3
    for line in messages:
        assert re.search(r"/[abc]: its worker, process \d+, was killed by SIGKILL", line)
        assert "retrying (attempt 2 of 3)" in line


def meet(path):
    """Die on the first call; else wait until another worker is at its task too."""
    if path.name == "dies":
        return die_once(path)
    path.write_text("")
    deadline = time.monotonic() + 60
    while not all(path.with_name(name).exists() for name in ("one", "other")):
        assert time.monotonic() < deadline, "there is one worker only"
        time.sleep(0.02)
    return os.getpid()


def test_a_retry_keeps_the_neighbours_and_the_number_of_workers(tmp_path):
    tasks, messages = [tmp_path / name for name in ("dies", "one", "other")], []
    results = dict(pool.in_pool(tasks, meet, 2, report=messages.append))
    assert len(messages) == 1 and results[tasks[0]] == "dies"
    assert results[tasks[1]] != results[tasks[2]]  # side by side, in two processes


def always_dies(task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_kills_its_workers_is_given_up_by_name():
    messages = []
    ((task, error),) = pool.in_pool(["x"], always_dies, 1, report=messages.append)
    assert task == "x" and isinstance(error, pool.WorkerDiedError)
    assert len(messages) == 3 and messages[-1].endswith("giving up")


class LocalError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one}, {two}")


def raise_local(task):
    raise LocalError(task, task)


def test_an_error_that_cannot_be_sent_arrives_as_its_name():
    ((_, error),) = pool.in_pool(["x"], raise_local, 1, report=lambda _: None)
    assert isinstance(error, RuntimeError) and "LocalError('x, x')" in str(error)


def test_a_worker_that_dies_between_two_tasks_is_replaced(tmp_path):
    outcomes = pool.in_pool(["a", "b"], str.upper, 1)
    assert next(outcomes) == ("a", "A")
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    time.sleep(0.5)  # for the pool to see it, and to refuse what is submitted
    assert next(outcomes) == ("b", "B")


def visible(task):
    time.sleep(0.2)  # for both workers to have some
    return os.getpid(), os.environ[pool.VISIBLE]


def test_each_worker_sees_a_gpu_of_its_own():
    found = {result for _, result in pool.in_pool([*range(12)], visible, 2, ["0", "GPU-7"])}
    assert sorted(gpu for _, gpu in found) == ["0", "GPU-7"]
    assert len({process for process, _ in found}) == 2


def test_gpus_are_shared_among_the_runs_that_fit(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv(pool.VISIBLE, raising=False)
    assert engines.gpu_slots(0.5) == ["0", "1", "0", "1"]  # two runs do not crowd on one
    assert engines.gpu_slots(0.4) == engines.gpu_slots(0.5)
    assert engines.gpu_slots(1) == ["0", "1"]
    monkeypatch.setenv(pool.VISIBLE, "3, GPU-7")
    assert engines.gpu_slots(1) == ["3", "GPU-7"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert engines.gpu_slots(0.25) == []


def test_the_pool_takes_gpus_where_there_are_any(table, flags, tmp_path, monkeypatch, capsys):
    given = {}

    def fake(runs, function, workers, gpus):
        given.update(devices={run.config.device for run in runs}, workers=workers, gpus=gpus)
        return iter(())

    monkeypatch.setattr(script, "in_pool", fake)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    command = [*flags[:-2], "--engine", "pool", "--gpus"]
    assert script.main([*command, "0.5"]) == 2
    assert "but 0 are available" in capsys.readouterr().err
    assert script.main([*command, "0.5", "--address", "auto"]) == 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv(pool.VISIBLE, raising=False)
    assert script.main([*command, "2"]) == 2
    assert script.main([*command, "0.5"]) == 0
    assert given == {"devices": {"cuda"}, "workers": 2, "gpus": ["0", "0"]}
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    assert script.main([*flags[:-2], "--gpus", "1", "--workers", "5"]) == 0  # no Ray: the pool
    assert given["workers"] == 1


def keep_on_ctrl_c(path):
    """Wait for Ctrl-C, then take a moment to keep something: as a training with its checkpoint."""
    if path.name == "short":
        return
    path.with_name("begun").write_text("")
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        time.sleep(1)
        path.write_text("kept")
        raise


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_workers_keep_what_they_have_beside_one_without_a_task(tmp_path, handler):
    before = signal.signal(signal.SIGINT, handler)  # ignored: as in the background of a shell
    try:
        tasks = [tmp_path / "short", tmp_path / "long"]
        outcomes = pool.in_pool(tasks, keep_on_ctrl_c, 2)
        assert next(outcomes) == (tasks[0], None)
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        with pytest.raises(KeyboardInterrupt):
            outcomes.throw(KeyboardInterrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "long").read_text() == "kept"


def test_a_worker_that_was_to_stop_before_its_task_does_not_begin_it():
    before = signal.getsignal(signal.SIGINT)
    ours, theirs = multiprocessing.Pipe()
    try:
        assert pool.interruptible(str.upper, "a", theirs) == "A"
        ours.send(None)  # it is dismissed
        with pytest.raises(KeyboardInterrupt):
            pool.interruptible(str.upper, "a", theirs)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_worker_that_is_to_end_does_so_when_its_checkpoint_is_saved(
    table, monkeypatch, tmp_path
):
    class EndedError(Exception):
        pass

    def end(status):
        raise EndedError(status)

    monkeypatch.setattr(worker.os, "_exit", end)
    for status, error in ((143, EndedError), (130, train.StoppedError)):

        def execute(*_, status=status):
            raise train.StoppedError("stopped", status)

        monkeypatch.setattr(worker, "execute", execute)
        with pytest.raises(error):
            worker.run_in(tmp_path, False, 1, table["tiny"][0])


def test_a_task_that_fails_for_good_is_reported(tmp_path):
    messages = []
    ((task, error),) = pool.in_pool(["x"], fail, 1, report=messages.append)
    assert task == "x" and isinstance(error, ValueError)
    assert [line.rpartition("; ")[2] for line in messages[::2]] == [
        "retrying (attempt 2 of 3)",
        "giving up",
    ]


def test_ctrl_c_keeps_what_is_done_and_the_rest_goes_on(tmp_path, npz):
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(FOLDER)!r})\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import sweep, test_sweep\n"
        "runs = test_sweep.tiny(seeds=3)\n"
        "from dataclasses import replace\n"
        "long = [replace(r, config=replace(r.config, steps=100_000)) for r in runs[1:]]\n"
        "runs = [runs[0], *long]\n"
        "sweep.experiments = lambda: {'tiny': runs}\n"
        "if __name__ == '__main__':\n    sys.exit(sweep.main(sys.argv[1:]))\n"
    )
    out = tmp_path / "sweeps"
    command = [sys.executable, str(program), "tiny", "--data", str(npz), "--out", str(out)]
    with subprocess.Popen(
        [*command, "--workers", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        rows, runs = out / "tiny" / "rows", out / "tiny" / "runs"
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and process.poll() is None:
            if len(list(rows.glob("*.json"))) == 1 and len(list(runs.glob("*/*.pt"))) == 2:
                break
            time.sleep(0.1)
        time.sleep(2)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    assert "resumes the sweep" in errors
    assert "Traceback" not in errors and "leaked" not in errors
    done = len(list(rows.iterdir()))
    assert done == 1
    assert len((out / "tiny/tiny.csv").read_text().splitlines()) == done + 1
    held = [path.parent for path in (out / "tiny/runs").glob(f"*/{checkpoint.CHECKPOINT}")]
    assert len(held) == 2
    assert all(checkpoint.read_checkpoint(folder)["step"] > 0 for folder in held)


def test_ray_gives_the_same_rows(table, flags, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    table["tiny"] = tiny(arms=["isa-released"], seeds=2)
    assert script.main([*flags, "--engine", "pool"]) == 0
    pool = [numbers(row) for row in rows_of(tmp_path)]
    for path in (tmp_path / "sweeps/tiny/rows").iterdir():
        path.unlink()
    assert script.main([*flags, "--engine", "ray"]) == 0
    assert [numbers(row) for row in rows_of(tmp_path)] == pool


def test_the_machines_of_a_ray_cluster_give_the_same_rows(table, flags, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    table["tiny"] = tiny(arms=["normal"], seeds=2)
    assert script.main([*flags, "--engine", "pool"]) == 0
    pool = [numbers(row) for row in rows_of(tmp_path)]
    for path in (tmp_path / "sweeps/tiny/rows").iterdir():
        path.unlink()
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0)  # its head runs nothing
        cluster.add_node(num_cpus=2)
        assert script.main([*flags, "--address", cluster.address]) == 0
    finally:
        cluster.shutdown()
    assert [numbers(row) for row in rows_of(tmp_path)] == pool


def test_an_error_of_a_stop_survives_the_way_to_the_driver():
    error = pickle.loads(pickle.dumps(train.StoppedError("stopped", 143)))
    assert (str(error), error.status) == ("stopped", 143)


def test_other_settings_and_other_pictures_are_not_mixed(table, here, flags, tmp_path, capsys):
    table["tiny"] = tiny(arms=["normal"], seeds=1)
    assert script.main(flags) == 0
    table["tiny"] = tiny(arms=["normal"], seeds=1, learning_rate=2e-3)
    assert script.main(flags) == 2
    assert "has different settings" in capsys.readouterr().err
    table["tiny"] = tiny(arms=["normal"], seeds=1)
    assert script.main([flags[0], *flags[3:]]) == 2
    assert "this sweep uses drawn pictures" in capsys.readouterr().err
    table["tiny"] = tiny(arms=["normal", "isa-unit"], seeds=1)  # nor of another arm: one table
    assert script.main([flags[0], *flags[3:], "--arms", "isa-unit"]) == 2
    assert "this sweep uses drawn pictures" in capsys.readouterr().err


def test_a_run_begun_anew_has_no_model_of_other_settings(table, npz, tmp_path):
    config = replace(table["tiny"][0].config, data=npz, device="cpu")
    worker.execute(replace(table["tiny"][0], config=config), tmp_path, keep_model=True)
    assert (tmp_path / checkpoint.MODEL).exists()
    config = replace(config, learning_rate=1e30)
    row = worker.execute(replace(table["tiny"][0], config=config), tmp_path, keep_model=True)
    assert row["status"] == "diverged" and not (tmp_path / checkpoint.MODEL).exists()


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(table, tmp_path, npz):
    (run,) = tiny(arms=["normal"], seeds=1, learning_rate=1e30, device="cpu")
    run = replace(run, config=replace(run.config, data=npz))
    assert worker.execute(run, tmp_path, False)["status"] == "diverged"
    pictures, _ = worker.pictures_of(worker.data_config(run.config))
    assert worker.matching_checkpoint(run.config, tmp_path, pictures)["step"] == 0
    other = replace(run.config, learning_rate=1e-3)
    assert worker.matching_checkpoint(other, tmp_path, pictures) is None


def test_two_sweeps_do_not_write_the_same_files(table, flags, tmp_path, capsys):
    (tmp_path / "sweeps/tiny").mkdir(parents=True)
    with script.lock_folder(tmp_path / "sweeps/tiny"):
        assert script.main(flags) == 2
    assert "is writing to" in capsys.readouterr().err


def test_a_damaged_row_is_named(table, flags, tmp_path, capsys):
    path = tmp_path / "sweeps/tiny/rows/normal-beta1-seed0.json"
    path.parent.mkdir(parents=True)
    for content in ("", "[]", "{}"):
        path.write_text(content)
        assert script.main(flags) == 2
        assert "delete it to rerun it" in capsys.readouterr().err


def test_nothing_is_published_before_there_is_a_row(table, flags, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "outcomes", interrupted)
    published = tmp_path / "results"
    assert script.main([*flags, "--publish", str(published)]) == 130
    assert not (published / "tiny.csv").exists()


# --- the tables ---


def lines_of(name):
    with (FOLDER / "results" / name).open() as file:
        return list(csv.DictReader(file))


TABLES = sorted(
    path.stem
    for path in (FOLDER / "results").glob("*.csv")
    if path.stem in experiments.experiments()
)
FACTORS = {
    "dsprites": ("scale", "orientation", "posX", "posY"),
    "faces": ("azimuth", "elevation", "lighting"),
    "cars3d": ("azimuth", "elevation"),
}


@pytest.mark.parametrize("name", TABLES)
def test_published_tables_hold_what_was_promised(name):
    runs = {run.key: run for run in experiments.experiments()[name]}
    lines = lines_of(f"{name}.csv")
    data = lines[0]["data"].split()[0]
    numbers = {"mig", "log_px", "kl", "active_units", *(f"mig_{x}" for x in FACTORS[data])}
    keys = [f"{line['arm']}-beta{float(line['beta']):g}-seed{line['seed']}" for line in lines]
    assert len(set(keys)) == len(keys)
    for key, line in zip(keys, lines, strict=True):
        assert line["rung"] == runs[key].rung
        if line["status"] == "done":
            assert all(math.isfinite(float(line[column])) for column in numbers)
            assert -1e-6 <= float(line["mig"]) <= 1 and float(line["log_px"]) < 0 <= float(
                line["kl"]
            )


@pytest.mark.parametrize("name", ["fig5a", "fig5a-medium", "fig5a-quick", "fig5b-quick"])
def test_published_verdicts_are_of_the_published_table(name, tmp_path):
    table = str(FOLDER / "results" / f"{name}.csv")
    assert figures.main(["verdicts", table, "--out", str(tmp_path)]) == 0
    folders = FOLDER / "results", tmp_path
    paths = [folder / f"{name}-verdicts.json" for folder in folders]
    there, now = (json.loads(path.read_text())["comparisons"] for path in paths)
    assert len(there) == len(now)
    for old, new in zip(there, now, strict=True):
        for key, value in new.items():
            if isinstance(value, float | list):  # another numpy may resample otherwise
                assert old[key] == pytest.approx(value, abs=5e-3), (key, old)
            else:
                assert old[key] == value, (key, old)
    found = [verdicts.Comparison(**c) for c in there]
    text = (FOLDER / "results" / f"{name}-verdicts.md").read_text()
    assert text == verdicts.markdown(found)


def test_floats_are_shortened_and_missing_values_are_empty(tmp_path):
    rows = [
        {"arm": "b", "seed": 0, "beta": 1.0, "mig": 0.123456789, "history": [1]},
        {"arm": "a", "seed": 1, "beta": 1.0, "mig": None, "p1": 2.0},
    ]
    text = table_module.as_csv(rows)
    assert text == "arm,seed,beta,mig,p1\na,1,1,,2\nb,0,1,0.123457,\n"


def test_kept_models_are_drawn_scored_and_loaded_without_our_code(
    table, here, flags, npz, tmp_path, capsys
):
    table["tiny"] = tiny(arms=["isa-released"], seeds=1)
    assert script.main([*flags, "--keep-models"]) == 0
    folder = tmp_path / "sweeps/tiny"
    argv = ["a5", str(folder), "--out", str(tmp_path / "a5")]
    assert figures.main(argv) == 2
    assert "was trained on small.npz: pass it with --data" in capsys.readouterr().err
    assert figures.main([*argv, "--data", str(npz)]) == 0
    assert len(list((tmp_path / "a5").glob("isa-released-beta1-seed0-*.png"))) == 3

    (kept,) = (folder / "runs").iterdir()
    assert evaluate.main([str(kept), "--data", str(npz), "--scores", "light"]) == 0
    said = capsys.readouterr().out
    assert "untimed training (60 steps)" in said and "tc_full_data " in said
    argv = [str(kept), "--data", str(npz), "--scores", "light", "--eval-images", "300"]
    assert evaluate.main(argv) == 0
    said = capsys.readouterr().out
    assert "tc_of_300_rows" in said and "subspace_mig_monte_carlo_of_300_rows" in said
    assert "full_data" not in said

    weights = torch.load(kept / "model.pt", weights_only=True)
    config = json.loads((kept / "config.json").read_text())
    hidden, latents = config["hidden"], sum(config["sizes"])
    layers = [torch.nn.Linear(4096, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, hidden)]
    plain = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(hidden, 2 * latents))
    start = "encoder.layers."
    plain.load_state_dict(
        {name[len(start) :]: w for name, w in weights.items() if name.startswith(start)}
    )
    x = (torch.rand(5, 4096) < 0.05).float()
    mean = plain(x).chunk(2, dim=-1)[0]
    _, vae = checkpoint.load_model(kept)
    torch.testing.assert_close(vae.encoder(x).mean, mean)

    (kept / "scores.json").unlink()
    broken = shutil.copytree(kept, tmp_path / "broken")  # the others are scored all the same
    weights["encoder.layers.0.weight"].fill_(math.nan)
    torch.save(weights, broken / "model.pt")
    capsys.readouterr()
    argv = [str(broken), str(kept), "--data", str(npz), "--scores", "mig"]
    assert evaluate.main([*argv, "--table", str(tmp_path / "all.csv")]) == 2
    assert f"error: {broken}: the model cannot be scored" in capsys.readouterr().err
    assert (kept / "scores.json").exists() and not (broken / "scores.json").exists()
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 2
    assert evaluate.main([str(broken), *argv[2:], "--table", str(tmp_path / "none.csv")]) == 2
    assert "Written" not in capsys.readouterr().out
    assert not (tmp_path / "none.csv").exists()


def test_a_published_table_chooses_and_only_the_chosen_models_are_needed(
    table, flags, npz, tmp_path, capsys
):
    table["tiny"] = tiny(arms=["normal", "isa-released"])
    published, folder = tmp_path / "results", tmp_path / "sweeps/tiny"
    assert script.main([*flags, "--keep-models", "--publish", str(published)]) == 0
    argv = ["a5", str(published / "tiny.csv"), "--out", str(tmp_path / "a5"), "--data", str(npz)]
    capsys.readouterr()
    assert figures.main([*argv, "--models", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "lacks 2 of the 2 models" in said
    commands = [line.split()[2:] for line in said.splitlines() if "sweep.py" in line]
    assert all(command[-1] == "--keep-models" for command in commands)
    assert all(command[3:5] == ["--betas", "1"] for command in commands)
    chosen = {f"{command[2]}-beta1-seed{command[6]}" for command in commands}
    assert len(chosen) == 2 and not (tmp_path / "a5").exists()

    for run in (folder / "runs").iterdir():
        if run.name not in chosen:
            shutil.rmtree(run)
            (folder / "rows" / f"{run.name}.json").unlink()
    assert figures.main([*argv, "--models", str(folder)]) == 0
    assert {path.name.rpartition("-")[0] for path in (tmp_path / "a5").iterdir()} == chosen
