"""train.py as a user runs it: scores, files, interruptions and mistakes."""

import csv
import dataclasses
import errno
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import train as script
import usage
from config import PRESETS, Config, UsageError, parse
from data.cars import draw_cars
from data.dsprites_drawn import all_classes
from data.pictures import default_cache, render_dsprites
from models import VAE, make_prior
from running import files, panels
from running.checkpoint import CHECKPOINT, load_model, read_checkpoint
from running.folders import run_folder
from running.process import StopRequest
from running.typical import TYPICAL, same_prior, typical
from sweeps import experiments

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
SCRIPT = Path(script.__file__)


@pytest.fixture
def flags(npz):
    return [
        *("--data", str(npz), "--sizes", "2", "2", "--hidden", "16", "--batch-size", "16"),
        *("--steps", "40", "--device", "cpu"),
    ]


def strict(constant):
    raise ValueError(f"{constant} is no JSON")


def metrics(folder):
    text = (folder / "metrics.json").read_text()
    return json.loads(text, parse_constant=strict)


def numbers(folder):
    """All of metrics.json but the times."""
    return {key: value for key, value in metrics(folder).items() if key != "seconds"}


def assert_same_run(one, other):
    assert numbers(one) == numbers(other)
    weights, others = (torch.load(f / "model.pt", weights_only=True) for f in (one, other))
    assert weights.keys() == others.keys()
    for key, value in weights.items():
        assert torch.equal(value, others[key]), key


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start(*flags):
    """The script in a process of its own, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, flags)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- a run ---


def test_the_end_of_a_run_says_what_is_typical_and_what_comes_next(tmp_path, flags, capsys):
    folder = tmp_path / "a run"
    assert script.main([*flags, "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    with (SCRIPT.parent / "results" / "fig5a-quick.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["arm"] == "isa-released"]
    gaps = [float(row["mig"]) for row in rows]
    low, high = np.quantile(gaps, [0.25, 0.75])
    line = f"MIG {np.mean(gaps):.3f} ({low:.3f} to {high:.3f} in the middle half of {len(gaps)}"
    assert line in said and "log p(x|z)" in said
    commands = [shlex.split(text.split("   ")[0]) for text in re.findall(r"  python (.*)", said)]
    assert [Path(command[0]).name for command in commands] == ["evaluate.py", "sweep.py"]
    assert commands[0][1:] == [str(folder), "--scores", "light"]
    assert commands[1][1] in experiments.experiments()


def test_what_is_typical_is_of_the_same_prior_where_there_are_such_runs(tmp_path):
    published = json.loads(TYPICAL.read_text())
    for arm in {record["arm"] for record in published}:
        config = dataclasses.replace(Config(), **experiments.ARMS[arm])
        assert {r["arm"] for r in published if same_prior(config, r["prior"])} == {arm}
    normal = parse(["--prior", "normal", "--device", "cpu"])
    assert {r["arm"] for r in published if same_prior(normal, r["prior"])} == {"normal"}
    for other in ({"beta": 4.0}, {"objective": "tcvae"}, {"sizes": (2, 2)}, {"p0": 2.0}):
        config = dataclasses.replace(Config(), **other)
        assert not any(same_prior(config, record["prior"]) for record in published)
    assert "isa-released" in typical(Config(beta=4.0)) and "isa-4-4" in typical(
        dataclasses.replace(Config(), **experiments.ARMS["isa-4-4"])
    )
    assert typical(PRESETS["smoke"]).strip().startswith("A smoke run is too short")
    assert typical(Config(data_set="faces")) == typical(Config(), tmp_path / "none.json") == ""


def test_subspaces_are_marked_in_the_traversal(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(panels, "save", lambda figure, path: shown.update({path.name: figure}))
    packed = torch.zeros(1, 512, dtype=torch.uint8)
    variance, stddev = [0.5, 0.02, 0.7, 0.9, 0.001, 0.0, 0.0], torch.ones(7)
    for name, sizes in (("isa", (2, 3, 2)), ("normal", None)):
        vae = VAE(7, 8, "relu")
        rest = (packed, (1, 64, 64), 0, variance, stddev, tmp_path / name)
        panels.traversal(vae, *rest, sizes=sizes)
    labels = {
        name: [text.get_text() for text in figure.axes[0].get_yticklabels()]
        for name, figure in shown.items()
    }
    assert [label.split("   ")[0] for label in labels["isa"]] == [
        *("subspace 1: z0", "subspace 1: z1", "subspace 2: z3", "subspace 2: z2"),
        *("subspace 2: z4", "subspace 3: z5"),
    ]
    assert [label.split("   ")[0] for label in labels["normal"]] == [
        f"z{j}" for j in (3, 2, 0, 1, 4, 5)
    ]
    colours = [text.get_color() for text in shown["isa"].axes[0].get_yticklabels()]
    assert len(set(colours)) == 3
    for figure in shown.values():
        panels.plt.close(figure)


def test_the_training_curve_is_that_of_the_history(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(panels, "save", lambda figure, path: shown.append(figure))
    history = [{"step": 50 * k, "objective": -k, "log_px": k * k, "kl": 3.0} for k in range(1, 9)]
    panels.training_curve(history, tmp_path)
    panels.training_curve([], tmp_path)
    lines = [axes.lines[0].get_xydata().T.tolist() for axes in shown[0].axes]
    for (steps, values), key in zip(lines, ("objective", "log_px", "kl"), strict=True):
        assert steps == [line["step"] for line in history]
        assert values == [line[key] for line in history]
    for figure in shown:
        panels.plt.close(figure)


@pytest.mark.parametrize("prior", ["isa", "normal"])
def test_run_writes_what_it_says(tmp_path, flags, npz, capsys, prior):
    folder = tmp_path / "run"
    assert script.main([*flags, "--prior", prior, "--out", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.pt",
        "config.json",
        "metrics.json",
        "model.pt",
        "reconstructions.png",
        "training.png",
        "traversal.png",
    }
    result = metrics(folder)
    assert result["config"]["prior"] == prior
    assert result["images"] == {"source": str(npz), "count": 492}
    assert result["evaluated"] == {"rows": "all", "count": 492}
    assert result["steps"] == 40
    scores = result["scores"]
    assert (scores["kl_analytic"] is None) == (prior == "isa")
    assert set(scores["mig_per_factor"]) == {"scale", "orientation", "posX", "posY"}
    assert scores["mig"] == pytest.approx(np.mean(list(scores["mig_per_factor"].values())))
    assert np.array(scores["mutual_information"]).shape == (4, 5)
    printed = capsys.readouterr().out
    for word in ("MIG", "log p(x|z)", "KL", "active units", "all 492 images", str(folder)):
        assert word in printed
    assert f"{scores['mig']:.3f}" in printed
    config, vae = load_model(folder)
    assert config.latents == 4
    assert vae.encoder(torch.zeros(1, 4096)).mean.shape == (1, 4)


def test_scores_of_a_part_are_labelled(tmp_path, flags, capsys):
    folder = tmp_path / "run"
    assert script.main([*flags, "--eval-images", "100", "--out", str(folder)]) == 0
    assert metrics(folder)["evaluated"] == {"rows": "random subset", "count": 100}
    assert "RANDOM SUBSET of 100 of 492" in capsys.readouterr().out


def test_no_path_of_the_machine_is_recorded(tmp_path, flags, npz, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(npz, "small.npz")
    assert script.main([*flags, "--data", "small.npz", "--cache", str(tmp_path / "cache")]) == 0
    folder = Path("runs/small-isa-seed0")
    for name in ("metrics.json", "config.json"):
        assert str(tmp_path) not in (folder / name).read_text()
        assert str(Path.home()) not in (folder / name).read_text()


def test_running_again_takes_a_new_folder(tmp_path, flags, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert script.main(flags) == 0
    assert script.main(flags) == 0
    first, second = Path("runs/small-isa-seed0"), Path("runs/small-isa-seed0-2")
    assert_same_run(first, second)


def test_seed_matters(tmp_path, flags):
    for seed in ("1", "2"):
        script.main([*flags, "--seed", seed, "--out", str(tmp_path / seed)])
    assert metrics(tmp_path / "1")["scores"] != metrics(tmp_path / "2")["scores"]


def test_training_learns(tmp_path, flags, npz):
    folder = tmp_path / "run"
    longer = ["--steps", "1500", "--hidden", "64", "--learning-rate", "3e-3"]
    assert script.main([*flags, *longer, "--out", str(folder)]) == 0
    with np.load(npz) as file:
        p = torch.from_numpy(file["imgs"].mean(0))
    mean_picture_for_all = (torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).sum().item()
    assert metrics(folder)["scores"]["elbo"] > mean_picture_for_all + 100


def test_every_term_is_logged(tmp_path, flags):
    """In the history of the run, and for TensorBoard where that is asked for."""
    folder = tmp_path / "run"
    more = ["--objective", "tcvae", "--tensorboard", "--steps", "120", "--learn-exponents"]
    assert script.main([*flags, *more, "--out", str(folder)]) == 0
    history = metrics(folder)["history"]
    assert [line["step"] for line in history] == [50, 100]
    terms = {"objective", "log_px", "kl", "index_code_mi_mws", "total_correlation_mws"}
    assert terms | {"product_to_prior_mws", "p0", "p1", "p2"} | {"step"} == history[0].keys()
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    logged = [(event.step, event.value) for event in accumulator.Scalars("log_px")]
    assert logged == [(line["step"], pytest.approx(line["log_px"])) for line in history]


def test_learning_rates_fall_linearly_over_the_last_part():
    config = Config(decay=0.4)
    found = [script.lr_factor(step, 10, config) for step in range(10)]
    assert found == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert {script.lr_factor(step, 10, Config(decay=0.0)) for step in range(10)} == {1.0}


def test_each_epoch_of_each_seed_has_its_own_order():
    config = Config(device="cpu")
    orders = [script.permutation(epoch, 100, config) for epoch in (0, 1)]
    orders.append(script.permutation(0, 100, dataclasses.replace(config, seed=1)))
    assert all(order.sort().values.equal(torch.arange(100)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3
    assert script.permutation(1, 100, config).equal(orders[1])


def learner(**changes):
    config = Config(device="cpu", hidden=8, sizes=(2, 2), learn_exponents=True, **changes)
    return config, script.make_state(config, 1)


def test_exponents_have_a_learning_rate_of_their_own():
    _, state = learner(learning_rate=2e-3, exponent_rate=7e-4)
    networks, exponents = state.optimiser.param_groups
    assert [networks["lr"], exponents["lr"]] == [2e-3, 7e-4]
    assert [networks["full_rate"], exponents["full_rate"]] == [2e-3, 7e-4]
    assert {id(x) for x in exponents["params"]} == {id(x) for x in state.prior.parameters()}


def test_a_record_is_the_mean_of_the_terms_since_the_last(tmp_path):
    _, state = learner()
    for value in (-2.0, 4.0):
        state.running = {"objective": torch.tensor(value * script.LOG_EVERY)}
        assert script.record(state, tmp_path)["objective"] == value
        assert not state.running


def test_seconds_of_an_interrupted_run_are_added(tmp_path, npz):
    config, state = learner(batch_size=16, steps=20, objective="vae", data=npz)
    pictures = script.load_data(config)
    state.seconds = 1000.0
    packed = torch.from_numpy(pictures.packed)
    script.train(config, state, packed, pictures.pixels, tmp_path, "", report_progress=print)
    assert 1000 < state.seconds < 1600


def test_faces_and_cars_are_trained_on_by_the_convolutional_model(tmp_path, capsys):
    generator = torch.Generator().manual_seed(0)
    faces = torch.randint(256, (2, 3, 2, 2, 64, 64), dtype=torch.uint8, generator=generator)
    torch.save(faces, tmp_path / "faces.pth")
    draw_cars(tmp_path, models=2)
    sets = {
        "faces": (tmp_path / "faces.pth", ("azimuth", "elevation", "lighting")),
        "cars3d": (find_cars(tmp_path), ("elevation", "azimuth")),
    }
    for name, (path, factors) in sets.items():
        folder = tmp_path / name
        shared = ["--data-set", name, "--data", str(path), "--model", "conv", "--sizes", "2", "2"]
        more = ["--batch-size", "8", "--steps", "3", "--device", "cpu", "--scores", "light"]
        assert script.main([*shared, *more, "--out", str(folder)]) == 0
        scores = metrics(folder)["scores"]
        assert tuple(scores["mig_per_factor"]) == factors
        assert (
            math.isfinite(scores["log_likelihood"])
            and scores["more"]["factorvae_score_std0.05"] >= 0
        )
        assert (folder / "traversal.png").stat().st_size > 1000
        config, vae = load_model(folder)
        assert config.data_set == name and not vae.training


def find_cars(folder):
    """The folder that holds data/cars, wherever the cache has it."""
    (found,) = {path.parents[2] for path in folder.rglob("list.txt")}
    return found


# --- interruptions ---


def wait_for_training(process, folder, steps=100):
    """Until the run's checkpoint is some steps old."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        if (folder / CHECKPOINT).exists() and read_checkpoint(folder)["step"] >= steps:
            return
        time.sleep(0.05)
    raise AssertionError("training did not begin")


