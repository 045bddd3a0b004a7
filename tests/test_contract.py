"""torch's contract, law by law, over the one table of cases."""

import copy
import io
import math
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from cases import BATCHED, CASES, CUBE, NESTED, UNIVARIATE, Case, each, named
from torch import Tensor
from torch import distributions as td
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Distribution, constraints
from torch.testing import assert_close

from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, LpSpherical

pytestmark = pytest.mark.usefixtures("backend")

f64 = torch.float64


def draws_like(case: Case, *lead: int) -> Tensor:
    """Typical values of a case, float64."""
    return case.make().sample(lead)


# Shapes -----------------------------------------------------------------------------------------


@each()
def test_batch_and_event_shape_are_the_broadcast_of_the_parameters(case: Case) -> None:
    dist = case.make()
    assert (dist.batch_shape, dist.event_shape) == (case.batch, case.event)


@each()
@pytest.mark.parametrize("lead", [(), (4,), (2, 3)], ids=str)
def test_sample_and_log_prob_shapes(case: Case, lead: tuple[int, ...]) -> None:
    dist = case.make()
    value = dist.sample(lead)
    assert value.shape == (*lead, *case.batch, *case.event)
    assert dist.log_prob(value).shape == (*lead, *case.batch)


@each()
def test_an_empty_batch_of_values_is_no_exception(case: Case) -> None:
    dist = case.make()
    assert dist.log_prob(torch.empty(0, *case.batch, *case.event)).shape == (0, *case.batch)
    if case.name != "mixture":  # torch's Categorical cannot
        assert dist.sample((0,)).shape == (0, *case.batch, *case.event)


@each()
def test_log_prob_broadcasts_the_value_against_the_batch(case: Case) -> None:
    dist = case.make()
    one = dist.sample().reshape(-1, *case.event)[0]
    assert_close(dist.log_prob(one), dist.log_prob(one.expand(case.batch + case.event)))
    many = one.expand(4, *(1,) * len(case.batch), *case.event)
    assert dist.log_prob(many).shape == (4, *case.batch)


@each()
def test_rows_do_not_talk_to_each_other(case: Case) -> None:
    """log_prob of a stack is the stack of log_probs: no reduction leaks over the batch."""
    dist, value = case.make(), draws_like(case, 6)
    apart = torch.stack([dist.log_prob(row) for row in value])
    assert_close(dist.log_prob(value), apart, rtol=1e-13, atol=1e-13)


@each()
def test_memory_layout_of_the_value_does_not_matter(case: Case) -> None:
    dist, value = case.make(), draws_like(case, 5)
    strided = value.movedim(0, -1).contiguous().movedim(-1, 0)
    assert_close(dist.log_prob(strided), dist.log_prob(value), rtol=1e-13, atol=1e-13)


# Expand -----------------------------------------------------------------------------------------


@each()
def test_expand_agrees_with_base(case: Case) -> None:
    dist = case.make()
    wide = dist.expand((7, *case.batch))
    assert type(wide) is type(dist)
    assert wide.batch_shape == (7, *case.batch) and wide.event_shape == case.event
    value = wide.sample((2,))
    assert value.shape == (2, 7, *case.batch, *case.event)
    assert_close(wide.log_prob(value), dist.log_prob(value), rtol=1e-13, atol=1e-13)
    for name in ("mean", "variance"):
        assert_close(
            getattr(wide, name),
            getattr(dist, name).expand(wide.batch_shape + case.event),
            equal_nan=True,
        )


@each()
def test_parameters_have_the_batch_shape_before_and_after_expand(case: Case) -> None:
    dist = case.make()
    for each_dist in (dist, dist.expand((7, *case.batch))):
        for name, constraint in each_dist.arg_constraints.items():
            value = getattr(each_dist, name)
            assert value.shape[: value.dim() - constraint.event_dim] == each_dist.batch_shape, name


@each()
def test_expanded_rows_are_drawn_independently(case: Case) -> None:
    value = case.make().expand((3, *case.batch)).sample()
    assert not torch.equal(value[0], value[1])


@each(BATCHED)
def test_expand_of_size_one_dimensions(case: Case) -> None:
    dist = case.make().expand((1, *case.batch)).expand((4, *case.batch))
    assert dist.batch_shape == (4, *case.batch)
    with pytest.raises(RuntimeError):
        dist.expand((5, *case.batch))


