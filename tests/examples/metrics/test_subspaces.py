"""Densities of the aggregate posterior against torch, quadrature and closed forms."""

import math
from itertools import product

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from metrics import disentanglement
from metrics.groupings import (
    compared_with_random,
    grouped_information,
    random_gaps,
    random_groupings,
)
from metrics.subspaces import (
    Estimate,
    LogDensities,
    draw_codes,
    draw_rows,
    log_densities,
    subspace_gaps,
    subspace_mig,
    total_correlation_full,
)

pytestmark = pytest.mark.slow


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(mean, std):
    return MixtureSameFamily(
        Categorical(torch.ones(len(mean)).double()), Independent(Normal(mean, std), 1)
    )


@pytest.fixture(scope="module")
def small():
    """Forty rows of five latents with two factors, one of them unbalanced."""
    g = generator()
    mean = torch.randn(40, 5, generator=g, dtype=torch.float64)
    std = torch.rand(40, 5, generator=g, dtype=torch.float64) + 0.1
    classes = torch.stack([torch.arange(40) % 4, (torch.arange(40) > 30) * 7], dim=-1)
    return mean, std, classes


def test_densities_agree_with_torch(small, monkeypatch):
    mean, std, classes = small
    monkeypatch.setattr("metrics.subspaces.CHUNK", 7)
    found = log_densities(mean, std, classes, (2, 3), 20, generator())
    g = generator()  # the same draws
    rows = draw_rows(40, 20, g)
    z = mean[rows] + std[rows] * torch.randn(20, 5, generator=g, dtype=torch.float64)
    parts = [slice(0, 2), slice(2, 5)]
    whole = torch.stack([mixture(mean[:, p], std[:, p]).log_prob(z[:, p]) for p in parts], 1)
    single = [mixture(mean[:, [j]], std[:, [j]]).log_prob(z[:, [j]]) for j in range(5)]
    given = torch.zeros(20, 2, 2).double()
    for s, p, k in product(range(20), range(2), range(2)):
        same = classes[:, k] == classes[rows[s], k]
        q = mixture(mean[same][:, parts[p]], std[same][:, parts[p]])
        given[s, p, k] = q.log_prob(z[s, parts[p]])
    expected = LogDensities(
        Normal(mean[rows], std[rows]).log_prob(z).sum(1),
        mixture(mean, std).log_prob(z),
        whole,
        torch.stack(single, 1),
        given,
    )
    for name in LogDensities.__dataclass_fields__:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


def test_total_correlation_of_a_normal_pair_has_its_closed_form():
    """Means on a warped grid of quantiles: the aggregate is all but N(0, S)."""
    rho, noise = 0.7, 0.3
    q = Normal(0.0, 1.0).icdf((torch.arange(60).double() + 0.5) / 60)
    q = q / q.square().mean().sqrt()
    covariance = torch.tensor([[1, rho], [rho, 1]]).double()
    root = torch.linalg.cholesky(covariance - noise**2 * torch.eye(2).double())
    mean = torch.cartesian_prod(q, q) @ root.T
    found = total_correlation_full(mean, torch.full_like(mean, noise), (1, 1), 3600, generator(1))
    total = -0.5 * math.log(1 - rho**2)
    assert abs(found["total"].value - total) < 4 * found["total"].standard_error + 0.01
    assert found["total"].standard_error < 0.02
    index_code = 0.5 * float(torch.logdet(covariance)) - 2 * math.log(noise)
    assert (
        abs(found["index_code"].value - index_code) < 4 * found["index_code"].standard_error + 0.02
    )
    assert found["within"].value == pytest.approx(0, abs=1e-12)
    assert found["between"].value == pytest.approx(found["total"].value)


