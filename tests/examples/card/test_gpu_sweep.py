"""gpu_sweep.py on a CPU: plan, fallbacks, rows, what is left behind, and a rehearsal."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import card.probe as probing
import gpu_sweep as script
import sweep
from card import capture, closing, mig_pool, session
from card.choice import Choice, describe, load_choice
from card.leave import OutputFolder, read_lines, read_model
from card.loop import Training
from card.mig_pool import Gaps, compute_gaps, gap_workers
from card.probe import DisagreementError
from card.schedule import Schedule
from card.session import Session
from card.stacked import Stack
from card.waves import identity_of, pairs_that_fit, phases, planned_of, waves
from config import UsageError
from data.dsprites_drawn import all_classes, as_bytes, render_words
from data.pictures import Pictures
from models import VAE, SparseLinear
from sweeps import worker
from sweeps.experiments import ARMS, METHODS, PAPER_ON_GPU, PRIMARY, experiments
from sweeps.rows import key_of, read_rows

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
SCRIPT = Path(script.__file__)
SMALL = {"hidden": 16, "batch_size": 64, "steps": 100}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures():
    classes = all_classes()[::499]
    return Pictures(as_bytes(render_words(classes)), classes, "drawn")


# --- the plan ---


def test_the_primary_comparison_comes_first_and_every_wave_is_balanced():
    plan = list(waves(18, 2, ()))
    assert [len(wave.seeds) for wave in plan[:9]] == [2] * 9
    first = [run for wave in plan[:9] for of_seed in wave.runs for run in of_seed]
    assert {run.experiment for run in first} == {"paper"}
    assert Counter(run.arm for run in first) == dict.fromkeys(PRIMARY, 18)
    assert {run.config.seed for run in first} == set(range(1, 19))
    for wave in plan:
        arms = [[(run.arm, run.config.beta) for run in of_seed] for of_seed in wave.runs]
        assert all(of_seed == list(wave.phase.arms) for of_seed in arms)
        seeds = [{run.config.seed for run in of_seed} for of_seed in wave.runs]
        assert seeds == [{seed} for seed in wave.seeds]
    order = list(dict.fromkeys(run.key for wave in plan for s in wave.runs for run in s))
    assert order.index("normal-0.495-beta1-seed1") > order.index("isa-released-beta1-seed18")
    assert order.index("beta-tcvae-beta2-seed1") > order.index("isa-4-4-beta1-seed18")
    assert order.index("normal-beta1-seed19") > order.index("isa-beta-tcvae-beta4-seed18")
    assert "normal-beta1-seed27" in order and "normal-beta1-seed28" not in order
    checked = [wave for wave in plan if wave.phase.experiment == "paper-float32"]
    assert [wave.seeds for wave in checked] == [(1, 2)] and plan.index(checked[0]) == 9


def test_what_has_rows_is_not_made_again_and_half_a_pair_is_made_whole():
    there = {("paper", arm, 1.0, seed) for arm in PRIMARY for seed in (1, 2, 4)}
    there.remove(("paper", "normal", 1.0, 4))
    seeds = [wave.seeds for wave in waves(18, 2, there)][:8]
    assert seeds == [(3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (17, 18)]
    everything = {
        (phase.experiment, arm, beta, seed)
        for phase in phases(18, 2)
        for arm, beta in phase.arms
        for seed in phase.seeds
    }
    assert list(waves(18, 2, everything)) == []


def test_every_run_of_the_plan_is_one_of_the_experiment():
    there = [run for name in ("paper", "paper-float32") for run in experiments()[name]]
    for planned in (18, 34):
        for wave in waves(planned, 2, ()):
            assert wave.runs and all(run in there for of_seed in wave.runs for run in of_seed)


@pytest.mark.parametrize(
    ("seconds", "pairs"),
    [(0, 18), (-5, 18), (360, 18), (405, 20), (660, 32), (700, 34), (9e9, 34)],
)
def test_time_alone_chooses_the_number_of_pairs(seconds, pairs):
    assert pairs_that_fit(seconds, wave_seconds=40.0, width=2) == pairs


def test_the_number_of_pairs_stays_what_the_first_session_made_it():
    assert planned_of([]) is None
    assert planned_of([{"planned": 22}, {"planned": 22}, {}]) == 22
    with pytest.raises(UsageError, match="different numbers of pairs"):
        planned_of([{"planned": 22}, {"planned": 24}])


# --- a step can be captured ---

FORBIDDEN = {
    *("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select"),
    *("unique", "_unique2", "lift_fresh", "_assert_async"),
}


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        shapes = [tuple(x.shape) for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        self.calls.append((str(function), shapes))
        return out


def arms_of(names, table, betas=(1.0,)):
    return [
        replace(PAPER_ON_GPU, **table[name], **SMALL, device="cpu", beta=beta)
        for beta in betas
        for name in names
    ]


CAPTURED = {
    "priors": arms_of(("normal", "normal-0.495", "isa-released", "isa-4-4", "isa-2.5-3"), ARMS),
    "methods": arms_of(("beta-tcvae", "isa-beta-tcvae"), METHODS, (2.0, 4.0)),
}


@pytest.mark.parametrize("arms", CAPTURED.values(), ids=CAPTURED)
def test_a_step_has_the_same_operations_each_time_and_waits_for_nothing(
    monkeypatch, pictures, arms
):
    monkeypatch.setattr(SparseLinear, "forward", nn.Linear.forward)
    training = Training(Stack(arms, (1, 2), torch.from_numpy(pictures.packed)), 100)
    recorded = []
    for _ in range(4):
        training.stack.rows.random_(0, len(pictures))
        training.stack.draw_noise()
        with Recorder() as recorder:
            training.step()
        recorded.append(recorder.calls)
    assert recorded[1] == recorded[2] == recorded[3]
    names = {call.split(".")[1] for call, _ in recorded[1]}
    assert "mm" in " ".join(names) and not names & FORBIDDEN


@pytest.mark.parametrize("arms", CAPTURED.values(), ids=CAPTURED)
def test_a_step_reads_no_number_of_a_tensor(pictures, arms):
    """Under fake tensors whatever waits for the device raises."""
    stack = Stack(arms, (1, 2), torch.from_numpy(pictures.packed))
    stack.terms()
    with FakeTensorMode(allow_non_fake_inputs=True):
        terms = stack.terms()
        (-terms["objective"].sum()).backward()
        with pytest.raises(Exception, match="local_scalar_dense|data-dependent|Data"):
            terms["objective"].sum().item()  # what the law is about


def test_compiled_terms_are_the_same(pictures):
    arms = arms_of(("normal", "isa-released"), ARMS)
    stack = Stack(arms, (1, 2), torch.from_numpy(pictures.packed))
    stack.rows.random_(0, len(pictures), generator=torch.Generator().manual_seed(0))
    stack.draw_noise()
    eager, compiled = stack.terms(), torch.compile(stack.terms, dynamic=False, fullgraph=True)()
    weights = list(stack.parameters())
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-5, atol=1e-5)
    found, expected = (
        torch.autograd.grad(terms["objective"].sum(), weights) for terms in (compiled, eager)
    )
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))


# --- sessions ---


def choice_of(**changes):
    return Choice(**({"engine": "eager", "device": describe(CPU), "step_ms": 1.0} | changes))


def session_of(pictures, folder, smaller=SMALL, **changes):
    packed = torch.from_numpy(pictures.packed)
    gaps_here = Gaps(None, 499)
    return Session(
        packed, pictures, choice_of(**changes), 18, OutputFolder(folder), gaps_here, smaller
    )


def first_wave():
    return next(waves(18, 2, ()))


def test_rows_of_a_session_are_those_of_single_runs(pictures, tmp_path, monkeypatch):
    """Trained, scored on the device and by the processes, against the way of sweep.py."""
    monkeypatch.setattr(SparseLinear, "forward", nn.Linear.forward)
    monkeypatch.setattr(worker, "pictures_of", lambda config: (pictures, packed))
    packed, made = torch.from_numpy(pictures.packed), session_of(pictures, tmp_path / "out")
    made.train(first_wave(), lambda step, steps: None)
    made.collect(wait=True)
    assert len(made.rows) == 4
    for row in made.rows:
        run = next(r for s in first_wave().runs for r in s if r.key == key_of(row))
        alone = worker.execute(made.on_device(run), tmp_path / run.key, keep_model=False)
        for key in ("mig", "mig_posX", "log_px", "kl", "elbo", "gap_shape"):
            assert row[key] == pytest.approx(alone[key], rel=1e-4, abs=1e-5), key
        assert row["active_units"] == alone["active_units"]
        assert np.allclose(row["information"]["posX"], alone["information"]["posX"], atol=1e-4)
        assert [line["step"] for line in row["history"]] == [50, 100]
        assert (row["planned"], row["precision"], row["card"]) == (18, "float32", "CPU")
        assert len(row["factor_entropy"]) == len(row["information"]) and row["widened_share"] == 0
    assert [{k: v for k, v in line.items() if k != "kind"} for line in lines_of(made)] == [
        json.loads(json.dumps(row)) for row in made.rows
    ]


def test_a_run_that_has_its_row_is_trained_for_its_partner_and_not_scored_again(
    pictures, tmp_path
):
    made = session_of(pictures, tmp_path)
    made.finished = frozenset({("paper", "normal", 1.0, 2)})
    made.train(first_wave(), lambda step, steps: None)
    made.collect(wait=True)
    keys = [(row["arm"], row["seed"]) for row in made.rows]
    assert sorted(keys) == [("isa-released", 1), ("isa-released", 2), ("normal", 1)]


def lines_of(made):
    return read_lines(made.output.folder / "rows.jsonl")


def test_processes_find_the_gaps_that_are_found_here(pictures):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(len(pictures), 3, generator=generator)
    std = torch.rand(len(pictures), 3, generator=generator) + 0.1
    found = session.Measured(torch.arange(len(pictures)), mean, std, torch.zeros(3, 1))
    with gap_workers(1, 499) as pool:
        there = pool.result(pool.submit(found), found)
    assert there == compute_gaps(499, mean.numpy(), std.numpy())


def test_where_processes_die_the_gaps_are_found_here(pictures):
    class Dying:
        def submit(self, *args):
            raise BrokenProcessPool("gone")

    mean = torch.randn(len(pictures), 2)
    found = session.Measured(torch.arange(len(pictures)), mean, mean.exp(), torch.zeros(3, 1))
    broken = Gaps(Dying(), 499)
    assert broken.result(broken.submit(found), found)["mig"] is not None
    assert broken.pool is None
    late = mig_pool.Future()
    late.set_exception(BrokenProcessPool("gone"))
    assert Gaps(Dying(), 499).result(late, found)["mig"] is not None


def test_a_way_that_fails_falls_back_to_the_next_and_is_named(pictures, tmp_path, capsys):
    made = session_of(pictures, tmp_path, engine="compiled graph")
    made.train(first_wave(), lambda step, steps: None)
    assert made.choice.engine == "eager"
    assert [note.split(":")[0] for note in made.choice.notes] == ["compiled graph", "graph"]
    assert {row["engine"] for row in made.rows} == {"eager"}
    assert "compiled graph: " in capsys.readouterr().out


def test_memory_that_is_too_small_for_two_seeds_is_tried_with_one(pictures, tmp_path, monkeypatch):
    made = session_of(pictures, tmp_path)
    prepare = made.prepare

    def full(wave, arms):
        if len(wave.seeds) > 1:
            raise torch.cuda.OutOfMemoryError("full")
        return prepare(wave, arms)

    monkeypatch.setattr(made, "prepare", full)
    schedule = Schedule(made, time.monotonic() + 3600, 1.0)
    schedule.todo = schedule.todo[:1]
    assert schedule.run() == 0
    made.collect(wait=True)
    assert sorted({row["seed"] for row in made.rows}) == [1, 2] and len(made.rows) == 4
    assert made.choice.width == 1 and "waves of two seeds" in made.choice.notes[0]


def test_an_arm_that_diverges_has_its_row_and_the_others_have_theirs(pictures, tmp_path):
    made = session_of(pictures, tmp_path)
    wave = first_wave()

    def poison(step, steps):
        if step == 50:
            with torch.no_grad():
                made.prepared[1].stack.decoder[0].weight[0, 1] = torch.nan

    made.train(wave, poison)
    made.collect(wait=True)
    status = {(row["arm"], row["seed"]): row["status"] for row in made.rows}
    assert status.pop(("isa-released", 1)) == "diverged" and set(status.values()) == {"done"}
    assert len(status) == 3


def test_an_error_in_a_wave_takes_no_row_of_those_before(pictures, tmp_path, monkeypatch, capsys):
    made = session_of(pictures, tmp_path)
    train, waves_begun = made.train, []

    def failing(wave, tell):
        waves_begun.append(wave)
        if len(waves_begun) == 2:
            raise RuntimeError("the card is gone")
        return train(wave, tell)

    monkeypatch.setattr(made, "train", failing)
    assert Schedule(made, time.monotonic() + 3600, 1.0).run() == 0
    made.collect(wait=True)
    assert len(made.rows) == 4 and len(waves_begun) == 2
    assert "no further wave: RuntimeError: the card is gone" in capsys.readouterr().out


def test_gaps_that_fail_cost_one_row(pictures, tmp_path, monkeypatch, capsys):
    made, calls = session_of(pictures, tmp_path), []
    real = mig_pool.compute_gaps

    def failing(*args):
        calls.append(args)
        if len(calls) == 2:
            raise MemoryError("full")
        return real(*args)

    monkeypatch.setattr(mig_pool, "compute_gaps", failing)
    made.train(first_wave(), lambda step, steps: None)
    made.collect(wait=True)
    assert len(calls) == 4 and len(made.rows) == 3 and made.pending == []
    assert "isa-released-beta1-seed1 has no row: MemoryError: full" in capsys.readouterr().out


def test_a_run_that_cannot_be_scored_costs_its_own_row(pictures, tmp_path, monkeypatch, capsys):
    made, calls = session_of(pictures, tmp_path), []

    def failing(*args):
        calls.append(args)
        if len(calls) == 2:
            raise RuntimeError("out of something")
        return session_measure(*args)

    session_measure = session.measure
    monkeypatch.setattr(session, "measure", failing)
    made.train(first_wave(), lambda step, steps: None)
    made.collect(wait=True)
    assert len(made.rows) == 3
    assert "isa-released-beta1-seed1 has no row: RuntimeError" in capsys.readouterr().out


def test_codes_that_cannot_be_turned_cost_no_row(pictures, tmp_path, monkeypatch, capsys):
    made = session_of(pictures, tmp_path)
    made.train(first_wave(), lambda step, steps: None)
    monkeypatch.setattr(closing, "summarise", lambda rows: [{"aligned": float("nan")}])
    assert closing.close(made, (), time.monotonic() + 3600, 0) == 0
    assert len(made.rows) == 4
    printed = capsys.readouterr().out
    assert "rotation: ValueError" in printed and "4 runs made" in printed


def test_nothing_is_published_where_a_part_is_refused(pictures, tmp_path, capsys):
    good = session_rows(pictures, tmp_path / "good")
    run = experiments()["paper"][0]
    part, *_ = OutputFolder(tmp_path / "parts").model("normal", run, VAE(20, 16).state_dict())
    part.rename(part.with_name("normal.model.1of2"))
    assert collect(good, part.with_name("normal.model.1of2"), publish=tmp_path / "tables") == 2
    assert "one of 2 parts" in capsys.readouterr().err
    assert not (tmp_path / "tables").exists()


def test_waves_of_unknown_kinds_are_given_more_time(pictures, tmp_path):
    made = session_of(pictures, tmp_path, precision="tf32", engine="graph")
    schedule = Schedule(made, time.monotonic() + 3600, 40.0)
    kinds = {wave.phase.experiment + wave.runs[0][0].arm: wave for wave in schedule.todo}
    assert schedule.seconds(kinds["papernormal"]) == 40
    assert schedule.seconds(kinds["paper-float32normal"]) == 160
    assert schedule.seconds(kinds["paperbeta-tcvae"]) == 240
    made.choice.engine, made.choice.precision = "compiled graph", "float32"
    assert schedule.seconds(kinds["paperbeta-tcvae"]) == 120
    assert schedule.seconds(kinds["paper-float32normal"]) == 40


def test_a_schedule_begins_no_wave_that_cannot_end(pictures, tmp_path):
    made = session_of(pictures, tmp_path)
    assert Schedule(made, time.monotonic() + 100, 40.0).fitting() == list(waves(18, 2, ()))[:2]
    assert Schedule(made, time.monotonic() + 30, 40.0).run() == 0
    assert made.rows == [] and made.pending == []


def test_a_device_that_computes_something_else_makes_no_row(pictures, tmp_path, monkeypatch):
    choice, calls = choice_of(), []
    objectives = probing.objectives

    def wrong(*args):
        calls.append(args)
        return objectives(*args) * (1.0 if len(calls) == 1 else 1.002)

    monkeypatch.setattr(probing, "objectives", wrong)
    arms = arms_of(PRIMARY, ARMS)
    with pytest.raises(DisagreementError, match="no run is made"):
        probing.compare(arms, torch.from_numpy(pictures.packed), CPU, choice)
    monkeypatch.setattr(probing, "objectives", objectives)
    probing.compare(arms, torch.from_numpy(pictures.packed), CPU, choice)
    assert choice.agreement == {"float32": 0.0} and choice.precision == "float32"


def test_a_trial_that_hangs_or_crashes_is_given_up():
    python = [sys.executable, "-c"]
    assert (
        "more than 0.5 s" in probing.trial([*python, "import time; time.sleep(60)"], 0.5)["error"]
    )
    assert "status 3" in probing.trial([*python, "raise SystemExit(3)"])["error"]
    assert "no number" in probing.trial([*python, "print('no number')"])["error"]
    assert "unexpected output" in probing.trial([*python, "pass"])["error"]
    assert "no way" in probing.trial([*python, "raise ValueError('no way')"])["error"]
    for difference, works in ((1e-6, True), (0.1, False), (float("nan"), False)):
        found = {"step_ms": 2.5, "difference": difference}
        said = probing.trial([*python, f"print({json.dumps(found)!r})"])
        assert said == found if works else "differs from the eager one" in said["error"]


def test_the_fastest_way_that_works_is_chosen():
    assert probing.fastest({"a": {"error": "x"}, "b": {"step_ms": 3}, "c": {"step_ms": 2}}) == "c"
    assert probing.fastest({"a": {"error": "x"}}) is None
    assert list(capture.ENGINES)[-1] == "eager"  # what works where nothing else does


def test_a_trial_is_remembered_for_this_device_and_this_code(tmp_path, monkeypatch):
    place, choice = tmp_path / "trial.json", choice_of(notes=["x"], agreement={"float32": 1e-7})
    assert load_choice(place, CPU) is None
    choice.save(place)
    assert load_choice(place, CPU) == choice
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert load_choice(place, CPU) is None
    monkeypatch.undo()
    monkeypatch.setattr("card.choice.source_hash", lambda: "other")
    assert load_choice(place, CPU) is None
    monkeypatch.undo()
    place.write_text("{damaged")
    assert load_choice(place, CPU) is None


# --- what is left behind ---


def test_a_line_that_was_cut_off_is_left_out_and_a_damaged_one_is_named(tmp_path):
    output = OutputFolder(tmp_path)
    output.add("run", {"seed": 1})
    output.add("smoke", {"engine": "graph"})
    path = tmp_path / "rows.jsonl"
    path.write_text(path.read_text() + '{"kind": "run", "se')
    assert output.lines("run") == [{"kind": "run", "seed": 1}]
    again = OutputFolder(tmp_path)  # the next session writes no line into the rest of this one
    again.add("run", {"seed": 2})
    assert [line["seed"] for line in again.lines("run")] == [1, 2]
    path.write_text('{"kind": "run"}\nnothing\n{"kind": "run"}\n')
    with pytest.raises(UsageError, match="line 2 is damaged"):
        read_lines(path)
    with pytest.raises(ValueError, match="Out of range"):
        output.add("run", {"mig": float("nan")})


def test_a_model_goes_in_parts_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("card.leave.PART", 50_000)
    run = experiments()["paper"][0]
    vae = VAE(20, 16)
    paths = OutputFolder(tmp_path).model("normal", run, vae.state_dict())
    assert len(paths) > 3 and all(path.stat().st_size <= 50_000 for path in paths)
    key, config, weights = read_model(paths[::-1])
    assert (key, config) == (run.key, run.config)
    for name, weight in vae.state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-4)
    with pytest.raises(UsageError, match="parts"):
        read_model(paths[1:])


def test_a_model_of_the_papers_size_fits_the_limits(tmp_path):
    run = experiments()["paper"][0]
    paths = OutputFolder(tmp_path).model("normal", run, VAE(20, run.config.hidden).state_dict())
    sizes = [path.stat().st_size / 2**20 for path in paths]
    assert len(sizes) == 2 and max(sizes) < 16 and 2 * sum(sizes) < 58  # of 64 MiB for both


# --- collecting ---


def session_rows(pictures, folder, seeds=(1, 2), **changes):
    """A file of rows of the experiment's own settings, from made-up scores."""
    output, rng = OutputFolder(folder), np.random.default_rng(seeds[0])
    template = session_of(pictures, folder / "x")
    for run in experiments()["paper"]:
        if run.config.seed in seeds and run.arm in PRIMARY and run.config.beta == 1:
            there = replace(run, config=replace(run.config, device="cuda"))
            row = template.row(there, None, "tf32", "graph")
            scores = {"mig": float(rng.random()), "log_px": -40.0 + float(rng.random())}
            row |= {"protocol": "paper-1", "status": "done", **scores, **changes}
            output.add("run", row)
    output.add("smoke", {"engine": "graph", "device": {"card": "made up"}, "seed": seeds[0]})
    output.add("rotation", {"key": f"normal-beta1-seed{seeds[0]}", "means": [{"prior": "own"}]})
    output.add("curves", {"key": "normal-beta1-seed1", "rows": [{"angle": 0.0}]})
    return folder / "rows.jsonl"