@each()
@pytest.mark.parametrize("validates", [True, False])
def test_expand_keeps_whether_it_validates(case: Case, validates: bool) -> None:
    dist = case.make()
    dist._validate_args = validates
    wide = dist.expand((2, *case.batch))
    assert wide._validate_args is validates


# Dtypes -----------------------------------------------------------------------------------------


@each()
@pytest.mark.parametrize("dtype", [torch.float32, f64], ids=str)
def test_everything_comes_back_in_the_parameters_dtype(case: Case, dtype: torch.dtype) -> None:
    dist = case.make(dtype)
    value = dist.sample((3,))
    results = [value, dist.log_prob(value), dist.mean, dist.variance, dist.stddev]
    if case.entropy:
        results.append(dist.entropy())
    if case.nested:
        results += [dist.norm(value), dist.log_surface_area, dist.log_volume]
        results += [dist.covariance_matrix, dist.exponents]
    assert {result.dtype for result in results} == {dtype}


@each()
def test_mixed_dtypes_promote_as_in_torch(case: Case) -> None:
    single, double = case.make(torch.float32), case.make()
    value = double.sample()
    assert single.log_prob(value).dtype == f64
    assert double.log_prob(value.float()).dtype == f64
    assert single.log_prob(value.bfloat16()).dtype == torch.float32
    assert_close(single.log_prob(value).double(), double.log_prob(value), rtol=1e-5, atol=1e-5)


@each()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_parameters_are_refused(case: Case, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="float16|bfloat16"):
        case.make(dtype)


def test_python_numbers_are_parameters() -> None:
    for dist in (
        ISA([2, 2], 2.1, 2.2),
        ISA([2, 2], 2, 2, scale=1),
        GeneralizedNormal(0, 1, 2),
        GeneralizedGamma(3, 2),
        LpSpherical(3, 2, td.Gamma(3.0, 1.0)),
    ):
        assert dist.log_prob(dist.sample()).dtype == torch.get_default_dtype()
        assert dist.batch_shape == ()


def test_numbers_follow_the_default_dtype() -> None:
    torch.set_default_dtype(f64)
    assert ISA([2, 2], 2.1, 2.2).sample().dtype == f64


# Validation -------------------------------------------------------------------------------------


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
    assert dist.log_prob(draws_like(case, 2)).isfinite().all()
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


# Attributes -------------------------------------------------------------------------------------


@each()
def test_arg_constraints_name_attributes_that_satisfy_them(case: Case) -> None:
    dist = case.make()
    assert dist.arg_constraints
    assert {"tree", "sizes", "radial"}.isdisjoint(dist.arg_constraints)
    for name, constraint in dist.arg_constraints.items():
        if not constraints.is_dependent(constraint):
            assert constraint.check(getattr(dist, name)).all(), name


@each()
def test_samples_lie_in_the_support(case: Case) -> None:
    dist = case.make()
    value = dist.sample((50,))
    assert dist.support.event_dim == len(case.event)
    assert dist.support.check(value).shape == (50, *case.batch)
    assert dist.support.check(value).all()
    assert not dist.support.check(torch.full_like(value, math.nan)).any()


@each()
def test_repr_names_the_class_and_its_parameters(case: Case) -> None:
    dist = case.make()
    text = repr(dist)
    assert text.startswith(type(dist).__name__)
    for name in type(dist).arg_constraints:
        assert name in text


@each()
def test_pickle_and_deepcopy_keep_the_law(case: Case) -> None:
    dist = case.make()
    value = dist.sample((4,))
    expected = dist.log_prob(value)
    for twin in (pickle.loads(pickle.dumps(dist)), copy.deepcopy(dist)):
        assert type(twin) is type(dist)
        assert (twin.batch_shape, twin.event_shape) == (dist.batch_shape, dist.event_shape)
        assert torch.equal(twin.log_prob(value), expected)
        assert repr(twin) == repr(dist)


@each()
def test_torch_save_round_trip(case: Case) -> None:
    file = io.BytesIO()
    dist = case.make()
    value = dist.sample()
    torch.save(dist, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False).log_prob(value), dist.log_prob(value))


@each()
def test_same_seed_same_sample(case: Case) -> None:
    dist = case.make()
    first = torch.manual_seed(3) and dist.sample((4,))
    again = torch.manual_seed(3) and dist.sample((4,))
    assert torch.equal(first, again)


