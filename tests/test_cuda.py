"""On a GPU: the CPU's numbers, no wait for the host, and calls that a CUDA graph can replay.

`python -m pytest -m cuda tests/test_cuda.py` where a GPU is; `-k "not compiled"` leaves out what
takes minutes. The first laws need none: they read the operations of a call, on tensors without
numbers that take the way of every device but the CPU.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from cases import CASES, UNIVARIATE, Case, each, named
from lpnested import ISA, GeneralizedNormal
from lpnested.nn import Learnable
from lpnested.ops import library

f32, f64 = torch.float32, torch.float64
each_dtype = pytest.mark.parametrize("dtype", [f32, f64], ids=["float32", "float64"])
# torch's constructors of these upload a number, so they are made before a capture, not in it.
UPLOADED = named("chi2", "half_normal", "half_cauchy")
LEARNED = [case for case in CASES if case not in UPLOADED]

Call = Callable[[], tuple[Tensor, ...]]


@pytest.fixture(autouse=True)
def unvalidated() -> Iterator[None]:
    """Validation reads its tensors: whoever wants no wait turns it off."""
    validates = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    torch.manual_seed(0)
    yield
    Distribution._validate_args = validates
    if torch.cuda.is_available():  # a capture that failed leaves its stream behind
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.set_stream(torch.cuda.default_stream())


def values(case: Case, dtype: torch.dtype, num: int = 64) -> Tensor:
    """Typical ones, on the CPU."""
    return case.make().sample((num,)).to(dtype)


def fixed(case: Case, dtype: torch.dtype, value: Tensor) -> Call:
    """log_prob of a distribution that was made before, and its gradient in the value."""
    dist = case.make(dtype, device=value.device)
    value.requires_grad_()

    def call() -> tuple[Tensor, ...]:
        log_prob = dist.log_prob(value)
        return log_prob.detach(), *torch.autograd.grad(log_prob.mean(), value)

    return call


def learned(case: Case, dtype: torch.dtype, value: Tensor) -> Call:
    """log_prob, and its gradients in the value and in every parameter."""
    tensors = case.tensors(dtype, device=value.device, requires_grad=True)
    value.requires_grad_()

    def call() -> tuple[Tensor, ...]:
        log_prob = case.build(**tensors).log_prob(value)
        grads = torch.autograd.grad(log_prob.mean(), [value, *tensors.values()])
        return log_prob.detach(), *grads

    return call


def assert_near(got: Iterable[Tensor], expected: Iterable[Tensor], case: Case) -> None:
    """To 1e-10; in float32 to twice what each is exact to, and less by a radius of torch's own."""
    for index, (here, there) in enumerate(zip(got, expected, strict=True)):
        rtol, atol = 1e-10, 1e-10
        if there.dtype == f32:
            rtol, atol = 4e-6, 4e-6 if index < 2 else 1e-5
        if there.dtype == f32 and case.name == "unregistered":
            rtol, atol = 2e-5, 2e-5
        assert_close(here.cpu(), there.cpu(), rtol=rtol, atol=atol)


# Without a GPU ----------------------------------------------------------------------------------

# Each waits for the device, or brings what the host has made. torch.normal reads its scale.
WAITS = {
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "lift_fresh"),
    *("masked_select", "unique", "_unique2", "unique_dim", "unique_consecutive", "bincount"),
    *("normal.Tensor_Tensor", "normal.float_Tensor"),
}


def tensors_in(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, (list, tuple)):
        for part in found:
            yield from tensors_in(part)


