"""The peers: equations 6 to 8 and Algorithm 1 written down plainly, without the library."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Dirichlet, Distribution, Gamma, Independent, Laplace, Normal

from lpnested import LpNestedTree
from lpnested.tree import Nested


@dataclass(frozen=True)
class Node:
    """An inner node: its place among the exponents, its leaves, and its inner children."""

    place: int
    leaves: list[int]
    inner: list["Node"]

    @property
    def sizes(self) -> list[int]:
        """Number of leaves under each child: the leaves first, then the inner ones."""
        return [1] * len(self.leaves) + [sum(child.sizes) for child in self.inner]

    def walk(self) -> Iterator["Node"]:
        """The node and all inner nodes under it."""
        yield self
        for child in self.inner:
            yield from child.walk()


def nodes_of(tree: LpNestedTree) -> Node:
    """The root of a tree, as the peers take it."""
    place = {node: k for k, node in enumerate(tree.nodes)}

    def build(node: tuple[Nested, ...]) -> Node:
        leaves = [child for child in node if isinstance(child, int)]
        return Node(place[node], leaves, [build(c) for c in node if isinstance(c, tuple)])

    return build(tree.root)


def recursive_norm(x: Sequence[Tensor], node: Node, p: Sequence[float | Tensor]) -> Tensor:
    """F of equation 6, with powers, from the absolute coordinates, n of (N,): -> (N,)."""
    children = [x[leaf] for leaf in node.leaves]
    children += [recursive_norm(x, child, p) for child in node.inner]
    return (torch.stack(children, -1) ** p[node.place]).sum(-1) ** (1 / p[node.place])


def recursive_norm_numpy(x: NDArray, node: Node, p: Sequence[float]) -> NDArray:
    """As recursive_norm, from (n, N)."""
    children = [x[leaf] for leaf in node.leaves]
    children += [recursive_norm_numpy(x, child, p) for child in node.inner]
    return (np.stack(children, -1) ** p[node.place]).sum(-1) ** (1 / p[node.place])


def log_normaliser(root: Node, p: Sequence[Tensor]) -> Tensor:
    """What exp(-f^p0) lacks to the density of ISA, scale 1 (equations 7, 8 and 10)."""
    n, p0 = sum(root.sizes), p[root.place]
    area = torch.full_like(p0, n * math.log(2))
    for node in root.walk():
        q, sizes = p[node.place], node.sizes
        area = area - (len(sizes) - 1) * q.log() - torch.lgamma(sum(sizes) / q)
        area = area + len(node.leaves) * torch.lgamma(1 / q)
        for size in sizes[len(node.leaves) :]:
            area = area + torch.lgamma(size / q)
    return p0.log() - torch.lgamma(n / p0) - area


def recursive_density(tree: LpNestedTree, p: Tensor) -> Callable[[Tensor], Tensor]:
    """log_prob of ISA (scale 1) over any tree, for fixed exponents."""
    root, numbers = nodes_of(tree), p.tolist()
    constant = log_normaliser(root, p.unbind())
    return lambda z: constant - recursive_norm(z.abs().unbind(-1), root, numbers) ** numbers[0]


def recursive_density_learned(tree: LpNestedTree) -> Callable[[Tensor, Tensor], Tensor]:
    """The same as a function of z and the exponents."""
    root = nodes_of(tree)

    def log_prob(z: Tensor, p: Tensor) -> Tensor:
        each = p.unbind()
        f = recursive_norm(z.abs().unbind(-1), root, each)
        return log_normaliser(root, each) - f ** each[0]

    return log_prob


def recursive_density_numpy(tree: LpNestedTree, p: Tensor) -> Callable[[NDArray], NDArray]:
    """The same in numpy, for fixed exponents."""
    root, numbers = nodes_of(tree), p.tolist()
    constant = log_normaliser(root, p.unbind()).numpy()
    return lambda z: constant - recursive_norm_numpy(np.abs(z.T), root, numbers) ** numbers[0]


class DirichletCascade:
    """Algorithm 1 with one torch Dirichlet per node, and the radius of ISA, scale 1."""

    def __init__(self, tree: LpNestedTree, p: Tensor) -> None:
        self.root, self.dim = nodes_of(tree), tree.dim
        self.p = p.tolist()
        self.radius = Gamma(tree.dim / p[0], torch.ones_like(p[0]), validate_args=False)
        self.shares = {
            node.place: Dirichlet(p.new_tensor(node.sizes) / p[node.place], validate_args=False)
            for node in self.root.walk()
        }

    def sample(self, count: int) -> Tensor:
        """(count, n)."""
        r = self.radius.sample((count,)) ** (1 / self.p[0])
        x = r.new_empty(count, self.dim)
        self._descend(self.root, r, x)
        return x * (torch.randint(0, 2, x.shape, device=x.device) * 2 - 1)

    def _descend(self, node: Node, r: Tensor, x: Tensor) -> None:
        share = self.shares[node.place].sample(r.shape) ** (1 / self.p[node.place])
        magnitudes = r.unsqueeze(-1) * share
        x[:, node.leaves] = magnitudes[:, : len(node.leaves)]
        for child, below in zip(node.inner, magnitudes.T[len(node.leaves) :], strict=True):
            self._descend(child, below, x)


def independent(family: type[Normal | Laplace], dim: int, device: str = "cpu") -> Distribution:
    """The standard distribution over vectors that a VAE would have as its prior."""
    zeros = torch.zeros(dim, device=device)
    factor = family(zeros, torch.ones_like(zeros), validate_args=False)
    return Independent(factor, 1, validate_args=False)
