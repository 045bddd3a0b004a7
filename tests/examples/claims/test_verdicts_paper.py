"""The experiment `paper`: two looks, a primary question alone, and a family of secondary ones."""

import json

import numpy as np
import pytest

import figures
from claims import looks
from claims.bootstrap import difference_interval
from claims.questions import looked_at, missing_runs, planned
from claims.verdicts import judge, write_verdicts
from config import UsageError
from sweeps.experiments import (
    PRIMARY,
    SECONDARY,
    WEIGHTED,
    WEIGHTED_BETAS,
    experiments,
    second_look,
)
from sweeps.rows import as_csv

pytestmark = pytest.mark.slow

PAIRS, LATER = 18, second_look(18)
SHIFTS = {"isa-released": 0.08, "isa-beta-tcvae": 0.08, "isa-4-4": 0.01}


def runs(arm, seeds, beta=1.0, shift=None, nats=-40.0):
    """Runs of an arm, with noise of its own at each seed."""
    found = []
    for seed in seeds:
        noise = np.random.default_rng([seed, sum(map(ord, arm)), int(10 * beta)]).normal(size=2)
        mig = 0.2 + (SHIFTS.get(arm, 0.0) if shift is None else shift) + 0.03 * noise[0]
        name = {"experiment": "paper", "rung": "paper", "arm": arm, "seed": seed, "beta": beta}
        name |= {"status": "done", "data": "dsprites (drawn)", "planned": PAIRS}
        low = 6 if "0.495" in arm or "released" in arm else 0
        found.append({**name, "mig": mig, "log_px": nats - 8 * beta - low + noise[1]})
    return found


def everything(pairs=PAIRS):
    """All arms with seeds 1 to as many pairs."""
    seeds = range(1, pairs + 1)
    rows = [row for arm in PRIMARY + SECONDARY for row in runs(arm, seeds)]
    return rows + [
        r for arm in WEIGHTED for beta in WEIGHTED_BETAS for r in runs(arm, seeds, beta)
    ]


def primary(rows):
    (found,) = [c for c in judge(rows) if c.family == "primary"]
    return found


def test_one_primary_question_and_a_family_of_secondary_ones():
    found = judge(everything())
    assert [c.family for c in found] == ["primary"] + 11 * ["secondary"]
    first, rest = found[0], found[1:]
    assert (first.claim, first.arm, first.against, first.measure) == (
        *("4.1", "isa-released", "normal", "mig"),
    )
    assert first.corrected == pytest.approx(looks.restated(first.p, 1, PAIRS / LATER))
    assert {(c.arm, c.against) for c in rest if c.measure == "log_px" and c.beta == 1} == {
        ("isa-released", "normal"),
        ("isa-released", "normal-0.495"),
        ("isa-4-4", "normal"),
        ("normal-0.495", "normal"),
    }
    least = min(rest, key=lambda c: c.p)
    assert least.corrected == pytest.approx(11 * looks.restated(least.p, 1, PAIRS / LATER))
    verdict = {(c.arm, c.against, c.measure, c.beta): c.verdict for c in found}
    assert verdict["isa-released", "normal", "mig", 1.0] == "reproduced"
    assert verdict["isa-4-4", "normal", "mig", 1.0] == "excluded"
    assert verdict["isa-released", "normal", "log_px", 1.0] == "reproduced"  # lower, as at medium
    assert verdict["normal-0.495", "normal", "log_px", 1.0] == "reproduced"
    assert verdict["isa-beta-tcvae", "beta-tcvae", "trade-off", None] == "reproduced"


def test_the_weighted_arms_have_those_of_the_primary_question_at_beta_one():
    """There the objectives are the same, so that the curve has its third point from them."""
    asked = {run.arm: run.config for run in experiments()["paper"] if run.config.seed == 1}
    for plain, weighted in zip(PRIMARY, WEIGHTED, strict=True):
        same = {**vars(asked[weighted]), "beta": 1.0, "objective": asked[plain].objective}
        assert same == vars(asked[plain])
    rows = everything()
    (curve,) = [c for c in judge(rows) if c.measure == "trade-off"]
    for row in rows:
        row["mig"] += 0.5 * (row["arm"] == "isa-released")
    (moved,) = [c for c in judge(rows) if c.measure == "trade-off"]
    assert curve.n == moved.n == PAIRS and moved.difference > curve.difference + 0.02


def test_before_the_first_look_nothing_is_shown():
    rows = everything()
    del rows[PAIRS + 4]  # a seed of isa-released
    found = {(c.arm, c.against, c.measure): c for c in judge(rows) if c.beta == 1}
    c = found["isa-released", "normal", "mig"]
    assert (c.look, c.n, c.to_make, c.verdict) == (0, PAIRS - 1, 1, "undecided")
    assert c.difference is c.interval is c.p is c.corrected is c.means is None
    assert found["isa-4-4", "normal", "mig"].verdict == "excluded"
    for at in (0, 4, 11):
        assert primary(runs("normal", range(1, at)) + runs("isa-released", range(2))).look == 0
    nothing = judge(runs("normal", [1]))
    assert len(nothing) == 12 and {c.verdict for c in nothing} == {"undecided"}


