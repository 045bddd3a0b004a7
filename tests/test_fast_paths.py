"""What is shared or laid out beforehand changes no result: batches, layouts, uniform numbers."""

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from lpnested import ISA, GeneralizedGamma, LpNested, LpNestedTree, layout
from lpnested import functional as F
from lpnested.gamma import symmetric_uniform

f32, f64 = torch.float32, torch.float64
TREES = {
    "isa": LpNestedTree.isa([4] * 5),
    "ragged": LpNestedTree(((3, (0, 5)), 1, (2, 4))),
    "one_child": LpNestedTree((((2,),), (0, (1, 3)))),
    "uneven": LpNestedTree.isa([1, 9, 2, 1, 7]),
}
every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


def inputs(tree: LpNestedTree, num: int = 50, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Values over many scales with zeros among them, and exponents, in float32."""
    torch.manual_seed(seed)
    value = torch.randn(num, tree.dim) * (3 * torch.randn(num, tree.dim)).exp()
    value[0], value[1, 0], value[2, 1:] = 0.0, 0.0, 0.0
    exponents = 0.3 + 5 * torch.rand(tree.num_nodes)
    return value.requires_grad_(), exponents.requires_grad_()


def test_an_expanded_batch_is_one_row_of_exponents() -> None:
    p = torch.tensor(2.2, requires_grad=True)
    wide = ISA([2, 2], 2.1, p).expand((3,))
    value = torch.randn(5, 3, 4)
    narrow = ISA([2, 2], 2.1, p)
    assert_close(wide.log_prob(value), narrow.log_prob(value))
    assert wide.log_prob(value[0, 0]).shape == (3,)
    grads = [torch.autograd.grad(d.log_prob(value).sum(), p)[0] for d in (wide, narrow)]
    assert_close(grads[0], grads[1])


def test_rows_of_expanded_exponents_have_gradients_of_their_own() -> None:
    tree = LpNestedTree.isa([2, 2])
    value, row = torch.randn(5, 3, 4), torch.tensor([2.0, 1.5, 3.0])
    grads = []
    for rows in (row.expand(3, 3).requires_grad_(), row.repeat(3, 1).requires_grad_()):
        grads += torch.autograd.grad(F.log_norm(value, rows, tree).sum(), rows)
    assert_close(*grads)


@pytest.mark.slow
def test_a_layout_that_a_transform_made_is_not_kept() -> None:
    tree = LpNestedTree((0, (1, 2)))
    layout._LAYOUTS.clear()
    point, exponents = torch.rand(3) + 1, torch.full((2,), 2.5)
    for _ in range(2):
        hessian = torch.func.hessian(lambda x: F.log_norm(x, exponents, tree).sum())(point)
        assert hessian.isfinite().all()


class Count(TorchDispatchMode):
    """Counts what is dispatched, views aside."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.kernels += not func.is_view and func is not torch.ops.aten.detach.default
        return func(*args, **(kwargs or {}))


def kernels(tree: LpNestedTree) -> tuple[int, int]:
    value = torch.randn(8, tree.dim, requires_grad=True)
    exponents = torch.full((tree.num_nodes,), 2.2)
    F.log_norm(value, exponents, tree)
    with Count() as forward:
        result = F.log_norm(value, exponents, tree)
    with Count() as backward:
        result.sum().backward()
    return forward.kernels, forward.kernels + backward.kernels


def test_the_number_of_kernels_does_not_depend_on_the_number_of_nodes() -> None:
    few, many = (kernels(LpNestedTree.isa([4] * k)) for k in (5, 500))
    assert few == many
    assert few[0] <= 48 and few[1] <= 92


# Draws ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_symmetric_uniforms_are_never_zero_and_symmetric(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    u = symmetric_uniform((10**6,), dtype, torch.device("cpu"))
    assert u.abs().min() > 0 and u.abs().max() < 1
    assert scipy.stats.kstest(u.double().numpy(), scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3
    step = torch.finfo(dtype).eps / 2
    assert ((u / step) % 2 == 1).all()


def test_uniforms_on_a_finer_grid_do_not_hit_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some devices draw multiples of 2^-25 below one half."""
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.full((3,), 0.5 - 2.0**-25))
    assert (symmetric_uniform((3,), f32, torch.device("cpu")).abs() > 0).all()


@pytest.mark.usefixtures("one_thread")  # puts the number back
def test_draws_do_not_depend_on_the_number_of_threads() -> None:
    dist, draws = ISA([4] * 5, 2.1, 2.2), []
    for count in (1, 2):
        torch.set_num_threads(count)
        torch.manual_seed(5)
        draws.append(dist.sample((30_000,)))
    assert_close(*draws, rtol=1e-5, atol=1e-6)  # the last digits may differ


# Compiling --------------------------------------------------------------------------------------


@pytest.mark.slow
@every_tree
def test_a_prior_that_is_built_in_compiled_code_needs_no_call_before(tree: LpNestedTree) -> None:
    """The layout of a tree that was never used is made while tracing."""
    value, exponents = inputs(tree, num=4)
    radial = GeneralizedGamma(tree.dim, 2.0, validate_args=False)

    def log_prob(value: Tensor, exponents: Tensor) -> Tensor:
        return LpNested(tree, exponents, radial, validate_args=False).log_prob(value)

    layout._LAYOUTS.clear()
    torch._dynamo.reset()
    try:
        compiled = torch.compile(log_prob, fullgraph=True, backend="aot_eager")
        ours = torch.autograd.grad(compiled(value, exponents).sum(), (value, exponents))
    finally:
        Distribution.set_default_validate_args(True)
    theirs = torch.autograd.grad(log_prob(value, exponents).sum(), (value, exponents))
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other, rtol=1e-5, atol=1e-5)
