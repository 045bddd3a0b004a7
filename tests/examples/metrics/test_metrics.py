"""The mutual information gap against sampling, quadrature and closed forms."""

import inspect
import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from scipy import integrate, stats
from torch.distributions import Independent, Normal

from data.dsprites_drawn import MIG_FACTORS, all_classes
from data.pictures import FACTORS, Pictures, pack, render_dsprites
from metrics import active_units, disentanglement, mig_sampled, sampled
from metrics.codes import entropy_of
from metrics.sampled import information_sampled
from objectives import log_likelihood
from running.scoring import choose_rows, evaluate

pytestmark = pytest.mark.slow

COLUMNS = [FACTORS.index(factor) for factor in MIG_FACTORS]


@pytest.fixture(scope="module")
def grid():
    """A small set with the factors scale 3, orientation 4, posX 5, posY 4, all combinations."""
    return torch.tensor(list(product(range(3), range(4), range(5), range(4))))


def score(mean, std, classes):
    return disentanglement(mean.double(), std.double(), classes, MIG_FACTORS)


def quadrature(mean, std, classes):
    """I(z; v) of one latent with each factor, by scipy's adaptive quadrature."""
    low, high = float((mean - 9 * std).min()), float((mean + 9 * std).max())

    def entropy(rows):
        q = stats.norm(mean[rows].numpy(), std[rows].numpy())

        def integrand(z):
            p = q.pdf(z).mean()
            return -p * math.log(p) if p > 0 else 0.0

        points = mean[rows].unique()[:50].tolist()
        return integrate.quad(integrand, low, high, points=points, limit=2000, epsabs=1e-7)[0]

    total = entropy(torch.arange(len(mean)))
    information = []
    for column in classes.T:
        values = column.unique()
        given = [entropy((column == v).nonzero().squeeze(1)) for v in values]
        weights = [(column == v).double().mean().item() for v in values]
        information.append(total - sum(w * h for w, h in zip(weights, given, strict=True)))
    return torch.tensor(information, dtype=torch.float64)


def random_encoder(classes, latents, generator):
    scaled = classes.double() / classes.max(0).values - 0.5
    mixing = torch.randn(classes.shape[1], latents, generator=generator, dtype=torch.float64)
    mean = 2 * torch.tanh(2 * scaled @ mixing)
    std = torch.rand(mean.shape, generator=generator, dtype=torch.float64).mul(3).sub(3.5).exp()
    return mean, std


@pytest.mark.slow
def test_information_agrees_with_adaptive_quadrature(grid):
    mean, std = random_encoder(grid, 2, torch.Generator().manual_seed(0))
    expected = torch.stack([quadrature(m, s, grid) for m, s in zip(mean.T, std.T, strict=True)])
    torch.testing.assert_close(score(mean, std, grid).information, expected, atol=5e-4, rtol=0)


def test_information_agrees_with_quadrature_on_an_unbalanced_part(grid):
    generator = torch.Generator().manual_seed(1)
    part = grid[torch.randperm(len(grid), generator=generator)[:60]]
    mean, std = random_encoder(part, 1, generator)
    expected = quadrature(mean[:, 0], std[:, 0], part)
    torch.testing.assert_close(score(mean, std, part).information[0], expected, atol=5e-4, rtol=0)


@pytest.mark.slow
def test_agrees_with_chens_sampled_estimator(grid):
    generator = torch.Generator().manual_seed(2)
    mean, std = random_encoder(grid, 5, generator)
    exact = score(mean, std, grid)
    runs = [information_sampled(mean, std, grid, 2000, generator) for _ in range(6)]
    sampled = torch.stack(runs)
    error = sampled.std(0) / math.sqrt(len(runs))
    assert ((sampled.mean(0) - exact.information).abs() < 5 * error + 1e-3).all()
    migs = torch.tensor([mig_sampled(mean, std, grid, 2000, generator) for _ in range(6)])
    assert abs(migs.mean() - exact.mig) < 5 * migs.std() / math.sqrt(len(migs)) + 2e-3


def test_the_sampled_estimator_is_the_same_in_parts(grid, monkeypatch):
    mean, std = random_encoder(grid, 3, torch.Generator().manual_seed(3))
    whole = mig_sampled(mean, std, grid, 300, torch.Generator().manual_seed(4))
    monkeypatch.setattr(sampled, "CHUNK", 5 * mean.numel())
    parts = mig_sampled(mean, std, grid, 300, torch.Generator().manual_seed(4))
    assert parts == pytest.approx(whole, rel=1e-12)


def test_one_latent_for_each_factor_has_gap_one(grid):
    result = score(grid, torch.full(grid.shape, 1e-2), grid)
    assert result.mig == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(result.information.diagonal(), result.entropy, atol=1e-6, rtol=0)