def test_a_test_that_is_yet_to_be_made_counts_in_its_family():
    only = [r for arm in ("normal", "normal-0.495") for r in runs(arm, range(1, PAIRS + 1))]
    (found,) = [c for c in judge(only) if c.p is not None]
    assert (found.measure, found.arm, found.verdict) == ("log_px", "normal-0.495", "reproduced")
    assert found.corrected == pytest.approx(11 * looks.restated(found.p, 1, PAIRS / LATER))


def test_seeds_beyond_a_look_are_not_looked_at():
    rows = runs("normal", range(1, PAIRS + 1)) + runs("isa-released", range(1, PAIRS + 1))
    first = primary(rows)
    more = runs("normal", [0, *range(PAIRS + 1, LATER)], shift=0.9)
    more += runs("isa-released", [0, *range(PAIRS + 1, LATER)], shift=-0.9)
    assert primary(rows + more) == first and first.look == 1
    assert first.level == pytest.approx(0.016375, abs=1e-6)
    a, b = ([r["mig"] for r in part] for part in (rows[PAIRS:], rows[:PAIRS]))
    assert first.interval == difference_interval(a, b, True, confidence=1 - first.level)
    assert first.interval[0] > 0 and first.verdict == "reproduced"


@pytest.mark.slow
def test_the_second_look_is_at_all_of_its_pairs():
    rows = everything(LATER)
    found = primary(rows)
    assert (found.look, found.n, found.to_make) == (2, LATER, 0)
    assert found.level == pytest.approx(0.0439476, abs=1e-6)
    assert found.corrected == pytest.approx(looks.restated(found.p, 2, PAIRS / LATER))
    lost = [row | {"status": "diverged", "mig": None} if row is rows[3] else row for row in rows]
    found = primary(lost)
    assert (found.look, found.n, found.dropped) == (2, LATER - 1, 2)  # and its partner
    del rows[3]
    assert primary(rows).look == 0  # seed 4 was never made


def test_what_is_wanted_are_the_seeds_of_the_look_that_is_due():
    rows = everything()
    assert not missing_runs(rows) and len(planned(rows)) == len(rows) == 8 * PAIRS
    wanted = planned(runs("normal", [1]))
    assert len(wanted) == 8 * PAIRS and {seed for *_, seed in wanted} == set(range(1, PAIRS + 1))
    begun = rows + runs("normal", [PAIRS + 1])
    assert missing_runs(begun) == {("normal", 1.0, seed) for seed in range(PAIRS + 2, LATER + 1)}
    assert not missing_runs(everything(LATER))


@pytest.mark.parametrize("others", [[None], [17], ["18"], [18.5], [0]])
def test_rows_that_disagree_on_what_was_planned_are_refused(others):
    rows = runs("normal", [1, 2])
    rows[1]["planned"] = others[0]
    for function in (planned, missing_runs, judge):
        with pytest.raises(UsageError, match=f"column planned, but they have .*{others[0]}"):
            function(rows)
    del rows[1]["planned"]
    with pytest.raises(UsageError, match="but they have 18, None"):
        judge(rows)


def test_the_files_say_which_looks_were_planned(tmp_path):
    path, text = write_verdicts(everything(), tmp_path)
    found = json.loads(path.read_text())
    assert found["looks"]["pairs"] == [PAIRS, LATER] and found["level"] == 0.05
    assert found["looks"]["levels"] == pytest.approx([0.016375, 0.0439476], abs=1e-6)
    assert path.name == "paper-verdicts.json" and len(found["comparisons"]) == 12
    line = text.read_text().splitlines()[2]
    assert line.startswith("| 4.1 | isa-released | normal | 1 | mig | reproduced |")
    assert "| 0.0164 |" in line


def test_no_figure_shows_scores_before_a_look_or_between_two(tmp_path, capsys):
    few = [row for arm in PRIMARY for row in runs(arm, range(1, PAIRS))]
    assert looked_at(few) == []
    table = tmp_path / "paper.csv"
    table.write_text(as_csv(few))
    for what in ("fig5a", "fig5b", "report", "a5"):
        assert figures.main([what, str(table), "--out", str(tmp_path / "out.png")]) == 2
        assert f"before its {PAIRS} pairs are complete" in capsys.readouterr().err
    between = [row for arm in PRIMARY for row in runs(arm, range(1, LATER))]
    assert {row["seed"] for row in looked_at(between)} == set(range(1, PAIRS + 1))
    done = [row for arm in PRIMARY for row in runs(arm, range(1, LATER + 1))]
    assert looked_at(done) == done
    elsewhere = [row | {"experiment": "fig5a-quick"} for row in few]
    assert looked_at(elsewhere) == elsewhere
    table.write_text(as_csv(everything()))
    assert figures.main(["fig5a", str(table), "--out", str(tmp_path / "out.png")]) == 0