class Recorder(TorchDispatchMode):
    """What a call asks of the device: operations with the shapes of all that goes in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[str, list[torch.Size]]] = []
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._standard_gamma.default and args[0].device.type == "meta":
            result = torch.empty_like(args[0])  # torch 2.11 has none for tensors without numbers
        else:
            result = func(*args, **(kwargs or {}))
        tensors = list(tensors_in([args, list((kwargs or {}).values()), result]))
        self.operations.append((str(func), [x.shape for x in tensors]))
        name, overload = func._schema.name.removeprefix("aten::"), str(func).removeprefix("aten.")
        by_mask = name.startswith("index") and any(x.dtype == torch.bool for x in tensors[1:])
        between = len({x.device for x in tensors}) > 1
        if name in WAITS or overload in WAITS or by_mask or between:
            self.waits.append(str(func))
        return result


def assert_can_be_captured(call: Callable[[], object]) -> None:
    """After a first call: nothing that waits, and the same operations and shapes every time."""
    _, second, third = recorders = [Recorder(), Recorder(), Recorder()]
    for recorder in recorders:
        with recorder:
            call()
    assert second.waits == []
    assert second.operations == third.operations


off_gpu = pytest.mark.parametrize(  # a GPU has float32 most often, and the reference
    ("place", "dtype"), [("cpu", f64), ("meta", f32)], ids=str
)


@pytest.mark.slow
@off_gpu
@each()
def test_log_prob_and_its_gradients_do_nothing_that_a_capture_forbids(
    case: Case, dtype: torch.dtype, place: str
) -> None:
    value = values(case, dtype).to(place)
    assert_can_be_captured(fixed(case, dtype, value))
    if case in LEARNED:
        assert_can_be_captured(learned(case, dtype, value))


@off_gpu
@each()
def test_sampling_does_nothing_that_a_capture_forbids(
    case: Case, dtype: torch.dtype, place: str
) -> None:
    """On a CPU by the way that a GPU takes."""
    dist = case.make(dtype, device=place)
    with library.using("off"):
        assert_can_be_captured(lambda: dist.sample((2000,)))


def test_many_values_take_no_more_operations_than_a_few() -> None:
    case = named("isa")[0]
    few, many = (torch.empty(num, 5, device="meta") for num in (8, 2**24))
    counts = []
    for value in (few, many):
        call = learned(case, f32, value)
        assert_can_be_captured(call)
        with Recorder() as recorder:
            call()
        counts.append(len(recorder.operations))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "what",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.index_put_((x > 0,), torch.zeros_like(x[0])),
        lambda x: x.masked_select(x > 0),
        lambda x: bool((x > 0).all()),
        lambda x: x * torch.tensor(2.0),
        lambda x: torch.normal(x, x.abs()),
        lambda x: torch.empty(4, device="meta").copy_(x),
        lambda x: x.to("meta"),
    ],
)
def test_what_a_capture_forbids_is_found(what: Callable[[Tensor], object]) -> None:
    with Recorder() as recorder:
        what(torch.ones(4))
    assert recorder.waits


def test_a_call_that_depends_on_its_numbers_is_found() -> None:
    numbers = iter([2, 3, 4])
    with pytest.raises(AssertionError):
        assert_can_be_captured(lambda: torch.zeros(next(numbers)).exp())


# The numbers of the CPU ------------------------------------------------------------------------


@pytest.mark.cuda
@each_dtype
@each()
def test_cuda_log_prob_and_gradients_are_those_of_the_cpu(case: Case, dtype: torch.dtype) -> None:
    value = values(case, dtype)
    expected = learned(case, dtype, value)()
    assert_near(learned(case, dtype, value.detach().cuda())(), expected, case)
    assert_near(fixed(case, dtype, value.detach().cuda())(), expected[:2], case)


@pytest.mark.cuda
@each()
def test_cuda_closed_forms_are_those_of_the_cpu(case: Case) -> None:
    here, there = case.make(), case.make(device="cuda")
    names = ["mean", "variance"]
    names += ["log_surface_area", "log_volume"] if case.nested else []
    names += ["mode"] if case.name not in ("mixture", "unregistered") else []
    pairs = [(getattr(here, name), getattr(there, name)) for name in names]
    pairs += [(here.entropy(), there.entropy())] if case.entropy else []
    if case.nested:
        orders = [2.0] + [0.0] * (case.event[0] - 1)
        pairs.append((here.moment(orders), there.moment(orders)))
    for expected, got in pairs:
        assert got.device.type == "cuda"
        assert_close(got.cpu(), expected, rtol=1e-10, atol=1e-10, equal_nan=True)


@pytest.mark.cuda
@each(UNIVARIATE)
def test_cuda_cdf_is_that_of_the_cpu(case: Case) -> None:
    value = values(case, f64)
    got = case.make(device="cuda").cdf(value.cuda())
    assert_close(got.cpu(), case.make().cdf(value), rtol=1e-9, atol=1e-12)


@pytest.mark.cuda
def test_cuda_numbers_take_the_device_of_the_tensor_beside_them() -> None:
    p = torch.full((5,), 2.2, device="cuda")
    prior = ISA.unit_variance([4] * 5, p0=2.1, p=p)
    factors = [prior, prior.marginal(1), *prior.subspaces, prior.expand((3,))]
    assert {dist.sample((2,)).device.type for dist in factors} == {"cuda"}
    assert {GeneralizedNormal(0.0, 1.0, p).sample().device.type} == {"cuda"}


@pytest.mark.cuda
def test_cuda_a_learned_prior_moves_with_its_module() -> None:
    z, grads = torch.randn(50, 8), []
    for place in ("cpu", "cuda"):
        prior = Learnable(ISA, [4, 4], p0=2.0, p=torch.full((2,), 2.1), learn=("p",)).to(place)
        prior().log_prob(z.to(place)).mean().backward()
        grads.append(prior.unconstrained["p"].grad.cpu())
    assert_close(grads[1], grads[0], rtol=1e-5, atol=1e-5)


@pytest.mark.cuda
def test_cuda_many_rows_are_those_of_their_parts_and_of_the_cpu() -> None:
    """Two chunks against one for each half."""
    tree_sizes, num = [4] * 5, 2**22

    def both(z: Tensor) -> tuple[Tensor, ...]:
        p = torch.full((5,), 2.2, device=z.device, requires_grad=True)
        z = z.detach().requires_grad_()
        log_prob = ISA(tree_sizes, 2.1, p).log_prob(z)
        return log_prob.detach(), *torch.autograd.grad(log_prob.sum(), (z, p))

    z = torch.randn(num, 20, device="cuda")
    whole, halves = both(z), [both(part) for part in z.chunk(2)]
    for index in (0, 1):
        parts = torch.cat([half[index] for half in halves])
        assert_close(whole[index], parts, rtol=1e-6, atol=1e-6)
    in_p = sum(half[2] for half in halves)
    assert_close(whole[2], in_p, rtol=1e-4, atol=1e-6 * num)  # a sum of terms that cancel
    for got, expected in zip(whole[:2], both(z[::4001].cpu())[:2], strict=True):
        assert_close(got[::4001].cpu(), expected, rtol=4e-6, atol=4e-6)


# Draws ------------------------------------------------------------------------------------------


def assert_same_law(draws: Tensor, case: Case) -> None:
    """The mean of log |x| and of the sign within five standard errors of the CPU's own draws."""
    expected = case.make(f32).sample((2**16,)).to(f64)
    draws = draws.to(f64).cpu()
    assert draws.isfinite().all()
    for statistic in (lambda x: x.abs().log(), torch.sign):
        mine, other = statistic(draws), statistic(expected)
        error = (mine.var(0) / len(mine) + other.var(0) / len(other)).sqrt()
        assert ((mine.mean(0) - other.mean(0)).abs() <= 5 * error + 1e-12).all()