# Moments ----------------------------------------------------------------------------------------


@each([case for case in CASES if case.finite_moments])
def test_mean_variance_and_stddev_match_monte_carlo(case: Case) -> None:
    dist = case.make()
    x = dist.sample((40_000,))
    sd = x.std(0)
    assert ((x.mean(0) - dist.mean).abs() < 4.5 * sd / math.sqrt(len(x))).all()
    squares = (x - dist.mean).square()
    assert ((squares.mean(0) - dist.variance).abs() < 5 * squares.std(0) / math.sqrt(len(x))).all()
    assert_close(dist.stddev, dist.variance.sqrt())
    assert dist.mean.shape == dist.variance.shape == (*case.batch, *case.event)


def test_moments_that_do_not_exist_are_not_invented() -> None:
    dist = named("half_cauchy")[0].make()
    assert not dist.variance.isfinite().any()


@each([case for case in NESTED if case.finite_moments])
def test_covariance_is_diagonal_and_matches_monte_carlo(case: Case) -> None:
    dist = case.make()
    matrix = dist.covariance_matrix
    assert matrix.shape == (*case.batch, *case.event, *case.event)
    assert_close(matrix, torch.diag_embed(dist.variance))
    x = dist.sample((20_000,))
    products = x.unsqueeze(-1) * x.unsqueeze(-2)
    assert ((products.mean(0) - matrix).abs() < 5 * products.std(0) / math.sqrt(len(x))).all()


@each([case for case in CASES if case.entropy])
def test_entropy_is_the_mean_of_minus_log_prob(case: Case) -> None:
    dist = case.make()
    information = -dist.log_prob(dist.sample((40_000,)))
    error = information.std(0) / math.sqrt(len(information))
    assert dist.entropy().shape == case.batch
    assert ((information.mean(0) - dist.entropy()).abs() < 4.5 * error).all()


@each([case for case in CASES if not case.entropy])
def test_entropy_without_closed_form_is_refused(case: Case) -> None:
    with pytest.raises(NotImplementedError):
        case.make().entropy()


@each()
def test_perplexity_follows_entropy(case: Case) -> None:
    if case.entropy:
        dist = case.make()
        assert_close(dist.perplexity(), dist.entropy().exp())


@each()
def test_no_sample_is_more_likely_than_the_mode(case: Case) -> None:
    dist = case.make()
    if not case.entropy:
        with pytest.raises(NotImplementedError):
            dist.mode  # noqa: B018
        return
    mode = dist.mode
    assert mode.shape == (*case.batch, *case.event)
    known = ~mode.isnan()
    if known.all():
        assert (dist.log_prob(dist.sample((2000,))) <= dist.log_prob(mode) + 1e-9).all()
    if isinstance(dist, ISA | GeneralizedNormal | GeneralizedGamma):
        assert known.all()


def test_moments_without_closed_form_are_refused() -> None:
    with pytest.raises(NotImplementedError):
        named("unregistered")[0].make().moment([1.0, 2.0, 0.5])


@each([case for case in NESTED if case.finite_moments and case.name != "unregistered"])
def test_mixed_absolute_moments_match_monte_carlo(case: Case) -> None:
    dist = case.make()
    x = dist.sample((40_000,)).abs()
    for orders in ([1.0, 2.0, *[0.0] * (case.event[0] - 2)], [0.5] * case.event[0]):
        draws = (x ** torch.tensor(orders, dtype=f64)).prod(-1)
        exact = dist.moment(torch.tensor(orders, dtype=f64))
        assert exact.shape == case.batch
        assert ((draws.mean(0) - exact).abs() < 5 * draws.std(0) / math.sqrt(len(x))).all()


@each(NESTED)
def test_norm_is_the_radius_of_the_density(case: Case) -> None:
    """Points of equal norm are equally likely; norm is homogeneous of degree one."""
    dist = case.make()
    x = dist.sample((5,))
    r = dist.norm(x)
    assert_close(dist.norm(-3.0 * x), 3.0 * r, rtol=1e-13, atol=0.0)
    axis = torch.zeros_like(x)
    axis[..., 0] = r  # f is |x_0| on the axis
    assert_close(dist.norm(axis), r, rtol=1e-13, atol=0.0)
    assert_close(dist.log_prob(axis), dist.log_prob(x), rtol=1e-11, atol=1e-11)
    assert_close(dist.log_volume, dist.log_surface_area - math.log(case.event[0]))


