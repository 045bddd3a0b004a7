"""torch's contract: shapes, expand and dtypes, over the one table of cases."""

import pytest
import torch
from torch import distributions as td
from torch.testing import assert_close

from cases import BATCHED, Case, each
from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpSpherical

pytestmark = pytest.mark.usefixtures("backend")

f64 = torch.float64


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
    dist, value = case.make(), case.draw(6)
    apart = torch.stack([dist.log_prob(row) for row in value])
    assert_close(dist.log_prob(value), apart, rtol=1e-13, atol=1e-13)


@each()
def test_memory_layout_of_the_value_does_not_matter(case: Case) -> None:
    dist, value = case.make(), case.draw(5)
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
