"""The compiled kernels against the reference, under everything that torch does to an operation."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.library import opcheck
from torch.testing import assert_close

from backends import BACKENDS, using
from lpnested import ISA, GeneralizedGamma, LpNested, LpNestedTree
from lpnested import functional as F
from lpnested.ops import calls

pytestmark = pytest.mark.skipif("kernels" not in BACKENDS, reason="no compiled kernels here")

f32, f64 = torch.float32, torch.float64
TREES = {
    "isa": LpNestedTree.isa([4] * 5),
    "ragged": LpNestedTree(((3, (0, 5)), 1, (2, 4))),
    "one child": LpNestedTree((((2,),), (0, (1, 3)))),
    "single": LpNestedTree((0,)),
    "wide": LpNestedTree.flat(131),
    "deep": LpNestedTree((((((((0, 5), 1), 2), 3), 4), (6,)), 7)),
}
every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
every_dtype = pytest.mark.parametrize("dtype", [f32, f64], ids=str)


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    with using("kernels"):
        yield


def inputs(tree: LpNestedTree, num: int, dtype: torch.dtype = f32) -> list[Tensor]:
    """Values over some decades with zeros among them, exponents, and the radius."""
    value = torch.randn(num, tree.dim, dtype=f64) * (3 * torch.randn(num, tree.dim)).exp()
    value[::5, 0] = 0.0
    value[-1:] = 0.0
    exponents = 0.3 + 5 * torch.rand(tree.num_nodes)
    radius = (torch.tensor(x) for x in (tree.dim + 1.5, 1.3, 40.0))
    return [x.to(dtype).requires_grad_() for x in (value, exponents, *radius)]


def density(
    tree: LpNestedTree, value: Tensor, exponents: Tensor, dim: Tensor, p: Tensor, scale: Tensor
) -> Tensor:
    radial = GeneralizedGamma(dim, p, scale, validate_args=False)
    return LpNested(tree, exponents, radial, validate_args=False).log_prob(value)


def norm(tree: LpNestedTree, value: Tensor, exponents: Tensor, *_: Tensor) -> Tensor:
    return F.log_norm(value, exponents, tree)


Function = Callable[..., Tensor]
both = pytest.mark.parametrize("function", [density, norm])


def with_gradients(function: Function, tree: LpNestedTree, given: list[Tensor]) -> list[Tensor]:
    """The result, and the gradients of its weighted sum in what it depends on."""
    return with_gradients_of(function(tree, *given), function, given)


def with_gradients_of(result: Tensor, function: Function, given: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 2, result.numel()).reshape(result.shape).to(result.dtype)
    needed = given if function is density else given[:2]
    return [result, *torch.autograd.grad((result * weights).sum(), needed)]


def by_reference(function: Function, tree: LpNestedTree, given: list[Tensor]) -> list[Tensor]:
    with using("reference"):
        return with_gradients(function, tree, given)


def conditions(function: Function, tree: LpNestedTree, given: list[Tensor]) -> list[Tensor]:
    """Of the result and of its gradients, in float64; every row has parameters of its own."""
    value, *parameters = (x.detach().double() for x in given)
    largest = max(x.max() for x in parameters)
    rows = [x.expand(*value.shape[:-1], *x.shape[x.dim() :], *x.shape) for x in parameters]
    alone = [x.clone().requires_grad_() for x in (value, *rows)]
    result, in_value, *in_parameters = by_reference(function, tree, alone)
    log2_norm = F.log_norm(value, parameters[0], tree).unsqueeze(-1) / math.log(2)
    distance = torch.where(value == 0, 0.0, value.abs().log2() - log2_norm).abs()
    factor = 1 + largest * (1 + distance)
    terms = tree.dim + 1  # of the normaliser, about
    slope = in_value.mul(value).sum(-1).abs()  # in log f; for a density n - d - p (f / s)^p
    excess = parameters[1] - tree.dim if function is density else 0.0
    parts = 1 + 2 * excess / torch.where(slope == 0, 1.0, slope)
    return [
        result.abs() + slope + terms,
        in_value.abs() * factor * parts.unsqueeze(-1),
        *((x.abs() * (1 + largest) + terms).sum(0) for x in in_parameters),
    ]


def assert_equals_reference(function: Function, tree: LpNestedTree, given: list[Tensor]) -> None:
    """Within 8 eps of the condition; in float64 within what the reference is right to."""
    found = with_gradients(function, tree, given)
    exact = by_reference(function, tree, [x.detach().double().requires_grad_() for x in given])
    for got, want, condition in zip(found, exact, conditions(function, tree, given), strict=True):
        limits = torch.finfo(got.dtype)
        within = 256 if given[0].dtype == f64 else 8
        allowed = within * limits.eps * condition + limits.tiny
        assert ((got.double() - want).abs() <= allowed).all()


@both
@every_dtype
@every_tree
def test_value_and_gradients_are_those_of_the_reference(
    tree: LpNestedTree, dtype: torch.dtype, function: Function
) -> None:
    for num in (1, 2, 63, 64, 65, 127, 128, 129, 1000):  # a block has 64 rows
        assert_equals_reference(function, tree, inputs(tree, num, dtype))


@both
@every_dtype
def test_a_row_does_not_depend_on_its_place(dtype: torch.dtype, function: Function) -> None:
    tree = TREES["ragged"]
    value, *parameters = inputs(tree, 130, dtype)
    whole = function(tree, value, *parameters)
    for k in (0, 63, 64, 129):
        assert torch.equal(function(tree, value[k:], *parameters), whole[k:])


# Layouts ----------------------------------------------------------------------------------------


def layouts(tree: LpNestedTree) -> dict[str, Tensor]:
    value = inputs(tree, 130)[0].detach()
    wide = torch.randn(130, 2 * tree.dim + 3)
    return {
        "transposed": value.t().contiguous().t(),
        "every other row": value[::2],
        "every other column": wide[:, 1 : 1 + 2 * tree.dim : 2],
        "columns of a wider one": wide[:, 2 : 2 + tree.dim],
        "repeated rows": value[3].expand(70, -1),
        "repeated coordinates": value[:, :1].expand(-1, tree.dim),
        "three dimensions": value.reshape(2, 65, -1).transpose(0, 1),
        "one row": value[0],
        "no rows": value[:0],
        "no rows of three": value[:0].reshape(0, 3, tree.dim),
    }


@both
@every_tree
def test_the_layout_of_a_value_does_not_matter(tree: LpNestedTree, function: Function) -> None:
    _, *parameters = inputs(tree, 1)
    for name, value in layouts(tree).items():
        plain = value.contiguous().clone()
        found, expected = (
            with_gradients(function, tree, [x.requires_grad_(), *parameters])
            for x in (value.detach(), plain)
        )
        for mine, other in zip(found, expected, strict=True):
            assert torch.equal(mine, other), name


def test_a_gradient_of_any_layout_comes_back() -> None:
    tree = TREES["isa"]
    given = inputs(tree, 66)
    result = density(tree, *given)
    one = torch.rand(66)
    wide = torch.stack([one, one], 1)[:, 0]
    found, expected = (
        torch.autograd.grad(result, given, w, retain_graph=True) for w in (wide, one)
    )
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine, other)


BATCHES = [
    ((5, 3), (3,)),
    ((3,), (3,)),
    ((), (3,)),
    ((70, 1), (3,)),
    ((4, 2, 3), (2, 3)),
    ((4, 1, 3), (2, 3)),
    ((3,), (2, 3)),
    ((2, 1), (2, 3)),
    ((2, 3), (2, 1)),
    ((9, 2, 3), (1, 3)),
    ((5, 0), (0,)),
    ((0, 3), (3,)),
]


@pytest.mark.parametrize(("rows", "batch"), BATCHES)
@both
def test_batches_of_parameters_are_the_loop(
    function: Function, rows: tuple[int, ...], batch: tuple[int, ...]
) -> None:
    tree = TREES["ragged"]
    value = torch.randn(*rows, tree.dim).requires_grad_()
    exponents = (0.5 + 2 * torch.rand(*batch, tree.num_nodes)).requires_grad_()
    radius = [(1 + torch.rand(batch)).requires_grad_() for _ in range(3)]
    given = [value, exponents, *radius]
    found = with_gradients(function, tree, given)
    assert found[0].shape == torch.broadcast_shapes(rows, batch)
    for mine, other in zip(found, by_reference(function, tree, given), strict=True):
        assert_close(mine, other, rtol=2e-4, atol=2e-5)
    shape = found[0].shape
    alike = function(tree, *(x.detach() for x in given)).flatten()
    flat = [x.detach().expand(*shape, -1).reshape(-1, x.shape[-1]) for x in given[:2]]
    scalars = [x.detach().expand(shape).reshape(-1) for x in radius]
    alone = [function(tree, *(x[k] for x in (*flat, *scalars))) for k in range(shape.numel())]
    assert torch.equal(alike, torch.stack(alone) if alone else torch.empty(0))


def test_parameters_of_any_stride() -> None:
    tree = TREES["ragged"]
    table = 0.5 + torch.rand(2 * tree.num_nodes, 6)
    exponents = table[::2, ::2].t()
    value = torch.randn(7, 3, tree.dim)
    scale = torch.tensor(2.0).expand(3)
    p = torch.rand(6)[::2] + 1
    radial = GeneralizedGamma(tree.dim, p, scale)
    plain = GeneralizedGamma(tree.dim, p.clone(), scale.clone())
    found = LpNested(tree, exponents, radial).log_prob(value)
    assert torch.equal(found, LpNested(tree, exponents.contiguous(), plain).log_prob(value))


# Precision --------------------------------------------------------------------------------------


@both
def test_mixed_precision_is_that_of_the_reference(function: Function) -> None:
    tree = TREES["ragged"]
    for dtypes in ((f32, f64, f64), (f64, f32, f32), (f32, f32, f64), (f32, f64, f32)):
        value, exponents, *radius = inputs(tree, 70, f64)
        given = [value.to(dtypes[0]), exponents.to(dtypes[1]), *(x.to(dtypes[2]) for x in radius)]
        given = [x.detach().requires_grad_() for x in given]
        found, expected = (f(function, tree, given) for f in (with_gradients, by_reference))
        exact = function is norm and dtypes[0] == f64
        for mine, other in zip(found, expected, strict=True):
            assert mine.dtype == other.dtype
            assert_close(mine, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())
        assert found[0].dtype == (f64 if f64 in dtypes[:2] or exact else f32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64], ids=str)
@both
def test_values_of_other_types(function: Function, dtype: torch.dtype) -> None:
    tree = TREES["isa"]
    _, *parameters = inputs(tree, 1)
    value = (3 * torch.randn(70, tree.dim)).to(dtype)
    if dtype == torch.int64:
        assert torch.equal(
            function(tree, value, *parameters), function(tree, value.float(), *parameters)
        )
        return
    found, expected = (
        with_gradients(function, tree, [x.requires_grad_(), *parameters])
        for x in (value.clone(), value.float())
    )
    assert found[0].dtype == f32 and found[1].dtype == dtype
    assert torch.equal(found[1], expected[1].to(dtype))
    for mine, other in zip(found[::2], expected[::2], strict=True):
        assert torch.equal(mine, other)


def test_special_rows_are_those_of_the_reference() -> None:
    tree, nan, inf = TREES["ragged"], math.nan, math.inf
    tiny = torch.finfo(f32).smallest_normal
    row = torch.randn(tree.dim)
    rows = [row]
    for x in (nan, inf, -inf, 0.0, tiny, tiny / 8, 1e-45, torch.finfo(f32).max):
        rows += [torch.cat([torch.tensor([x]), row[1:]]), torch.full((tree.dim,), x)]
    rows += [torch.tensor([inf, nan, *row[2:].tolist()])]
    given = [torch.stack(rows).requires_grad_(), *inputs(tree, 1)[1:]]
    for function in (density, norm):
        found, expected = (f(function, tree, given)[:2] for f in (with_gradients, by_reference))
        for mine, other in zip(found, expected, strict=True):
            assert_close(mine, other, rtol=1e-4, atol=0, equal_nan=True)


@every_dtype
def test_rows_at_the_ends_of_the_range_move_no_parameter(dtype: torch.dtype) -> None:
    p0, p, scale = (torch.tensor(x, dtype=dtype).requires_grad_() for x in (2.1, [2.2, 1.4], 1.3))
    value = torch.randn(6, 5, dtype=dtype)
    rest = value.clone()
    value[1, 0], value[2, 3], value[4, 1] = 1e30, math.inf, -math.inf
    value[1] *= 1e200 if dtype == f64 else 1
    weights = torch.linspace(1, 2, 6, dtype=dtype)
    dist = ISA([2, 3], p0, p, scale, validate_args=False)
    grads = torch.autograd.grad(dist.log_prob(value), (p0, p, scale), weights)
    weights[[1, 2, 4]] = 0
    without = torch.autograd.grad(dist.log_prob(rest), (p0, p, scale), weights)
    assert_close(grads, without)


def test_parameters_that_are_none_give_nan() -> None:
    tree = TREES["ragged"]
    given = [x.detach() for x in inputs(tree, 3)]
    for k in range(1, 5):
        for wrong in (math.nan, -1.0, 0.0):
            changed = [x.clone() for x in given]
            changed[k].view(-1)[0] = wrong
            result = density(tree, *changed)
            with using("reference"):
                expected = density(tree, *changed)
            assert result.isnan().all() or not expected.isnan().any()


# Transforms -------------------------------------------------------------------------------------


def isa_log_prob(value: Tensor, p: Tensor) -> Tensor:
    return ISA([2, 3], 2.1, p, 1.3, validate_args=False).log_prob(value)


def test_vmap_is_the_loop() -> None:
    value, p = torch.randn(4, 6, 5), torch.rand(4, 2) + 1
    found = torch.func.vmap(isa_log_prob)(value, p)
    expected = torch.stack([isa_log_prob(x, y) for x, y in zip(value, p, strict=True)])
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_grad_and_jacobians_are_those_of_autograd() -> None:
    value, p = torch.randn(6, 5).requires_grad_(), (torch.rand(2) + 1).requires_grad_()
    expected = torch.autograd.grad(isa_log_prob(value, p).sum(), (value, p))
    found = torch.func.grad(lambda *x: isa_log_prob(*x).sum(), (0, 1))(value, p)
    over_rows = torch.func.vmap(torch.func.jacrev(isa_log_prob), (0, None))(value, p)
    by_vmap = torch.func.jacrev(lambda x: torch.func.vmap(isa_log_prob, (0, None))(x, p))(value)
    inside = by_vmap.diagonal(dim1=0, dim2=1).T
    for mine in (found[0], over_rows, inside):
        assert_close(mine, expected[0], rtol=1e-4, atol=1e-5)
    assert_close(found[1], expected[1], rtol=1e-4, atol=1e-5)


def test_forward_mode_is_not_zero() -> None:
    value, p = torch.randn(6, 5), torch.rand(2) + 1
    tangents = torch.randn(6, 5), torch.randn(2)
    _, found = torch.func.jvp(isa_log_prob, (value, p), tangents)
    jacobians = torch.autograd.functional.jacobian(isa_log_prob, (value, p))
    expected = (jacobians[0] * tangents[0]).sum((1, 2)) + jacobians[1] @ tangents[1]
    assert found.abs().min() > 0
    assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with forward_ad.dual_level():
        dual = isa_log_prob(forward_ad.make_dual(value, tangents[0]), p)
        assert forward_ad.unpack_dual(dual).tangent.abs().min() > 0


@both
@every_tree
def test_second_derivatives_are_those_of_the_reference(
    tree: LpNestedTree, function: Function
) -> None:
    given = [x.detach() + 0.5 for x in inputs(tree, 6)]
    given = [x.abs().clamp(0.3, 60).requires_grad_() for x in given]
    needed = given if function is density else given[:2]

    def seconds() -> tuple[Tensor, ...]:
        first = torch.autograd.grad(function(tree, *given).sum(), needed, create_graph=True)
        return torch.autograd.grad(sum(x.square().sum() for x in first), needed)

    found = seconds()
    with using("reference"):
        expected = seconds()
    for mine, other in zip(found, expected, strict=True):
        assert_close(mine, other, rtol=1e-3, atol=1e-3 * (1 + other.abs().max().item()))


def test_a_gradient_that_has_a_gradient_is_the_same_one() -> None:
    """Inputs are made of one another here: p0 is an exponent too, the scale is of the value."""
    p0, p = torch.tensor(2.1).requires_grad_(), torch.tensor([2.2, 1.4]).requires_grad_()
    value = torch.randn(7, 5).requires_grad_()
    for scale in (torch.tensor(1.3), 1 + value.detach()[0, 0].abs(), value.square().mean(), p0):
        result = ISA([2, 3], p0, p, scale, validate_args=False).log_prob(value).sum()
        once, twice = (
            torch.autograd.grad(result, (p0, p, value), retain_graph=True, create_graph=again)
            for again in (False, True)
        )
        assert_close(twice, once, rtol=1e-5, atol=1e-5)


def test_hessian_is_the_jacobian_of_the_gradient() -> None:
    value, p = torch.rand(5, dtype=f64) + 0.5, torch.rand(2, dtype=f64) + 1.5
    hessian = torch.func.hessian(lambda x: isa_log_prob(x, p))(value)
    assert hessian.abs().max() > 0.1
    by_autograd = torch.autograd.functional.hessian(lambda x: isa_log_prob(x, p), value)
    assert_close(hessian, by_autograd)


def test_batched_gradients_take_what_comes_back_in_a_batch() -> None:
    value = torch.randn(5, 5).requires_grad_()
    result = isa_log_prob(value, torch.tensor([1.5, 2.0]))
    (batched,) = torch.autograd.grad(result, value, torch.eye(5), is_grads_batched=True)
    (once,) = torch.autograd.grad(isa_log_prob(value, torch.tensor([1.5, 2.0])).sum(), value)
    assert_close(batched.sum(0), once, rtol=1e-4, atol=1e-5)


# Tracers ----------------------------------------------------------------------------------------


def every_call(tree: LpNestedTree) -> dict[object, tuple[object, ...]]:
    value, exponents, *radius = (x.detach() for x in inputs(tree, 70))
    batch = [exponents.expand(2, -1), *(x.expand(2) for x in radius)]
    value = value.reshape(35, 2, -1)
    saved = calls.density(value, *batch, tree.code, True, True)
    return {
        calls.density: (value, *batch, tree.code, True, True),
        calls.density_backward: (torch.rand(35, 2), *saved[1:], *batch, tree.code),
        calls.norm: (value, batch[0], tree.code),
        calls.norm_backward: (
            torch.rand(35, 2, dtype=f64),
            value,
            batch[0],
            tree.code,
            True,
            True,
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("place", range(4), ids=lambda k: ("density", "back", "norm", "back")[k])
def test_operations_are_what_their_fakes_say(place: int) -> None:
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    operation, given = list(every_call(TREES["ragged"]).items())[place]
    opcheck(operation, given, test_utils=tests)


def test_operations_refuse_what_does_not_fit() -> None:
    tree = TREES["ragged"]
    given = every_call(tree)
    wrong = {
        "nodes": (calls.norm, 1, torch.ones(2, tree.num_nodes + 1)),
        "dtype of exponents": (calls.norm, 1, torch.ones(2, tree.num_nodes).half()),
        "dtype of value": (calls.norm, 0, torch.ones(35, 2, tree.dim).double()),
        "shape of value": (calls.norm, 0, torch.ones(35, 2, tree.dim - 1)),
        "batch of value": (calls.density, 0, torch.ones(35, 3, tree.dim)),
        "dtype of p": (calls.density, 3, torch.ones(2).double()),
        "weights": (calls.density_backward, 0, torch.rand(34, 2)),
        "dtype of weights": (calls.density_backward, 0, torch.rand(35, 2).double()),
        "saved": (calls.density_backward, 1, torch.rand(34, 2, tree.dim)),
        "layout of saved": (calls.density_backward, 1, torch.rand(tree.dim, 2, 35).mT),
        "dtype of saved": (calls.density_backward, 2, torch.rand(7, 35, 2).double()),
        "weights of norm": (calls.norm_backward, 0, torch.rand(34, 2).double()),
        "dtype of weights of norm": (calls.norm_backward, 0, torch.rand(35, 2)),
    }
    for operation, place, tensor in wrong.values():
        changed = list(given[operation])
        changed[place] = tensor
        with pytest.raises((ValueError, RuntimeError)):
            operation(*changed)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@both
def test_compiled_is_eager(function: Function, dynamic: bool) -> None:
    tree = TREES["ragged"]
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *x: function(tree, *x), fullgraph=True, dynamic=dynamic, backend="aot_eager"
    )
    for num in (7, 65):
        given = inputs(tree, num)
        found = with_gradients_of(compiled(*given), function, given)
        for mine, other in zip(found, with_gradients(function, tree, given), strict=True):
            assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_an_export_has_the_operation_in_it() -> None:
    class Prior(torch.nn.Module):
        def forward(self, value: Tensor) -> Tensor:
            return isa_log_prob(value, torch.tensor([1.5, 2.0]))

    value = torch.randn(9, 5)
    program = torch.export.export(
        Prior(), (value,), dynamic_shapes=({0: torch.export.Dim("rows")},)
    )
    assert calls.density in [node.target for node in program.graph.nodes]
    for rows in (value, torch.randn(70, 5)):
        assert torch.equal(program.module()(rows), Prior()(rows))


def test_inference_mode_and_no_grad_give_the_same_numbers() -> None:
    given = inputs(TREES["isa"], 70)
    expected = density(TREES["isa"], *given)
    for mode in (torch.inference_mode(), torch.no_grad()):
        with mode:
            assert_close(density(TREES["isa"], *given), expected, rtol=1e-5, atol=1e-5)
    fresh = LpNestedTree((1, (0, (2, 3))))  # a tree that was never used before
    with torch.inference_mode():
        density(fresh, *inputs(fresh, 3))
    result = density(fresh, *inputs(fresh, 3))
    result.sum().backward()


def test_autocast_leaves_the_precision_alone() -> None:
    given = inputs(TREES["isa"], 70)
    expected = with_gradients(density, TREES["isa"], given)
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(density, TREES["isa"], given)
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == f32 and torch.equal(mine, other)


def test_in_place_changes_of_a_value_are_caught() -> None:
    value, *rest = inputs(TREES["isa"], 5)
    moved = value * 1
    result = norm(TREES["isa"], moved, *rest)
    moved.data.mul_(1)
    moved.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


# Threads, processes, memory ---------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")  # puts the number back
@both
@every_dtype
def test_any_number_of_threads_gives_the_same_bits(dtype: torch.dtype, function: Function) -> None:
    tree = TREES["isa"]
    given = inputs(tree, 20_011, dtype)
    value = given[0]
    batch = [value, *(x.detach().expand(20_011, *x.shape).requires_grad_() for x in given[1:])]
    for arguments in (given, batch):
        found = []
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            found.append(with_gradients(function, tree, arguments))
        for other in found[1:]:
            assert all(torch.equal(x, y) for x, y in zip(found[0], other, strict=True))


FORKED = """
import os, torch
from lpnested import ISA
torch.set_num_threads(1)
value = torch.randn(5000, 20)
dist = ISA([4] * 5, 2.1, 2.2)
expected = dist.log_prob(value)
child = os.fork()
if not child:
    os._exit(0 if torch.equal(dist.log_prob(value), expected) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_of_one_thread_works() -> None:
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    subprocess.run(command, env=environment, check=True, timeout=120)


def peak(call: Callable[[], object], trace: Path) -> int:
    """The most bytes that torch holds at once during a call, beside those of before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    record = torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True)
    with record as profile:
        call()
    profile.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    steps = (event["args"]["Bytes"] for event in events if event.get("name") == "[memory]")
    return max(accumulate(steps), default=0)


@both
def test_value_and_gradient_take_two_and_a_half_times_the_value(
    function: Function, tmp_path: Path
) -> None:
    tree = TREES["isa"]
    value, *parameters = (x.detach() for x in inputs(tree, 100_000))
    value.requires_grad_()

    def call() -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(tree, value, *parameters).sum(), value)

    call()
    assert value.nbytes <= peak(call, tmp_path / "trace.json") <= 2.5 * value.nbytes
