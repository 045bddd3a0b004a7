"""The benchmark problems, and their log_prob by the library and by its peers.

The peers are independent of the library: the recursion of equation 6 over any tree, and an ISA as
a user would write it, with split, pow and sum.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from lpnested import ISA, GeneralizedGamma, LpNested, LpNestedTree
from lpnested.tree import Nested
from timing import Contender

FORWARD, IN_VALUE, IN_BOTH = "forward", "+ backward in value", "+ in exponents"
MODES = (FORWARD, IN_VALUE, IN_BOTH)
OURS, NORMAL, RECURSION, NAIVE = "lpnested", "Independent(Normal)", "recursion", "naive ISA"
Density = Callable[[Tensor], Tensor]

# 30 leaves, 12 inner nodes, 4 levels; node sizes differ within a level, with leaves at all depths.
RAGGED = (
    *(0, 1),
    ((2, 3, 4), (5, 6, (7, 8)), 9),
    ((10, 11, 12, 13, 14), ((15, 16, 17), (18, 19), 20)),
    (21, 22, 23),
    (24, 25, 26, 27, 28, 29),
)


@dataclass(frozen=True)
class Problem:
    """Values on a tree, and the inputs to differentiate."""

    sizes: tuple[int, ...] | None  # of the subspaces; None for the ragged tree
    shape: tuple[int, ...]  # of the values, without the coordinates
    mode: str = FORWARD
    dtype: torch.dtype = torch.float32
    batch: tuple[int, ...] = ()  # of the exponents
    device: str = "cpu"

    @property
    def tree(self) -> LpNestedTree:
        return LpNestedTree(RAGGED) if self.sizes is None else LpNestedTree.isa(self.sizes)

    def full(self, shape: tuple[int, ...], number: float) -> Tensor:
        return torch.full(shape, number, dtype=self.dtype, device=self.device)

    def value(self) -> Tensor:
        """Draw standard normal values, far from overflow, which only the library handles."""
        z = self.full((*self.shape, self.tree.dim), 0.0)
        z.normal_(generator=torch.Generator(self.device).manual_seed(0))
        return z.requires_grad_(self.mode != FORWARD)

    def exponents(self) -> tuple[Tensor, Tensor]:
        """Return the paper's p0 (*batch) of the root, p (*batch, num_nodes - 1) of the rest."""
        p0, p = self.full(self.batch, 2.1), self.full((*self.batch, self.tree.num_nodes - 1), 2.2)
        return p0.requires_grad_(self.mode == IN_BOTH), p.requires_grad_(self.mode == IN_BOTH)

    def distribution(self, p0: Tensor, p: Tensor) -> Distribution:
        """Return an ISA, or its analogue over the ragged tree, of scale 1."""
        if self.sizes is not None:
            return ISA(self.sizes, p0, p, validate_args=False)
        radial = GeneralizedGamma(self.tree.dim, p0, 1.0, validate_args=False)
        return LpNested(self.tree, joined(p0, p), radial, validate_args=False)

    def normal(self) -> Distribution:
        """Return the standard normal over vectors, the usual prior of a VAE."""
        shape = (*self.batch, self.tree.dim)
        factor = Normal(self.full(shape, 0.0), self.full(shape, 1.0), validate_args=False)
        return Independent(factor, 1, validate_args=False)


def contenders(
    problem: Problem,
    names: Sequence[str] = (),
    compiled: Sequence[str] = (),
    backend: str = "inductor",
) -> dict[str, Contender]:
    """Return functions without arguments, all or those named, some of them also compiled."""
    z, (p0, p) = problem.value(), problem.exponents()
    found: dict[str, Density] = {
        OURS: problem.distribution(p0, p).log_prob,
        NORMAL: problem.normal().log_prob,
        RECURSION: recursion(problem.tree, p0, p),
    }
    if problem.sizes is not None:
        found[NAIVE] = naive(problem.tree, problem.sizes, p0, p)
    chosen = {name: found[name] for name in names or found}
    torch._dynamo.reset()
    for name in compiled:
        if name in found:  # the ragged tree has no naive ISA
            chosen[f"{name}, compiled"] = compile_fullgraph(found[name], backend)
    return {
        name: step(density, z, *(() if name.startswith(NORMAL) else (p0, p)))
        for name, density in chosen.items()
    }


