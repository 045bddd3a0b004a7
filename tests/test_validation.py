"""Constructors: what they refuse, in torch's words, and what they cost nothing for."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, constraints

from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, LpSpherical

RADIAL = GeneralizedGamma(3.0, 2.0)
MAKERS: dict[str, tuple[Callable[..., Distribution], str]] = {
    "ISA p0": (lambda x, **how: ISA([2, 1], x, 2.0, **how), "p0"),
    "ISA p": (lambda x, **how: ISA([2, 1], 2.0, x.unsqueeze(-1), **how), "p"),
    "ISA scale": (lambda x, **how: ISA([2, 1], 2.0, 2.0, x, **how), "scale"),
    "LpNested": (
        lambda x, **how: LpNested(LpNestedTree.flat(3), x.unsqueeze(-1), RADIAL, **how),
        "exponents",
    ),
    "LpSpherical": (lambda x, **how: LpSpherical(3, x, RADIAL, **how), "p"),
    "GeneralizedGamma": (lambda x, **how: GeneralizedGamma(x, 2.0, **how), "dim"),
    "GeneralizedNormal": (lambda x, **how: GeneralizedNormal(0.0, x, 2.0, **how), "scale"),
}
each = pytest.mark.parametrize(("make", "name"), MAKERS.values(), ids=MAKERS)


@pytest.fixture(autouse=True)
def default() -> Iterator[None]:
    before = Distribution._validate_args
    yield
    Distribution.set_default_validate_args(before)


@each
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, -math.inf])
@pytest.mark.parametrize("how", [None, True])
def test_a_parameter_that_is_not_positive_is_refused_in_torchs_words(
    make: Any, name: str, bad: float, how: bool | None
) -> None:
    for x in (torch.tensor(bad), torch.tensor([1.0, bad, 2.0])):
        with pytest.raises(ValueError, match=rf"^Expected parameter {name} \(Tensor of shape"):
            make(x, validate_args=how)


@each
def test_an_infinite_parameter_is_refused_by_name(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)^{name} must be finite, but got .*limit p = inf"):
        make(torch.tensor([1.0, math.inf]))


@each
def test_without_validation_nothing_is_refused(make: Any, name: str) -> None:
    for bad in (0.0, math.nan, math.inf):
        assert getattr(make(torch.tensor(bad), validate_args=False), name).numel()


@each
def test_validation_is_the_classs_unless_it_is_said(make: Any, name: str) -> None:
    one = torch.tensor(1.0)
    said = {how: make(one, validate_args=how) for how in (None, True, False)}
    for default in (True, False):
        Distribution.set_default_validate_args(default)
        assert {how: dist._validate_args for how, dist in said.items()} == {
            None: default,
            True: True,
            False: False,
        }


@each
def test_an_empty_batch_and_extreme_numbers_are_taken(make: Any, name: str) -> None:
    assert make(torch.ones(0)).batch_shape == (0,)
    assert make(torch.tensor([1e-38, 3e38])).batch_shape == (2,)


def test_the_location_of_a_generalized_normal_may_be_infinite_but_no_nan() -> None:
    assert GeneralizedNormal(torch.tensor(math.inf), 1.0, 2.0).loc == math.inf
    with pytest.raises(ValueError, match="Expected parameter loc"):
        GeneralizedNormal(torch.tensor(math.nan), 1.0, 2.0)


class Sparse(ISA):
    arg_constraints = {**ISA.arg_constraints, "p0": constraints.less_than(1.0)}  # noqa: RUF012


def test_a_subclass_may_constrain_more() -> None:
    assert Sparse([2, 1], 0.5, 2.0).p0 == 0.5
    with pytest.raises(ValueError, match="Expected parameter p0"):
        Sparse([2, 1], 1.5, 2.0)


def test_trees_of_the_same_subspaces_are_one() -> None:
    class Own(LpNestedTree):
        pass

    assert LpNestedTree.isa([2, 3]) is LpNestedTree.isa((2, 3))
    assert type(Own.isa([2, 3])) is Own
    for sizes in ([1, True], [1, 2.0], [1, 0]):
        LpNestedTree.isa([1, 1])
        with pytest.raises((TypeError, ValueError), match=r"sizes\[1\] must be a positive"):
            LpNestedTree.isa(sizes)  # type: ignore[arg-type]


def test_a_tensor_of_the_right_shape_is_kept_as_it_is() -> None:
    p0, p, scale = torch.tensor(1.0), torch.ones(2), torch.tensor(1.0)
    prior = ISA([2, 1], p0, p, scale)
    assert prior.p0 is p0 and prior.p is p and prior.scale is scale


@pytest.mark.parametrize("shape", [(), (3,), (4, 1)])
def test_parameters_broadcast(shape: tuple[int, ...]) -> None:
    def ones(*shape: int) -> Tensor:
        return torch.ones(shape)

    prior = ISA([2, 1], ones(*shape), ones(4, 1, 1), ones(3))
    assert prior.batch_shape == torch.broadcast_shapes(shape, (4, 1), (3,))
    nested = LpNested(LpNestedTree.flat(3), ones(4, 1, 1), td.LogNormal(ones(3), 1.0))
    assert nested.batch_shape == (4, 3)