def collect(*files, publish):
    return sweep.main(["collect", *map(str, files), "--publish", str(publish)])


def test_sessions_are_merged_into_the_tables(pictures, tmp_path, capsys):
    one = session_rows(pictures, tmp_path / "one")
    two = session_rows(pictures, tmp_path / "two", seeds=(3, 4))
    assert collect(one, publish=tmp_path / "published") == 0
    assert collect(one, two, publish=tmp_path / "published") == 0
    assert "paper.csv: 4 new rows" in capsys.readouterr().out
    rows = read_rows(tmp_path / "published" / "paper.csv", "paper")
    assert len(rows) == 8 and {row["planned"] for row in rows} == {18}
    assert {(row["precision"], row["protocol"]) for row in rows} == {("tf32", "paper-1")}
    made = {
        identity_of(line): line
        for path in (one, two)
        for line in read_lines(path)
        if "mig" in line
    }
    assert all(
        row["mig"] == pytest.approx(made[identity_of(row)]["mig"], rel=1e-5) for row in rows
    )
    trials = json.loads((tmp_path / "published" / "paper-sessions.json").read_text())
    assert [trial["seed"] for trial in trials] == [1, 3]
    turned = json.loads((tmp_path / "published" / "paper-rotation.json").read_text())
    assert set(turned["rotation"]) == {"normal-beta1-seed1", "normal-beta1-seed3"}
    assert turned["curves"] == {"normal-beta1-seed1": [{"angle": 0.0}]}
    assert script.planned_of(rows) == 18


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol": "paper-0"}, "follows the protocol 'paper-0'"),
        ({"planned": 20}, "different numbers of pairs"),
        ({"mig": 0.5}, "occurs twice, with different mig"),
        (
            {"status": "diverged", "mig": None, "log_px": None},
            "twice, with different status",
        ),
        ({"config": replace(PAPER_ON_GPU, hidden=8, seed=1).to_json()}, "--hidden: was 8"),
        ({"seed": 99}, "is not a run of paper"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_rows_that_do_not_belong_are_refused(pictures, tmp_path, capsys, changes, said):
    good = session_rows(pictures, tmp_path / "good")
    assert collect(good, publish=tmp_path / "published") == 0
    before = (tmp_path / "published" / "paper.csv").read_bytes()
    seeds = (3, 4) if "planned" in changes else (1, 2)
    bad = session_rows(pictures, tmp_path / "bad", seeds, **changes)
    assert collect(bad, publish=tmp_path / "published") == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "published" / "paper.csv").read_bytes() == before


