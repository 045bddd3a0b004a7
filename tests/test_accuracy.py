"""The library against the 50-digit oracle: random trees, p in 0.1..200, |x| in 1e-30..1e30.

Where the exact value lies below what the dtype holds, the library saturates: a large finite
negative number. There only finiteness is asked for; a gradient is
compared wherever it and the value fit. Every backend is held to the same exact number.
"""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor

import oracle
import problems
from backends import in_turn
from lpnested import GeneralizedGamma, LpNested, LpNestedTree, strategies
from lpnested import functional as F
from oracle import Real, mp, mpf
from problems import Problem

f32, f64 = torch.float32, torch.float64
VALUE = {f64: 1e-12, f32: 2e-6}  # of max(1, |exact|)
GRADIENT = {f64: 1e-12, f32: 2e-6}  # of each component
LARGEST = {f64: mpf("1e250"), f32: mpf("3.4e38")}
# A gradient's component below this may underflow: shares of 1e-308 over ratios of 1e-60.
FLOOR = {f64: mpf("1e-240"), f32: mpf("1e-37")}
SMALLEST_LOG = -708.3964185322641  # log of the smallest normal float64: log_norm at the origin

# What broke other implementations: overflow of powers, underflow of shares, -inf padding, log 0.
HARD = [
    Problem((0, (1, 2)), [2.2, 2.2], [[1e30, 1e30, 1e-30]], 1.0),
    Problem(((0, 1), (2,), 3), [0.1, 0.3, 50.0], [[1e-30, 1e30, 0.0, 1.0]], 1.0),
    Problem((0, ((1, 2), 3)), [200.0, 0.1, 0.2], [[1e30, 1e-30, 1e-30, -1e30]], 1.0),
    Problem(
        (((0, 1), (2, 3, 4)),), [200.0, 0.5, 0.1, 200.0], [[0.0] * 5, [0.0, 0.0, 1, 1, 1]], 1.0
    ),
    Problem((0,), [0.1], [[1e-30], [0.0], [-1e30]], 1.0),
    Problem((0, 1, 2), [0.01], [[1.0, 0.0, 0.0], [0.0, 0.5, 1e-3]], 1.0),
    Problem((0, 1), [200.0], [[1.0, 1.0], [1.0, 0.9999999]], 1.0),
    # Terms of 115 leave a derivative of 2.9: none of them may be rounded to float32.
    Problem(tuple(range(24)), [1.0], [[1.0] * 19 + [1.7, 0.36, 2.7, 1.7, 3.0]], 1.0),
]


def hard(test):  # type: ignore[no-untyped-def]
    """Run the test on the hard problems as well."""
    for problem in HARD:
        test = example(problem)(test)
    return test


class Setting:
    """A problem as tensors of one dtype, and in the oracle at the values these tensors hold."""

    def __init__(self, problem: Problem, dtype: torch.dtype) -> None:
        self.root = problem.root
        self.tree = LpNestedTree(problem.root)
        self.exponents = torch.tensor(problem.exponents, dtype=dtype, requires_grad=True)
        self.value = torch.tensor(problem.rows, dtype=dtype, requires_grad=True)
        self.scale = torch.tensor(problem.scale, dtype=dtype, requires_grad=True)
        self.p = oracle.name_exponents(self.root, self.exponents.tolist())
        self.rows: list[list[float]] = self.value.tolist()

    def dist(self) -> LpNested:
        """ISA's law on any tree: the radius shares the root's exponent."""
        radial = GeneralizedGamma(self.tree.dim, self.exponents[0], self.scale)
        return LpNested(self.tree, self.exponents, radial)


def assert_near(got: Tensor, exact: Real, rtol: float, floor: Real, what: str) -> None:
    error = abs(mpf(got.item()) - exact)
    assert error <= rtol * abs(exact) + floor, f"{what}: {got.item()} for {mp.nstr(exact, 20)}"