def step(density: Density, z: Tensor, *parameters: Tensor) -> Contender:
    """Return the timed function: log_prob, or log_prob and the gradient of its sum."""
    inputs = [x for x in (z, *parameters) if x.requires_grad]
    return lambda: torch.autograd.grad(density(z).sum(), inputs) if inputs else density(z)


def compile_fullgraph(function: Density, backend: str) -> Density:
    """Compile a function; a graph break is an error."""

    def call(z: Tensor) -> Tensor:
        return function(z)

    # Dynamo caches compilations by code object, and each function needs its own.
    call.__code__ = call.__code__.replace(co_name=f"call_{id(function)}")
    return torch.compile(call, fullgraph=True, dynamic=False, backend=backend)


def recursion(tree: LpNestedTree, p0: Tensor, p: Tensor) -> Density:
    """Return log_prob of ISA (scale 1) over any tree, by the recursion of equation 6."""

    def power(z: Tensor, exponents: Sequence[Any]) -> Tensor:
        x, exponent = z.abs().unbind(-1), dict(zip(tree.nodes, exponents, strict=True))

        def norm(node: Nested) -> Tensor:
            if isinstance(node, int):
                return x[node]
            children = torch.stack([norm(child) for child in node], -1)
            return (children ** unsqueezed(exponent[node])).sum(-1) ** (1 / exponent[node])

        return norm(tree.root) ** exponents[0]

    return density(tree, power, p0, p)


def naive(tree: LpNestedTree, sizes: Sequence[int], p0: Tensor, p: Tensor) -> Density:
    """Return log_prob of ISA (scale 1) as a user would write it."""

    def power(z: Tensor, exponents: Sequence[Any]) -> Tensor:
        subspaces = zip(z.abs().split(list(sizes), -1), exponents[1:], strict=True)
        norms = [x.pow(unsqueezed(q)).sum(-1).pow(1 / q) for x, q in subspaces]
        return torch.stack(norms, -1).pow(unsqueezed(exponents[0])).sum(-1)

    return density(tree, power, p0, p)


def density(
    tree: LpNestedTree, power: Callable[[Tensor, Sequence[Any]], Tensor], p0: Tensor, p: Tensor
) -> Density:
    """Return log_prob given f^p0; fixed exponents without a batch become numbers once."""

    def learned(z: Tensor) -> Tensor:
        exponents = joined(p0, p).unbind(-1)
        return log_normaliser(tree, exponents) - power(z, exponents)

    if p.requires_grad or p.ndim > 1:
        return learned
    exponents = joined(p0, p)
    numbers, constant = exponents.tolist(), log_normaliser(tree, exponents.unbind())
    return lambda z: constant - power(z, numbers)


def log_normaliser(tree: LpNestedTree, exponents: Sequence[Tensor]) -> Tensor:
    """Return the log normaliser of exp(-f^p0) for ISA, scale 1 (equations 7, 8 and 10)."""
    p0 = exponents[0]
    result = p0.log() - torch.lgamma(tree.dim / p0) - tree.dim * math.log(2)
    for node, q in zip(tree.nodes, exponents, strict=True):
        result = result + (len(node) - 1) * q.log() + torch.lgamma(leaves(node) / q)
        for size, times in Counter(map(leaves, node)).items():
            result = result - times * torch.lgamma(size / q)
    return result


def leaves(node: Nested) -> int:
    """Count the leaves under a node."""
    return 1 if isinstance(node, int) else sum(map(leaves, node))


def unsqueezed(exponent: Any) -> Any:
    """Add a dimension that broadcasts over the children of a node."""
    return exponent.unsqueeze(-1) if isinstance(exponent, Tensor) else exponent


def joined(p0: Tensor, p: Tensor) -> Tensor:
    """Concatenate the exponents in the order of the nodes."""
    return torch.cat([p0.unsqueeze(-1), p], -1)