@pytest.mark.parametrize(("pair", "inside"), [((0, 1), True), ((1, 2), False)])
def test_correlation_inside_of_a_subspace_or_between_two(pair, inside):
    rho = 0.8
    mean = torch.randn(6000, 4, generator=generator(2), dtype=torch.float64)
    i, j = pair
    mean[:, j] = rho * mean[:, i] + math.sqrt(1 - rho**2) * mean[:, j]
    std = torch.full_like(mean, 0.5)
    found = total_correlation_full(mean, std, (2, 2), 1500, generator(3))
    exact = -0.5 * math.log(1 - (rho / 1.25) ** 2)
    one, other = ("within", "between") if inside else ("between", "within")
    assert abs(found[one].value - exact) < 4 * found[one].standard_error + 0.02
    assert abs(found[other].value) < 4 * found[other].standard_error + 0.02
    parts = found["within"].value + found["between"].value
    assert found["total"].value == pytest.approx(parts)


def test_total_correlation_agrees_with_quadrature():
    mean = torch.tensor([[0, 0], [1, 1], [2, -1], [-1, 0.5], [0.3, 2]]).double()
    std = torch.tensor([[0.5, 1], [0.2, 0.4], [1, 0.3], [0.4, 0.4], [0.7, 0.2]]).double()
    axis = torch.linspace(-6, 7, 651).double()
    z = torch.cartesian_prod(axis, axis)
    log_q = mixture(mean, std).log_prob(z)
    apart = sum(mixture(mean[:, [j]], std[:, [j]]).log_prob(z[:, [j]]) for j in (0, 1))
    exact = float((log_q.exp() * (log_q - apart)).sum()) * float(axis[1] - axis[0]) ** 2
    found = total_correlation_full(mean, std, (1, 1), 10_000, generator(4))["total"]
    assert abs(found.value - exact) < 4 * found.standard_error
    assert found.standard_error < 0.015 < exact / 10


def test_rows_that_are_all_alike_and_rows_far_apart():
    alike = total_correlation_full(torch.ones(50, 4), torch.ones(50, 4), (2, 2), 20, generator())
    assert all(abs(estimate.value) < 1e-5 for estimate in alike.values())
    apart = 100 * torch.arange(50.0)[:, None].repeat(1, 4)
    found = total_correlation_full(apart, torch.ones(50, 4), (2, 2), 20, generator())
    # Each latent tells which row it is: log N in common for the first, again for each further one.
    assert found["index_code"].value == pytest.approx(math.log(50), abs=1e-4)
    assert found["total"].value == pytest.approx(3 * math.log(50), abs=1e-4)
    assert found["between"].value == pytest.approx(math.log(50), abs=1e-4)


# --- subspace MIG ---


@pytest.fixture(scope="module")
def grid():
    """A factor of four values, that is of two bits, and one of three: (N, 2)."""
    return torch.tensor(list(product(range(4), range(3)))).repeat(10, 1)


def gap(mean, classes, sizes, std=0.05, samples=60):
    std = torch.full_like(mean, std)
    densities = log_densities(mean, std, classes, sizes, samples, generator())
    return subspace_mig(densities, classes, [0]), densities


def test_a_factor_that_lives_in_a_whole_subspace(grid):
    four, three = grid.double().T
    low, high = four % 2, four // 2
    noise = torch.zeros_like(low)
    together = torch.stack([low, high, three, noise], dim=-1)
    found, densities = gap(together, grid, (2, 2))
    assert found.value == pytest.approx(1, abs=1e-6)
    exact = torch.tensor([[math.log(4), 0], [0, math.log(3)]]).double()
    # No log V for each further dimension, as in the release: that would be 2 log V.
    torch.testing.assert_close(densities.information.mean(0), exact, atol=0.1, rtol=0)
    # Latent by latent, two know one bit each, and neither leads.
    std = torch.full_like(together, 0.05)
    assert disentanglement(together, std, grid, ("a", "b"), mig_factors=("a",)).mig < 1e-6
    apart, _ = gap(together[:, [0, 2, 1, 3]], grid, (2, 2))
    assert apart.value == pytest.approx(0, abs=1e-6)


