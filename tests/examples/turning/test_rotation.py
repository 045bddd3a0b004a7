"""rotation.py: forces with known values, laws of turned codes, and the tool as a user runs it."""

import csv
import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.quasirandom import SobolEngine

import rotation as script
import train
from config import Config
from data.pictures import as_pixels, load_dsprites_npz
from lpnested import ISA
from models import VAE, make_prior
from objectives import elbo
from running.scoring import choose_rows, evaluate
from sweeps.experiments import ARMS
from turning import gains
from turning.bound import (
    Code,
    Prior,
    Rotations,
    changes,
    levels,
    mean_field,
    mean_field_std,
    rotate,
    slopes,
)
from turning.gains import (
    ANGLES,
    STEEP,
    Moments,
    Plane,
    arm_of,
    choose_planes,
    make_priors,
    measure_rotation,
    rotations,
)
from turning.turned_figure import summarise

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
SIZES = (2, 2)


def all_turns(*planes, angles=ANGLES, dtype=torch.float64):
    angle = torch.tensor(angles, dtype=dtype).deg2rad()
    pairs = torch.tensor(planes).repeat_interleave(len(angles), 0)
    return Rotations(pairs, angle.repeat(len(planes))[:, None])


def arm(name, sizes=(4, 4), **settings):
    return make_prior(Config(device="cpu", sizes=sizes, **ARMS[name] | settings))()


class Blank(nn.Module):
    """Decodes every code into the same grey picture."""

    def forward(self, z):
        return z.new_zeros(*z.shape[:-1], 1)


def changed(code, priors, turned_by):
    """Means over the pictures, and standard errors, with a decoder that sees nothing."""
    x = torch.ones(len(code.mean), 1, dtype=code.mean.dtype)
    before = levels(x, code, Blank(), priors)
    found = changes(x, code, Blank(), priors, turned_by, before)
    return found.mean(-1), found.std(-1) / math.sqrt(found.shape[-1])


