"""log_prob of the library and of its peers, as functions without arguments, ready to be timed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from layouts import Layout, P
from peers import (
    independent,
    recursive_density,
    recursive_density_learned,
    recursive_density_numpy,
)
from timing import Contender
from torch import Tensor
from torch.distributions import Laplace, Normal

FORWARD, IN_VALUE, IN_BOTH = "forward", "backward in z", "backward in z and exponents"
MODES = (FORWARD, IN_VALUE, IN_BOTH)

OURS, NORMAL, RECURSIVE = "lpnested", "Independent(Normal)", "recursion in torch"
Density = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """Values on a layout, and what is differentiated."""

    layout: Layout
    count: int
    mode: str
    device: str = "cpu"

    def value(self) -> Tensor:
        """Standard normal z, (N, n); nothing is near overflow, which only we would survive."""
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(self.count, self.layout.tree.dim, generator=generator).to(self.device)
        return z.requires_grad_(self.mode != FORWARD)

    def exponents(self) -> tuple[Tensor, Tensor]:
        """As those of the layout, leaves of autograd where they are learned."""
        learned = self.mode == IN_BOTH
        p0, p = self.layout.exponents(self.device)
        return p0.requires_grad_(learned), p.requires_grad_(learned)


def ours(problem: Problem, p0: Tensor, p: Tensor) -> Density:
    """The prior is made once if its exponents are fixed, and in every step if they are learned."""
    if problem.mode == IN_BOTH:
        return lambda z: problem.layout.distribution(p0, p).log_prob(z)
    return problem.layout.distribution(p0, p).log_prob


def recursive(problem: Problem, p0: Tensor, p: Tensor) -> Density:
    """The plain recursion, likewise."""
    if problem.mode == IN_BOTH:
        density = recursive_density_learned(problem.layout.tree)
        return lambda z: density(z, joined(p0, p))
    return recursive_density(problem.layout.tree, joined(p0, p))


def step(density: Density, z: Tensor, parameters: tuple[Tensor, ...] = ()) -> Contender:
    """What is timed: log_prob, or log_prob and the gradient of its sum."""
    inputs = [x for x in (z, *parameters) if x.requires_grad]
    if not inputs:
        return lambda: density(z)
    return lambda: torch.autograd.grad(density(z).sum(), inputs)


def contenders(problem: Problem) -> dict[str, Contender]:
    """All that have the mode; the normal's parameters are never learned, it is the yardstick."""
    z, (p0, p) = problem.value(), problem.exponents()
    dim, device, mode = problem.layout.tree.dim, problem.device, problem.mode
    found = {
        OURS: step(ours(problem, p0, p), z, (p0, p)),
        NORMAL: step(independent(Normal, dim, device).log_prob, z),
        RECURSIVE: step(recursive(problem, p0, p), z, (p0, p)),
    }
    if mode != IN_BOTH:
        found["Independent(Laplace)"] = step(independent(Laplace, dim, device).log_prob, z)
        found["vector_norm(ord=2.2)"] = step(lambda z: torch.linalg.vector_norm(z, P, -1), z)
    if mode == FORWARD and device == "cpu":
        tree, array = problem.layout.tree, z.numpy()
        density = recursive_density_numpy(tree, joined(p0, p))
        found["recursion in numpy"] = lambda: density(array)
    return found


def joined(p0: Tensor, p: Tensor) -> Tensor:
    """The exponents in the order of the nodes."""
    return torch.cat([p0.unsqueeze(0), p])