def test_collect_needs_files_and_a_folder(tmp_path, capsys):
    assert sweep.main(["collect", "--publish", str(tmp_path)]) == 2
    assert "none of the files has rows" in capsys.readouterr().err
    assert sweep.main(["collect", str(tmp_path / "no.jsonl"), "--publish", str(tmp_path)]) == 2
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "rows.jsonl").write_text("")
    assert sweep.main(["collect", str(tmp_path / "rows.jsonl")]) == 2
    assert "needs --publish" in capsys.readouterr().err
    assert sweep.main(["paper"]) == 2
    assert "is run by gpu_sweep.py" in capsys.readouterr().err


# --- the script ---

WITHOUT = ("tyro", "zuko", "pyro", "sklearn", "scipy", "pandas")
BARE = """
import runpy, sys
sys.modules.update(dict.fromkeys({without}))
sys.argv = [{script!r}, *sys.argv[1:]]
sys.path[0] = {folder!r}
runpy.run_path({script!r}, run_name="__main__")
"""


def start(folder, *flags):
    """The script, where only what it says it needs can be imported."""
    bare = folder / "bare.py"
    bare.write_text(BARE.format(without=WITHOUT, script=str(SCRIPT), folder=str(SCRIPT.parent)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, str(bare), "--rehearse", "--device", "cpu", "--workers", "1", *flags],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished_runs(out):
    return OutputFolder(out).lines("run")


def interrupted(folder, number):
    """A rehearsal that is sent a signal when it has its first rows: its status, and the rows."""
    trial = folder / "cache/lpnested/trial-of-a-rehearsal.json"
    choice_of(workers=1, step_ms=5.0).save(trial)
    process = start(folder, "--minutes", "5", "--out", str(folder / "out"))
    until = time.monotonic() + 240
    while not finished_runs(folder / "out") and time.monotonic() < until:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.2)
    process.send_signal(number)
    printed, errors = process.communicate(timeout=120)
    rows = finished_runs(folder / "out")
    assert rows, errors
    return process.returncode, rows, printed


