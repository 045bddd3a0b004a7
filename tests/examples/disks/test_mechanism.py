"""The mechanism experiment: models side by side, the angle, the pictures, files and flags."""

import csv
import itertools
import json
import math
import signal

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Normal
from torch.testing import assert_close

import mechanism
from disks import autoencoders as model
from disks.angles import against_normal, describe, force, mann_whitney, overview, ranks, trend
from disks.settings import ARMS, Config
from lpnested import ISA

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
COLUMNS = [
    "arm",
    "seed",
    "beta",
    "rung",
    "mig",
    "mig_posX",
    "mig_posY",
    "log_px",
    "kl",
    "active_units",
    "angle",
    "r2",
    "counted",
    "steps",
    "status",
]
SMALL = ["--seeds", "2", "--steps", "4", "--hidden", "8", "--arms", "laplace", "normal"]
ISA_ARM, NORMAL = next(arm for arm in ARMS if arm.name == "isa-4-4"), model.Arm("normal", "")


@pytest.fixture(scope="module")
def images():
    return model.draw_disks(model.centres(model.factor_grid(), diamond=False))


def trained(images, arm, seeds, steps, hidden=16):
    models = model.train(images, arm.prior, seeds, hidden, 256, 2e-3, 1.0)
    return [w.detach() for w in next(itertools.islice(models, steps - 1, None))]


@pytest.mark.slow
def test_seeds_side_by_side_are_seeds_one_at_a_time(images):
    together = trained(images, ISA_ARM, [0, 1, 7], 12)
    for k, seed in enumerate([0, 1, 7]):
        alone = trained(images, ISA_ARM, [seed], 12)
        for many, one in zip(together, alone, strict=True):
            assert_close(many[k], one[0], rtol=1e-4, atol=1e-6)
    assert (together[0][0] - together[0][1]).abs().max() > 0.01


def test_arms_share_weights_batches_and_noise(images):
    first = trained(images, ISA_ARM, [3], 1)
    other = trained(images, NORMAL, [3], 1)
    before = model.initial_weights([3], 16)
    for a, b, c in zip(first, other, before, strict=True):
        assert (a - b).abs().max() <= 4e-3 + 1e-6  # one step of Adam each, from the same place
        assert (a - c).abs().max() <= 2e-3 + 1e-6
    one, two = (next(model.batches([3], 256, 1024)) for _ in range(2))
    assert_close(one, two)


def test_an_epoch_shows_every_picture_once():
    rows = [rows for rows, _ in itertools.islice(model.batches([0, 1], 256, 1024), 4)]
    for seed in (0, 1):
        assert torch.cat([r[seed] for r in rows]).sort().values.equal(torch.arange(1024))


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_prior_has_variance_one_and_the_density_of_lpnested(arm):
    z = torch.randn(3, 50, 2)
    if arm.exponents is None:
        expected = stats.multivariate_normal(np.zeros(2)).logpdf(z.numpy())
    else:
        p0, p = arm.exponents
        expected = ISA([2], p0, p, scale=ISA.unit_variance([2], p0, p).scale).log_prob(z)
        assert_close(ISA.unit_variance([2], p0, p).variance, torch.ones(2), rtol=1e-4, atol=1e-4)
    assert_close(
        arm.prior.log_prob(z).double(), torch.as_tensor(expected).double(), rtol=1e-4, atol=1e-4
    )


def perceptron(x, weights):
    """The layers of one model, by nn.functional."""
    for k in (0, 2, 4):
        x = nn.functional.linear(x, weights[k].T, weights[k + 1][0])
        x = x.relu() if k < 4 else x
    return x


@pytest.mark.parametrize("arm", [ISA_ARM, NORMAL], ids=lambda arm: arm.name)
def test_bound_is_that_of_each_model_by_itself(images, arm):
    weights = model.initial_weights([0, 1], 16)
    noise, x = torch.randn(2, 64, 2), images[:128].view(2, 64, -1)
    likelihood, rate = model.bound(x, noise, weights, arm.prior)
    for k in (0, 1):
        own = [w[k] for w in weights]
        mean, log_std = perceptron(x[k], own[:6]).chunk(2, -1)
        z = mean + log_std.exp() * noise[k]
        logits = perceptron(z, own[6:])
        pixels = x[k] * logits - nn.functional.softplus(logits)
        assert_close(likelihood[k], pixels.sum(-1), rtol=1e-5, atol=1e-4)
        posterior = Normal(mean, log_std.exp()).log_prob(z).sum(-1)
        assert_close(rate[k], posterior - arm.prior.log_prob(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("degrees", [0.0, 10.0, 45.0, 80.0, 130.0])
@pytest.mark.parametrize("reflected", [False, True])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (3.0, 3.0), (0.5, 2.0)])
def test_angle_of_linear_codes(degrees, reflected, scales):
    factors = model.factor_grid().double()
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    if reflected:
        turn = turn @ torch.diag(torch.tensor([1.0, -1.0]).double())
    code = factors @ turn.T * torch.tensor(scales).double() + 5
    angle, r2 = model.orientation(code, factors)
    assert angle == pytest.approx(min(degrees % 90, 90 - degrees % 90), abs=1e-6)
    assert r2 == pytest.approx(1)


