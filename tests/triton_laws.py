"""What the kernels owe, in Triton's interpreter: run by test_triton.py, which chooses that."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

assert os.environ.get("TRITON_INTERPRET") == "1", "run test_triton.py"

from triton_backend import serving

import strategies
import units
from lpnested import ISA, LpNestedTree
from lpnested.ops import gamma, norm, reference, triton_calls

f32, f64 = torch.float32, torch.float64
dtypes = pytest.mark.parametrize("dtype", [f32, f64], ids=str)
LIMIT = 8  # eps of the condition, as in test_condition.py

RAGGED = LpNestedTree(((3,), ((1, 5), (0, 4, 2)), 6))


@pytest.fixture(autouse=True)
def triton_serves() -> Iterator[None]:
    with serving(), np.errstate(all="ignore"):  # as a card, which does not warn
        yield


# Against 50 digits ------------------------------------------------------------------------------

SUBJECTS = {
    "log_norm": units.Subject(strategies.roots(9, 4), units.norm),
    "ISA": units.SUBJECTS["ISA"],
    "radius": units.Subject(strategies.roots(9, 4), units.gamma_radius_of_another_dimension),
    "log-normal radius": units.Subject(strategies.roots(9, 4), units.log_normal_radius),
}


@dtypes
@pytest.mark.parametrize("name", SUBJECTS)
@settings(max_examples=3)
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


def density_and_gradients(function: Callable[..., Tensor], given: list[Tensor]) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in given]
    result = function(*leaves, RAGGED)
    return [result.detach(), *torch.autograd.grad(result.sum(), leaves)]


def norm_and_gradients(function: Callable[..., Tensor], given: list[Tensor]) -> list[Tensor]:
    return density_and_gradients(function, given[:2])


def assert_as_reference(given: list[Tensor]) -> None:
    """Values and gradients, of density and norm."""
    wide = [x.to(f64) for x in given]
    tolerance = {"rtol": 3e-5, "atol": 3e-5} if f32 in {x.dtype for x in given} else {"rtol": 1e-9, "atol": 1e-9}
    for ask, mine, theirs in (
        (density_and_gradients, gamma.log_density, reference.gamma_log_density),
        (norm_and_gradients, norm.log_norm, reference.log_norm),
    ):
        pairs = zip(ask(mine, given), ask(theirs, wide), strict=True)
        for got, expected in pairs:
            assert_close(got.to(f64), expected, equal_nan=True, **tolerance)


@dtypes
def test_special_values_are_those_of_the_reference(dtype: torch.dtype) -> None:
    """Zeros, a row of them, a node of them, infinities, NaN, both, and many scales in a row."""
    rows = torch.randn(8, 7, dtype=f64)
    rows[0, :3] = 0.0
    rows[1] = 0.0
    rows[2, [1, 5]] = 0.0
    rows[3, 4] = -math.inf
    rows[4, 0] = math.nan
    rows[5, 2], rows[5, 6] = math.inf, math.nan
    rows[6] = torch.logspace(-30, 1, 7)
    given = inputs(dtype, rows)
    for row in rows.split(1):
        given[0] = row.to(dtype)
        assert_as_reference(given)


@dtypes
def test_beyond_the_numbers_a_density_is_the_lowest_and_has_no_gradient(
    dtype: torch.dtype,
) -> None:
    value = torch.full((1, 7), 1e30)
    given = inputs(dtype, value)
    given[3] = torch.tensor(30.0, dtype=dtype)
    result, *gradients = density_and_gradients(gamma.log_density, given)
    assert result.item() == torch.finfo(dtype).min
    assert all((x == 0).all() for x in gradients)


def test_a_gradient_too_large_for_its_dtype_is_the_largest_number() -> None:
    value = torch.full((7,), 1e-39).neg()
    value[3] = 1.0
    (in_value,) = density_and_gradients(norm.log_norm, [value, torch.full((5,), 0.05)])[1:2]
    assert in_value.isfinite().all() and in_value.abs().max() == torch.finfo(f32).max
    assert (in_value[value < 0] < 0).all()


@pytest.mark.parametrize("name", ["exponents", "dim", "p", "scale"])
def test_of_a_parameter_that_is_not_positive_a_density_is_nan(name: str) -> None:
    place = ["value", "exponents", "dim", "p", "scale"].index(name)
    for wrong in (-1.0, math.nan, math.inf):
        given = inputs(f32, torch.randn(2, 7))
        given[place] = torch.full_like(given[place], wrong)
        assert gamma.log_density(*given, RAGGED).isnan().all()


# Shapes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "batch"),
    [((7,), ()), ((66, 7), ()), ((3, 2, 7), (2,)), ((2, 3, 7), (2, 3)), ((7,), (3,))]
    + [((2, 1, 7), (2,)), ((3, 2, 1, 7), (1, 2)), ((70, 7), (70,))],
)
def test_all_shapes_are_as_of_the_reference(value: tuple[int, ...], batch: tuple[int, ...]) -> None:
    assert_as_reference(inputs(f64, torch.randn(value), batch))


def test_strides_and_half_precision_are_as_of_the_reference() -> None:
    wide = torch.randn(14, 6)
    for value in (wide.t()[:, ::2], wide[::2, 0].expand(3, 7), torch.randn(2, 7).half()):
        given = inputs(f32, torch.empty(0))
        given[0] = value
        assert_as_reference([*given[:1], given[1].expand(2, -1)[0], *given[2:]])


def test_empty_values_have_gradients_of_zero() -> None:
    result, *gradients = density_and_gradients(gamma.log_density, inputs(f32, torch.randn(0, 7)))
    assert result.shape == (0,) and all((x == 0).all() for x in gradients)
    result, *gradients = norm_and_gradients(norm.log_norm, inputs(f32, torch.randn(0, 7)))
    assert result.shape == (0,) and all((x == 0).all() for x in gradients)


def test_programs_that_share_rows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """More blocks than programs, and more tiles of the batch than the scratch memory lets run."""
    given, many = inputs(f64, torch.randn(200, 7)), inputs(f64, torch.randn(2, 130, 7), (130,))
    monkeypatch.setattr(triton_calls, "_PROGRAMS", 3)
    monkeypatch.setattr(triton_calls, "_SCRATCH", 0)
    assert_as_reference(given)
    assert_as_reference(many)


@dtypes
def test_a_value_does_not_depend_on_its_gradient(dtype: torch.dtype) -> None:
    given = inputs(dtype, torch.randn(5, 7))
    assert torch.equal(
        gamma.log_density(*given, RAGGED), density_and_gradients(gamma.log_density, given)[0]
    )


def test_second_derivatives_are_those_of_the_reference() -> None:
    given = [x.requires_grad_() for x in inputs(f64, torch.randn(2, 7))]

    def second(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        (first,) = torch.autograd.grad(function(*given, RAGGED).sum(), given[0], create_graph=True)
        return torch.autograd.grad(first.square().sum(), given)

    for got, expected in zip(
        second(gamma.log_density), second(reference.gamma_log_density), strict=True
    ):
        assert_close(got, expected)


# Launches ---------------------------------------------------------------------------------------

# These start nothing on a card.
FREE = {"new_empty", "empty_like", "empty", "empty_strided", "_unsafe_view", "view", "select"}
FREE |= {"slice", "expand", "detach", "alias", "unbind", "as_strided", "_reshape_alias"}


class Launches(TorchDispatchMode):
    """Kernels of Triton, and operations of torch that start one, by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        for name in ("evaluate", "weigh", "add_up"):
            monkeypatch.setattr(triton_calls, name, _Counted(getattr(triton_calls, name), self))

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
    dist = ISA([2, 3], torch.full(batch, 1.5), torch.full((*batch, 2), 2.5))
    value = torch.randn(3, *batch, 5).requires_grad_()
    leaves = [value, *(x.requires_grad_() for x in (torch.full((*batch, 3), 2.0), torch.ones(batch), torch.ones(batch)))]
    exponents, p, scale = leaves[1:]
    with launches:
        result = gamma.log_density(value, exponents, None, p, scale, dist.tree)
    assert launches.names == {"evaluate": 1}
    launches.names.clear()
    with launches:
        torch.autograd.grad(result, leaves, torch.ones_like(result))
    assert launches.names == {"ones_like": 1, "weigh": 1, "add_up": 1}


def test_a_norm_is_one_launch_and_its_backward_pass_three(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = Launches(monkeypatch)
    value, exponents = (x.requires_grad_() for x in inputs(f32, torch.randn(3, 7))[:2])
    with launches:
        result = norm.log_norm(value, exponents, RAGGED)
    assert launches.names == {"evaluate": 1}
    launches.names.clear()
    with launches:
        torch.autograd.grad(result, [value, exponents], torch.ones_like(result))
    assert launches.names == {"ones_like": 1, "evaluate": 1, "weigh": 1, "add_up": 1}