# Samples and gradients ---------------------------------------------------------------------------


@each(NESTED)
def test_nested_distributions_have_no_rsample_and_say_why(case: Case) -> None:
    dist = case.make()
    assert dist.has_rsample is False
    with pytest.raises(NotImplementedError, match=r"(?s)sample.*"):
        dist.rsample()
    with pytest.raises(NotImplementedError) as caught:
        dist.rsample((2,))
    assert len(str(caught.value)) > 40  # an explanation, not a bare refusal


@each()
def test_sample_carries_no_gradient(case: Case) -> None:
    assert not case.make(requires_grad=True).sample((2,)).requires_grad


@each(UNIVARIATE)
def test_rsample_is_pathwise_for_every_parameter(case: Case) -> None:
    tensors = case.tensors(requires_grad=True)
    dist = case.build(**tensors)
    assert dist.has_rsample is True
    value = dist.rsample((3,))
    assert value.shape == (3, *case.batch)
    grads = torch.autograd.grad(value.sum(), list(tensors.values()))
    assert all(grad.isfinite().all() and (grad != 0).all() for grad in grads)


@each(UNIVARIATE)
def test_rsample_gradients_are_the_derivatives_of_the_moments(case: Case) -> None:
    """d/dtheta E g(x) by the pathwise estimator against the derivative of the closed form."""
    tensors = case.tensors(requires_grad=True)
    dist = case.build(**tensors)
    x = dist.rsample((20_000,))
    closed = dist.variance + dist.mean.square()
    for name, tensor in tensors.items():
        (exact,) = torch.autograd.grad(closed.sum(), tensor, retain_graph=True)
        halves = [
            torch.autograd.grad(part.square().mean(0).sum(), tensor, retain_graph=True)[0]
            for part in x.split(1000)
        ]
        estimate = torch.stack(halves)
        error = estimate.std(0) / math.sqrt(len(halves))
        assert ((estimate.mean(0) - exact).abs() < 4.5 * error + 1e-9).all(), name


@each(UNIVARIATE)
def test_cdf_is_the_share_of_samples_below_and_icdf_its_inverse(case: Case) -> None:
    dist = case.make()
    x = dist.sample((20_000,))
    at = x[:5]
    share = (x.unsqueeze(0) <= at.unsqueeze(1)).double().mean(1)
    cdf = dist.cdf(at)
    assert ((share - cdf).abs() < 4.5 * (cdf * (1 - cdf) / len(x)).sqrt() + 1e-4).all()
    assert_close(dist.icdf(cdf), at)


@each(UNIVARIATE)
def test_density_is_the_slope_of_the_cdf(case: Case) -> None:
    dist = case.make()
    x, step = dist.sample((20,)), 1e-5
    slope = (
        dist.cdf(x + step)
        - dist.cdf((x - step).clamp_min(0.0) if case.name[0] == "r" else x - step)
    ) / (2 * step)
    usable = (x - dist.mode).abs() > 0.01
    assert_close(slope[usable], dist.log_prob(x).exp()[usable], rtol=1e-4, atol=1e-6)


# functorch ---------------------------------------------------------------------------------------


def log_prob_of(case: Case) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    return lambda tensors, value: case.build(**tensors).log_prob(value)


