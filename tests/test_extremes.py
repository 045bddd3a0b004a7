"""The ends of the range: infinite and tiny coordinates, and draws and moments at any scale."""

import math
import subprocess
import sys

import mpmath as mp
import numpy as np
import pytest
import scipy.stats
import torch
from torch import distributions as td
from torch.testing import assert_close

from backends import once
from cases import CASES, CUBE, NESTED, Case, each
from lpnested import (
    ISA,
    GeneralizedGamma,
    GeneralizedNormal,
    LpNested,
    LpNestedTree,
    LpSpherical,
    parse,
)
from lpnested import functional as F
from lpnested.ops import library
from oracle import log_norm_exponent_gradient, norm, norm_gradient

pytestmark = pytest.mark.usefixtures("backend")

f64 = torch.float64
DTYPES = [torch.float32, f64]


# Values ------------------------------------------------------------------------------------------


@each(CASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_density_at_infinity_is_zero(case: Case, dtype: torch.dtype, sign: int) -> None:
    if isinstance(case.make(), GeneralizedGamma) and sign < 0:
        return  # outside of its support
    dist = case.make(dtype)
    value = dist.sample((3,))
    where = (0, ..., 0) if case.nested else (0,)
    value[where] = sign * math.inf
    value.requires_grad_()
    log_prob = dist.log_prob(value)
    assert (log_prob[0] == -math.inf).all()
    assert log_prob[1:].isfinite().all()
    (grad,) = torch.autograd.grad(log_prob[1:].sum(), value)
    assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_norm_is_infinite_where_a_coordinate_is(dtype: torch.dtype) -> None:
    value = torch.tensor([[1.0, math.inf, -math.inf], [1.0, 2.0, 3.0]], dtype=dtype)
    for function in (F.norm, F.log_norm):
        result = function(value, [1.3, 2.2], CUBE)
        assert result[0] == math.inf and result[1].isfinite()


@pytest.mark.parametrize(
    ("x", "p"),
    [([2.2e-308, 9.2e-308], 466.0), ([3e-308, 1e-300], 0.1), ([1e300, 1e-300], 200.0)],
)
def test_gradients_near_the_ends_of_float64_are_right(x: list[float], p: float) -> None:
    value = torch.tensor(x, dtype=f64, requires_grad=True)
    exponents = torch.tensor([p], dtype=f64, requires_grad=True)
    F.log_norm(value, exponents, LpNestedTree.flat(2)).backward()

    with mp.workdps(50):
        root, at, named = (0, 1), [*map(mp.mpf, x)], {(0, 1): mp.mpf(p)}
        slopes = [slope / norm(root, at, named) for slope in norm_gradient(root, at, named)]
        slopes += log_norm_exponent_gradient(root, at, named)
    for ours, right in zip([*value.grad.tolist(), *exponents.grad.tolist()], slopes, strict=True):
        assert math.isfinite(ours)
        assert ours == pytest.approx(float(right), rel=1e-11, abs=1e-290)  # of 1 in a sum


def test_a_gradient_beyond_float64_is_the_largest_number() -> None:
    value = torch.tensor([3e-308, 0.0], dtype=f64, requires_grad=True)
    LpNested(
        LpNestedTree.flat(2), [2.0], td.Pareto(torch.tensor(1e-309, dtype=f64), 50.0)
    ).log_prob(value).backward()
    assert value.grad[0] == -torch.finfo(f64).max
    assert value.grad[1] == 0


@pytest.mark.parametrize("scale", [1e305, 1e307, 1.7e308])
@pytest.mark.parametrize("p", [0.1, 0.5, 3.0])
def test_no_node_overflows_before_the_root(scale: float, p: float) -> None:
    """The norm of a node may be beyond float64 where its logarithm, and that of f, is not."""
    value = (torch.tensor([1.0, 1.0, 0.3, 0.5], dtype=f64) * scale).requires_grad_()
    exponents = torch.tensor([2.0, p, p], dtype=f64, requires_grad=True)
    tree = LpNestedTree.isa([2, 2])
    log_norm = F.log_norm(value, exponents, tree)
    grads = torch.autograd.grad(log_norm, (value, exponents))
    with mp.workdps(50):
        root, at = tree.root, [mp.mpf(x) for x in value.tolist()]
        named = dict(zip(tree.nodes, map(mp.mpf, exponents.tolist()), strict=True))
        right = mp.log(norm(root, at, named))
        slopes = [s / norm(root, at, named) for s in norm_gradient(root, at, named)]
        slopes += log_norm_exponent_gradient(root, at, named)
    if right < 709:
        assert log_norm.item() == pytest.approx(float(right), rel=1e-14)
        for ours, slope in zip(torch.cat(grads).tolist(), slopes, strict=True):
            assert ours == pytest.approx(float(slope), rel=1e-12)
    assert torch.cat(grads).isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_stays_nan_beside_an_infinity(dtype: torch.dtype) -> None:
    value = torch.tensor([math.inf, math.nan, 1.0], dtype=dtype)
    dist = LpNested(CUBE, [1.3, 2.2], td.Gamma(3.0, 1.0), validate_args=False)
    for result in (
        F.log_norm(value, [1.3, 2.2], CUBE),
        F.norm(value, [1.3, 2.2], CUBE),
        dist.log_prob(value),
        torch.vmap(dist.log_prob)(value.expand(2, 3)),
    ):
        assert result.isnan().all()


@pytest.mark.parametrize("p", [0.5, 2.0, 200.0])
@pytest.mark.parametrize("scale", [1e-307, 1e308])
def test_the_univariate_densities_hold_at_the_ends_of_scale(scale: float, p: float) -> None:
    s, x = torch.tensor(scale, dtype=f64), torch.tensor(scale, dtype=f64) / 2
    power, log_scale = 0.5**p, math.log(scale)
    right = math.log(p / 2) - log_scale - math.lgamma(1 / p) - power
    assert GeneralizedNormal(0.0, s, p).log_prob(x).item() == pytest.approx(right, rel=1e-7)
    right = math.log(p) - log_scale - math.lgamma(1 / p) - power
    assert GeneralizedGamma(1.0, p, s).log_prob(x).item() == pytest.approx(right, rel=1e-7)


# Draws -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("dim", "p", "scale"), [(1000, 0.1, 1.0), (300, 0.05, 1.0), (20, 0.1, 1e17), (3, 0.1, 1e-20)]
)
def test_draws_whose_radius_or_direction_no_float_holds_are_right(
    dtype: torch.dtype, dim: int, p: float, scale: float
) -> None:
    """With this radius the coordinates are independent, (|x| / scale)^p ~ Gamma(1/p)."""
    p_, scale_ = torch.tensor(p, dtype=dtype), torch.tensor(scale, dtype=dtype)
    x = LpSpherical(dim, p_, GeneralizedGamma(dim, p_, scale_)).sample((40_000 // dim,))
    powers = ((x.double().abs().log() - math.log(scale)) * p).exp().flatten().numpy()
    assert np.isfinite(powers).all()
    assert scipy.stats.kstest(powers, scipy.stats.gamma(1 / p).cdf).pvalue > 1e-4
    assert abs((x > 0).double().mean() - 0.5) < 4.5 * 0.5 / math.sqrt(x.numel())


DRAWS = """
import sys, torch
from lpnested import *
from torch.distributions import Gamma, LogNormal, HalfCauchy
tree = LpNestedTree(((3, (0, 5)), 1, (2, 4)))
for threads in (1, 2, 3):
    torch.set_num_threads(threads)
    torch.manual_seed(5)
    total = 0
    for num in (1, 700, 33_333, 90_001):
        for dist in (
            ISA([4] * 5, 2.1, 2.2), LpNested(tree, [1.3, 2.2, 0.8, 3.0], LogNormal(0.0, 1.0)),
            LpSpherical(3, 0.5, Gamma(3.0, 1.0)), LpSpherical(3, 9.0, HalfCauchy(1.0)),
            GeneralizedNormal(0.0, 1.0, 1.7), GeneralizedGamma(3.0, 1.7),
            ISA([2, 2], torch.rand(50) + 1, 2.2),
        ):
            draw = dist.sample((num // dist.batch_shape.numel() + 1,))
            total = (31 * total + int(draw.view(torch.int32).sum(dtype=torch.int64))) % 2**61
    print(total)
"""


@pytest.mark.slow
@once  # in a process of its own, which knows nothing of this one's backend
@pytest.mark.skipif(
    not library.in_use("cpu"), reason="torch's threads round differently where they meet"
)
def test_draws_are_the_same_for_any_number_of_threads() -> None:
    command = [sys.executable, "-c", DRAWS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    one, *others = done.stdout.split()
    assert others == [one, one]


# Moments -----------------------------------------------------------------------------------------


@each([case for case in NESTED if "scale" in case.params and case.finite_moments])
@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_moments_that_the_dtype_holds_are_right(case: Case, scale: float) -> None:
    """In float32 the variance under- or overflows, the standard deviation does not."""
    small = case.params | {"scale": scale}
    dist = case.build(**{name: torch.tensor(v) for name, v in small.items()})
    double = case.build(**{name: torch.tensor(v, dtype=f64) for name, v in small.items()})
    if isinstance(dist.__dict__.get("radial"), td.LogNormal):
        return  # whose scale is no scale
    assert (dist.variance == (math.inf if scale > 1 else 0.0)).all()
    assert_close(dist.stddev.double(), double.stddev, rtol=1e-5, atol=0.0)
    assert_close(double.stddev**2, double.variance, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(("scale", "right"), [(1e-25, 7.07106781e-26), (1e25, 7.07106781e24)])
def test_the_standard_deviation_of_a_scaled_normal(scale: float, right: float) -> None:
    assert ISA([2, 2], 2.0, 2.0, scale).stddev[0].item() == pytest.approx(right, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [0.1, 0.02, 100.0])
def test_unit_variance_at_any_exponent(p: float, dtype: torch.dtype) -> None:
    if dtype == torch.float32 and p < 0.1:
        return  # no float32 is that small
    p_ = torch.tensor(p, dtype=dtype)
    dist = ISA.unit_variance([2, 3], p_, p_)
    with mp.workdps(50):  # |x| / scale to the p is Gamma(1/p)
        right = mp.sqrt(mp.gamma(1 / mp.mpf(p)) / mp.gamma(3 / mp.mpf(p)))
    assert dist.scale.item() == pytest.approx(float(right), rel=1e-5 if dtype != f64 else 1e-11)
    assert_close(dist.stddev, torch.ones(5, dtype=dtype), rtol=1e-4, atol=0.0)


def test_moments_diverge_where_they_do() -> None:
    tree = LpNestedTree.flat(3)
    assert (F.log_coordinate_moment(-1.5, [2.0], tree) == math.inf).all()
    assert (F.log_coordinate_moment(-1.0, [2.0], tree) == math.inf).all()
    assert F.log_coordinate_moment(-0.5, [2.0], tree).isfinite().all()
    assert F.log_moment(torch.tensor([0.5, -1.0, 3.0]), [2.0], tree) == math.inf


@pytest.mark.parametrize("order", [-1.0, -1.5, -2.9, 0.5])
def test_one_coordinate_has_the_moments_of_its_radius(order: float) -> None:
    """It is the radius, with a sign."""
    dist = LpSpherical(1, 2.0, td.Gamma(3.0, 2.0))
    right = math.exp(math.lgamma(3 + order) - math.lgamma(3) - order * math.log(2))
    assert dist.moment([order]).item() == pytest.approx(right, rel=1e-6)
    assert F.log_coordinate_moment(order, [2.0], dist.tree) == 0
    nested = LpNested(LpNestedTree((((0,),),)), [2.0, 0.5, 3.0], td.Gamma(3.0, 2.0))
    assert nested.moment([order]).item() == pytest.approx(right, rel=1e-6)
    assert LpSpherical(1, 2.0, td.Gamma(3.0, 2.0)).moment([-3.0]) == math.inf


def test_the_mean_is_nan_where_that_of_the_radius_is_infinite() -> None:
    for radial, exists in (
        (td.FisherSnedecor(3.0, 1.5), False),
        (td.FisherSnedecor(3.0, 3.0), True),
        (td.HalfCauchy(1.0), False),
        (td.InverseGamma(0.5, 1.0), False),
    ):
        dist = LpNested(LpNestedTree.flat(2), [2.0], radial)
        assert dist.mean.isnan().all() != exists
        assert (dist.variance == math.inf).all()
        assert (dist.stddev == math.inf).all()


# Numbers as they are given -----------------------------------------------------------------------


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_numbers_keep_their_value_under_any_default_dtype(half: torch.dtype) -> None:
    torch.set_default_dtype(half)
    gamma = td.Gamma(torch.tensor(3.0, dtype=torch.float32), 1.0)
    exponents = [
        GeneralizedNormal(0.0, 1.0, 2.1).p,
        GeneralizedGamma(3, 2.1).p,
        ISA([2, 2], 2.0, 2.1).p[0],
        ISA([2, 2], 2.1, [2.0, 2.0]).p0,
        LpSpherical(2, 2.1, td.Gamma(3.0, 1.0)).p,
        LpNested(LpNestedTree.flat(2), [2.1], gamma).exponents[0],
        parse("2.1:(0, 1)")[1][0],
    ]
    for exponent in exponents:
        assert exponent.dtype == torch.float32
        assert exponent.item() == pytest.approx(2.1, rel=1e-7)
    with pytest.raises(TypeError, match="pass a Python number"):
        GeneralizedNormal(0.0, 1.0, torch.tensor(2.1))
    for number in (np.float16(2.1), torch.tensor(2.1, dtype=half)):
        for make in (
            lambda x: ISA([2, 2], x, 2.0),
            lambda x: ISA([2, 2], 2.0, [x, x]),
            lambda x: ISA([2, 2], 2.0, [[x, x]]),
            lambda x: LpSpherical(2, x, gamma),
        ):
            with pytest.raises(TypeError, match="float16"):
                make(number)


def test_lists_may_hold_lists_tensors_and_arrays() -> None:
    p = torch.tensor(2.0, dtype=f64, requires_grad=True)
    for numbers in ([p, p], [[p, p]], [[p, 2.0], [3.0, np.array(2.1)]]):
        dist = ISA([2, 2], 2.0, numbers)
        assert dist.p.requires_grad and dist.p.dtype == dist.p0.dtype == f64
        assert dist.exponents.requires_grad
    assert ISA([2, 2], 2.1, [np.array(2.1), np.array(2.2)]).p.dtype == f64
    assert F.log_moment([2.0, 0.0, 1.0], [1.3, 2.2], CUBE).isfinite()


def test_lists_are_exponents_wherever_tensors_are() -> None:
    tensor, value = torch.tensor([1.3, 2.2]), torch.tensor([0.5, -1.0, 2.0])
    numbers = [1.3, 2.2]
    for function in (F.norm, F.log_norm, F.log_moment):
        assert torch.equal(function(value, numbers, CUBE), function(value, tensor, CUBE))
    for function in (F.log_surface_area, F.log_volume):
        assert torch.equal(function(numbers, CUBE), function(tensor, CUBE))
    assert torch.equal(
        F.log_coordinate_moment(2, numbers, CUBE), F.log_coordinate_moment(2, tensor, CUBE)
    )
    assert F.sample_sphere(numbers, CUBE, (5,)).shape == (5, 3)
