"""The structure of an Lp-nested function: which coordinates are summed in which node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Self, SupportsIndex

import torch
from torch import Tensor

from lpnested import rows
from lpnested.digits import each, shortest
from lpnested.nesting import (
    Nested,
    check_coordinates,
    check_depth,
    check_size,
    check_sizes,
    levels_of,
    nested,
    number,
    of_branching,
    of_subspaces,
    place_of,
)
from lpnested.rows import Rows

__all__ = ["LpNestedTree", "Nested"]

_ISA: dict[tuple[Any, ...], Any] = {}  # by sizes: making a tree takes longer than a density


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
        ValueError: Where a coordinate is negative, missing or repeated, a node is empty, or the
            tree is more than 500 levels deep.

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

    # Without a __dict__, what walks the attributes of a distribution finds nothing to set here.
    __slots__ = ("__weakref__", "children", "code", "dim")

    children: Rows
    """The children of each inner node, in the order of :attr:`nodes`: a coordinate as itself, the
    inner node of place k as ``~k``, which is negative."""
    code: str
    """The structure as one string, by which trees are compared and looked up."""
    dim: int
    """The number of coordinates :math:`n`."""

    def __init__(self, root: Sequence[Any]) -> None:
        if not isinstance(root, (tuple, list)):
            raise TypeError(f"the root must be a tuple or list of its children, but got {root!r}")
        children = number(levels_of(root))
        check_coordinates(children)
        self._fill(children)

    @classmethod
    def _of(cls, children: Rows) -> Self:
        """A tree of rows that are known to be right."""
        new = cls.__new__(cls)
        new._fill(children)
        return new

    def _fill(self, children: Rows) -> None:
        put = object.__setattr__
        put(self, "children", children)
        # A string hashes itself once, and to Dynamo it is one constant.
        put(self, "code", str(children))
        put(self, "dim", sum(len(row) for row in children) - len(children) + 1)

    @classmethod
    def flat(cls, dim: int) -> Self:
        """The tree of an ordinary p-norm: all ``dim`` coordinates in one node.

        Example:
            >>> LpNestedTree.flat(3)
            LpNestedTree((0, 1, 2))
        """
        return cls._of((tuple(range(check_size("dim", dim))),))

    @classmethod
    def isa(cls, sizes: Sequence[int]) -> Self:
        """Independent subspaces of the given sizes: a tree of depth two (eq. 9).

        Example:
            >>> LpNestedTree.isa([2, 3])
            LpNestedTree(((0, 1), (2, 3, 4)))
        """
        sizes = check_sizes("sizes", sizes, "subspace")
        key = (cls, *sizes)
        made = {} if torch.compiler.is_compiling() else _ISA  # no effect of a compiled function
        if key not in made:
            made[key] = cls._of(of_subspaces(sizes))
        return made[key]  # type: ignore[no-any-return]

    @classmethod
    def balanced(cls, branching: Sequence[int]) -> Self:
        """The tree whose nodes of one level all have the same number of children.

        Args:
            branching: The number of children per level, root first.

        Example:
            >>> LpNestedTree.balanced((2, 1, 2))
            LpNestedTree((((0, 1),), ((2, 3),)))
        """
        branching = check_sizes("branching", branching, "level")
        check_depth(len(branching))
        return cls._of(of_branching(branching))

    @property
    def root(self) -> tuple[Nested, ...]:
        """The tree as nested tuples."""
        return nested(self.children)[0]

    @property
    def nodes(self) -> tuple[tuple[Nested, ...], ...]:
        """The inner nodes, breadth first, root first."""
        return tuple(nested(self.children))

    @property
    def levels(self) -> tuple[tuple[tuple[Nested, ...], ...], ...]:
        """The inner nodes of each depth, root first."""
        nodes = nested(self.children)
        return tuple(tuple(nodes[k] for k in places) for places in rows.ranges(self.children))

    @property
    def num_nodes(self) -> int:
        """The number of inner nodes, and so of exponents."""
        return len(self.children)

    @property
    def depth(self) -> int:
        """The number of levels of inner nodes, 1 for a flat tree and 2 for ISA."""
        return len(rows.ranges(self.children))

    @property
    def subspaces(self) -> tuple[tuple[int, ...], ...]:
        """The coordinates under each child of the root."""
        return tuple(rows.leaves_under(self.children, child) for child in self.children[0])

    def place(self, node: Nested | SupportsIndex) -> int:
        """The place in :attr:`nodes` of an inner node, given as nested tuples or by that place.

        Raises:
            TypeError: Where it is neither.
            ValueError: Where the tree has no such node; a coordinate is a leaf, not a node.

        Example:
            >>> tree = LpNestedTree.isa([2, 3])
            >>> tree.place((2, 3, 4)), tree.place(0)
            (2, 0)
        """
        return place_of(node, self.children)

    def ancestors(self, node: Nested | SupportsIndex) -> list[int]:
        """The places in :attr:`nodes` of the inner nodes above a :meth:`place`, root first."""
        return rows.above(self.children, ~self.place(node))

    def subtree(self, node: Nested | SupportsIndex) -> tuple[LpNestedTree, list[int]]:
        """The tree from a :meth:`place` on, and the places of its inner nodes in :attr:`nodes`.

        Its coordinates are numbered anew, in ascending order.
        """
        part, places = rows.rows_under(self.children, self.place(node))
        rank = {x: k for k, x in enumerate(sorted(x for row in part for x in row if x >= 0))}
        return LpNestedTree._of(tuple(tuple(rank.get(x, x) for x in row) for row in part)), places

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a tree is immutable: {name!r} can't be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a tree is immutable: {name!r} can't be deleted")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LpNestedTree) or type(other) is not type(self):
            return NotImplemented
        return self.code == other.code

    def __hash__(self) -> int:
        return hash(self.code)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.children)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({rows.text(self.children)})"

    def __str__(self) -> str:
        return self.draw()

    def draw(self, exponents: Sequence[Any] | Tensor | None = None) -> str:
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
        labels = [f"node {k}" for k in range(self.num_nodes)]
        if exponents is not None:
            numbers = each(exponents) if isinstance(exponents, Tensor) else exponents
            labels = [f"p = {shortest(x) if isinstance(x, Tensor) else x}" for x in numbers]
        if len(labels) != self.num_nodes:
            raise ValueError(f"expected {self.num_nodes} exponents, but got {len(labels)}")
        return "\n".join(rows.drawing(self.children, labels))


def _restore(cls: type[LpNestedTree], children: Rows) -> LpNestedTree:
    return cls._of(children)
