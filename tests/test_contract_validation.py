"""torch's contract: what is refused, and by what name."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import distributions as td
from torch.distributions import Distribution

from cases import BATCHED, CUBE, NESTED, UNIVARIATE, Case, each
from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpSpherical

pytestmark = pytest.mark.usefixtures("backend")


@each()
def test_values_outside_the_support_are_refused(case: Case) -> None:
    dist = case.make()
    bad = dist.sample()
    with pytest.raises(ValueError, match=r"value|support"):
        dist.log_prob(torch.full_like(bad, math.nan))


@each(NESTED)
def test_values_of_the_wrong_size_are_refused(case: Case) -> None:
    dist = case.make()
    with pytest.raises(ValueError):
        dist.log_prob(torch.zeros(*case.batch, case.event[0] + 1))
    with pytest.raises(ValueError):
        dist.log_prob(torch.tensor(0.5))


@each(BATCHED)
def test_values_that_do_not_broadcast_are_refused(case: Case) -> None:
    with pytest.raises(ValueError):
        case.make().log_prob(torch.zeros(*case.batch[:-1], case.batch[-1] + 4, *case.event))


@each()
@pytest.mark.parametrize("bad", [-1.0, 0.0, math.nan])
def test_bad_parameters_are_refused_by_name(case: Case, bad: float) -> None:
    """A radial's own parameters are refused by the radial, before it reaches us."""
    own = set(type(case.make()).arg_constraints)
    for name, tensor in case.tensors().items():
        if name in ("loc", "weights", "low") and not math.isnan(bad):
            continue
        broken = {**case.tensors(), name: torch.full_like(tensor, bad)}
        with pytest.raises(ValueError, match=rf"\b{name}\b" if name in own else None):
            case.build(**broken)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: LpNested(CUBE, torch.tensor([2.0, p]), td.Gamma(3.0, 1.0)),
        lambda p: ISA([2, 2], p, 2.0),
        lambda p: ISA([2, 2], 2.0, p),
        lambda p: LpSpherical(3, p, td.Gamma(3.0, 1.0)),
        lambda p: GeneralizedNormal(0.0, 1.0, p),
        lambda p: GeneralizedGamma(3, p),
    ],
)
def test_infinite_exponents_are_refused_plainly(make: Callable[[float], Distribution]) -> None:
    with pytest.raises(ValueError, match="inf|finite"):
        make(math.inf)


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("exponents", lambda: LpNested(CUBE, torch.ones(3), td.Gamma(3.0, 1.0))),
        ("exponents", lambda: LpNested(CUBE, torch.tensor(2.0), td.Gamma(3.0, 1.0))),
        ("radial", lambda: LpNested(CUBE, torch.ones(2), td.Normal(0.0, 1.0))),
        ("radial", lambda: LpNested(CUBE, torch.ones(2), td.Dirichlet(torch.ones(3)))),
        ("radial", lambda: LpNested(CUBE, torch.ones(2), td.Poisson(3.0))),
        ("radial", lambda: LpNested(CUBE, torch.ones(2), 3.0)),
        ("size", lambda: ISA([2, 0], 2.0, 2.0)),
        ("size", lambda: ISA([], 2.0, 2.0)),
        ("p", lambda: ISA([2, 2], 2.0, torch.ones(3))),
        ("dim", lambda: LpSpherical(0, 2.0, td.Gamma(3.0, 1.0))),
        ("dim", lambda: GeneralizedGamma(0, 2.0)),
    ],
)
def test_bad_structure_is_refused_with_the_culprit(
    message: str, make: Callable[[], Distribution]
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_batches_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises((ValueError, RuntimeError)):
        LpNested(CUBE, torch.ones(3, 2), td.Gamma(torch.ones(4), 1.0))


@each()
def test_validation_off_means_no_checks(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    dist = case.make()
    assert dist.log_prob(case.draw(2)).isfinite().all()
    case.build(**{name: -tensor for name, tensor in case.tensors().items()})  # does not raise


def test_validation_can_be_chosen_per_instance() -> None:
    ISA([2], -2.0, 2.0, validate_args=False)
    GeneralizedNormal(0.0, -1.0, 2.0, validate_args=False)
    GeneralizedGamma(3, -1.0, validate_args=False)
    LpSpherical(3, -1.0, td.Gamma(3.0, 1.0), validate_args=False)
    LpNested(CUBE, -torch.ones(2), td.Gamma(3.0, 1.0), validate_args=False)
    with pytest.raises(ValueError):
        ISA([2], -2.0, 2.0, validate_args=True)


@each(UNIVARIATE)
def test_the_ends_of_the_support(case: Case) -> None:
    dist = case.make()
    if isinstance(dist, GeneralizedGamma):
        with pytest.raises(ValueError):
            dist.log_prob(torch.tensor(-0.1))
        assert (dist.log_prob(torch.zeros(())) == -math.inf).all()  # dim > 1, as scipy
    else:
        assert dist.log_prob(dist.loc).isfinite().all()