def some_code(pictures=300, latents=4, dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    mean, noise = torch.randn(2, pictures, latents, generator=g, dtype=dtype)
    return Code(mean, torch.rand(pictures, latents, generator=g, dtype=dtype) + 0.1, noise)


# --- forces whose values are known ---


@pytest.fixture(scope="module")
def uniform():
    """Two uniform factors of variance 1, spread evenly."""
    draws = SobolEngine(2, scramble=True, seed=2).draw(2**16, dtype=torch.float64)
    return (2 * draws - 1) * math.sqrt(3)


def coded(factors, prior, places):
    """A code that is sure of itself: the factors in two places, the others as in the prior."""
    mean = prior.sample((len(factors),)).double()
    mean[:, list(places)] = factors
    return Code(mean, torch.full_like(mean, 1e-9), torch.zeros_like(mean))


@pytest.mark.parametrize("places", [(0, 1), (0, 4)], ids=["within", "across"])
def test_independent_latents_of_exponent_4_have_the_closed_form(uniform, places):
    prior, angles = arm("isa-4-4"), (10.0, 45.0, 60.0)
    code = coded(uniform, prior, places)
    found, error = changed(code, [Prior("isa-4-4", prior)], all_turns(places, angles=angles))
    # Density exp(-(|z| / s)^4): its variance is s^2 Gamma(3/4) / Gamma(1/4) = 1, and the fourth
    # moments 9/5 of a factor and 3 c^2 s^2 of the mixed ones give the rest.
    fourth = (math.gamma(1 / 4) / math.gamma(3 / 4)) ** 2
    sines = (2 * torch.tensor(angles, dtype=torch.float64).deg2rad()).sin().square()
    expected = -1.2 / fourth * sines
    assert float(expected.min()) == pytest.approx(-0.137, abs=5e-4)  # paper.md, section 0.3
    assert ((found[1] - expected).abs() <= 4 * error[1]).all()
    assert error.max() < 0.01


def log_density(z, p0, p, size):
    """Of ISA with density exp(-f^p0 / s) as in the release, but for its constant, in numpy."""
    s = 2.093  # variance 1 at (2.1, 2.2) and four latents
    parts = (np.abs(z.reshape(len(z), -1, size)) ** p).sum(-1) ** (p0 / p)
    return -parts.sum(-1) / s


@pytest.mark.parametrize(
    ("places", "known"), [((0, 1), 0.0182), ((0, 4), 0.0148)], ids=["within", "across"]
)
@pytest.mark.parametrize("name", ["isa-unit", "isa-released"])
def test_the_released_exponents_have_the_known_force(uniform, places, known, name):
    drawn = arm("isa-unit")
    code = coded(uniform, drawn, places)
    prior = arm(name)
    unit = float(prior.variance.mean().sqrt())
    found, error = changed(code, [Prior(name, prior, unit)], all_turns(places, angles=(45.0,)))
    z = code.mean.numpy().copy()
    i, j = places
    other = z.copy()
    other[:, i], other[:, j] = (z[:, i] - z[:, j]) / 2**0.5, (z[:, i] + z[:, j]) / 2**0.5
    expected = (log_density(other, 2.1, 2.2, 4) - log_density(z, 2.1, 2.2, 4)).mean()
    # The same draws: only the rounded scale of the oracle is between the two.
    assert float(found[1, 0]) == pytest.approx(expected, rel=2e-3)
    assert float(found[1, 0]) == pytest.approx(-known, abs=4 * float(error[1, 0]))
    assert float(error[1, 0]) < known / 20


# --- laws ---


@pytest.mark.parametrize("name", ["normal", "normal-0.495"])
def test_a_normal_prior_has_no_force_at_any_angle(name):
    prior = Prior(name, arm(name, SIZES), 0.7)
    found, _ = changed(some_code(), [prior], all_turns((0, 1), (1, 3)))
    torch.testing.assert_close(found[1], torch.zeros_like(found[1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["isa-released", "isa-4-4", "normal"])
def test_nothing_changes_where_nothing_turns(name):
    prior = Prior(name, arm(name, SIZES))
    found, _ = changed(some_code(), [prior], all_turns((0, 1), (1, 3), angles=(0.0,)))
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-12, rtol=0)


def test_a_quarter_of_a_turn_changes_nothing_within_a_subspace(model, x):
    vae, code = model
    priors = [Prior(name, arm(name, SIZES)) for name in ("isa-released", "isa-4-4", "normal")]
    by = all_turns((0, 1), angles=(45.0, 90.0))
    found = changes(x, code, vae.decoder, priors, by, levels(x, code, vae.decoder, priors))
    torch.testing.assert_close(found[:, 1], torch.zeros_like(found[:, 1]), atol=1e-6, rtol=0)
    assert found[:, 0].abs().mean(-1)[[0, 1, 2, 4, 5, 6]].min() > 1e-4  # no law without the turn


def test_across_subspaces_it_changes_what_the_exponents_tell_apart():
    prior = Prior("isa-released", arm("isa-released", SIZES))
    found, _ = changed(some_code(), [prior], all_turns((1, 2), angles=(90.0,)))
    assert found[1].abs() > 1e-6


def test_a_subspace_of_exponent_2_has_no_force_within():
    prior = Prior("p = 2", ISA([2, 2], 3.0, 2.0, validate_args=False))
    found, _ = changed(some_code(), [prior], all_turns((0, 1), (1, 2)))
    within, across = found[1].split(len(ANGLES))
    torch.testing.assert_close(within, torch.zeros_like(within), atol=1e-6, rtol=0)
    assert across.abs().max() > 1e-3


def test_turned_is_a_rotation_of_its_plane_alone():
    z, by = some_code().mean, all_turns((3, 1), (0, 2), angles=(30.0, 77.0))
    found = rotate(z, by)
    torch.testing.assert_close(found.norm(dim=-1), z.norm(dim=-1).expand(4, -1))
    torch.testing.assert_close(found[:2, :, [0, 2]], z[:, [0, 2]].expand(2, -1, -1))
    torch.testing.assert_close(rotate(found, by.inverse), z.expand(4, -1, -1))
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    torch.testing.assert_close(found[0, :, 3], z[:, 3] * cos - z[:, 1] * sin)
    torch.testing.assert_close(found[0, :, 1], z[:, 3] * sin + z[:, 1] * cos)


def test_the_mean_field_posterior_is_the_nearest_one():
    std = torch.tensor([[0.3, 1.0, 0.6]], dtype=torch.float64)
    by = all_turns((0, 2), angles=(25.0,))
    found = mean_field_std(std, by)[0, 0].square()
    rotation = rotate(torch.eye(3, dtype=torch.float64), by)[0].T  # its columns are turned axes
    precision = rotation @ torch.diag(std[0] ** -2) @ rotation.T

    def divergence(variance):
        return 0.5 * (variance * precision.diagonal() - variance.log()).sum()

    for k in range(3):
        for factor in (0.99, 1.01):
            other = found.clone()
            other[k] *= factor
            assert divergence(other) > divergence(found)
    ratio, sine = (0.3 / 0.6) ** 2, math.sin(math.radians(50))
    lost = 0.5 * math.log(1 + sine**2 * (ratio - 1) ** 2 / (4 * ratio))
    entropy = 0.5 * float(found.log().sum()) - float(std.log().sum())
    assert entropy == pytest.approx(-lost)


def test_the_whole_bound_loses_what_the_narrower_posterior_costs():
    """Where the decoder sees nothing and the prior is normal: a KL divergence in closed form."""
    g = torch.Generator().manual_seed(4)
    noise = torch.randn(100_000, 2, generator=g, dtype=torch.float64)
    std = torch.tensor([0.3, 1.2], dtype=torch.float64).expand_as(noise)
    code = Code(torch.full_like(noise, 0.5), std, noise)
    by = all_turns((0, 1))
    found, error = changed(code, [Prior("normal", arm("normal", (2,)))], by)
    variance, before = mean_field_std(std[:1], by)[:, 0].square(), std[0].square()
    terms = (variance / before).log() - variance + before
    expected = 0.5 * terms.sum(-1)
    assert ((found[2] - expected).abs() <= 4 * error[2] + 1e-6).all()
    assert expected.min() < -0.1


def test_posteriors_of_equal_widths_stay_what_they_are(model, x):
    vae, code = model
    round_ = Code(code.mean, torch.full_like(code.std, 0.4), code.noise)
    priors = [Prior("isa-4-4", arm("isa-4-4", SIZES))]
    by = all_turns((0, 1), (1, 2))
    found = changes(x, round_, vae.decoder, priors, by, levels(x, round_, vae.decoder, priors))
    torch.testing.assert_close(found[0], torch.zeros_like(found[0]), atol=1e-9, rtol=0)
    torch.testing.assert_close(found[2], found[1], atol=1e-9, rtol=0)


def test_the_scale_of_a_prior_has_no_force(model, x):
    vae, code = model
    own = arm("isa-unit", SIZES)
    config = Config(device="cpu", sizes=SIZES, **ARMS["isa-unit"])
    priors = make_priors(own, config, ("isa-released", "normal", "normal-0.495"))
    assert [prior.name for prior in priors] == [
        "isa-unit",
        "isa-released",
        "normal",
        "normal-0.495",
    ]
    before = levels(x, code, vae.decoder, priors)
    found = changes(x, code, vae.decoder, priors, all_turns((0, 1), (1, 2)), before)
    for k in (0, 2):
        torch.testing.assert_close(before[2 + k], before[3 + k], atol=1e-5, rtol=0)
        torch.testing.assert_close(found[1 + k], found[2 + k], atol=1e-5, rtol=0)
        torch.testing.assert_close(found[5 + k], found[6 + k], atol=1e-5, rtol=0)
    z = torch.tensor([[0.3, -2.0]])
    scaled = Prior(
        "normal", torch.distributions.Independent(Normal(0.0, torch.ones(2) / 2), 1), 0.5
    )
    torch.testing.assert_close(scaled.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))


# --- a model ---


@pytest.fixture(scope="module")
def pictures(npz):
    return load_dsprites_npz(npz)


def active_vae():
    """A model that was never trained, with four active latents of unlike widths."""
    torch.manual_seed(5)
    vae = VAE(4, 16)
    with torch.no_grad():
        last, first = vae.encoder.layers[-1], vae.decoder.layers[0]
        last.weight[:4] *= torch.tensor([30.0, 25.0, 20.0, 15.0])[:, None]
        last.bias[4:] = torch.tensor([-0.2, -1.5, -0.7, -1.1])
        first.weight *= 4
    return vae


@pytest.fixture(scope="module")
def model(pictures):
    """It in double precision, and a code with a draw."""
    vae = active_vae().double()
    with torch.no_grad():
        q = vae.encoder(as_pixels(torch.from_numpy(pictures.packed[::4]), 4096).double())
    g = torch.Generator().manual_seed(3)
    return vae, Code(q.mean, q.stddev, torch.randn(q.mean.shape, generator=g).double())


@pytest.fixture(scope="module")
def x(pictures):
    return as_pixels(torch.from_numpy(pictures.packed[::4]), 4096).double()


def test_the_bound_at_angle_zero_is_that_of_scoring(pictures):
    vae, prior, count = active_vae(), arm("isa-4-4", SIZES), 400
    packed = torch.from_numpy(pictures.packed)
    rows = choose_rows(len(pictures), count, seed=0)
    scores = evaluate(vae, prior, packed, pictures, rows, seed=7)
    torch.manual_seed(7)
    noise = torch.randn(count, 4)
    x = as_pixels(packed[rows], 4096)
    with torch.no_grad():
        q = vae.encoder(x)
        code = Code(q.mean, q.stddev, noise)
        by = all_turns((1, 2), angles=(0.0,), dtype=torch.float32)
        log_px, log_q, z = mean_field(x, code, vae.decoder, by, noise)
        found = levels(x, code, vae.decoder, [Prior("isa-4-4", prior)])
    assert float((log_px - log_q + prior.log_prob(z)).mean()) == pytest.approx(scores["elbo"])
    assert float((found[0] - found[1] + found[2]).mean()) == pytest.approx(scores["elbo"])


def test_slopes_agree_with_finite_differences(model, x):
    vae, code = model
    prior, by, h = Prior("isa-4-4", arm("isa-4-4", SIZES)), all_turns((0, 1), (1, 2)), 1e-5
    found = slopes(x, code, vae.decoder, [prior], by)

    @torch.no_grad()
    def both(shift):
        at = Rotations(by.planes, by.angle + shift)
        log_px, log_q, z = mean_field(x, code, vae.decoder, at, code.noise)
        force = prior.log_prob(rotate(code.sample, at))
        return torch.stack([force, log_px - log_q + prior.log_prob(z)])

    torch.testing.assert_close(found, (both(h) - both(-h)) / (2 * h), atol=2e-4, rtol=1e-5)


def test_the_slope_at_zero_is_the_gradient_of_training_along_the_turn(model, x):
    vae, code = model
    prior = arm("isa-4-4", SIZES)
    (found,) = slopes(x, code, vae.decoder, [Prior("", prior)], all_turns((1, 2), angles=(0.0,)))[
        1
    ].mean(-1)
    last, first = vae.encoder.layers[-1], vae.decoder.layers[0]

    class Given(Normal):
        def rsample(self, sample_shape=()):
            return self.loc + self.scale * code.noise

    q = vae.encoder(x)
    given = type("Model", (), {"encoder": lambda self, x: Given(q.mean, q.stddev),
                               "decoder": vae.decoder})()  # fmt: skip
    objective = elbo(x, given, prior, beta=1.0)["objective"]
    weights = (last.weight, last.bias, first.weight)
    gradients = torch.autograd.grad(objective, weights)
    turn = torch.zeros(4, 4, dtype=torch.float64)
    turn[1, 2], turn[2, 1] = -1.0, 1.0  # the derivative of R at 0
    with torch.no_grad():
        heads = [torch.cat([turn @ w[:4], 0 * w[4:]]) for w in (last.weight, last.bias)]
        along = (*heads, first.weight @ turn.T)
    expected = sum((g * d).sum() for g, d in zip(gradients, along, strict=True))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    assert abs(float(expected)) > 1e-3


def test_the_noise_of_a_batch_is_that_of_many_batches(pictures):
    config = Config(device="cpu", sizes=SIZES, batch_size=8, steps=100)
    rows = measured(config, pictures)
    row = next(r for r in rows if r["plane"] == "1-2" and r["angle"] == 22.5)
    code, x, vae, prior = parts_of(config, pictures)
    by = all_turns((1, 2), angles=(22.5,), dtype=torch.float32)
    prior_slopes, bound_slopes = slopes(x, code, vae.decoder, [Prior("", prior)], by)[:, 0]
    assert row["slope_prior"] == pytest.approx(float(prior_slopes.mean()), rel=1e-3)
    assert row["slope_bound"] == pytest.approx(float(bound_slopes.mean()), rel=1e-3)
    g = torch.Generator().manual_seed(0)
    batches = torch.randint(len(x), (4000, 8), generator=g)
    for name, terms in (("noise_prior", prior_slopes), ("noise_bound", bound_slopes)):
        assert row[name] == pytest.approx(float(terms[batches].mean(1).std()), rel=0.1)
    step = abs(row["slope_prior"]) / row["noise_bound"]
    assert row["signal_to_noise_step"] == pytest.approx(step)
    assert row["signal_to_noise_training"] == pytest.approx(10 * step)


def parts_of(config, pictures):
    """What `measure_rotation` works on."""
    vae = active_vae()
    x = as_pixels(torch.from_numpy(pictures.packed), 4096)
    with torch.no_grad():
        q = vae.encoder(x)
    g = torch.Generator().manual_seed(config.seed)
    code = Code(q.mean, q.stddev, torch.randn(q.mean.shape, generator=g))
    return code, x, vae, make_prior(config)()


def measured(config, pictures, vae=None, name="tiny", device="cpu", **kwargs):
    vae = (vae or active_vae()).to(device)
    packed = torch.from_numpy(pictures.packed).to(device)
    prior = make_prior(dataclasses.replace(config, device=str(device)))()
    return measure_rotation(vae, prior, config, packed, pictures, name, **kwargs)


def test_rows_have_the_means_over_the_pictures(pictures, monkeypatch):
    config = Config(device="cpu", sizes=SIZES, seed=3)
    monkeypatch.setattr(gains, "PICTURES", 100)
    monkeypatch.setattr(gains, "CHUNK", {"cpu": 700})
    rows = measured(config, pictures, pairs=9)
    code, x, vae, prior = parts_of(config, pictures)
    planes = [(0, 1), (2, 3), (0, 2), (1, 3)]
    priors = make_priors(prior, config, gains.PRIORS)
    before = levels(x, code, vae.decoder, priors)
    by = all_turns(*planes, dtype=torch.float32)
    found = changes(x, code, vae.decoder, priors, by, before).double()
    mean, error = found.mean(-1), found.std(-1, correction=0) / math.sqrt(len(x))
    for p, (i, j) in enumerate(planes):
        for k, prior in enumerate(priors):
            mine = [r for r in rows if r["plane"] == f"{i}-{j}" and r["prior"] == prior.name]
            part = slice(p * len(ANGLES), (p + 1) * len(ANGLES))
            assert [r["angle"] for r in mine] == list(ANGLES)
            for key, line in (
                ("change_prior", 1 + k),
                ("change_bound", 1 + len(priors) + k),
                ("change_log_px", 0),
            ):
                values = torch.tensor([r[key] for r in mine]).double()
                torch.testing.assert_close(values, mean[line, part], atol=1e-5, rtol=1e-4)
                if key != "change_log_px":
                    errors = torch.tensor([r[f"{key}_standard_error"] for r in mine]).double()
                    torch.testing.assert_close(errors, error[line, part], atol=1e-5, rtol=1e-2)


def test_a_learned_prior_is_the_model_s_own(pictures):
    settings = {"learn_exponents": True, "scale": "unit-variance"}
    config = Config(device="cpu", sizes=SIZES, **settings)
    rows = measured(config, pictures, images=50, pairs=1)
    assert rows[0]["arm"] == rows[0]["prior"] == "isa-learned"
    assert any(abs(row["change_prior"]) > 1e-4 for row in rows if row["prior"] == "isa-learned")


def test_a_convolutional_model_is_turned_as_well(pictures):
    torch.manual_seed(0)
    vae = VAE(4, 16, model="conv")
    with torch.no_grad():
        vae.encoder.layers[-1].weight[:4] *= 300
    config = Config(device="cpu", sizes=SIZES, model="conv")
    rows = measured(config, pictures, vae, images=40, pairs=1)
    assert {row["kind"] for row in rows} == {"within", "across"}
    assert all(math.isfinite(row["change_bound"]) for row in rows)


@pytest.mark.cuda
def test_a_gpu_finds_the_same(pictures):
    config = Config(device="cpu", sizes=SIZES)
    found = measured(config, pictures, device="cuda", images=200)
    expected = measured(config, pictures, images=200)
    for one, other in zip(found, expected, strict=True):
        numbers = {key: x for key, x in one.items() if not isinstance(x, str)}
        assert numbers == pytest.approx({key: other[key] for key in numbers}, abs=2e-3, rel=1e-2)


# --- planes and priors ---


def test_planes_are_pairs_of_active_latents_that_hold_most():
    scale = torch.tensor([3.0, 0.01, 1.0, 2.0, 0.5, 4.0])
    mean = torch.randn(5000, 6, generator=torch.Generator().manual_seed(0)) * scale
    planes = choose_planes(mean, (3, 3), pairs=2)
    assert planes == [
        Plane(3, 5, within=True),
        Plane(0, 2, within=True),
        Plane(0, 5, within=False),
        Plane(0, 3, within=False),
    ]
    assert choose_planes(mean, (3, 3), pairs=2) == planes
    assert len(choose_planes(mean, (3, 3), pairs=99)) == 10  # of five active latents
    assert {p.within for p in choose_planes(mean, (6,), pairs=99)} == {True}
    assert choose_planes(mean[:, 1:3], (2,), pairs=2) == []  # one active latent
    assert choose_planes(mean * 0, (3, 3), pairs=2) == []


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_is_known_by_its_prior(name):
    config = Config(**ARMS[name], beta=4.0, seed=3)
    assert arm_of(config) == name
    assert arm_of(dataclasses.replace(config, scale=0.3)) == "own"


def test_the_default_training_has_the_released_prior():
    assert arm_of(Config()) == "isa-released"


def test_all_turns_come_in_parts_that_the_memory_holds():
    planes, x = [Plane(0, 1, True), Plane(1, 2, False)], torch.zeros(300, 1)
    parts = list(rotations(planes, ANGLES, x))
    assert all(len(part.planes) * 300 <= gains.CHUNK["cpu"] for part in parts)
    angles = torch.cat([part.angle for part in parts]).squeeze(1).rad2deg()
    torch.testing.assert_close(angles, torch.tensor(ANGLES * 2))
    assert torch.cat([part.planes for part in parts]).tolist() == [[0, 1]] * 13 + [[1, 2]] * 13
    assert len(next(rotations(planes, ANGLES, torch.zeros(10**6, 1))).planes) == 1


def test_moments_are_those_of_all_that_was_added():
    values, moments = torch.randn(3, 1000) + 5, Moments()
    for part in values.split(300, dim=1):
        moments.add(part)
    mean, deviation = moments.result()
    torch.testing.assert_close(mean, values.double().mean(1))
    torch.testing.assert_close(deviation, values.double().std(1, correction=0))


# --- the tool ---


@pytest.fixture(scope="module")
def trained(npz, tmp_path_factory):
    """A model that was trained until some of its latents were active."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    flags = ["--data", str(npz), "--sizes", "2", "2", "--hidden", "32", "--batch-size", "16"]
    flags += ["--steps", "300", "--learning-rate", "0.003", "--device", "cpu"]
    assert train.main([*flags, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def flags(npz, tmp_path):
    return ["--data", str(npz), "--images", "100", "--out", str(tmp_path / "found" / "turned.1")]


def strict(constant):
    raise ValueError(f"{constant} is no JSON")


def test_a_trained_model_is_measured(trained, flags, tmp_path, capsys):
    other = tmp_path / "again"
    shutil.copytree(trained, other)
    assert script.main([str(trained), str(other), "--pairs", "2", *flags]) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "found"
    assert sorted(path.name for path in folder.iterdir()) == [
        "turned.1.csv",
        "turned.1.json",
        "turned.1.png",
    ]
    assert all(str(path) in out for path in folder.iterdir())
    assert (folder / "turned.1.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "turned.1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {"tiny", "again"}
    assert {row["prior"] for row in rows} == set(gains.PRIORS)
    planes = {(row["model"], row["plane"]) for row in rows}
    assert len(rows) == len(planes) * 4 * len(ANGLES)
    steep = [row for row in rows if row["slope_prior"]]
    assert {float(row["angle"]) for row in steep} == set(STEEP)
    text = (folder / "turned.1.json").read_text()
    results = json.loads(text, parse_constant=strict)
    settings = {"priors": list(gains.PRIORS), "images": 100, "pairs": 2}
    assert results["settings"] == settings
    assert results["summary"][0]["arm"] == "isa-released"
    assert results["summary"][0]["models"] == 2
    assert set(results["versions"]) == {"python", "torch", "numpy", "lpnested"}
    assert "isa-released" in out


def test_the_summary_has_the_means_of_the_planes(pictures):
    rows = measured(Config(device="cpu", sizes=SIZES, batch_size=4, steps=25), pictures, pairs=2)
    for line in summarise(rows):
        keys = ("kind", "prior")
        mine = [row for row in rows if all(row[key] == line[key] for key in keys)]
        planes = [[r for r in mine if r["plane"] == p] for p in {r["plane"] for r in mine}]
        assert line["planes"] == len(planes) == 2
        change = [[row["change_prior"] for row in plane] for plane in planes]
        assert line["range_prior"] == pytest.approx(np.mean([max(c) - min(c) for c in change]))
        assert line["change_prior_45"] == pytest.approx(np.mean([c[6] for c in change]))
        assert line["largest_change_prior"] == pytest.approx(np.abs(change).max())
        if line["prior"].startswith("isa"):
            lowest, highest = (sum(f(c) for c in change) for f in (min, max))
            assert line["aligned"] == pytest.approx(-lowest / (highest - lowest))
            assert line["aligned_of_models"] == [line["aligned"]]
        else:
            assert line["aligned"] is None
        noise = np.mean([row["noise_bound"] for row in mine if "noise_bound" in row])
        assert line["noise_bound"] == pytest.approx(noise)
        ratio = line["slope_prior"] / noise
        assert line["signal_to_noise_training"] == pytest.approx(5 * ratio)


def test_a_code_is_aligned_where_the_prior_likes_it_best():
    height = {"best": [0, -1, -2, -1, 0], "worst": [0, 1, 2, 1, 0], "between": [0, 1, 0, -1, 0]}
    found, both = {}, []
    for name, change in height.items():
        plane = {"model": name, "arm": "isa-4-4", "prior": "isa-4-4", "plane": "0-1"}
        plane |= {"kind": "within", "change_bound": 0.0, "steps": 4}
        plane |= {"slope_prior": 1.0, "noise_bound": 2.0}
        rows = [
            plane
            | {"angle": angle, "change_prior": float(c), "slope_prior": 1.0, "noise_bound": 2.0}
            for angle, c in zip(ANGLES, change * 3, strict=False)
        ]
        (summary,) = summarise(rows)
        found[name] = summary["aligned"]
        both += rows
    assert found == {"best": 1, "worst": 0, "between": 0.5}
    (summary,) = summarise(both)
    assert (summary["aligned"], summary["aligned_of_models"]) == (0.5, [1, 0, 0.5])


def test_a_model_with_one_active_latent_says_so(trained, flags, tmp_path, capsys):
    asleep = tmp_path / "asleep"
    shutil.copytree(trained, asleep)
    weights = torch.load(asleep / "model.pt", weights_only=True)
    name = "encoder.layers.4.weight"
    weights[name][1:4] = 0
    torch.save(weights, asleep / "model.pt")
    assert script.main([str(asleep), *flags]) == 2
    captured = capsys.readouterr()
    assert "fewer than two latents are active" in captured.out
    assert "nothing was written" in captured.err
    assert not (tmp_path / "found").exists()
    assert script.main([str(asleep), str(trained), *flags]) == 0
    assert (tmp_path / "found" / "turned.1.png").is_file()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--images", "0"], "--images must be a positive number"),
        (["--pairs", "0"], "--pairs must be a positive number"),
        (["--priors", "laplace"], "--priors must be some of normal, normal-0.495"),
        (["--priors", "isa-learned"], "--priors must be some of"),
        (["--device", "abacus"], "--device abacus is not available"),
    ],
)
def test_a_mistake_is_told(trained, flags, wrong, message, capsys):
    assert script.main([str(trained), *flags, *wrong]) == 2
    assert message in capsys.readouterr().err


def test_folders_that_cannot_be_measured_are_told(trained, flags, tmp_path, capsys):
    assert script.main(flags) == 2
    assert "--folders must be one or more" in capsys.readouterr().err
    assert script.main([str(tmp_path), *flags]) == 2
    assert "not the folder of a trained model" in capsys.readouterr().err
    assert script.main([str(trained), str(trained), *flags]) == 2
    assert "of different names" in capsys.readouterr().err


def test_what_was_measured_before_ctrl_c_is_kept(trained, flags, tmp_path, monkeypatch, capsys):
    other = tmp_path / "again"
    shutil.copytree(trained, other)
    whole = script.measure_rotation

    def interrupted(*args, **kwargs):
        if args[5] == "again":
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(script, "measure_rotation", interrupted)
    assert script.main([str(trained), str(other), *flags]) == 130
    assert "stopped" in capsys.readouterr().err
    with (tmp_path / "found" / "turned.1.csv").open() as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"tiny"}


def test_what_measures_needs_no_tyro():
    folder = Path(script.__file__).parent
    code = "import sys; sys.modules['tyro'] = None; import rotation; rotation.measure_rotation"
    path = os.pathsep.join([str(folder), *sys.path])
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, check=True)
