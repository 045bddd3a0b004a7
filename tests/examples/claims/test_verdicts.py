"""verdicts.py on made-up rows with planted effects: each must be found, and nothing else."""

import json

import numpy as np
import pytest

from claims.comparison import Comparison
from claims.questions import pairs
from claims.statistics import detectable
from claims.verdicts import beside, decide, judge, markdown, verdict_of, write_verdicts
from config import UsageError
from sweeps import experiments

pytestmark = pytest.mark.slow


def runs(arm, shift=0.0, beta=1.0, seeds=range(30), spread=0.02, nats=-60.0, experiment="made"):
    """Runs whose mean is planted exactly; the seed moves all arms together."""
    found = []
    own = np.random.default_rng([len(arm), sum(map(ord, arm)), int(10 * beta)])
    noise = own.normal(0, spread, len(seeds))
    noise -= noise.mean()
    for seed, error in zip(seeds, noise, strict=True):
        common = np.random.default_rng(seed).normal(0, 0.06)
        scores = {"mig": 0.2 + shift + common + error, "log_px": nats + 100 * common + 20 * error}
        name = {"experiment": experiment, "rung": "quick", "arm": arm, "seed": seed, "beta": beta}
        found.append({**name, "status": "done", "data": "dsprites (drawn)", **scores})
    return found


def diverge(row):
    return row | {"status": "diverged", "mig": None, "log_px": None}


def by_pair(rows):
    return {(c.arm, c.against, c.measure, c.beta): c for c in judge(rows)}


PLANTED = {"isa-released": 0.08, "isa-unit": 0.0, "isa-4-4": -0.04, "isa-2.5-3": 0.006}
ARMS = [row for arm, shift in PLANTED.items() for row in runs(arm, shift)]
NORMAL = [*runs("normal"), *runs("normal-0.495", 0.05)]


def test_planted_effects_are_found():
    found = by_pair(NORMAL + ARMS)
    scale = found.pop(("normal-0.495", "normal", "mig", 1.0))
    assert scale.claim == "control" and scale.difference == pytest.approx(0.05, abs=1e-9)
    verdict = {pair[:2]: c.verdict for pair, c in found.items()}
    assert verdict == {
        ("isa-released", "normal"): "reproduced",
        ("isa-released", "normal-0.495"): "reproduced",
        ("isa-unit", "normal"): "excluded",
        ("isa-4-4", "normal"): "excluded",
        ("isa-2.5-3", "normal"): "excluded",
    }
    for (arm, against, *_), c in found.items():
        planted = PLANTED[arm] - (0.05 if against == "normal-0.495" else 0)
        assert c.difference == pytest.approx(planted, abs=1e-9)
        assert c.interval[0] < planted < c.interval[1]
        assert c.paired and (c.n, c.dropped) == (30, 0) and c.smallest == 0.05
        assert c.p <= c.corrected <= 1 and c.detectable < 0.03
        assert c.excluded_p <= c.excluded_corrected <= 1 and (c.look, c.level) == (None, 0.05)


def test_few_or_varying_runs_decide_nothing():
    wide = runs("normal", spread=0.2, seeds=range(8)) + runs(
        "isa-unit", 0.05, spread=0.2, seeds=range(8)
    )
    (found,) = judge(wide)
    assert found.verdict == "undecided" and found.detectable > 0.2
    (found,) = judge(runs("normal", seeds=[0]) + runs("isa-unit", 0.4, seeds=[0]))
    assert found.verdict == "undecided" and found.p is None and found.n == 1
    (found,) = judge(runs("normal", seeds=range(4)) + runs("isa-unit", 0.4, seeds=range(4)))
    assert found.verdict == "undecided" and found.p == 2 / 16  # 4 pairs cannot show more


def test_holm_raises_p_with_the_number_of_comparisons():
    rows = NORMAL[:30] + ARMS
    alone = by_pair([*NORMAL[:30], *ARMS[:30]])["isa-released", "normal", "mig", 1.0]
    among = by_pair(rows)["isa-released", "normal", "mig", 1.0]
    assert alone.corrected == alone.p == among.p and among.corrected > 2 * among.p


def line(difference=0.02, corrected=0.5, excluded=0.5, relative=0.5, **more):
    """A comparison with these corrected p values."""
    start = {"family": "claims", "claim": "4.1", "arm": "isa-unit", "against": "normal"}
    start |= {"beta": 1.0, "measure": "mig", "expected": 1, "smallest": 0.05, "paired": True}
    start |= {"smallest_relative": 0.3, "n": 9, "dropped": 0, "to_make": 0, "look": None}
    start |= {"level": 0.05, "difference": difference, "corrected": corrected}
    start |= {"excluded_corrected": excluded, "relative_corrected": relative}
    return Comparison(**{**start, **more})


