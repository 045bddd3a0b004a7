"""Entropies of mixtures against adaptive quadrature, closed forms and exact moments."""

import math
from itertools import pairwise

import pytest
import torch
from scipy import integrate, stats

from metrics import mixtures
from metrics.mixtures import (
    HALO,
    Components,
    closed_up,
    mixture_entropies,
    own_density,
    refined,
    root,
)

pytestmark = pytest.mark.slow

f64 = torch.float64
NORMAL_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)


def quadrature(mean, std):
    """Of one mixture, in pieces between all places where something begins or ends."""
    q = stats.norm(mean.numpy(), std.numpy())

    def integrand(z):
        p = q.pdf(z).mean()
        return -p * math.log(p) if p > 0 else 0.0

    ends = torch.cat([mean + k * std for k in (-9, -3, -1, 0, 1, 3, 9)]).unique().tolist()
    pieces = [
        integrate.quad(integrand, a, b, epsabs=1e-11, epsrel=1e-10, limit=200)[0]
        for a, b in pairwise(ends)
    ]
    return math.fsum(pieces)


def one_group(mean, std):
    mean, std = torch.as_tensor(mean, dtype=f64), torch.as_tensor(std, dtype=f64)
    found, widened = mixture_entropies(mean, std, torch.zeros(1, len(mean), dtype=torch.long), 1)
    return float(found), widened


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decades", [0, 2, 5])
def test_widths_over_many_decades_agree_with_adaptive_quadrature(seed, decades):
    generator = torch.Generator().manual_seed(seed)
    std = 10 ** (decades * (torch.rand(24, generator=generator, dtype=f64) - 1)) * 0.5
    mean = torch.randn(24, generator=generator, dtype=f64)
    mean[::3] = mean[1::3] + std[1::3]  # some that overlap, at every width
    found, widened = one_group(mean, std)
    assert found == pytest.approx(quadrature(mean, std), abs=1e-4)
    assert widened == 0


def test_groups_are_mixtures_of_their_own():
    generator = torch.Generator().manual_seed(9)
    std = 10 ** (4 * torch.rand(30, generator=generator, dtype=f64) - 4)
    mean = torch.randn(30, generator=generator, dtype=f64)
    groups = torch.stack([torch.arange(30) % 3, 3 + torch.arange(30) % 4])
    found, _ = mixture_entropies(mean, std, groups, 7)
    for group in range(7):
        rows = (groups == group).any(0)
        assert found[group].item() == pytest.approx(quadrature(mean[rows], std[rows]), abs=1e-4)


@pytest.mark.parametrize("width", [1e-30, 1e-9, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("place", [0.0, 0.123, -1e7])
def test_a_single_normal(width, place):
    found, _ = one_group([place * width], [width])
    assert found == pytest.approx(NORMAL_ENTROPY + math.log(width), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [1e3, 1e9, 1e15, 1e30])
def test_a_wide_one_over_many_narrow_ones(ratio):
    """Far apart in width: H = ln(count) and the mean of the entropies."""
    mean, std = torch.arange(100, dtype=f64), torch.full((100,), 1e-2, dtype=f64)
    mean[7], std[7] = 50, 1e-2 * ratio
    parts = NORMAL_ENTROPY + (99 * math.log(1e-2) + math.log(1e-2 * ratio)) / 100
    expected = quadrature(mean, std) if ratio <= 1e3 else math.log(100) + parts
    assert one_group(mean, std)[0] == pytest.approx(expected, abs=1e-4)


def test_gaps_close_and_what_meets_keeps_its_distance():
    mean = torch.tensor([0.0, 1.0, 5.0, 1e12, 1e30, -40.0], dtype=f64)
    std = torch.tensor([1.0, 1.0, 1.0, 0.5, 1e-3, 2.0], dtype=f64)
    place = closed_up(mean, std)
    assert (place[:3] - place[0]).tolist() == pytest.approx([0, 1, 5])
    assert float(place.max() - place.min()) < 15 * std.sum()
    apart = (place[:, None] - place).abs() - 7.5 * (std[:, None] + std)
    met = (mean[:, None] - mean).abs() <= 7.5 * (std[:, None] + std)
    assert ((apart >= -1e-9) | met).all()
    moved = one_group(mean, std)[0]
    near = one_group(torch.tensor([0, 1, 5, 40, 80, -40.0]), std)[0]
    assert moved == pytest.approx(near, abs=1e-6)


@pytest.mark.slow
def test_off_grid_normals_keep_their_moments():
    generator = torch.Generator().manual_seed(3)
    mean = torch.rand(50, generator=generator, dtype=f64).sort().values * 300 + 200
    std = 6 + 6 * torch.rand(50, generator=generator, dtype=f64)
    octave, groups = torch.zeros(50, dtype=torch.long), torch.arange(50)[None]
    parts = Components(mean, std, octave, groups, torch.ones(50, dtype=f64))
    top, start, size = root(parts)
    present, density = own_density(parts, torch.arange(50), top, start, size)
    z = torch.arange(density.shape[1], dtype=f64) + start - HALO
    assert present.tolist() == list(range(50))
    torch.testing.assert_close(density.sum(1), torch.ones_like(mean))
    torch.testing.assert_close((density * z).sum(1), mean)
    variance = (density * (z - mean[:, None]) ** 2).sum(1)
    torch.testing.assert_close(variance, std.square(), rtol=1e-6, atol=0)


def test_a_finer_grid_has_the_same_densities():
    z = torch.arange(-HALO, 128 + HALO, dtype=f64)
    density = (-0.5 * ((z - 50) / 6) ** 2).exp()[None]
    for part in (0, 1):
        finer = refined(density, 64 * part, 128)
        place = (torch.arange(-HALO, 128 + HALO, dtype=f64) + 128 * part) / 2
        expected = (-0.5 * ((place - 50) / 6) ** 2).exp()[None]
        torch.testing.assert_close(finer, expected, rtol=0, atol=2e-7)


@pytest.mark.slow
def test_what_is_too_narrow_for_all_tiles_is_widened_and_counted(monkeypatch):
    mean = torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=f64)
    std = torch.full((2000,), 1e-6, dtype=f64)
    std[:400] = 1e-2
    exact, widened = one_group(mean, std)
    assert widened == 0
    monkeypatch.setattr(mixtures, "MAX_LINES", 3)
    bound, widened = one_group(mean, std)
    assert widened == pytest.approx(0.8) and bound > exact  # of a wider mixture
    wide, _ = one_group(mean, std.clamp_min(1e-2))
    assert bound <= wide + 1e-6


def test_no_more_lines_than_are_allowed(monkeypatch):
    visited = []
    counted = mixtures.own_density
    monkeypatch.setattr(mixtures, "MAX_LINES", 8)
    monkeypatch.setattr(mixtures, "own_density", lambda *a: visited.append(a[2]) or counted(*a))
    mean = torch.linspace(0, 1, 4000, dtype=f64)
    one_group(mean, torch.full_like(mean, 1e-8))
    assert 0 < len(visited) <= 8 + 2 and set(visited) == {0}
