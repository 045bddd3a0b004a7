"""Faults that were found once, each with the test that catches it."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from torch import distributions as td

from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, LpSpherical
from lpnested.nn import Learnable

F64 = torch.float64


def test_a_tree_first_used_in_inference_mode_still_trains():
    tree_sizes = [3, 2, 7]  # of no other test, so that its layout is made here
    with torch.inference_mode():
        ISA(tree_sizes, 2.1, 2.2).sample()
    p = torch.tensor(2.2, requires_grad=True)
    ISA(tree_sizes, 2.1, p).log_prob(torch.ones(12)).backward()
    assert p.grad.isfinite()


def test_lists_and_arrays_are_batches_of_p0_and_scale():
    assert ISA([2, 2, 2], np.array([2.0, 3.0, 4.0]), 2.2).batch_shape == (3,)
    assert ISA([2, 2], 2.0, 2.2, scale=[1.0, 5.0]).scale.tolist() == [1.0, 5.0]


def test_arrays_count_for_the_dtype():
    dist = GeneralizedNormal(np.zeros(2), 1.0, 2.2)
    assert dist.p.dtype == F64
    assert dist.p.tolist() == [2.2, 2.2]


def test_a_list_of_tensors_keeps_its_gradient():
    a = torch.tensor(2.0, requires_grad=True)
    assert LpNested(LpNestedTree((0, (1, 2))), [a, a], td.Gamma(3.0, 1.0)).exponents.requires_grad
    assert ISA([2, 2], 2.0, [a, a]).p.requires_grad


def test_points_outside_every_component_of_a_mixture_leave_the_gradient_finite():
    logits = torch.tensor([0.0, 1.0], requires_grad=True)
    components = td.Pareto(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))
    radial = td.MixtureSameFamily(td.Categorical(logits=logits), components)
    log_prob = LpNested(LpNestedTree.flat(2), [2.0], radial).log_prob(
        torch.tensor([[0.1, 0.0], [5.0, 1.0]])
    )
    assert log_prob[0] == -math.inf
    log_prob[1].backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("p", "x"), [(200.0, 0.02), (50.0, 1e-7), (2.0, 1e-12), (0.5, 1e-40)])
def test_cdf_near_zero_keeps_its_digits(p, x):
    with mp.workdps(40):
        exact = mp.gammainc(1 / mp.mpf(p), 0, mp.mpf(x) ** p, regularized=True)
    radius = GeneralizedGamma(torch.tensor(1.0, dtype=F64), p).cdf(torch.tensor(x, dtype=F64))
    assert radius.item() == pytest.approx(float(exact), rel=1e-12)
    normal = GeneralizedNormal(torch.tensor(0.0, dtype=F64), 1.0, p)
    assert normal.cdf(torch.tensor(-x, dtype=F64)).item() == pytest.approx(0.5 - float(exact) / 2)


@pytest.mark.parametrize("value", [0.0, 1e-5, 0.3, 1e3])
@pytest.mark.parametrize("p", [0.5, 2.0, 200.0])
def test_the_derivative_of_the_cdf_is_the_density(value, p):
    x = torch.tensor(value, dtype=F64, requires_grad=True)
    for dist in (GeneralizedNormal(torch.zeros((), dtype=F64), 1.0, p), GeneralizedGamma(3.0, p)):
        (grad,) = torch.autograd.grad(dist.cdf(x), x)
        torch.testing.assert_close(grad, dist.log_prob(x).exp(), rtol=1e-9, atol=1e-300)


def test_closed_forms_keep_the_dtype():
    isa = ISA([2], torch.tensor(2.0, dtype=F64), 2.0)
    for name in ("mode", "mean", "variance", "stddev", "log_volume"):
        assert getattr(isa, name).dtype == F64


def test_numbers_take_the_dtype_and_device_of_the_radial():
    radial = td.LogNormal(torch.zeros((), dtype=F64), 1.0)
    assert LpSpherical(3, 1.0, radial).sample().dtype == F64
    assert LpNested(LpNestedTree.flat(2), [1.5], radial).exponents.tolist() == [1.5]
    meta = td.LogNormal(torch.zeros((), device="meta"), 1.0, validate_args=False)
    assert LpSpherical(3, 1.0, meta, validate_args=False).p.device.type == "meta"


def test_learnable_takes_a_number_for_a_vector_parameter():
    assert Learnable(ISA, [2, 2], p0=2.0, p=2.2, learn=("p",))().p.tolist() == pytest.approx(
        [2.2, 2.2]
    )


def test_learnable_passes_on_what_is_no_parameter():
    module = Learnable(ISA, sizes=[2, 2], p0=2.0, p=2.2, validate_args=False)
    assert module()._validate_args is False
    assert set(module.state_dict()) == {"p0", "p"}
    with pytest.raises(TypeError, match="radial is a distribution"):
        Learnable(LpSpherical, 3, p=2.0, radial=td.Gamma(3.0, 1.0))
    with pytest.raises(ValueError, match=r"\['radial'\]"):
        Learnable(LpSpherical, 3, p=2.0, radial=Learnable(td.Gamma), learn=("radial",))


def test_the_tail_of_half_cauchy_is_exact():
    r = math.exp(10.05)
    dist = LpSpherical(1, 2.0, td.HalfCauchy(torch.ones((), dtype=F64)))
    exact = math.log(2 / math.pi) - math.log1p(r * r) - math.log(2)
    assert dist.log_prob(torch.tensor([r], dtype=F64)).item() == pytest.approx(exact, rel=1e-14)


def test_the_edge_of_a_closed_support_is_finite():
    exponents = torch.tensor([2.0], requires_grad=True)
    for radial in (td.Kumaraswamy(2.0, 3.0), td.Beta(2.0, 3.0), td.Beta(0.5, 0.5)):
        log_prob = LpNested(LpNestedTree.flat(3), exponents, radial).log_prob(
            torch.tensor([1.0, 0.0, 0.0])
        )
        assert log_prob.isfinite()
        assert torch.autograd.grad(log_prob, exponents)[0].isfinite().all()
    outside = LpNested(LpNestedTree.flat(2), [2.0], td.Beta(2.0, 3.0))
    assert outside.log_prob(torch.tensor([1.0, 1.0])) == -math.inf


@pytest.mark.parametrize(("n", "p"), [(60, 2.0), (60, 0.1), (1000, 2.0), (10_000, 1.0), (40, 3.0)])
def test_mean_and_variance_of_a_radius_of_high_dimension_are_exact(n, p):
    with mp.workdps(50):
        first, second = (mp.gamma((n + k) / mp.mpf(p)) / mp.gamma(n / mp.mpf(p)) for k in (1, 2))
        variance = second - first**2
    dist = GeneralizedGamma(torch.tensor(float(n), dtype=F64), p)
    assert dist.variance.item() == pytest.approx(
        float(variance), rel=1e-12 if n <= 1000 else 1e-10
    )
    single = GeneralizedGamma(float(n), p).mean.item()
    assert single == pytest.approx(float(first), rel=2e-7 if p != 0.1 else 1e-5)


def test_an_infinite_moment_leaves_other_gradients_finite():
    exponents = torch.tensor([1.5], requires_grad=True)
    dist = LpSpherical(2, exponents[0], td.Gamma(3.0, 1.0))
    moments = dist.moment([[-1.0, 0.0], [1.0, 1.0]])
    assert moments[0] == math.inf
    moments[1].backward()
    assert exponents.grad.isfinite().all()


def test_the_mean_is_nan_only_where_that_of_the_radius_is_infinite():
    flat = LpNestedTree.flat(2)
    assert LpNested(flat, [2.0], td.LogNormal(0.0, 20.0)).mean.tolist() == [0.0, 0.0]
    assert LpNested(flat, [2.0], td.HalfCauchy(1.0)).mean.isnan().all()
    radial = td.TransformedDistribution(td.Gamma(2.0, 1.0), [td.PowerTransform(torch.tensor(2.0))])
    with pytest.raises(NotImplementedError, match="TransformedDistribution"):
        LpNested(flat, [2.0], radial).mean  # noqa: B018


def test_kl_of_shifted_normals_does_not_pretend_a_gradient():
    p = torch.tensor(2.0, requires_grad=True)
    with pytest.raises(NotImplementedError, match="fixed"):
        td.kl_divergence(GeneralizedNormal(1.0, 1.0, 2.0), GeneralizedNormal(0.0, 1.0, p))


def test_entropy_of_a_concentrated_radius_keeps_its_digits():
    single = LpNested(LpNestedTree.flat(2), [2.0], td.Gamma(1000.0, 1.0)).entropy()
    double = LpNested(
        LpNestedTree.flat(2), [2.0], td.Gamma(torch.tensor(1000.0, dtype=F64), 1.0)
    ).entropy()
    assert single.item() == pytest.approx(double.item(), rel=2e-7)


def test_marginals_are_closed_for_every_spelling_of_the_generalized_gamma():
    tree = LpNestedTree((((0, 1), (2, 3)),))  # the root has one child: its exponent is idle
    dist = LpNested(tree, [7.0, 1.0, 3.0, 2.0], td.Gamma(4.0, 1.0))
    marginal = dist.marginal((2, 3))
    assert (marginal.radial.dim, marginal.radial.p, marginal.exponents.item()) == (2, 1, 2)
    assert dist.marginal(np.int64(3)).tree == LpNestedTree.flat(2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ISA(4, 2.0, 2.0), TypeError, "sizes"),
        (lambda: ISA([2], 2.0, None), TypeError, "p must be a number or a tensor"),
        (lambda: GeneralizedNormal("a", 1.0, 2.0), TypeError, "loc must be a number or a tensor"),
        (lambda: ISA([2], 2.0, torch.tensor(math.inf)), ValueError, "^p must be finite"),
        (
            lambda: LpSpherical(2, torch.tensor(math.inf), td.Gamma(2.0, 1.0)),
            ValueError,
            "^p must",
        ),
        (lambda: ISA([2, 2], 2.0, 2.0).log_prob([1.0, 2.0, 3.0, 4.0]), ValueError, "Tensor"),
        (lambda: ISA([2, 2], 2.0, 2.0).moment([1.0]), ValueError, "so orders must have shape"),
    ],
)
def test_careless_input_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_learned_parameter_is_not_replaced_by_assignment():
    module = Learnable(ISA, [2], p0=2.0, p=2.0, learn=("p",))
    with pytest.raises(AttributeError, match=r"unconstrained\.p"):
        module.p = torch.ones(1)
