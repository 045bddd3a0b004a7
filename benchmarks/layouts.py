"""The trees that are measured, and the distribution over each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from lpnested import ISA, GeneralizedGamma, LpNested, LpNestedTree

P0, P = 2.1, 2.2  # exponents of the root and of the other nodes, as in the paper


@dataclass(frozen=True)
class Layout:
    """A tree under a name, and the sizes of its subspaces where it is an ISA layout."""

    name: str
    tree: LpNestedTree
    sizes: tuple[int, ...] | None = None

    def exponents(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """p0 of the root, (), and p of the other nodes, (num_nodes - 1,)."""
        p0 = torch.tensor(P0, device=device)
        return p0, torch.full((self.tree.num_nodes - 1,), P, device=device)

    def distribution(self, p0: Tensor, p: Tensor) -> Distribution:
        """ISA, or its like over a deeper tree, of scale 1."""
        if self.sizes is not None:
            return ISA(self.sizes, p0, p, validate_args=False)
        radial = GeneralizedGamma(self.tree.dim, p0, 1.0, validate_args=False)
        exponents = torch.cat([p0.unsqueeze(0), p])
        return LpNested(self.tree, exponents, radial, validate_args=False)


def isa(sizes: Sequence[int], name: str = "") -> Layout:
    """Subspaces of the given sizes."""
    return Layout(name, LpNestedTree.isa(sizes), tuple(sizes))


def caterpillar(leaves: int, depth: int) -> Layout:
    """Leaves evenly spread over a chain of nodes, each of which has the next as its last child."""
    share = leaves // depth
    chunks = [tuple(range(k * share, (k + 1) * share)) for k in range(depth)]
    node = chunks.pop()
    while chunks:
        node = (*chunks.pop(), node)
    return Layout(f"depth {depth}", LpNestedTree(node))


# 30 leaves, 12 inner nodes, 4 levels; nodes of a level differ in size, leaves hang everywhere.
RAGGED = (
    *(0, 1),
    ((2, 3, 4), (5, 6, (7, 8)), 9),
    ((10, 11, 12, 13, 14), ((15, 16, 17), (18, 19), 20)),
    (21, 22, 23),
    (24, 25, 26, 27, 28, 29),
)

LAYOUTS = (
    isa([4] * 5, "5 x 4"),
    isa([16] * 16, "16 x 16"),
    Layout("ragged, 30 leaves", LpNestedTree(RAGGED)),
    isa([4] * 500, "500 x 4"),
)
BY_NAME = {layout.name: layout for layout in LAYOUTS}
