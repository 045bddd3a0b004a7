"""torch's contract: compilation, and no look at the data."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Distribution
from torch.testing import assert_close

from backends import once
from cases import NESTED, Case, each, named
from lpnested import ISA

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("backend")]

f64 = torch.float64


# Compilation -----------------------------------------------------------------------------------


def assert_compiled_is_eager(name: str, dtype: torch.dtype, compiler: str) -> None:
    """fullgraph, value and gradient in value and parameters."""
    Distribution.set_default_validate_args(False)
    case = named(name)[0]
    value = case.draw(5).to(dtype)

    def log_prob(tensors: dict[str, Tensor], value: Tensor) -> Tensor:
        return case.build(**tensors).log_prob(value)

    results = []
    torch._dynamo.reset()
    for function in (log_prob, torch.compile(log_prob, fullgraph=True, backend=compiler)):
        tensors, point = case.tensors(dtype, requires_grad=True), value.clone().requires_grad_()
        got = function(tensors, point)
        grads = torch.autograd.grad(got.sum(), [point, *tensors.values()])
        results.append((got.detach(), *grads))
    torch._dynamo.reset()
    rtol, atol = (1e-5, 1e-6) if dtype == torch.float32 else (1e-10, 1e-11)
    for eager, fast in zip(*results, strict=True):
        assert_close(fast, eager, rtol=rtol, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [("isa_ragged", torch.float32), ("ragged", f64)])
def test_traced_log_prob_and_gradients_equal_eager(name: str, dtype: torch.dtype) -> None:
    """Forward and backward are one graph each; what is made of them is the compiler's."""
    assert_compiled_is_eager(name, dtype, "aot_eager")


@pytest.mark.slow
def test_compiled_log_prob_and_gradients_equal_eager(backend: str) -> None:
    """By torch's own compiler: one tree and dtype for each backend, as it takes its time."""
    name, dtype = {"kernels": ("isa_ragged", torch.float32), "reference": ("ragged", f64)}[backend]
    assert_compiled_is_eager(name, dtype, "inductor")


@once
@pytest.mark.slow
def test_a_compiled_radius_equals_eager() -> None:
    assert_compiled_is_eager("radius", torch.float32, "inductor")


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