@pytest.mark.parametrize(
    ("found", "verdict", "relative"),
    [
        (line(0.02, 0.01), "reproduced", "reproduced"),
        (line(0.02, 0.05), "undecided", "undecided"),
        (line(-0.02, 0.01, 0.01, 0.04), "excluded", "excluded"),  # the other sign
        (line(-0.02, 0.01), "undecided", "undecided"),
        (line(0.02, 0.2, 0.01), "excluded", "undecided"),
        (line(0.02, 0.2, 0.06, 0.04), "undecided", "excluded"),
        (line(0.02, 0.01, 0.01, 0.01), "reproduced", "reproduced"),  # small but proved
        (line(0.02, 0.01, 0.01, n=5), "undecided", "undecided"),
        (line(0.02, 0.01, 0.01, to_make=1), "undecided", "undecided"),
        (line(None, None, None, None), "undecided", "undecided"),
        (
            line(-9.0, 0.01, measure="log_px", expected=-1, smallest_relative=None),
            "reproduced",
            None,
        ),
        (
            line(9.0, 0.01, measure="log_px", expected=-1, smallest_relative=None),
            "undecided",
            None,
        ),
        (line(0.02, 0.01, family="post hoc"), "post hoc", None),
    ],
)
def test_the_rule(found, verdict, relative):
    decided = decide(found)
    assert (decided.verdict, decided.relative_verdict) == (verdict, relative)


def test_a_verdict_names_its_threshold():
    both = decide(line(0.02, 0.01, 0.01, 0.5))
    assert both.reproduced and both.excluded and not both.relative_excluded
    assert verdict_of(both) == "reproduced; a difference of 0.05 or more excluded"
    assert beside(both) == "reproduced"
    assert verdict_of(decide(line())) == "undecided at 0.05"
    assert beside(decide(line(relative=0.01))) == "a difference of 30 % or more excluded"
    nats = {"measure": "log_px", "smallest": 1.0, "smallest_relative": None}
    assert (
        verdict_of(decide(line(excluded=0.01, **nats))) == "a difference of 1 nat or more excluded"
    )
    lower = decide(line(excluded=0.01, expected=-1, **nats))
    assert verdict_of(lower) == "a difference of −1 nat or less excluded" and beside(lower) == "–"


def test_exclusion_pays_for_the_number_of_comparisons_as_reproduction_does():
    alone = by_pair([*NORMAL[:30], *ARMS[30:60]])["isa-unit", "normal", "mig", 1.0]
    among = by_pair(NORMAL[:30] + ARMS)["isa-unit", "normal", "mig", 1.0]
    assert alone.excluded_corrected == alone.excluded_p == among.excluded_p
    assert among.excluded_corrected > among.excluded_p
    few = {"seeds": range(7), "spread": 0.03}
    rows = [*runs("normal", **few), *(r for arm in PLANTED for r in runs(arm, -0.02, **few))]
    verdicts_of_four = {c.verdict for c in judge(rows)}
    assert verdicts_of_four == {"undecided"}  # 2 / 2^7 each, times 4 of them
    assert {c.verdict for c in judge(rows[:14])} == {"excluded"}


def test_the_effect_in_percent_of_the_baseline_has_an_interval():
    (found,) = judge(runs("normal") + runs("isa-unit", 0.08))
    assert found.percent == pytest.approx(100 * 0.08 / 0.2, rel=0.15)
    low, high = found.percent_interval
    assert 20 < low < found.percent < high < 80
    assert found.verdict == found.relative_verdict == "reproduced"
    assert not found.relative_excluded


def test_the_relative_threshold_is_one_of_the_baseline_and_not_of_its_estimate():
    """An effect of 10 % is told from 30 % where seeds move both arms in proportion."""
    rows = runs("normal", spread=0.001) + runs("isa-unit", 0.02, spread=0.001)
    (found,) = judge(rows)
    assert found.relative_excluded and found.excluded and found.reproduced
    assert verdict_of(found) == "reproduced; a difference of 0.05 or more excluded"
    assert beside(found) == "reproduced; a difference of 30 % or more excluded"