def test_r2_is_that_of_a_regression():
    factors, noise = model.factor_grid().double(), torch.randn(1024, 2).double()
    code = factors / factors.std() + noise
    x = np.column_stack([factors, np.ones(1024)])
    residual = np.linalg.lstsq(x, code.numpy())[1].sum()
    total = ((code - code.mean(0)) ** 2).sum()
    assert model.orientation(code, factors)[1] == pytest.approx(1 - residual / float(total))


@pytest.mark.parametrize("diamond", [False, True])
def test_disks_have_area_and_centre(diamond):
    places = model.centres(model.factor_grid(), diamond)
    pictures = model.draw_disks(places).double().view(-1, 16, 16)
    assert pictures.shape == (1024, 16, 16)
    assert pictures.min() == 0 and pictures.max() == 1
    area, ticks = pictures.sum((1, 2)), torch.arange(16) + 0.5
    assert (area - math.pi * model.RADIUS**2).abs().max() < 0.25
    found = torch.stack([pictures.sum(1) @ ticks.double(), pictures.sum(2) @ ticks.double()], -1)
    assert_close(found / area[:, None], places, atol=0.03, rtol=0)


def test_places_of_the_diamond_are_turned_by_45_degrees():
    upright, turned = (model.centres(model.factor_grid(), d) - 8 for d in (False, True))
    assert_close(upright.abs().max(), torch.tensor(4.0).double())
    assert_close(turned.abs().max(), torch.tensor(4 * 2**0.5).double())
    assert_close(turned.norm(dim=1), upright.norm(dim=1))
    assert_close(model.orientation(turned, upright)[0], 45.0)


def test_scores_of_an_untrained_code_are_repeatable(images):
    classes = model.factor_grid()
    weights = trained(images, NORMAL, [0], 3)
    scores = model.score(images, classes, weights, NORMAL.prior, 0)
    assert (scores["active_units"], scores["counted"]) == (0, 0)
    assert abs(scores["kl"]) < 0.5 and scores["log_px"] < -30
    again = model.score(images, classes, weights, NORMAL.prior, 0)
    assert again == pytest.approx(scores, rel=1e-9)


def test_force_is_that_of_the_toys():
    from force import Config as Toy
    from force import plane, uniform_factors

    toy = Toy(replicates=8, samples=1024)
    factors = uniform_factors(toy.replicates, toy.samples, toy.seed)
    for arm in ARMS:
        if arm.exponents is None:
            assert force(arm) == 0
        elif arm.exponents[0] == arm.exponents[1]:
            assert force(arm) == pytest.approx(plane(arm.exponents[0], factors)["gain"], abs=1e-3)
        else:
            assert np.sign(force(arm)) == np.sign(arm.exponents[1] - 2)


def fake_rows(angles):
    return [
        {
            "arm": arm,
            "angle": angle,
            "mig": 0.1,
            "log_px": -1.0,
            "kl": 2.0,
            "r2": 0.95,
            "counted": 1,
            "status": "done",
        }
        for arm, values in angles.items()
        for angle in values
    ]


def test_tables_of_few_runs_have_no_nan():
    arms = [arm for arm in ARMS if arm.name in ("laplace", "normal")]
    rows = fake_rows({"laplace": [40.0, 30.0, 35.0], "normal": [20.0]})
    assert against_normal(rows, arms[0], "angle") is None
    assert overview(rows, arms)[1]["angle"]["sd"] is None
    assert describe(np.array([])) is None
    assert trend([], arms) is None
    json.dumps([overview(rows, arms), trend(rows, arms)], allow_nan=False)


def test_uncounted_runs_are_left_out_and_the_trend_has_the_sign():
    arms = [arm for arm in ARMS if arm.name in ("laplace", "normal", "isa-4-4")]
    rows = fake_rows({"laplace": [40, 42, 44], "normal": [20, 22, 24], "isa-4-4": [1, 2, 3]})
    rows.append({**rows[0], "angle": 1000.0, "counted": 0})
    rows.append({**rows[0], "angle": 45.0, "r2": 0.5})
    assert overview(rows, arms)[0]["counted"] == 4
    assert overview(rows, arms)[0]["linear"] == 3
    assert overview(rows, arms)[0]["runs"] == 5
    assert trend(rows, arms)["spearman"] < -0.9


