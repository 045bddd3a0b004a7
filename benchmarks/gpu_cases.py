"""What gpu.py measures: the cases of every way of calling, the most important first."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from densities import FORWARD, MODES, NORMAL, OURS, Problem, ours, step
from gpu_kernels import kernels
from layouts import BY_NAME, Layout
from measure_memory import peak_on_cpu, peak_on_gpu
from measure_sample import GAMMA
from peers import independent
from plan import sync_of
from timing import Budget, Contender, interleave
from torch import Tensor
from torch.distributions import Gamma, Normal

EAGER, GRAPH, COMPILED = "eager", "CUDA graph", "compiled"
WAYS = (EAGER, GRAPH, COMPILED)
SAMPLE = "sample"
CALLS = (*MODES, SAMPLE)
TIME, KERNELS, COMPILE = "time", "kernels", "compile"
# One each, in this order. A profiler makes what follows it slower, and may end it.
PROCESSES = (EAGER, KERNELS, GRAPH, COMPILED)

LAYOUTS = ("5 x 4", "16 x 16", "ragged, 30 leaves")
COUNTS, TINY = (65_536, 2048, 1_000_000, 10_000_000), (64, 32)
LARGEST = 300_000_000  # numbers in z: the normal takes six times that to differentiate
LARGEST_SAMPLE = 256_000_000
LARGEST_GRAPH = 40_000_000  # beyond it launching costs nothing, and a graph keeps its memory
BUDGET = Budget(seconds=0.25, sample=1e-3, max_rounds=60)
TINY_BUDGET = Budget(seconds=0.0, sample=1e-4, min_rounds=2)


@dataclass(frozen=True)
class GpuCase:
    """One row: how something is called, on how many rows of which layout, and what of it."""

    way: str
    layout: str
    count: int
    call: str
    quantity: str = TIME

    @property
    def keys(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def numbers(self) -> int:
        return self.count * BY_NAME[self.layout].tree.dim

    @property
    def key(self) -> tuple[str, str]:
        """What is made, or compiled, once for all numbers of rows."""
        return self.layout, self.call

    @property
    def seconds(self) -> float:
        """What it may take, a little too much: a case is begun only where this is left."""
        if self.quantity == COMPILE:
            return 15.0
        return 0.5 + 1.2e-8 * self.numbers * (2 if self.call == SAMPLE else 1)

    @property
    def fits(self) -> bool:
        """Whether the memory of a card holds it, and it tells anything."""
        if self.way == COMPILED and self.call == SAMPLE:
            return self.count in (COUNTS[0], TINY[0])  # each number of rows is compiled anew
        largest = LARGEST_SAMPLE if self.call == SAMPLE else LARGEST
        return self.numbers <= (LARGEST_GRAPH if self.way == GRAPH else largest)


def plan(process: str, tiny: bool = False) -> list[GpuCase]:
    """The layout of the paper first and whole; then small ones of the others, then large ones."""
    way = EAGER if process == KERNELS else process  # a graph has the kernels of an eager call
    counts = TINY if tiny else COUNTS
    first, *others = LAYOUTS[:1] if tiny and way == COMPILED else LAYOUTS
    timed = [GpuCase(way, first, count, call) for call in CALLS for count in counts]
    timed += [GpuCase(way, name, n, call) for n in counts for name in others for call in CALLS]
    few = min(counts)
    counted = [GpuCase(way, name, few, c, KERNELS) for name in (first, *others) for c in CALLS]
    if process == COMPILED and not tiny:  # only a profiler, which a GPU has, sees their kernels
        timed += counted
    return [case for case in (counted if process == KERNELS else timed) if case.fits]


def described(cases: Iterable[GpuCase]) -> list[str]:
    """In words, those that differ in their number of rows together."""
    counts: dict[str, list[str]] = {}
    for case in cases:
        what = f"{case.quantity}, {case.way}, {case.layout}, {case.call}"
        counts.setdefault(what, []).append(f"{case.count:,}")
    return [f"{what}: N = {' and '.join(found)}" for what, found in counts.items()]


def never(tiny: bool = False) -> list[GpuCase]:
    """Those that are too large for a card."""
    counts = () if tiny else COUNTS
    every = [GpuCase(EAGER, name, n, call) for name in LAYOUTS for n in counts for call in CALLS]
    return [case for case in every if not case.fits]


@dataclass(frozen=True)
class OnDevice(Problem):
    """Values that are drawn where they are used: a CPU takes seconds for ten million rows."""

    def value(self) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(0)
        shape = (self.count, self.layout.tree.dim)
        z = torch.randn(shape, generator=generator, device=self.device)
        return z.requires_grad_(self.mode != FORWARD)


Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """Eager."""
    return function


@dataclass(frozen=True)
class Functions:
    """Ours and the reference on a layout, before they are given values."""

    layout: Layout
    call: str
    device: str
    functions: dict[str, Callable[..., Any]]
    parameters: tuple[Tensor, ...]

    def contenders(self, count: int, dynamic: bool = False) -> dict[str, Contender]:
        """Without arguments, ready to be timed."""
        if self.call == SAMPLE:
            return {name: lambda f=f: f(count) for name, f in self.functions.items()}
        z = OnDevice(self.layout, count, self.call, self.device).value()
        if dynamic:
            torch._dynamo.maybe_mark_dynamic(z, 0)
        parameters = {OURS: self.parameters, NORMAL: ()}
        return {name: step(f, z, parameters[name]) for name, f in self.functions.items()}


def functions(layout: Layout, call: str, device: str, wrap: Wrap = as_it_is) -> Functions:
    """log_prob of ours and of the normal, or draws of ours and of as many gammas."""
    if call == SAMPLE:
        p0, p = layout.exponents(device)
        prior, n = layout.distribution(p0, p), layout.tree.dim
        gamma = Gamma(1 / p[0], torch.ones_like(p[0]), validate_args=False)
        found = {
            OURS: wrap(lambda count: prior.sample((count,))),
            GAMMA: wrap(lambda count: gamma.sample((count, n))),
        }
        return Functions(layout, call, device, found, ())
    problem = OnDevice(layout, 1, call, device)
    p0, p = problem.exponents()
    normal = independent(Normal, layout.tree.dim, device).log_prob
    found = {OURS: wrap(ours(problem, p0, p)), NORMAL: wrap(normal)}
    return Functions(layout, call, device, found, (p0, p))


def measure(case: GpuCase, found: Functions, tiny: bool = False) -> dict[str, Any]:
    """The time of a call in units of the reference, with its peak memory, or its kernels."""
    contenders = found.contenders(case.count, dynamic=case.way == COMPILED)
    if case.quantity == KERNELS:
        device, eager = found.device, case.way == EAGER
        return {"contenders": {name: kernels(f, device, eager) for name, f in contenders.items()}}
    if case.way == GRAPH and found.device == "cuda":
        contenders = {name: replayed(call) for name, call in contenders.items()}
    reference = GAMMA if case.call == SAMPLE else NORMAL
    budget = TINY_BUDGET if tiny else BUDGET
    row = interleave(contenders, reference, budget, sync=sync_of(found.device))
    if case.way != GRAPH:
        peak = peak_on_gpu if found.device == "cuda" else peak_on_cpu
        for name, entry in row["contenders"].items():
            if "error" not in entry:
                entry["peak"] = peak(contenders[name]) / (4 * case.numbers)
    return row


def replayed(call: Contender) -> Contender:
    """The call as a CUDA graph; where it can't be captured, a call that says so."""
    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
    except Exception as error:
        if torch.cuda.is_initialized():  # a failed capture leaves its own stream behind
            torch.cuda.set_stream(torch.cuda.default_stream())
        return raises(error)
    return graph.replay


def raises(error: Exception) -> Callable[..., Any]:
    """A function that always fails in this way."""

    def call(*_: object) -> None:
        raise error

    return call