@pytest.mark.cuda
@each()
def test_cuda_draws_have_the_law_of_the_cpu(case: Case) -> None:
    assert_same_law(case.make(f32, device="cuda").sample((2**16,)), case)


# No wait for the host ---------------------------------------------------------------------------


def assert_never_waits(call: Callable[[], object]) -> None:
    call()  # index tensors are made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_cuda_a_wait_is_found() -> None:
    with pytest.raises(RuntimeError, match="synchroniz"):
        assert_never_waits(lambda: torch.ones(3, device="cuda").sum().item())


@pytest.mark.cuda
@each_dtype
@each()
def test_cuda_log_prob_its_gradients_and_sample_never_wait(case: Case, dtype: torch.dtype) -> None:
    value = values(case, dtype).cuda()
    assert_never_waits(fixed(case, dtype, value))
    if case in LEARNED:
        assert_never_waits(learned(case, dtype, value))
    dist = case.make(dtype, device="cuda")
    assert_never_waits(lambda: dist.sample((8,)))


# CUDA graphs ------------------------------------------------------------------------------------


def capture(call: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """The graph of a call, and the tensors that its replays write to."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    return graph, results


@pytest.mark.cuda
@each_dtype
@each()
def test_cuda_graph_of_log_prob_and_gradients_replays_on_new_values(
    case: Case, dtype: torch.dtype
) -> None:
    calls = [fixed, learned] if case in LEARNED else [fixed]
    for make in calls:
        first, second = values(case, dtype).cuda(), values(case, dtype).cuda()
        expected = make(case, dtype, second.clone())()
        graph, results = capture(make(case, dtype, first))
        with torch.no_grad():
            first.copy_(second)
        graph.replay()
        assert_near(results, expected, case)


@pytest.mark.cuda
@each()
def test_cuda_graph_of_sample_draws_anew_from_the_same_law(case: Case) -> None:
    dist = case.make(f32, device="cuda")
    graph, draws = capture(lambda: dist.sample((2**14,)))
    replays = []
    for _ in range(4):
        graph.replay()
        replays.append(draws.clone())
    assert not any(torch.equal(replays[0], other) for other in replays[1:])
    assert_same_law(torch.cat(replays), case)


# By Triton --------------------------------------------------------------------------------------


@pytest.fixture
def by_triton() -> Iterator[None]:
    from triton_backend import serving

    with serving():
        yield


@pytest.mark.cuda
@pytest.mark.usefixtures("by_triton")
@each_dtype
@each()
def test_cuda_triton_log_prob_and_gradients_are_those_of_the_cpu(
    case: Case, dtype: torch.dtype
) -> None:
    value = values(case, dtype)
    expected = learned(case, dtype, value)()
    call = learned(case, dtype, value.detach().cuda())
    assert_near(call(), expected, case)
    if case in LEARNED:
        assert_never_waits(call)


@pytest.mark.cuda
@pytest.mark.usefixtures("by_triton")
@each_dtype
@each(LEARNED)
def test_cuda_triton_graph_replays_on_new_values(case: Case, dtype: torch.dtype) -> None:
    first, second = values(case, dtype).cuda(), values(case, dtype).cuda()
    expected = learned(case, dtype, second.clone())()
    graph, results = capture(learned(case, dtype, first))
    with torch.no_grad():
        first.copy_(second)
    graph.replay()
    assert_near(results, expected, case)


# Compiled: minutes the first time --------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("name", "dtype"), [("isa_ragged", f32), ("ragged", f64), ("radius", f32)]
)
def test_cuda_compiled_log_prob_and_gradients_equal_eager(name: str, dtype: torch.dtype) -> None:
    case = named(name)[0]
    value = values(case, dtype, 5).cuda().requires_grad_()

    def log_prob(tensors: dict[str, Tensor], value: Tensor) -> Tensor:
        return case.build(**tensors).log_prob(value)

    results = []
    for function in (log_prob, torch.compile(log_prob, fullgraph=True)):
        tensors = case.tensors(dtype, device="cuda", requires_grad=True)
        got = function(tensors, value)
        grads = torch.autograd.grad(got.mean(), [value, *tensors.values()])
        results.append((got.detach(), *grads))
    torch._dynamo.reset()
    assert_near(results[1], results[0], case)