def test_lost_runs_drop_out_with_their_partner_and_are_counted():
    rows = runs("normal") + runs("isa-unit", 0.08)
    rows[3] = diverge(rows[3])  # seed 3 of normal
    del rows[35]  # seed 5 of isa-unit
    (found,) = judge(rows)
    assert found.paired and (found.n, found.dropped) == (28, 4)  # two lost, and their partners
    assert found.verdict == "reproduced"
    rows = runs("normal", experiment="fig5a-quick", seeds=range(20))
    rows += runs("isa-unit", experiment="fig5a-quick", seeds=range(20))
    found = judge(rows)[0]
    assert found.dropped == found.to_make == 2 * 10  # of the 30 seeds that experiments.py has


def test_a_sweep_that_was_cut_off_decides_nothing():
    normal, isa = (
        runs(arm, at, experiment="fig5a-quick") for arm, at in (("normal", 0), ("isa-unit", 0.08))
    )
    found, _ = judge(normal + isa)
    assert (found.to_make, found.verdict) == (0, "reproduced")
    found, _ = judge([*normal, *isa[:-1], diverge(isa[-1])])  # this one was made
    assert (found.n, found.to_make, found.verdict) == (29, 0, "reproduced")
    found, _ = judge(normal + isa[:-1])
    assert (found.n, found.to_make, found.verdict) == (29, 1, "undecided")
    cut = [row | {"experiment": "fig5b-quick"} for row in trade_off(0.1, 5.0, seeds=range(8))]
    for c in judge(cut):  # three of the nine betas, with all seeds
        curve = c.measure == "trade-off"
        assert c.to_make == (2 * 6 * 8 if curve else 0), c
        assert c.verdict == ("undecided" if curve else "reproduced"), c


def test_arms_without_common_seeds_are_independent_samples():
    (found,) = judge(runs("normal") + runs("isa-unit", 0.2, seeds=range(100, 120)))
    assert not found.paired and found.n == 20 and found.verdict == "reproduced"
    assert found.p == found.unpaired_p and "20 each" in markdown([found])


def test_all_diverged_is_no_answer():
    rows = runs("normal", seeds=range(3)) + list(map(diverge, runs("isa-unit", seeds=range(3))))
    (found,) = judge(rows)
    assert (found.n, found.dropped, found.verdict) == (0, 3, "undecided")


def trade_off(shift, nats, betas=(1.0, 2.0, 4.0), seeds=range(12)):
    """Curves of two arms: one lies above, and to the right of, the other."""
    rows = []
    for beta in betas:
        at = {"beta": beta, "seeds": seeds}
        rows += runs("beta-tcvae", 0.03 * beta, nats=-60 - 9 * beta, **at)
        rows += runs("isa-beta-tcvae", 0.03 * beta + shift, nats=-60 - 9 * beta + nats, **at)
    return rows


def test_a_better_trade_off_is_found():
    found = by_pair(trade_off(0.1, 5.0))
    assert len(found) == 7 and {c.verdict for c in found.values()} == {"reproduced"}
    curve = found["isa-beta-tcvae", "beta-tcvae", "trade-off", None]
    assert curve.difference > 0.1 and curve.interval[0] > 0.05 and curve.n == 12


def test_equal_trade_offs_are_not_told_apart():
    found = by_pair(trade_off(0.0, 0.0))
    curve = found["isa-beta-tcvae", "beta-tcvae", "trade-off", None]
    assert curve.interval[0] < 0 < curve.interval[1] and curve.p > 0.05
    assert {c.verdict for c in found.values() if c.measure == "mig"} == {"excluded"}


@pytest.mark.parametrize("paired", [True, False])
def test_a_trade_off_says_what_it_could_have_found(paired):
    """Between two betas far apart the curve is a straight line: its level is the mean of both."""
    rows = []
    for beta, nats in ((1.0, -60), (2.0, -5000)):
        rows += runs("beta-vae", -0.1 * beta, beta, nats=nats)
        rows += runs("isa-beta-vae", 0.05 - 0.1 * beta, beta, nats=nats)
    a, b = (
        np.array([r["mig"] for r in rows if r["arm"] == arm]).reshape(2, 30).mean(0)
        for arm in ("isa-beta-vae", "beta-vae")
    )
    for row in rows:
        row["seed"] += 0 if paired else 100 * row["arm"].startswith("isa")
    curve = by_pair(rows)["isa-beta-vae", "beta-vae", "trade-off", None]
    assert curve.paired == paired and curve.difference == pytest.approx(0.05, abs=1e-3)
    sd = (a - b).std(ddof=1) if paired else np.hypot(a.std(ddof=1), b.std(ddof=1)) / 2**0.5
    wanted = detectable(sd, 30, None if paired else 30)
    assert curve.detectable == pytest.approx(wanted, rel=0.03)