@each()
def test_vmap_over_values_is_the_batched_call(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    dist, value = case.make(), draws_like(case, 4)
    assert_close(torch.vmap(dist.log_prob)(value), dist.log_prob(value), rtol=1e-12, atol=1e-12)


@each()
def test_vmap_over_parameters_is_the_loop(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    value, tensors = draws_like(case), case.tensors()
    stacked = {name: torch.stack([t, 1.1 * t, 1.3 * t]) for name, t in tensors.items()}
    together = torch.vmap(log_prob_of(case), in_dims=(0, None))(stacked, value)
    apart = [log_prob_of(case)({n: t[i] for n, t in stacked.items()}, value) for i in range(3)]
    assert_close(together, torch.stack(apart), rtol=1e-12, atol=1e-12)


@each(named("normal", "radius_batch", "isa", "isa_batch", "cube", "ragged", "spherical"))
def test_vmap_samples_with_different_randomness(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    stacked = {name: torch.stack([t, t]) for name, t in case.tensors().items()}
    draw = torch.vmap(lambda tensors: case.build(**tensors).sample(), randomness="different")
    value = draw(stacked)
    assert value.shape == (2, *case.batch, *case.event)
    assert value.isfinite().all() and not torch.equal(value[0], value[1])


@each()
def test_func_grad_and_jvp_agree_with_autograd(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    value, tensors = draws_like(case), case.tensors()

    def total(tensors: dict[str, Tensor], value: Tensor) -> Tensor:
        return log_prob_of(case)(tensors, value).sum()

    in_params, in_value = torch.func.grad(total, argnums=(0, 1))(tensors, value)
    leaves = {name: t.clone().requires_grad_() for name, t in tensors.items()}
    point = value.clone().requires_grad_()
    expected = torch.autograd.grad(total(leaves, point), [*leaves.values(), point])
    for ours, theirs in zip([*in_params.values(), in_value], expected, strict=True):
        assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
    direction = torch.ones_like(value)
    _, slope = torch.func.jvp(lambda v: total(tensors, v), (value,), (direction,))
    assert_close(slope, (in_value * direction).sum(), rtol=1e-10, atol=1e-11)


@each()
def test_func_hessian_is_the_derivative_of_the_gradient(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    dist = case.make()
    value = draws_like(case)

    def total(v: Tensor) -> Tensor:
        return dist.log_prob(v).sum()

    size = value.numel()
    hessian = torch.func.hessian(total)(value).reshape(size, size)
    assert_close(hessian, hessian.T, rtol=1e-9, atol=1e-9)
    step = 1e-6
    for i, unit in enumerate(torch.eye(size, dtype=f64)):
        shift = (step * unit).reshape(value.shape)
        gradient = torch.func.grad(total)
        finite = (gradient(value + shift) - gradient(value - shift)) / (2 * step)
        scale = 1.0 + hessian[i].abs().max().item()
        assert_close(finite.reshape(-1), hessian[i], rtol=1e-4, atol=1e-5 * scale)


@each([case for case in NESTED if case.smooth])
def test_func_hessian_is_finite_at_zeros(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    dist, value = case.make(), draws_like(case)
    value[..., 0] = 0.0
    for point in (value, torch.zeros_like(value)):
        assert torch.func.hessian(lambda v: dist.log_prob(v).sum())(point).isfinite().all()


# Compilation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"), [("isa_ragged", torch.float32), ("ragged", f64), ("radius", torch.float32)]
)
def test_compiled_log_prob_and_gradients_equal_eager(name: str, dtype: torch.dtype) -> None:
    """fullgraph, value and gradient in value and parameters."""
    Distribution.set_default_validate_args(False)
    case = named(name)[0]
    value = draws_like(case, 5).to(dtype)

    def log_prob(tensors: dict[str, Tensor], value: Tensor) -> Tensor:
        return case.build(**tensors).log_prob(value)

    results = []
    for function in (log_prob, torch.compile(log_prob, fullgraph=True)):
        tensors, point = case.tensors(dtype, requires_grad=True), value.clone().requires_grad_()
        got = function(tensors, point)
        grads = torch.autograd.grad(got.sum(), [point, *tensors.values()])
        results.append((got.detach(), *grads))
    torch._dynamo.reset()
    close = (
        {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-11}
    )
    for eager, fast in zip(*results, strict=True):
        assert_close(fast, eager, **close)


def test_compiled_sample_is_one_graph() -> None:
    Distribution.set_default_validate_args(False)
    dist = ISA([2, 1], 1.4, 2.2)
    draw = torch.compile(lambda: dist.sample((500,)), fullgraph=True, backend="aot_eager")
    value = draw()
    torch._dynamo.reset()
    assert value.shape == (500, 3) and value.isfinite().all()
    ratio = value.std(0) / dist.stddev
    assert 0.7 < ratio.min() < ratio.max() < 1.4


# No host synchronisation ------------------------------------------------------------------------


@each()
def test_log_prob_and_sample_never_look_at_their_data(case: Case) -> None:
    """Fake tensors have no data: .item(), nonzero and `if tensor` raise, forward and backward."""
    Distribution.set_default_validate_args(False)
    with FakeTensorMode():
        tensors = case.tensors(torch.float32, requires_grad=True)
        dist = case.build(**tensors)
        value = dist.sample((3,)).requires_grad_()
        log_prob = dist.log_prob(value)
        assert log_prob.shape == (3, *case.batch)
        used = [value, *(t for n, t in tensors.items() if n != "weights")]
        grads = torch.autograd.grad(log_prob.sum(), used)
        assert [g.shape for g in grads] == [t.shape for t in used]


def test_fake_tensors_do_catch_a_synchronisation() -> None:
    """The proof above can fail: with validation on, the constructor reads its parameters."""
    case = named("isa")[0]
    with FakeTensorMode(), pytest.raises(Exception, match=r"_local_scalar_dense"):
        case.make(torch.float32)


@each(NESTED)
def test_meta_tensors_give_shapes(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    dist = case.make(torch.float32, device="meta")
    value = torch.empty(4, *case.batch, *case.event, device="meta")
    assert dist.log_prob(value).shape == (4, *case.batch)
    assert dist.log_prob(value).device.type == "meta"


# Wrappers --------------------------------------------------------------------------------------


@each(BATCHED)
def test_independent_sums_the_batch(case: Case) -> None:
    dist = case.make()
    joint = td.Independent(dist, len(case.batch))
    value = joint.sample((3,))
    assert joint.batch_shape == () and joint.event_shape == (*case.batch, *case.event)
    axes = tuple(range(1, 1 + len(case.batch)))
    assert_close(joint.log_prob(value), dist.log_prob(value).sum(axes))
    if case.entropy:
        assert_close(joint.entropy(), dist.entropy().sum())


@each(BATCHED)
def test_mixture_same_family_is_the_log_of_the_weighted_sum(case: Case) -> None:
    dist = case.make()
    count = case.batch[-1]
    logits = torch.arange(count, dtype=f64).expand(case.batch)
    mixture = td.MixtureSameFamily(td.Categorical(logits=logits), dist)
    value = mixture.sample((4,))
    assert value.shape == (4, *case.batch[:-1], *case.event)
    parts = dist.log_prob(value.unsqueeze(-1 - len(case.event)))
    expected = torch.logsumexp(parts + logits.log_softmax(-1), -1)
    assert_close(mixture.log_prob(value), expected)
    if case.finite_moments:
        assert_close(mixture.mean.shape, torch.Size([*case.batch[:-1], *case.event]))


@each()
def test_transformed_distribution_changes_variables(case: Case) -> None:
    dist = case.make()
    affine = td.AffineTransform(0.3, 2.0, event_dim=len(case.event))
    moved = td.TransformedDistribution(dist, [affine])
    value = moved.sample((4,))
    volume = math.prod(case.event) * math.log(2.0)
    expected = dist.log_prob((value - 0.3) / 2.0) - volume
    assert_close(moved.log_prob(value), expected, rtol=1e-10, atol=1e-10)


# Import ----------------------------------------------------------------------------------------

IMPORT = """
import sys, torch
from torch.distributions import Distribution, kl
before = set(sys.modules)
state = lambda: (Distribution._validate_args, torch.get_default_dtype(), torch.get_num_threads(),
                 torch.is_grad_enabled(), torch.initial_seed(), torch.get_rng_state().sum().item(),
                 torch.are_deterministic_algorithms_enabled(),
                 torch.get_float32_matmul_precision())
old, table = state(), dict(kl._KL_REGISTRY)
import lpnested
new = {name.split(".")[0] for name in set(sys.modules) - before}
heavy = new & {"numpy", "scipy", "matplotlib", "pyro", "zuko", "mpmath", "pandas"}
assert not heavy, heavy
assert state() == old
assert all(kl._KL_REGISTRY[pair] is how for pair, how in table.items())
"""


def test_import_brings_nothing_but_torch_and_changes_no_state() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_documented() -> None:
    import lpnested

    for name in lpnested.__all__:
        assert getattr(lpnested, name).__doc__, name


def test_trees_with_equal_structure_share_their_law() -> None:
    """Structure is by value: an equal tree, built anew, gives the same numbers."""
    exponents, radial = torch.tensor([1.3, 2.2], dtype=f64), GeneralizedGamma(3, 2.0)
    value = torch.tensor([0.1, -2.0, 0.7], dtype=f64)
    one = LpNested(LpNestedTree((0, (1, 2))), exponents, radial).log_prob(value)
    two = LpNested(LpNestedTree([0, [1, 2]]), exponents, radial).log_prob(value)
    assert torch.equal(one, two)
