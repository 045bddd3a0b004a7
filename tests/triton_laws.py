"""What the kernels owe, in Triton's interpreter: run by test_triton.py, which chooses that."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import problems
import units
from lpnested import LpNestedTree
from lpnested.ops import calls, gamma, norm, reference, triton_calls, triton_kernels, triton_sums
from triton_backend import serving

f32, f64 = torch.float32, torch.float64
dtypes = pytest.mark.parametrize("dtype", [f32, f64], ids=str)
LIMIT = 8  # eps of the condition, as in test_condition.py

assert os.environ.get("TRITON_INTERPRET") == "1", "run test_triton.py"

RAGGED, SMALL = LpNestedTree(((3,), ((1, 5), (0, 4, 2)), 6)), LpNestedTree(((2, 0), 1))


@pytest.fixture(autouse=True)
def triton_serves() -> Iterator[None]:
    with serving(), np.errstate(all="ignore"):  # as a card, which does not warn
        yield


# Against 50 digits ------------------------------------------------------------------------------

SUBJECTS = {
    "log_norm": units.Subject(problems.roots(9, 4), units.norm),
    "ISA": units.SUBJECTS["ISA"],
    "radius": units.Subject(problems.roots(9, 4), units.gamma_radius_of_another_dimension),
    "log-normal radius": units.Subject(problems.roots(9, 4), units.log_normal_radius),
}


@dtypes
@pytest.mark.parametrize("name", SUBJECTS)
@settings(max_examples=4, phases=[Phase.explicit, Phase.generate])
@given(st.data())
def test_errors_are_within_the_condition(
    name: str, dtype: torch.dtype, data: st.DataObject
) -> None:
    subject = SUBJECTS[name]
    question = subject.about(data.draw(subject.problems()), dtype)
    assume(question is not None)
    for quantity, found in units.worst(question, dtype).items():
        assert found <= LIMIT, quantity


# Against the reference --------------------------------------------------------------------------


def inputs(
    dtype: torch.dtype, value: Tensor, batch: tuple[int, ...] = (), tree: LpNestedTree = RAGGED
) -> list[Tensor]:
    """Value, exponents, dimension, exponent and scale."""
    exponents = 0.5 + 3 * torch.rand(*batch, tree.num_nodes, dtype=dtype)
    radius = [a + b * torch.rand(batch, dtype=dtype) for a, b in ((5, 4), (0.7, 2), (0.5, 2))]
    return [value.to(dtype), exponents, *radius]


def with_gradients(
    function: Callable[..., Tensor], given: list[Tensor], tree: LpNestedTree = RAGGED
) -> list[Tensor]:
    """The result, and the gradients of its sum."""
    given = [x.detach().requires_grad_() for x in given]
    result = function(*given, tree)
    return [result.detach(), *torch.autograd.grad(result.sum(), given)]


def assert_as_reference(given: list[Tensor], tree: LpNestedTree = RAGGED) -> None:
    """Values and gradients, of density and norm."""
    wide, tolerance = [x.to(f64) for x in given], 1e-9 if given[0].dtype == f64 else 3e-5
    for found, expected in (
        (
            with_gradients(gamma.log_density, given, tree),
            with_gradients(reference.gamma_log_density, wide, tree),
        ),
        (
            with_gradients(norm.log_norm, given[:2], tree),
            with_gradients(reference.log_norm, wide[:2], tree),
        ),
    ):
        for x, y in zip(found, expected, strict=True):
            assert_close(x.to(f64), y, equal_nan=True, rtol=tolerance, atol=tolerance)


@dtypes
def test_special_values_are_those_of_the_reference(dtype: torch.dtype) -> None:
    """Zeros, a row of them, a node of them, infinities, NaN, both, and many scales in a row."""
    rows = torch.randn(7, 7, dtype=f64)
    rows[0, :3] = 0.0
    rows[1] = 0.0
    rows[2, [1, 5]] = 0.0
    rows[3, 4] = -math.inf
    rows[4, 0] = math.nan
    rows[5, 2], rows[5, 6] = math.inf, math.nan
    rows[6] = torch.logspace(-30, 1, 7)
    assert_as_reference(inputs(dtype, rows, (7,)))


@dtypes
def test_beyond_the_numbers_a_density_is_the_lowest_and_has_no_gradient(
    dtype: torch.dtype,
) -> None:
    given = inputs(dtype, torch.full((1, 3), 1e30), tree=SMALL)
    given[3] = torch.tensor(30.0, dtype=dtype)
    result, *gradients = with_gradients(gamma.log_density, given, SMALL)
    assert result.item() == torch.finfo(dtype).min
    assert all((x == 0).all() for x in gradients)


def test_a_gradient_too_large_for_its_dtype_is_the_largest_number() -> None:
    value, exponents = torch.tensor([-1e-42, 1.0, 1e-42]), torch.full((2,), 0.05)
    _, in_value, _ = with_gradients(norm.log_norm, [value, exponents], SMALL)
    largest = torch.finfo(f32).max
    assert in_value[0] == -largest and in_value[2] == largest


@pytest.mark.parametrize("place", range(1, 5), ids=["exponents", "dim", "p", "scale"])
def test_where_a_parameter_is_not_positive_the_density_is_nan(place: int) -> None:
    given = inputs(f32, torch.randn(3, 3), (3,), SMALL)
    given[place] = torch.tensor([-1.0, math.nan, math.inf]).reshape(-1, *[1] * (place == 1))
    given[1] = given[1].expand(3, SMALL.num_nodes)
    assert gamma.log_density(*given, SMALL).isnan().all()


# Shapes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "batch"),
    [
        *([(3,), ()], [(66, 3), ()], [(3, 2, 3), (2,)], [(2, 3, 3), (2, 3)], [(3,), (3,)]),
        *([(2, 1, 3), (2,)], [(3, 2, 1, 3), (1, 2)], [(70, 3), (70,)]),
    ],
    ids=str,
)
def test_all_shapes_are_as_of_the_reference(value: list[int], batch: tuple[int, ...]) -> None:
    assert_as_reference(inputs(f64, torch.randn(value), batch, SMALL), SMALL)


@pytest.mark.parametrize(
    "value",
    [torch.randn(6, 4).t()[:, ::2], torch.randn(3)[:1].expand(2, 3), torch.randn(2, 3).half()],
    ids=["strided", "expanded", "half"],
)
def test_strides_and_half_precision_are_as_of_the_reference(value: Tensor) -> None:
    _, exponents, *radius = inputs(f32, value, tree=SMALL)
    result, in_value, *_ = with_gradients(gamma.log_density, [value, exponents, *radius], SMALL)
    wide = [x.to(f64) for x in (value, exponents, *radius)]
    expected, in_wide, *_ = with_gradients(reference.gamma_log_density, wide, SMALL)
    assert_close(result.to(f64), expected, rtol=1e-5, atol=1e-5)
    assert_close(in_value, in_wide.to(value.dtype), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("function", [gamma.log_density, norm.log_norm])
def test_empty_values_have_gradients_of_zero(function: Callable[..., Tensor]) -> None:
    given = inputs(f32, torch.randn(0, 3), tree=SMALL)
    given = given if function is gamma.log_density else given[:2]
    result, *gradients = with_gradients(function, given, SMALL)
    assert result.shape == (0,) and all((x == 0).all() for x in gradients)


def test_programs_that_share_rows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """More blocks than programs, and more tiles of the batch than the scratch memory lets run."""
    monkeypatch.setattr(triton_calls, "_PROGRAMS", 2)
    monkeypatch.setattr(triton_calls, "_SCRATCH", 0)
    assert_as_reference(inputs(f64, torch.randn(150, 3), tree=SMALL), SMALL)
    assert_as_reference(inputs(f64, torch.randn(130, 3), (130,), SMALL), SMALL)


def test_a_value_is_the_same_with_its_gradient() -> None:
    given = inputs(f32, torch.randn(5, 7))
    with_gradient, *_ = with_gradients(gamma.log_density, given)
    assert torch.equal(gamma.log_density(*given, RAGGED), with_gradient)


@pytest.mark.parametrize("place", range(4), ids=["value", "exponents", "p", "scale"])
def test_a_gradient_is_the_same_alone(place: int) -> None:
    value, exponents, _, p, scale = inputs(f64, torch.randn(2, 3), tree=SMALL)
    wanted = (value, exponents, p, scale)[place].requires_grad_()
    alone, expected = (
        torch.autograd.grad(function(value, exponents, None, p, scale, SMALL).sum(), wanted)[0]
        for function in (gamma.log_density, reference.gamma_log_density)
    )
    assert_close(alone, expected)
    if place < 2:
        of_norm, expected = (
            torch.autograd.grad(function(value, exponents, SMALL).sum(), wanted)[0]
            for function in (norm.log_norm, reference.log_norm)
        )
        assert_close(of_norm, expected)


def test_second_derivatives_are_those_of_the_reference() -> None:
    given = [x.requires_grad_() for x in inputs(f64, torch.randn(2, 3), tree=SMALL)]

    def second(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        (first,) = torch.autograd.grad(function(*given, SMALL).sum(), given[0], create_graph=True)
        return torch.autograd.grad(first.square().sum(), given)

    expected = second(reference.gamma_log_density)
    for got, x in zip(second(gamma.log_density), expected, strict=True):
        assert_close(got, x)


def test_outputs_are_laid_out_as_tracers_are_told() -> None:
    value, exponents, _, p, scale = inputs(f32, torch.randn(3, 2, 3), (2,), SMALL)
    radius, above = (None, p, scale, SMALL.code), torch.randn(3, 2)
    for operation, arguments in (
        ("density", (value, exponents, *radius, True, True)),
        ("density", (value, exponents, *radius, False, True)),
        ("density_backward", (above, value, torch.randn(5, 3, 2), exponents, *radius)),
        ("density_backward", (above, torch.empty(0), torch.empty(0), exponents, *radius)),
        ("norm", (value, exponents, SMALL.code)),
        ("norm_backward", (above.double(), value, exponents, SMALL.code, True, True)),
    ):
        with FakeTensorMode() as mode:
            fakes = [mode.from_tensor(x) if isinstance(x, Tensor) else x for x in arguments]
            told = getattr(calls, operation)(*fakes)
        found = getattr(triton_calls, operation)(*arguments)
        if operation == "norm":
            found, told = (found,), (told,)
        for x, y in zip(found, told, strict=True):
            assert (x.shape, x.stride(), x.dtype) == (y.shape, y.stride(), y.dtype)


# Launches ---------------------------------------------------------------------------------------

# These start nothing on a card.
FREE = {"new_empty", "empty_like", "empty", "view", "_unsafe_view", "expand", "slice", "select"}
FREE |= {"detach", "alias", "unbind", "promote_types"}


class Launches(TorchDispatchMode):
    """Kernels of Triton, and operations of torch that start one, by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        for module in (triton_kernels, triton_sums):
            for name in module.__all__:
                monkeypatch.setattr(module, name, _Counted(getattr(module, name), self))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name not in FREE:
            self.names[name] += 1
        return func(*args, **(kwargs or {}))


