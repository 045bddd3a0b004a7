"""The structure of an Lp-nested function: which coordinates are summed in which node."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count, pairwise
from typing import Any, TypeAlias

__all__ = ["LpNestedTree", "Nested"]

Nested: TypeAlias = int | tuple["Nested", ...]
"""A coordinate, or the tuple of the children of an inner node."""


@dataclass(frozen=True, repr=False)
class LpNestedTree:
    r"""The tree of an :math:`L_p`-nested function (Sinz & Bethge 2010, definition 1).

    A leaf is a coordinate :math:`0, \dots, n-1`, an inner node is the tuple of its children. Each
    inner node :math:`I` has an exponent :math:`p_I > 0` and the value
    :math:`f_I = (\sum_{c \in I} f_c^{p_I})^{1/p_I}`; the value of the root is the function. The
    tree holds the structure only. Exponents are a tensor of shape ``(*batch, num_nodes)`` beside
    it, in the order of :attr:`nodes`: breadth first, root first.

    Trees are immutable, hashable and compare by structure. A node with one child is allowed: it
    changes nothing.

    Args:
        root: Nested tuples or lists of the coordinates ``0, ..., n - 1``, each exactly once.

    Raises:
        TypeError: Where a leaf is not an integer (a bool and a float are not).
        ValueError: Where a coordinate is negative, missing or repeated, or a node is empty.

    Example:
        >>> tree = LpNestedTree((0, (1, 2)))  # f of eq. 6 of Stuehmer et al. 2020
        >>> tree.dim, tree.num_nodes, tree.depth, tree.nodes
        (3, 2, 2, ((0, (1, 2)), (1, 2)))
        >>> print(tree)
        node 0
        ├─ x0
        └─ node 1
           ├─ x1
           └─ x2
    """

    root: tuple[Nested, ...]
    levels: tuple[tuple[tuple[Nested, ...], ...], ...] = field(init=False, compare=False)
    """The inner nodes of each depth, root first."""
    dim: int = field(init=False, compare=False)
    """The number of coordinates :math:`n`."""

    def __post_init__(self) -> None:
        if not isinstance(self.root, (tuple, list)):
            raise TypeError(
                f"the root must be a tuple or list of its children, but got {self.root!r}"
            )
        set_field = object.__setattr__  # the dataclass is frozen for everybody else
        set_field(self, "root", _as_tuples(self.root))
        set_field(self, "levels", tuple(_levels(self.root)))
        set_field(self, "dim", _check_coordinates(_leaves(self.root)))

    @classmethod
    def flat(cls, dim: int) -> LpNestedTree:
        """The tree of an ordinary p-norm: all ``dim`` coordinates in one node.

        Example:
            >>> LpNestedTree.flat(3)
            LpNestedTree((0, 1, 2))
        """
        return cls(tuple(range(_check_size("dim", dim))))

    @classmethod
    def isa(cls, sizes: Sequence[int]) -> LpNestedTree:
        """Independent subspaces of the given sizes: a tree of depth two (eq. 9).

        Example:
            >>> LpNestedTree.isa([2, 3])
            LpNestedTree(((0, 1), (2, 3, 4)))
        """
        if not isinstance(sizes, Iterable):
            raise TypeError(f"sizes must be a sequence of positive integers, but got {sizes!r}")
        sizes = [_check_size(f"sizes[{k}]", size) for k, size in enumerate(sizes)]
        if not sizes:
            raise ValueError("sizes must name at least one subspace, but got none")
        ends = accumulate(sizes)
        return cls(tuple(tuple(range(end - k, end)) for k, end in zip(sizes, ends, strict=True)))

    @classmethod
    def balanced(cls, branching: Sequence[int]) -> LpNestedTree:
        """The tree whose nodes of one level all have the same number of children.

        Args:
            branching: The number of children per level, root first.

        Example:
            >>> LpNestedTree.balanced((2, 1, 2))
            LpNestedTree((((0, 1),), ((2, 3),)))
        """
        coordinates = count()

        def grow(sizes: Sequence[int]) -> Nested:
            if not sizes:
                return next(coordinates)
            return tuple(grow(sizes[1:]) for _ in range(sizes[0]))

        if not branching:
            raise ValueError("branching must name at least one level, but got none")
        return cls(grow([_check_size(f"branching[{k}]", b) for k, b in enumerate(branching)]))  # type: ignore[arg-type]

    @property
    def nodes(self) -> tuple[tuple[Nested, ...], ...]:
        """The inner nodes, breadth first, root first."""
        return tuple(node for level in self.levels for node in level)

    @property
    def num_nodes(self) -> int:
        """The number of inner nodes, and so of exponents."""
        return sum(len(level) for level in self.levels)

    @property
    def depth(self) -> int:
        """The number of levels of inner nodes, 1 for a flat tree and 2 for ISA."""
        return len(self.levels)

    @property
    def subspaces(self) -> tuple[tuple[int, ...], ...]:
        """The coordinates under each child of the root."""
        return tuple(tuple(_leaves(child)) for child in self.root)

    def ancestors(self, node: tuple[Nested, ...]) -> list[int]:
        """The places in :attr:`nodes` of the inner nodes above one, root first."""
        leaf = next(_leaves(node))
        above: list[int] = []
        current: Nested = self.root
        while current != node and isinstance(current, tuple):
            above.append(self.nodes.index(current))
            current = next(child for child in current if leaf in _leaves(child))
        return above

    def subtree(self, node: tuple[Nested, ...]) -> tuple[LpNestedTree, list[int]]:
        """A node as a tree of its own, and the places of its inner nodes in :attr:`nodes`.

        Its coordinates are numbered anew, in ascending order.
        """
        rank = {leaf: k for k, leaf in enumerate(sorted(_leaves(node)))}

        def renumber(part: Nested) -> Nested:
            return (
                rank[part] if isinstance(part, int) else tuple(renumber(child) for child in part)
            )

        places = [self.nodes.index(inner) for level in _levels(node) for inner in level]
        return LpNestedTree(renumber(node)), places  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[type[LpNestedTree], tuple[tuple[Nested, ...]]]:
        return type(self), (self.root,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r})"

    def __str__(self) -> str:
        return self.draw()

    def draw(self, exponents: Sequence[Any] | None = None) -> str:
        """The tree as text, one line per node and leaf.

        Args:
            exponents: The number to write beside each node, in the order of :attr:`nodes`; without
                them, the nodes' places in that order are written.

        Example:
            >>> print(LpNestedTree(((0, 1), 2)).draw([2.1, 2.2]))
            p = 2.1
            ├─ p = 2.2
            │  ├─ x0
            │  └─ x1
            └─ x2
        """
        if exponents is not None and len(exponents) != self.num_nodes:
            raise ValueError(f"expected {self.num_nodes} exponents, but got {len(exponents)}")
        # Equal nodes cannot occur twice: their leaves differ.
        place = {node: k for k, node in enumerate(self.nodes)}

        def label(node: Nested) -> str:
            if isinstance(node, int):
                return f"x{node}"
            return f"node {place[node]}" if exponents is None else f"p = {exponents[place[node]]}"

        def lines(node: Nested, first: str, rest: str) -> Iterator[str]:
            yield first + label(node)
            children = () if isinstance(node, int) else node
            for k, child in enumerate(children, 1):
                end = k == len(children)
                yield from lines(child, rest + "├└"[end] + "─ ", rest + "│ "[end] + "  ")

        return "\n".join(lines(self.root, "", ""))


def _check_size(name: str, size: int) -> int:
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f"{name} must be a positive integer, but got {size!r}")
    if operator.index(size) < 1:
        raise ValueError(f"{name} must be a positive integer, but got {size!r}")
    return operator.index(size)


def _as_tuples(node: Any) -> Any:
    """Tuples of plain ints, whatever lists and integer types the user nested."""
    if isinstance(node, (tuple, list)):
        if not node:
            raise ValueError("a node of the tree has no children: every node needs at least one")
        return tuple(_as_tuples(child) for child in node)
    if isinstance(node, bool) or not hasattr(node, "__index__"):
        raise TypeError(f"a leaf must be an integer coordinate, but got {node!r}")
    return operator.index(node)


def _levels(root: tuple[Nested, ...]) -> Iterator[tuple[tuple[Nested, ...], ...]]:
    """The inner nodes by depth, root first."""
    level: tuple[tuple[Nested, ...], ...] = (root,)
    while level:
        yield level
        level = tuple(child for node in level for child in node if isinstance(child, tuple))


def _leaves(node: Nested) -> Iterator[int]:
    """The coordinates under a node, from left to right."""
    if isinstance(node, int):
        yield node
    else:
        for child in node:
            yield from _leaves(child)


def _check_coordinates(leaves: Iterator[int]) -> int:
    """Refuse leaves that are not 0..n-1, each exactly once; return n."""
    found = sorted(leaves)
    dim = len(found)
    if found == list(range(dim)):
        return dim
    culprits = {
        "negative": [leaf for leaf in found if leaf < 0],
        "repeated": sorted({a for a, b in pairwise(found) if a == b}),
        "missing": sorted(set(range(dim)) - set(found)),
        "too large": [leaf for leaf in found if leaf >= dim],
    }
    raise ValueError(
        f"the {dim} leaves of a tree must be the coordinates 0..{dim - 1}, each exactly once, but "
        + " and ".join(f"{found[:8]} are {how}" for how, found in culprits.items() if found)
    )