@pytest.mark.slow
@given(problems.problems(max_rows=4, reach=37.0))
@example(Problem((0, (1, 2)), [0.1, 200.0], [[3.4e38] * 3, [1e-45, -3.4e38, 0.0]], 1.0))
@example(Problem((0, 1, 2), [200.0], [[3.4e38] * 3, [1e-45] * 3], 0.01))
@hard
def test_nothing_is_nan_or_infinite_up_to_what_float32_holds(problem: Problem) -> None:
    setting = Setting(problem, f32)
    inputs = (setting.value, setting.exponents)
    for backend in in_turn():
        log_prob = setting.dist().log_prob(setting.value)
        log_norm = F.log_norm(*inputs, setting.tree)
        norm = F.norm(*inputs, setting.tree)
        for result in (log_prob, log_norm, norm):
            assert result.isfinite().all(), backend
            for grad in torch.autograd.grad(result.sum(), inputs, retain_graph=True):
                assert grad.isfinite().all(), backend


@pytest.mark.slow
@given(problems.problems())
@hard
@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
def test_log_norm_is_exact(dtype: torch.dtype, problem: Problem) -> None:
    setting = Setting(problem, dtype)
    exact = [oracle.norm(setting.root, row, setting.p) for row in setting.rows]
    for backend in in_turn():
        results = F.log_norm(setting.value, setting.exponents, setting.tree)
        lengths = F.norm(setting.value, setting.exponents, setting.tree)
        for f, log_norm, length in zip(exact, results, lengths, strict=True):
            if f:
                assert_norm_near(log_norm, length, f, backend)
            else:
                assert length == 0.0 and log_norm == torch.tensor(SMALLEST_LOG, dtype=dtype)


def assert_norm_near(log_norm: Tensor, length: Tensor, exact: Real, backend: str) -> None:
    dtype, log = length.dtype, mp.log(exact)
    assert_near(log_norm, log, VALUE[dtype], VALUE[dtype], f"{backend}: log f")
    if FLOOR[dtype] < exact < torch.finfo(dtype).max:
        rtol = VALUE[dtype] * max(1, abs(log))  # f inherits the absolute error of log f
        assert_near(length, exact, rtol, mpf(0), f"{backend}: f")


@pytest.mark.slow
@given(problems.problems(max_rows=1))
@hard
def test_norm_gradient_is_exact_and_zero_at_zeros(problem: Problem) -> None:
    setting = Setting(problem, f64)
    row = setting.rows[0]
    exact = oracle.norm_gradient(setting.root, row, setting.p)
    for backend in in_turn():
        length = F.norm(setting.value[0], setting.exponents, setting.tree)
        (grad,) = torch.autograd.grad(length, setting.value)
        for x, got, want in zip(row, grad[0], exact, strict=True):
            assert got.isfinite()
            assert x or got == 0.0
            if abs(want) < LARGEST[f64]:
                assert_near(got, want, GRADIENT[f64], FLOOR[f64], f"{backend}: df/dx")


@pytest.mark.slow
@given(problems.problems(max_rows=1), st.data())
def test_gradient_at_an_exact_zero_is_zero(problem: Problem, data: st.DataObject) -> None:
    setting = Setting(problem, f32)
    zero = data.draw(st.integers(0, setting.tree.dim - 1))
    point = setting.value.detach()[0].clone()
    point[zero] = 0.0
    point.requires_grad_()
    for backend in in_turn():
        (grad,) = torch.autograd.grad(setting.dist().log_prob(point), point)
        assert grad[zero] == 0.0, backend