class _Counted:
    def __init__(self, kernel: Any, launches: Launches) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        self.launches.names[self.kernel.fn.__name__] += 1

        def launch(*args: Any, **constants: Any) -> None:
            with torch.utils._python_dispatch._disable_current_modes():
                self.kernel[grid](*args, **constants)

        return launch


@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_a_density_is_one_launch_and_its_backward_pass_two(
    batch: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = Launches(monkeypatch)
    _, exponents, _, p, scale = given = inputs(f32, torch.randn(3, *batch, 3), batch, SMALL)
    leaves = [x.requires_grad_() for x in given if x is not given[2]]
    with launches:
        result = gamma.log_density(leaves[0], exponents, None, p, scale, SMALL)
    assert launches.names == {"density": 1}
    launches.names.clear()
    with launches:
        torch.autograd.grad(result, leaves, torch.ones_like(result))
    assert launches.names == {"ones_like": 1, "weigh": 1, "add_up": 1}


def test_a_norm_is_one_launch_and_its_backward_pass_three(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = Launches(monkeypatch)
    value, exponents = (x.requires_grad_() for x in inputs(f32, torch.randn(3, 3), tree=SMALL)[:2])
    with launches:
        result = norm.log_norm(value, exponents, SMALL)
    assert launches.names == {"norm": 1}
    launches.names.clear()
    with launches:
        torch.autograd.grad(result, [value, exponents], torch.ones_like(result))
    assert launches.names == {"ones_like": 1, "norm": 1, "weigh": 1, "add_up": 1}
