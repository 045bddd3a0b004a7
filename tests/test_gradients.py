"""First and second derivatives against finite differences, on ragged and one-child trees."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import Distribution

from cases import CASES, CUBE, NESTED, ONE_CHILD, RAGGED, Case, each
from lpnested import LpNestedTree
from lpnested import functional as F

pytestmark = pytest.mark.usefixtures("backend")

f64 = torch.float64

TREES = {
    "cube": CUBE,
    "ragged": RAGGED,
    "one_child": ONE_CHILD,
    "flat": LpNestedTree.flat(3),
    "single": LpNestedTree((0,)),
    "deep": LpNestedTree((((((0, 1), 2), 3), 4), (5,))),
}
trees = pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())


def smooth_point(case: Case) -> Tensor:
    """Values away from the axes, where every density of the table is smooth."""
    value = case.make().sample()
    away = torch.where(value.abs() < 0.2, value.sign() * 0.2 + value, value)
    return away.requires_grad_()


def inputs(tree: LpNestedTree) -> tuple[Tensor, Tensor]:
    value = torch.linspace(0.4, 1.7, 2 * tree.dim, dtype=f64).reshape(2, tree.dim)
    signs = (-1.0) ** torch.arange(tree.dim)
    exponents = torch.linspace(0.8, 3.1, tree.num_nodes, dtype=f64)
    return (value * signs).requires_grad_(), exponents.requires_grad_()


@pytest.mark.slow
@each()
def test_log_prob_passes_gradcheck_in_value_and_every_parameter(case: Case) -> None:
    Distribution.set_default_validate_args(False)  # finite differences may leave a simplex
    names, tensors = zip(*case.tensors(requires_grad=True).items(), strict=True)

    def log_prob(value: Tensor, *tensors: Tensor) -> Tensor:
        return case.build(**dict(zip(names, tensors, strict=True))).log_prob(value)

    assert gradcheck(log_prob, (smooth_point(case), *tensors))


@pytest.mark.slow
@each()
def test_log_prob_passes_gradgradcheck_in_value_and_every_parameter(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    names, tensors = zip(*case.tensors(requires_grad=True).items(), strict=True)

    def log_prob(value: Tensor, *tensors: Tensor) -> Tensor:
        return case.build(**dict(zip(names, tensors, strict=True))).log_prob(value)

    assert gradgradcheck(log_prob, (smooth_point(case), *tensors), atol=1e-4)


@trees
def test_log_norm_and_norm_pass_both_checks(tree: LpNestedTree) -> None:
    for function in (F.log_norm, F.norm):
        assert gradcheck(lambda v, p, f=function: f(v, p, tree), inputs(tree))
        assert gradgradcheck(lambda v, p, f=function: f(v, p, tree), inputs(tree), atol=1e-4)


@pytest.mark.slow
@trees
def test_forward_mode_agrees_with_reverse_mode(tree: LpNestedTree) -> None:
    assert gradcheck(
        lambda v, p: F.log_norm(v, p, tree),
        inputs(tree),
        check_forward_ad=True,
        check_batched_grad=True,
    )


@pytest.mark.slow
@trees
def test_surface_volume_and_moments_pass_both_checks(tree: LpNestedTree) -> None:
    _, exponents = inputs(tree)
    orders = torch.linspace(0.5, 2.0, tree.dim, dtype=f64, requires_grad=True)
    assert gradcheck(lambda p: F.log_surface_area(p, tree), exponents)
    assert gradgradcheck(lambda p: F.log_surface_area(p, tree), exponents, atol=1e-4)
    assert gradcheck(lambda p: F.log_volume(p, tree), exponents)
    assert gradcheck(lambda k, p: F.log_moment(k, p, tree), (orders, exponents))
    assert gradgradcheck(lambda k, p: F.log_moment(k, p, tree), (orders, exponents), atol=1e-4)


@pytest.mark.slow
@each([case for case in CASES if case.entropy])
def test_entropy_passes_gradcheck_in_every_parameter(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    names, tensors = zip(*case.tensors(requires_grad=True).items(), strict=True)
    assert gradcheck(lambda *t: case.build(**dict(zip(names, t, strict=True))).entropy(), tensors)


@pytest.mark.slow
@each([case for case in CASES if case.finite_moments])
def test_variance_passes_gradcheck_in_every_parameter(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    names, tensors = zip(*case.tensors(requires_grad=True).items(), strict=True)
    assert gradcheck(lambda *t: case.build(**dict(zip(names, t, strict=True))).variance, tensors)


@each(NESTED)
def test_gradients_are_finite_at_zeros_in_every_parameter(case: Case) -> None:
    """One zero coordinate, and the origin; for every radial, registered or not."""
    tensors = case.tensors(requires_grad=True)
    value = 10 * case.make().sample()
    value[..., 0] = 0.0
    if not case.smooth:  # to a radius inside the support
        value *= 0.8 / case.make().norm(value).unsqueeze(-1)
    points = (value, torch.zeros_like(value)) if case.smooth else (value,)
    for point in points:
        point.requires_grad_()
        log_prob = case.build(**tensors).log_prob(point)
        assert log_prob.isfinite().all()
        for grad in torch.autograd.grad(log_prob.sum(), [point, *tensors.values()]):
            assert grad.isfinite().all()