def test_a_session_that_is_told_to_end_keeps_what_it_has_trained(tmp_path):
    status, rows, printed = interrupted(tmp_path, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert f"{len(rows)} runs made" in printed and "Next: python" in printed


def test_a_session_that_is_killed_goes_on_to_its_end(tmp_path):
    _, rows, _ = interrupted(tmp_path, signal.SIGKILL)
    out = tmp_path / "out"
    process = start(tmp_path, "--minutes", "9", "--waves", "2", "--out", str(out))
    printed, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    lines = read_lines(out / "rows.jsonl")
    keys = [identity_of(line) for line in lines if line["kind"] == "run"]
    assert len(set(keys)) == len(keys) > len(rows)
    assert {"normal.png", "isa-released.png", "log.txt", "normal.model.1of1"} <= {
        path.name for path in out.iterdir()
    }
    assert len(list(out.iterdir())) <= 8
    assert {line["kind"] for line in lines} == {"smoke", "run", "rotation", "curves"}
    shown = [line for line in lines if line["kind"] == "curves"]
    assert {line["rows"][0]["arm"] for line in shown} == set(PRIMARY)
    assert len({line["planned"] for line in lines if line["kind"] == "run"}) == 1
    for word in (f"of {rows[0]['planned']} pairs", "runs made", "Next: python examples/"):
        assert word in printed


def test_the_trial_alone_writes_no_row(tmp_path):
    process = start(tmp_path, "--smoke", "--out", str(tmp_path / "out"))
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    (line,) = read_lines(tmp_path / "out" / "rows.jsonl")
    assert line["kind"] == "smoke" and line["engine"] == "eager" and line["step_ms"] > 0
    assert line["trials"]["graph"].keys() == {"error"}  # there is no GPU here
    assert line["agreement"] == {"float32": 0.0}
    assert "fell back: graph" in printed and "the first look is at" in printed
    assert load_choice(tmp_path / "cache/lpnested/trial-of-a-rehearsal.json", CPU) is not None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--device", "cpu"], "add --rehearse"),
        (["--minutes", "0"], "--minutes must be positive"),
        (["--device", "cuda:99"], "not available"),
        (["--waves", "0"], "--waves must be 1 or more"),
        (["--workers", "-1"], "--workers must be 0 or more"),
        (["--out", str(SCRIPT)], "is a file"),
        (["--rehearse", "--device", "cpu", "--out", "OTHER"], "has rows of paper-1"),
    ],
    ids=lambda x: " ".join(x)[:12] if isinstance(x, list) else "",
)
def test_mistakes_are_told(tmp_path, capsys, flags, said):
    OutputFolder(tmp_path / "other").add("run", {"protocol": "paper-1"})
    flags = [str(tmp_path / "other") if flag == "OTHER" else flag for flag in flags]
    assert script.main(flags) == 2
    assert said in capsys.readouterr().err