def test_a_copy_in_a_second_subspace_closes_the_gap(grid):
    four, three = grid.double().T
    mean = torch.stack([four, three, three, four], dim=-1)
    assert gap(mean, grid, (2, 2))[0].value == pytest.approx(0, abs=1e-6)
    assert gap(mean, grid, (1, 2, 1))[0].value == pytest.approx(0, abs=1e-6)
    assert gap(mean, grid, (4,))[0].value == pytest.approx(1, abs=1e-6)  # none to compare with


def test_subspaces_of_any_size_that_know_nothing(grid):
    found, densities = gap(torch.zeros(len(grid), 7).double(), grid, (4, 1, 2), std=1.0)
    assert densities.information.abs().max() < 1e-12
    assert found.value == pytest.approx(0, abs=1e-12)


def test_a_rotation_inside_of_a_subspace_changes_nothing(grid):
    mean = torch.cat([grid, grid.flip(1), grid * 0.5], dim=1).double()
    first, plain = gap(mean, grid, (2, 4), std=0.8, samples=2000)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator(5)).double())
    mean[:, 2:] = mean[:, 2:] @ rotation
    second, rotated = gap(mean, grid, (2, 4), std=0.8, samples=2000)
    error = math.hypot(first.standard_error, second.standard_error)
    assert abs(first.value - second.value) < 4 * error < 0.15
    difference = (plain.information.mean(0) - rotated.information.mean(0)).abs()
    noise = plain.information.std(0) / math.sqrt(2000)
    assert (difference < 6 * noise + 1e-6).all()


def test_information_agrees_with_quadrature_in_one_dimension(grid):
    generator_ = generator(6)
    mean = torch.randn(len(grid), 3, generator=generator_).double() + grid[:, [0]]
    std = torch.rand(len(grid), 3, generator=generator_).double() + 0.2
    exact = disentanglement(mean, std, grid, ("a", "b"), mig_factors=("a", "b")).information
    terms = log_densities(mean, std, grid, (1, 1, 1), 3000, generator_).information
    error = terms.std(0) / math.sqrt(len(terms))
    assert ((terms.mean(0) - exact).abs() < 4 * error + 1e-3).all()


def test_a_negative_estimate_counts_as_no_information():
    information = torch.tensor([[-0.1, 0.5, 0.2], [-0.3, -0.2, 0.1]]).expand(10, 2, 3)
    gaps = subspace_gaps(information, torch.tensor([1.0, 2.0, 0.5])).mean(0)
    torch.testing.assert_close(gaps, torch.tensor([0.0, 0.25, 0.2]))


def test_a_factor_that_never_varies_has_no_gap(grid):
    fixed = grid.clone()
    fixed[:, 0] = 5
    assert math.isnan(gap(grid.double(), fixed, (1, 1))[0].value)


def test_widths_far_apart_do_not_underflow():
    mean = torch.zeros(20, 4)
    std = torch.ones(20, 4)
    std[::2] = 1e-9
    classes = (torch.arange(20) % 2)[:, None]
    densities = log_densities(mean, std, classes, (4,), 20, generator())
    assert densities.given.isfinite().all()
    assert densities.information.mean() == pytest.approx(math.log(2), abs=1e-3)


def test_estimate():
    found = Estimate.of(torch.tensor([1.0, 2.0, 3.0]))
    assert found == Estimate(2.0, pytest.approx(1 / math.sqrt(3)))


def test_what_is_not_a_code_is_refused(small):
    mean, std, classes = small
    for sizes in ((2, 2), (5, 0), (6, -1)):
        with pytest.raises(ValueError, match="add up to the 5 latents"):
            log_densities(mean, std, classes, sizes, 10, generator())
    with pytest.raises(ValueError, match="positive, finite deviations"):
        log_densities(mean, -std, classes, (2, 3), 10, generator())


# --- random groupings ---