def flags(tmp_path, *more):
    return [*SMALL, "--parts", str(tmp_path / "parts"), "--out", str(tmp_path / "out"), *more]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_results_files(tmp_path, capsys):
    assert mechanism.main(flags(tmp_path)) == 0
    table = read(tmp_path / "out" / "mechanism.csv")
    assert list(table[0]) == COLUMNS
    assert [(r["arm"], r["seed"]) for r in table] == [
        (arm, seed) for arm in ("laplace", "normal") for seed in "01"
    ]
    assert {r["rung"] for r in table} == {"mechanism"} and {r["steps"] for r in table} == {"4"}
    results = json.loads((tmp_path / "out" / "mechanism.json").read_text())
    assert results["config"]["seeds"] == 2 and "torch" in results["versions"]
    assert [line["arm"] for line in results["arms"]] == ["laplace", "normal"]
    assert (tmp_path / "out" / "mechanism.png").read_bytes()[:4] == b"\x89PNG"
    assert str(tmp_path / "out") in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_table(tmp_path, capsys, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert mechanism.main(flags(whole)) == 0
    fit = mechanism.fit

    def interrupted(arm, config, bar):
        if arm.name == "normal":
            signal.raise_signal(signal.SIGINT)
        return fit(arm, config, bar)

    monkeypatch.setattr(mechanism, "fit", interrupted)
    assert mechanism.main(flags(broken)) == 130
    assert [path.name for path in (broken / "parts").iterdir()] == ["laplace.json"]
    assert not (broken / "out").exists()
    assert "resumes" in capsys.readouterr().err

    trained_again = []
    monkeypatch.setattr(mechanism, "fit", lambda *a: trained_again.append(a[0].name) or fit(*a))
    assert mechanism.main(flags(broken)) == 0
    assert trained_again == ["normal"]
    tables = [(folder / "out" / "mechanism.csv").read_bytes() for folder in (whole, broken)]
    assert tables[0] == tables[1]


def test_parts_of_another_experiment_are_refused(tmp_path, capsys):
    assert mechanism.main(flags(tmp_path)) == 0
    assert mechanism.main(flags(tmp_path, "--beta", "2")) == 2
    assert "different settings" in capsys.readouterr().err
    (tmp_path / "parts" / "laplace.json").write_text("{")
    assert mechanism.main(flags(tmp_path)) == 2
    assert "not a finished arm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (["--seeds", "0"], "--seeds"),
        (["--steps", "-1"], "--steps"),
        (["--batch-size", "1025"], "--batch-size"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--hidden", "0"], "--hidden"),
        (["--beta", "-1"], "--beta"),
        (["--arms", "laplace"], "--arms"),
        (["--out", __file__], "--out"),
        (["--parts", __file__], "--parts"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path, capsys, bad, name):
    assert mechanism.main(flags(tmp_path, *bad)) == 2
    assert name in capsys.readouterr().err
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize("bad", [["--arms", "cauchy"], ["--seeds", "many"], ["--nonsense", "1"]])
def test_unknown_words_are_refused(bad, capsys):
    with pytest.raises(SystemExit) as error:
        mechanism.main(bad)
    assert error.value.code == 2


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as error:
        mechanism.main(["--help"])
    assert error.value.code == 0
    text = capsys.readouterr().out
    assert "Ctrl-C" in text and "--arms" in text and "Width of the hidden layers" in text


def test_divergence_has_its_own_status(tmp_path, capsys):
    assert mechanism.main(flags(tmp_path, "--learning-rate", "1e30", "--steps", "20")) == 1
    assert "--learning-rate" in capsys.readouterr().err


def test_a_seed_that_diverges_is_a_row_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(mechanism, "finite", lambda weights, seed: seed != 1)
    assert mechanism.main(flags(tmp_path)) == 0
    (path,) = tmp_path.rglob("mechanism.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    lost = [row for row in rows if row["status"] == "diverged"]
    assert {row["seed"] for row in lost} == {"1"} and len(lost) == len(rows) / 2
    assert all(row["mig"] == "" and row["counted"] == "0" for row in lost)


def test_defaults_are_the_protocol():
    config = Config()
    assert (config.seeds, config.steps, config.beta, config.batch_size) == (30, 3000, 1.0, 256)
    assert config.chosen == list(ARMS)


def test_statistics_are_those_of_scipy():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=17), generator.normal(0.7, size=23)
    expected = stats.mannwhitneyu(first, second, method="asymptotic").pvalue
    assert mann_whitney(first, second) == pytest.approx(expected, rel=1e-9)
    assert mann_whitney(first, first) == 1
    tied = generator.integers(0, 4, size=20).astype(float)
    assert_close(ranks(tied) + 1, stats.rankdata(tied))