def test_the_control_is_a_family_of_its_own():
    rows = trade_off(0.1, 5.0)
    alone = judge(rows)
    for beta in (1.0, 2.0, 4.0):
        rows += runs("beta-vae", 0.03 * beta - 0.06, beta, range(12), nats=-65 - 9 * beta)
    found = judge(rows)
    (control,) = [c for c in found if c.claim == "control"]
    assert found[: len(alone)] == alone and found[-1] == control
    assert (control.arm, control.against) == ("beta-tcvae", "beta-vae")
    assert control.verdict == "reproduced" and control.corrected == control.p


def test_curves_of_arms_without_common_seeds():
    rows = trade_off(0.1, 5.0, seeds=range(10))
    for row in rows:
        row["seed"] += 100 * row["arm"].startswith("isa")
    curve = by_pair(rows)["isa-beta-tcvae", "beta-tcvae", "trade-off", None]
    assert not curve.paired and curve.n == 10 and curve.difference > 0.1 and curve.p < 0.05


def test_pairs_of_arms():
    names = ["beta-vae", "beta-tcvae", "factorvae", "isa-beta-vae", "isa-beta-tcvae-learned"]
    assert pairs(names) == {
        "4.1": [],
        "4.2": [("isa-beta-vae", "beta-vae"), ("isa-beta-tcvae-learned", "beta-tcvae")],
        "control": [("beta-tcvae", "beta-vae")],
    }
    names = ["normal", "normal-0.495", "isa-released", "isa-learned"]
    assert pairs(names)["4.1"] == [
        ("isa-released", "normal"),
        ("isa-learned", "normal"),
        ("isa-released", "normal-0.495"),
    ]
    assert pairs(names)["control"] == [("normal-0.495", "normal")]


def test_files_are_strict_and_readable(tmp_path):
    rows = [*NORMAL, *ARMS, diverge(runs("isa-unit", seeds=[99])[0])]
    paths = write_verdicts(rows, tmp_path / "new")
    assert [path.name for path in paths] == ["made-verdicts.json", "made-verdicts.md"]
    found = json.loads(paths[0].read_text())
    assert len(found["comparisons"]) == 5 + 1 and found["rung"] == ["quick"]
    assert found["comparisons"][0]["verdict"] == "reproduced"
    lines = paths[1].read_text().splitlines()
    assert len(lines) == 2 + 5 + 1 and len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith(
        "| 4.1 | isa-released | normal | 1 | mig | reproduced | reproduced | 30 pairs |"
    )
    assert "| +0.080 | [+0.0" in lines[2]


def test_what_was_seen_before_it_was_asked_is_post_hoc():
    rows = runs("normal", nats=-60) + runs("isa-4-4", nats=-50) + runs("normal-0.495", nats=-70)
    assert not [c for c in judge(rows) if c.measure == "log_px"]
    found = judge([row | {"experiment": "fig5a-quick"} for row in rows])
    late = {(c.arm, c.against): c for c in found if c.family == "post hoc"}
    assert set(late) == {("isa-4-4", "normal"), ("normal-0.495", "normal")}
    for c in late.values():
        assert (c.claim, c.measure, c.verdict) == ("post hoc", "log_px", "post hoc")
        assert c.p < 0.001 and c.corrected == pytest.approx(2 * c.p)  # a family of their own
    assert late["isa-4-4", "normal"].difference == pytest.approx(10, abs=1e-9)


def test_nothing_to_compare_is_said(tmp_path):
    with pytest.raises(UsageError, match="no arms to compare, only normal"):
        write_verdicts(runs("normal"), tmp_path)


def test_the_same_rows_give_the_same_verdicts():
    rows = trade_off(0.1, 5.0)
    assert judge(rows) == judge(rows[::-1])


def test_the_planned_seeds_can_decide_on_a_trade_off_over_all_betas():
    planned = experiments.experiments()["fig5b-quick"]
    betas = sorted({run.config.beta for run in planned if run.arm == "isa-beta-tcvae"})
    seeds = range(1 + max(run.config.seed for run in planned))
    found = judge(trade_off(0.1, 5.0, betas=betas, seeds=seeds))
    (curve,) = [c for c in found if c.claim == "4.2"]
    assert found[0] == curve and len(found) == 1 + 2 * len(betas)
    assert (
        curve.verdict == "reproduced" and curve.corrected == curve.p
    )  # the parts are not counted