def test_random_groupings_have_every_latent_once_and_the_sizes():
    found = random_groupings((1, 3, 2), 50, generator())
    assert found.shape == (50, 3, 6)
    assert (found.sum(1) == 1).all()
    assert (found.sum(2) == torch.tensor([1, 3, 2])).all()
    assert len(found.unique(dim=0)) > 25  # of 60 that there are
    assert found.equal(random_groupings((1, 3, 2), 50, generator()))
    assert not found.equal(random_groupings((1, 3, 2), 50, generator(1)))
    share = found[:, 0].double().mean(0)  # each latent is alone as often as any other
    assert ((share - 1 / 6).abs() < 0.2).all()


def test_groupings_know_what_subspaces_of_these_latents_know(small, monkeypatch):
    mean, std, classes = small
    monkeypatch.setattr("metrics.groupings.CHUNK", 3)
    monkeypatch.setattr("metrics.groupings.BLOCK", 17)
    rows, noise, z = draw_codes(mean, std, 20, generator())
    groupings = random_groupings((2, 3), 4, generator(1))
    found, entropy = grouped_information(mean, std, classes, groupings, rows, z)
    assert found.shape == (20, 4, 2, 2)
    for terms, grouping in zip(found.unbind(1), groupings, strict=True):
        order = torch.cat([part.nonzero().squeeze(1) for part in grouping])
        torch.testing.assert_close(
            terms, at_draws(mean[:, order], std[:, order], classes, rows, noise[:, order], (2, 3))
        )
    torch.testing.assert_close(entropy[0], torch.tensor(math.log(4)).double())


def at_draws(mean, std, classes, rows, noise, sizes):
    """What each subspace knows at these draws, a latent after the other, by torch."""
    z, start, found = mean[rows] + std[rows] * noise, 0, []
    for size in sizes:
        part = slice(start, start + size)
        start += size
        whole = mixture(mean[:, part], std[:, part]).log_prob(z[:, part])
        given = torch.zeros(len(z), classes.shape[1]).double()
        for s, k in product(range(len(z)), range(classes.shape[1])):
            like = classes[:, k] == classes[rows[s], k]
            given[s, k] = mixture(mean[like][:, part], std[like][:, part]).log_prob(z[s, part])
        found.append(given - whole[:, None])
    return torch.stack(found, dim=1)


def with_random(mean, classes, sizes, count=30, std=0.05):
    """The gap of the first factor, then the mean over random groupings and the share."""
    own, _ = gap(mean, classes, sizes, std)
    gaps = random_gaps(mean, torch.full_like(mean, std), classes, sizes, 60, count, generator())
    return (own.value, *compared_with_random(gaps[..., 0], own.value))


def test_groupings_are_compared_at_the_draws_of_the_model_s_own(grid):
    slight = torch.randn(len(grid), 3, generator=generator(2)).double()
    mean = slight + grid[:, [0]] * torch.tensor([3, 0, 0])
    for sizes in ((3,), (1, 1, 1)):  # all groupings are the same
        own, random, share = with_random(mean, grid, sizes, count=2, std=0.4)
        assert random.value == pytest.approx(own, abs=1e-9)
        assert 0.1 < own < 1
        assert random.standard_error > 0
        assert share == 1


def test_a_subspace_that_holds_everything_is_no_better_than_a_random_one(grid):
    four, three = grid.double().T
    nothing = torch.zeros_like(four)
    lumped = torch.stack([four, three, nothing, nothing], dim=-1)
    own, random, share = with_random(lumped, grid, (2, 2))
    assert own == pytest.approx(1, abs=1e-6)
    assert random.value == pytest.approx(own, abs=1e-6)
    assert share == 1


def test_subspaces_that_hold_a_factor_each_are_better_than_random_ones(grid):
    four, three = grid.double().T
    apart = torch.stack([four % 2, four // 2, three, three], dim=-1)
    own, random, share = with_random(apart, grid, (2, 2))
    assert own == pytest.approx(1, abs=1e-6)
    # One of the three ways to make two pairs is the model's own; the others have no gap at all.
    assert share == pytest.approx(1 / 3, abs=0.2)
    assert random.value == pytest.approx(share, abs=1e-6)
    assert with_random(apart[:, [0, 2, 1, 3]], grid, (2, 2))[0] == pytest.approx(0, abs=1e-6)