@pytest.mark.slow
@given(problems.problems(max_rows=1))
@hard
def test_log_surface_and_volume_are_exact_with_their_gradients(problem: Problem) -> None:
    setting = Setting(problem, f64)
    root, p = setting.root, setting.p
    log_s, log_v = oracle.log_surface(root, p), oracle.log_volume(root, p)
    slopes = oracle.log_surface_gradient(root, p)
    for backend in in_turn():
        surface = F.log_surface_area(setting.exponents, setting.tree)
        volume = F.log_volume(setting.exponents, setting.tree)
        assert_near(surface, log_s, 1e-12, mpf(1e-12), f"{backend}: log S")
        assert_near(volume, log_v, 1e-12, mpf(1e-12), f"{backend}: log V")
        (grad,) = torch.autograd.grad(surface, setting.exponents)
        for got, exact in zip(grad, slopes, strict=True):
            assert_near(got, exact, 1e-10, mpf(1e-10), f"{backend}: d log S/dp")


@pytest.mark.slow
@given(problems.problems(max_rows=1))
@hard
def test_entropy_is_exact(problem: Problem) -> None:
    setting = Setting(problem, f64)
    exact = oracle.isa_entropy(setting.root, setting.p, setting.scale.item())
    for backend in in_turn():
        assert_near(setting.dist().entropy(), exact, 1e-12, mpf(1e-12), f"{backend}: entropy")


@pytest.mark.slow
@given(problems.problems(max_rows=1), st.data())
def test_moments_are_exact(problem: Problem, data: st.DataObject) -> None:
    setting = Setting(problem, f64)
    dim = setting.tree.dim
    order = st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 4.0])
    orders = data.draw(st.lists(order, min_size=dim, max_size=dim))
    exact = oracle.log_sphere_moment(setting.root, orders, setting.p)
    for backend in in_turn():
        got = F.log_moment(torch.tensor(orders, dtype=f64), setting.exponents, setting.tree)
        assert_near(got, exact, 1e-11, mpf(1e-11), f"{backend}: log moment")


@pytest.mark.slow
@settings(max_examples=40)
@given(problems.problems(max_rows=1))
def test_variance_is_exact(problem: Problem) -> None:
    """At six coordinates: they differ by what lies above them."""
    setting = Setting(problem, f64)
    dim, p0 = setting.tree.dim, setting.p[setting.root]
    log_radial = oracle.log_radial_moment(dim, p0, setting.scale.item(), 2)
    exact = {
        i: log_radial + oracle.log_sphere_moment(setting.root, twice, setting.p)
        for i in range(0, dim, -(-dim // 6))
        for twice in [[2 if leaf == i else 0 for leaf in range(dim)]]
    }
    for backend in in_turn():
        variances = setting.dist().variance
        for i, log in exact.items():
            if abs(log) < 700:
                rtol = 1e-11 * max(1, abs(log))
                assert_near(variances[i], mp.exp(log), rtol, mpf(0), f"{backend}: variance")


@pytest.mark.slow
@given(st.data(), problems.roots(max_dim=12), problems.batch_shapes)
def test_batches_of_exponents_are_the_loop(
    data: st.DataObject, root: oracle.Node, shape: tuple[int, ...]
) -> None:
    """Every element of a batch of exponents gives its own number, as if it were alone."""
    tree = LpNestedTree(root)
    p = data.draw(strategies.exponents(tree, batch_shape=shape, dtype=f64))
    value = data.draw(strategies.values(tree, sample_shape=shape, dtype=f64))
    for backend in in_turn():
        got = F.log_norm(value, p, tree)
        assert got.shape == shape
        pairs = zip(value.reshape(-1, tree.dim), p.reshape(-1, tree.num_nodes), strict=True)
        alone = torch.stack([F.log_norm(*pair, tree) for pair in pairs])
        torch.testing.assert_close(got.reshape(-1), alone, rtol=1e-13, atol=1e-13, msg=backend)


@pytest.mark.slow
@given(problems.roots())
def test_nodes_are_listed_as_the_oracle_lists_them(root: oracle.Node) -> None:
    """Breadth first, root first: the order of the exponents, hence of every number above."""
    tree = LpNestedTree(root)
    assert list(tree.nodes) == oracle.breadth_first(root)
    assert tree.dim == oracle.size(root)