def test_killed_and_interrupted_run_ends_with_the_same_numbers(tmp_path, flags):
    flags = [*flags, "--steps", "1500", "--eval-images", "400", "--checkpoint-seconds", "0.2"]
    whole, folder = tmp_path / "whole", tmp_path / "run"
    with start(*flags, "--out", whole) as process:
        _, errors = process.communicate(timeout=6000)
        assert process.returncode == 0, errors

    with start(*flags, "--out", folder) as process:
        wait_for_training(process, folder)
        process.kill()
    step = read_checkpoint(folder)["step"]
    assert 0 < step < 1500
    assert not (folder / "metrics.json").exists()

    with start("--resume", "--out", folder) as process:  # its settings need no repetition
        wait_for_training(process, folder, step + 1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    assert f"--resume --out {folder}" in errors
    assert "Traceback" not in errors
    assert step < read_checkpoint(folder)["step"] < 1500

    with start(*flags, "--resume", "--out", folder) as process:
        _, errors = process.communicate(timeout=6000)
        assert process.returncode == 0, errors
    assert_same_run(whole, folder)


def test_resuming_across_the_end_of_an_epoch(tmp_path, flags, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert script.main([*flags, "--out", str(whole)]) == 0
    for stop in (30, 35):  # an epoch has 492 // 16 = 30 steps
        monkeypatch.setattr(script, "StopRequest", stop_at(stop))
        again = ["--resume"] if broken.exists() else []
        assert script.main([*flags, *again, "--out", str(broken)]) == 130
        assert read_checkpoint(broken)["step"] == stop
    monkeypatch.undo()
    assert script.main(["--resume", "--out", str(broken)]) == 0
    assert_same_run(whole, broken)


def stop_at(step):
    class Countdown(StopRequest):
        """Asks for a stop when the loop has looked at it often enough."""

        looks = 0

        @property
        def signal(self):
            return signal.SIGINT if self.state_step() == step else None

        @signal.setter
        def signal(self, value):
            pass

        @staticmethod
        def state_step():
            frame = sys._getframe(2)
            return frame.f_locals["state"].step

    return Countdown


def test_of_two_signals_the_one_that_ends_the_process_is_noted():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGINT
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_while_scoring_says_how_to_go_on(tmp_path, flags, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "finish", interrupted)
    assert script.main([*flags, "--steps", "5", "--out", str(tmp_path / "run")]) == 130
    assert "stopped; to resume:\n" in capsys.readouterr().err


def test_finished_run_can_be_scored_again(tmp_path, flags):
    folder = tmp_path / "run"
    script.main([*flags, "--out", str(folder)])
    before = numbers(folder)
    (folder / "metrics.json").unlink()
    assert script.main(["--resume", "--out", str(folder)]) == 0
    assert numbers(folder) == before


def test_divergence_stops_and_keeps_the_last_good_checkpoint(tmp_path, flags, capsys):
    folder = tmp_path / "run"
    flags = [*flags, "--learning-rate", "1e30", "--checkpoint-seconds", "0"]
    assert script.main([*flags, "--out", str(folder)]) == 1
    assert "no longer finite" in capsys.readouterr().err
    content = read_checkpoint(folder)
    assert all(value.isfinite().all() for value in content["parts"]["vae"].values())
    assert not (folder / "metrics.json").exists()


# --- one writer to a folder ---


def test_a_second_training_of_a_folder_is_refused(tmp_path, flags, monkeypatch, capsys):
    """The same --out, and --resume without --out, which would join a default run."""
    monkeypatch.chdir(tmp_path)
    flags = [*flags, "--steps", "1000000", "--checkpoint-seconds", "0.2"]
    folder = tmp_path / "runs" / "small-isa-seed0"
    with start(*flags) as process:
        wait_for_training(process, folder)
        for again in (["--out", str(folder)], ["--out", str(folder), "--resume"], ["--resume"]):
            assert script.main([*flags, *again]) == 2
            assert f"process {process.pid} on" in capsys.readouterr().err
        process.kill()
    assert (folder / ".lock").exists()  # of a process that is no more: no lock
    step = read_checkpoint(folder)["step"]
    monkeypatch.setattr(script, "StopRequest", stop_at(step + 1))
    assert script.main([*flags, "--resume"]) == 130
    assert read_checkpoint(folder)["step"] == step + 1
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_trainings_that_begin_at_once_have_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with run_folder(Config()) as one, run_folder(Config()) as other:
        assert [one.name, other.name] == ["small-isa-seed0", "small-isa-seed0-2"]
        (one / CHECKPOINT).touch()
    assert one.is_dir() and not other.exists()


# --- mistakes ---


class Full:
    """A disk that is full after some files."""

    def __init__(self, files):
        self.left = files

    def __call__(self, descriptor):
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_says_how_to_go_on(tmp_path, flags, monkeypatch, capsys):
    whole, folder = tmp_path / "whole", tmp_path / "a run"
    assert script.main([*flags, "--out", str(whole)]) == 0
    for room in (2, 3, 4, 5):  # settings and a checkpoint; then one file more each time
        shutil.rmtree(folder, ignore_errors=True)
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "fsync", Full(room))
            assert script.main([*flags, "--out", str(folder)]) == 2
        said = capsys.readouterr().err
        assert re.search(rf"error: .*No space left on device: '{folder}/[\w.]+'", said)
        assert f"free some disk space; to resume:\n  python {sys.argv[0]} --resume" in said
        assert not list(folder.glob("*.tmp")) and not list(folder.glob(".*"))
    assert script.main(["--resume", "--out", str(folder)]) == 0
    assert_same_run(whole, folder)


def test_a_disk_that_is_full_from_the_first_file_on_leaves_nothing(
    tmp_path, flags, monkeypatch, capsys
):
    for room in (0, 1):
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "fsync", Full(room))
            assert script.main([*flags, "--out", str(tmp_path / "run")]) == 2
        said = capsys.readouterr().err
        assert "free some disk space, or write elsewhere\nstopped; nothing was written" in said
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_file_in_place_of_the_folder_is_named(tmp_path, flags, capsys, more):
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/run"):
        assert script.main([*flags, *more, "--out", str(tmp_path / place)]) == 2
        wanted = f"--out must be a folder, but {tmp_path / 'file'} is a file"
        assert wanted in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("flag", "package", "extra"),
    [
        (["--tensorboard"], "tensorboard", "sweeps"),
        (["--scores", "all"], "sklearn", "examples"),
    ],
)
def test_a_package_that_is_missing_is_named(
    tmp_path, flags, monkeypatch, capsys, flag, package, extra
):
    monkeypatch.setattr(usage.importlib.util, "find_spec", lambda name: None)
    assert script.main([*flags, *flag, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert f"{' '.join(flag)} needs the package {package}, which is not installed" in said
    assert said.endswith(f"pip install -c constraints.txt -e '.[{extra}]'\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (["--p0", "-1"], "--p0 must be a positive number, but got -1.0"),
        (["--p0", "nan"], "--p0 must be"),
        (["--p", "0"], "--p must be positive numbers"),
        (["--p", "1", "2", "3"], "--p must be one number, or one for each of 2"),
        (["--sizes", "4", "0"], "--sizes must be positive whole numbers"),
        (["--scale", "0"], "--scale must be"),
        (["--scale", "inf"], "--scale must be"),
        (["--beta", "-0.1"], "--beta must be"),
        (["--steps", "0"], "--steps must be"),
        (["--epochs", "-1"], "--epochs must be"),
        (["--batch-size", "0"], "--batch-size must be"),
        (["--batch-size", "500"], "--batch-size 500 is more than 492 images"),
        (["--seed", "-1"], "--seed must be"),
        (["--decay", "1.5"], "--decay must be"),
        (["--device", "cuda:99"], "--device cuda:99 is not available"),
        (["--device", "toaster"], "--device toaster is not available"),
        (["--data", "nothing.npz"], "--data must be .* no such file: nothing.npz"),
        (["--resume"], r"--resume: .*checkpoint.pt does not exist"),
        (["--kl", "analytic"], "--kl must be monte-carlo with --prior isa"),
        (["--prior", "normal", "--learn-exponents"], "--learn-exponents must be False with"),
        (["--data-set", "cars3d"], "--model must be conv for colour images, but got mlp"),
        (["--objective", "tcvae", "--batch-size", "1"], "--batch-size must be 2 or more"),
        (["--alpha", "2"], "--alpha must be 1 unless --objective is tcvae"),
    ],
)
def test_bad_flags_are_named_and_nothing_is_written(tmp_path, flags, capsys, mistake, message):
    folder = tmp_path / "run"
    assert script.main([*flags, *mistake, "--out", str(folder)]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not folder.exists()


@pytest.mark.parametrize("mistake", [["--prior", "uniform"], ["--preset", "none"], ["--no-such"]])
def test_unknown_values_are_refused(capsys, mistake):
    with pytest.raises(SystemExit) as error:
        script.main(mistake)
    assert error.value.code == 2
    assert mistake[0] in capsys.readouterr().err


def test_damaged_data_are_refused(tmp_path, flags, npz, capsys):
    (tmp_path / "cut.npz").write_bytes(npz.read_bytes()[:-100])
    folder = tmp_path / "run"
    data = ["--data", str(tmp_path / "cut.npz")]
    assert script.main([*flags, *data, "--out", str(folder)]) == 2
    assert re.search(r"--data: .*cut\.npz: not a readable", capsys.readouterr().err)
    assert not folder.exists()


def test_folder_in_use_is_refused(tmp_path, flags, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert script.main([*flags, "--out", str(tmp_path)]) == 2
    assert "is not empty; add --resume" in capsys.readouterr().err
    assert snapshot(tmp_path) == {"notes.txt": b"mine"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, npz):
    folder = tmp_path_factory.mktemp("finished") / "run"
    small = ["--sizes", "2", "2", "--hidden", "16", "--steps", "5", "--batch-size", "16"]
    assert script.main(["--data", str(npz), *small, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--beta", "4", "--p0", "3"], r"--p0: was 2.1, now 3.0; --beta: was 1.0, now 4.0"),
        (["--preset", "smoke"], "--preset: was small, now smoke"),
        (["--sizes", "4"], r"--sizes: was \(2, 2\), now \(4,\)"),
    ],
)
def test_resuming_with_other_settings_is_refused(finished, capsys, change, message):
    before = snapshot(finished)
    assert script.main(["--resume", "--out", str(finished), *change]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert snapshot(finished) == before


def test_resuming_with_other_images_is_refused(finished, tmp_path, capsys):
    classes = all_classes()[:50]
    other = tmp_path / "other.npz"
    np.savez_compressed(other, imgs=render_dsprites(classes), latents_classes=classes)
    before = snapshot(finished)
    assert script.main(["--resume", "--out", str(finished), "--data", str(other)]) == 2
    assert "images differ from those" in capsys.readouterr().err
    assert snapshot(finished) == before


@pytest.mark.parametrize("damage", ["cut", "one byte", "empty", "other content", "pickle"])
def test_damaged_checkpoint_is_refused(finished, tmp_path, capsys, damage):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    path = folder / CHECKPOINT
    data = path.read_bytes()
    if damage == "other content":
        torch.save({"weights": torch.zeros(3)}, path)
    elif damage == "pickle":
        torch.save({"format": 2, "config": Path("code")}, path)
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes({"cut": data[:middle], "one byte": flipped, "empty": b""}[damage])
    before = snapshot(folder)
    assert script.main(["--resume", "--out", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "is not a complete checkpoint" in said and "weights_only" not in said
    assert snapshot(folder) == before


# --- settings ---


def test_papers_preset():
    config = parse(["--preset", "dsprites-paper", "--device", "cpu"])
    assert (config.hidden, config.activation, config.latents) == (1200, "tanh", 20)
    assert (config.sizes, config.p0, config.p, config.scale) == ((4,) * 5, 2.1, (2.2,), 1.0)
    assert (config.batch_size, config.learning_rate, config.epochs) == (2048, 1e-3, 20)
    assert config.num_steps(737_280) == 7200
    vae = VAE(config.latents, config.hidden, config.activation)
    shapes = [tuple(w.shape) for w in vae.parameters() if w.ndim == 2]
    encoder = [(1200, 4096), (1200, 1200), (40, 1200)]
    decoder = [(1200, 20), (1200, 1200), (1200, 1200), (4096, 1200)]
    assert shapes == encoder + decoder


def test_the_preset_small_was_called_quick():
    small = parse(["--device", "cpu"])
    assert small.preset == "small" == PRESETS["small"].preset
    for flags in (["--preset", "quick"], ["--preset=quick"], ["--preset", "small"]):
        assert parse([*flags, "--device", "cpu"]) == small
    assert parse(["--out", "quick", "--device", "cpu"]).out == Path("quick")
    before = small.to_json() | {"preset": "quick"}  # of a run that was made then
    assert Config.from_json(before) == small


def test_flags_override_the_preset():
    config = parse(["--hidden", "7", "--preset=smoke", "--scale", "unit-variance"])
    expected = dataclasses.replace(
        PRESETS["smoke"], hidden=7, scale="unit-variance", device=config.device
    )
    assert config == expected


def test_config_survives_json():
    config = Config(data=Path("x.npz"), p=(1.0, 2.0), sizes=(3, 4), scale="unit-variance")
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_help_teaches_every_flag(capsys):
    with pytest.raises(SystemExit) as error:
        script.main(["--help"])
    assert error.value.code == 0
    printed = capsys.readouterr().out
    for field in dataclasses.fields(Config):
        assert "--" + field.name.replace("_", "-") in printed
    assert "dsprites-paper" in printed


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().beta = 2.0


def test_interval_of_checkpoints_is_checked():
    with pytest.raises(UsageError, match="--checkpoint-seconds"):
        parse(["--checkpoint-seconds", "nan"])


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "lpnested"


def test_prior_has_the_scale_asked_for():
    normal = parse(["--prior", "normal", "--scale", "0.7", "--device", "cpu"])
    torch.testing.assert_close(make_prior(normal)().stddev, torch.full((20,), 0.7))
    isa = parse(["--scale", "unit-variance", "--device", "cpu"])
    torch.testing.assert_close(make_prior(isa)().variance.mean(), torch.tensor(1.0))
    paper = parse(["--device", "cpu"])
    variance = make_prior(paper)().variance
    torch.testing.assert_close(variance, torch.full((20,), 0.495), atol=1e-3, rtol=0)
