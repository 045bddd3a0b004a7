"""Maximum likelihood finds what the data were drawn from, as far off as its errors say."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from lpnested import ISA, GeneralizedGamma, LpNested, LpNestedTree, fit
from lpnested.estimation import FitResult
from lpnested.nn import Learnable

pytestmark = pytest.mark.slow

SEEDS = 20
RAGGED = LpNestedTree((0, (1, 2, (3, 4)), ((5, 6, 7), (8,), (9, (10, 11)))))
EXPONENTS = [0.7, 1.3, 2.5, 4.0, 6.0, 2.0, 0.9, 3.0]  # that of node 5, with one child, is free


def isa() -> Learnable:
    learn = ("p0", "p", "scale")
    return Learnable(ISA, [4] * 5, p0=2.0, p=[2.0] * 5, scale=1.0, learn=learn)


def ragged() -> Distribution:
    radial = GeneralizedGamma(torch.tensor(12.0, dtype=torch.float64), 1.5, 2.0)
    return LpNested(RAGGED, torch.tensor(EXPONENTS, dtype=torch.float64), radial)


def isa_fits(num: int) -> Iterator[tuple[FitResult, Tensor]]:
    truth = {"p0": 2.1, "scale": 1.0} | {f"p[{k}]": 2.2 for k in range(5)}
    dist = ISA([4] * 5, torch.tensor(2.1, dtype=torch.float64), 2.2)
    for _ in range(SEEDS):
        result = fit(isa(), dist.sample((num,)))
        yield result, torch.tensor([truth[name] for name in result.parameters]).double()


def ragged_fits(num: int) -> Iterator[tuple[FitResult, Tensor]]:
    free = [p for p, row in zip(EXPONENTS, RAGGED.children, strict=True) if len(row) > 1]
    for _ in range(SEEDS):
        result = fit(RAGGED, ragged().sample((num,)), GeneralizedGamma)
        yield result, torch.tensor([*free, 1.5, 2.0], dtype=torch.float64)


def check(fits: Iterator[tuple[FitResult, Tensor]], iterations: int) -> None:
    """Errors over standard errors, of logarithms, pooled over seeds and parameters."""
    torch.manual_seed(21)
    scores = []
    for result, truth in fits:
        assert result.converged and result.iterations <= iterations
        error = result.standard_errors / result.values
        scores.append((result.values.log() - truth.log()) / error)
    z = torch.stack(scores)
    assert z.mean().abs() < 0.25
    assert 0.85 < z.square().mean().sqrt() < 1.15
    assert 0.90 < (z.abs() < 1.96).double().mean() < 0.98


def test_isa_is_recovered():
    check(isa_fits(2000), iterations=15)


def test_a_ragged_tree_is_recovered():
    check(ragged_fits(2000), iterations=50)


@pytest.mark.slow
def test_isa_is_recovered_from_many_observations():
    check(isa_fits(20_000), iterations=15)


@pytest.mark.slow
def test_a_ragged_tree_is_recovered_from_many_observations():
    check(ragged_fits(20_000), iterations=50)


@pytest.mark.slow
def test_all_seeds_at_once_are_the_single_fits():
    x = torch.stack([ragged().sample((500,)) for _ in range(SEEDS)], 1)
    batch = fit(RAGGED, x, GeneralizedGamma)
    assert batch.converged.all() and (batch.iterations < 20).all()
    for k in (0, SEEDS - 1):
        single = fit(RAGGED, x[:, k], GeneralizedGamma)
        torch.testing.assert_close(batch.values[k], single.values, rtol=1e-6, atol=1e-6)


def large() -> tuple[LpNestedTree, Tensor]:
    """A binary tree of 31 nodes over 100 coordinates."""
    leaves, sizes = iter(range(100)), iter([7] * 4 + [6] * 12)

    def grow(depth: int) -> tuple:
        if depth == 0:
            return tuple(next(leaves) for _ in range(next(sizes)))
        return grow(depth - 1), grow(depth - 1)

    low, high = math.log(0.7), math.log(4.0)
    return LpNestedTree(grow(4)), torch.empty(31).double().uniform_(low, high).exp()


@pytest.mark.slow
@pytest.mark.parametrize("num", [1500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_tree_of_31_nodes_converges(num):
    torch.manual_seed(3)
    tree, exponents = large()
    radial = GeneralizedGamma(torch.tensor(100.0, dtype=torch.float64), 1.5, 1.0)
    x = LpNested(tree, exponents, radial).sample((num,))
    short = fit(tree, x[:100], GeneralizedGamma, max_iter=5)
    assert not short.converged
    result = fit(tree, x, GeneralizedGamma)
    assert result.converged and result.iterations <= 200
    assert result.gradient.abs().max() < 1e-5
    z = (result.values[:31].log() - exponents.log()) * result.values[:31]
    z = z / result.standard_errors[:31]
    assert 0.6 < z.square().mean().sqrt() < 1.4