def test_a_second_copy_of_each_latent_closes_the_gap(grid):
    result = score(grid.repeat(1, 2), torch.full((len(grid), 8), 1e-2), grid)
    assert result.mig == pytest.approx(0, abs=1e-9)


def test_latents_that_know_nothing(grid):
    constant = torch.zeros(grid.shape), torch.ones(grid.shape)
    assert score(*constant, grid).information.max() < 1e-9
    independent = torch.tensor([0.0, 1.0]).repeat(len(grid))[:, None]  # every value, both means
    twice = grid.repeat_interleave(2, dim=0)
    assert score(independent, torch.full_like(independent, 0.1), twice).information.max() < 1e-9


def test_latents_that_encode_two_factors_jointly(grid):
    scale, orientation, pos_x, pos_y = grid.T
    joint = torch.stack([scale + 3 * orientation, pos_x + 5 * pos_y], dim=-1)
    result = score(joint, torch.full(joint.shape, 1e-2), grid)
    # Each latent determines its two factors, the other one knows nothing of them: all gaps are 1.
    assert result.mig == pytest.approx(1, abs=1e-6)
    # The sum of two factors on {0..3} x {0..3}: I = H(sum) - log 4 with H of a triangle.
    total = (orientation + pos_y)[:, None]
    triangle = torch.tensor([1.0, 2, 3, 4, 3, 2, 1], dtype=torch.float64)
    expected = float(entropy_of(triangle / 16)) - math.log(4)
    information = score(total, torch.full(total.shape, 1e-2), grid).information[0]
    torch.testing.assert_close(
        information, torch.tensor([0, expected, 0, expected]).double(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("distance", [0.0, 0.1, 1.0, 3.0, 8.0, 100.0])
@pytest.mark.parametrize("shift", [0.0, 0.1234])
def test_two_equally_likely_normals(distance, shift):
    """I = h((N(0, 1) + N(d, 1)) / 2) - h(N(0, 1))."""

    def integrand(z):
        p = (stats.norm.pdf(z) + stats.norm.pdf(z, distance)) / 2
        return -p * math.log(p) if p > 0 else 0.0

    points = [0, distance / 2, distance]
    mixed = integrate.quad(integrand, -12, distance + 12, points=points, limit=500)[0]
    expected = mixed - 0.5 * math.log(2 * math.pi * math.e)
    classes = torch.tensor([[0] * 4, [1] * 4])
    mean = torch.tensor([[shift], [shift + distance]])
    result = score(mean, torch.ones(2, 1), classes)
    assert result.information[0, 0].item() == pytest.approx(expected, abs=5e-5)


def test_the_sampled_gap_of_a_single_latent():
    values = torch.arange(3).repeat(100)[:, None]
    generator = torch.Generator().manual_seed(0)
    found = mig_sampled(values.float(), torch.full(values.shape, 0.01), values, 20_000, generator)
    assert found == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_one_wide_or_far_picture_changes_the_gap_by_its_share_of_them_only():
    grid = torch.tensor(list(product(range(6), range(4), range(12), range(32))))
    for wide, far in ((1e-2, 1e4), (1e-2, -1e30), (100, 0), (1e3, 0), (1e3, 1e4), (1e30, 0)):
        mean, std = grid.double(), torch.full(grid.shape, 1e-2).double()
        std[0], mean[0] = wide, mean[0] + far
        result = score(mean, std, grid)
        assert (result.information.diagonal() <= result.entropy + 1e-9).all()
        assert result.mig == pytest.approx(1, abs=20 / len(grid)), (wide, far)
        assert result.widened.tolist() == [0, 0, 0, 0]


@pytest.mark.slow
def test_narrow_posteriors_in_disorder_know_every_factor():
    """A code that tells all images apart, at a width of which no two overlap: I = H."""
    grid = torch.tensor(list(product(range(6), range(4), range(12), range(32))))
    mean = torch.randn(len(grid), 1, generator=torch.Generator().manual_seed(0)).double()
    result = score(mean, torch.full_like(mean, 1e-5), grid)
    share = result.information[0] / result.entropy
    assert ((share > 0.94) & (share < 0.98)).all()  # a few of 9,216 means do lie that near
    assert result.widened.tolist() == [0]


@pytest.mark.slow
@pytest.mark.parametrize("width", [1e-4, 1e-5, 1e-6])
def test_narrow_posteriors_in_disorder_agree_with_chens_sampled_estimator(width):
    grid = torch.tensor(list(product(range(6), range(4), range(12), range(4))))
    generator = torch.Generator().manual_seed(5)
    mean = torch.randn(len(grid), 1, generator=generator, dtype=torch.float64)
    std = torch.full_like(mean, width)
    exact = score(mean, std, grid).information
    drawn = [information_sampled(mean, std, grid, 2000, generator) for _ in range(4)]
    sampled = torch.stack(drawn)
    error = sampled.std(0) / math.sqrt(len(drawn))
    assert ((sampled.mean(0) - exact).abs() < 5 * error + 2e-3).all()


@pytest.mark.parametrize("width", [1e-3, 1e-4, 1e-5, 1e-6, 1e-9])
def test_posteriors_narrower_than_the_grid_have_no_way_around_it(grid, width):
    """All narrow: the lowest and the highest value must not meet at the ends of the grid."""
    result = score(grid, torch.full(grid.shape, width), grid)
    assert result.mig == pytest.approx(1, abs=1e-6)


def test_factor_that_never_varies_has_no_gap(grid):
    fixed = grid.clone()
    fixed[:, 0] = 0
    result = score(grid, torch.full(grid.shape, 0.1), fixed)
    assert math.isnan(result.mig)
    assert math.isnan(result.gaps["scale"])
    assert result.gaps["posX"] == pytest.approx(1, abs=1e-6)
    assert result.entropy[0].item() == 0 and not torch.signbit(result.entropy[0])


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_impossible_posteriors_are_refused(grid, value):
    std = torch.ones(grid.shape)
    std[3, 1] = value
    with pytest.raises(ValueError, match="positive, finite deviations"):
        score(grid, std, grid)


def test_active_units():
    mean = torch.stack([torch.linspace(-1, 1, 100), torch.linspace(-0.1, 0.1, 100)], dim=-1)
    assert active_units(mean).tolist() == [True, False]


# --- scoring a model ---


class Blurry(torch.nn.Module):
    """A stand-in for the VAE: the first pixels shift the mean, the logits are constant."""

    def encoder(self, x):
        return Normal(x[:, 2000:2004], torch.full_like(x[:, :4], 0.5))

    def decoder(self, z):
        return torch.full((len(z), 4096), -3.0)


@pytest.fixture(scope="module")
def sprites():
    rows = torch.randperm(737_280, generator=torch.Generator().manual_seed(0))[:5000]
    classes = all_classes()[rows.numpy()]
    return Pictures(pack(render_dsprites(classes)), classes, "drawn")


@pytest.mark.slow
def test_scores_are_means_over_all_rows(sprites):
    prior = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
    packed = torch.from_numpy(sprites.packed)
    scores = evaluate(Blurry(), prior, packed, sprites, torch.arange(5000), seed=0)
    pixels = torch.from_numpy(render_dsprites(sprites.classes)).double().flatten(1)
    expected = log_likelihood(pixels, torch.full_like(pixels, -3.0)).mean()
    assert scores["log_likelihood"] == pytest.approx(expected.item(), rel=1e-5)
    exact = 0.5 * (pixels[:, 2000:2004].square() + 0.25 - 1 - math.log(0.25)).sum(1).mean()
    assert scores["kl_analytic"] == pytest.approx(exact.item(), rel=1e-5)
    assert abs(scores["kl_monte_carlo"] - exact) < 5 * scores["kl_monte_carlo_standard_error"]
    assert scores["elbo"] == pytest.approx(scores["log_likelihood"] - scores["kl_monte_carlo"])
    assert len(scores["mutual_information"]) == 4


def test_rows_to_score():
    assert choose_rows(10, None, 0).tolist() == list(range(10))
    assert choose_rows(10, 99, 0).tolist() == list(range(10))
    part = choose_rows(100, 7, 0).tolist()
    assert len(set(part)) == 7
    assert part == sorted(part) == choose_rows(100, 7, 0).tolist()


GROWTH = """
from pathlib import Path
import numpy as np, torch
from data.pictures import Pictures
from running.process import keep_freed_memory
from models import VAE
from running.scoring import BATCH, evaluate
from torch.distributions import Independent, Normal

keep_freed_memory()
torch.set_num_threads(1)
classes = np.arange(16 * BATCH)[:, None] % (1, 3, 6, 40, 32, 31)
pictures = Pictures(np.zeros((len(classes), 512), np.uint8), classes, "drawn")
vae, prior = VAE(2, 4), Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
for batches in (3, 16):
    rows = torch.arange(batches * BATCH)
    evaluate(vae, prior, torch.from_numpy(pictures.packed), pictures, rows, seed=0)
    status = Path("/proc/self/status").read_text()
    print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="process.py tells glibc's malloc only")
def test_scoring_more_pictures_takes_no_more_memory():
    here = os.environ | {"PYTHONPATH": str(Path(inspect.getfile(choose_rows)).parents[1])}
    command = [sys.executable, "-c", GROWTH]
    done = subprocess.run(command, env=here, capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())  # KiB; each batch has temporaries of 64 MiB
    assert many - few < 300 * 1024
