"""The structure of an Lp-nested function: which node sums which coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Self, SupportsIndex

import torch
from torch import Tensor

from lpnested import nesting, rows
from lpnested.digits import element_reprs, shortest_repr
from lpnested.nesting import Nested, check_size, check_sizes, nested
from lpnested.rows import Rows

__all__ = ["LpNestedTree", "Nested"]

_ISA: dict[tuple[Any, ...], Any] = {}  # a cache: building a tree takes longer than a density


class LpNestedTree:
    r"""The tree of an :math:`L_p`-nested function (Sinz & Bethge 2010, definition 1).

    A leaf is a coordinate :math:`0, \dots, n-1`, an inner node is the tuple of its children. Each
    inner node :math:`I` has an exponent :math:`p_I > 0` and the value
    :math:`f_I = (\sum_{c \in I} f_c^{p_I})^{1/p_I}`; the value of the root is the function. The
    tree holds only the structure. Exponents are a separate tensor of shape
    ``(*batch, num_nodes)``, in the order of :attr:`nodes`: breadth first, root first.

    Trees are immutable, hashable and compare by structure. A node with one child is allowed and
    has no effect.

    Args:
        root: Nested tuples or lists of the coordinates ``0, ..., n - 1``, each exactly once.

    Raises:
        TypeError: If a leaf is not an integer (bools and floats are rejected).
        ValueError: If a coordinate is negative, missing or repeated, a node is empty, or the
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

    # Without a __dict__, code that walks a distribution's attributes finds nothing to set here.
    __slots__ = ("__weakref__", "children", "code", "dim")

    children: Rows
    """The children of each inner node, in the order of :attr:`nodes`: a coordinate as itself, the
    inner node at index k as ``~k``, which is negative."""
    code: str
    """The structure as one string, used for comparison and as a cache key."""
    dim: int
    """The number of coordinates :math:`n`."""

    def __init__(self, root: Sequence[Any]) -> None:
        if not isinstance(root, (tuple, list)):
            raise TypeError(f"the root must be a tuple or list of its children, but got {root!r}")
        children = nesting.assign_places(nesting.levels_of(root))
        nesting.check_coordinates(children)
        self._fill(children)

    @classmethod
    def _of(cls, children: Rows) -> Self:
        """Build a tree from rows that are known to be valid."""
        new = cls.__new__(cls)
        new._fill(children)
        return new

    def _fill(self, children: Rows) -> None:
        put = object.__setattr__
        put(self, "children", children)
        # A string caches its hash, and Dynamo treats it as a single constant.
        put(self, "code", str(children))
        put(self, "dim", sum(len(row) for row in children) - len(children) + 1)

    @classmethod
    def flat(cls, dim: int) -> Self:
        """Return the tree of an ordinary p-norm: all ``dim`` coordinates in one node.

        Example:
            >>> LpNestedTree.flat(3)
            LpNestedTree((0, 1, 2))
        """
        return cls._of((tuple(range(check_size("dim", dim))),))

    @classmethod
    def isa(cls, sizes: Sequence[int]) -> Self:
        """Return the tree of independent subspaces of the given sizes, of depth two (eq. 9).

        Example:
            >>> LpNestedTree.isa([2, 3])
            LpNestedTree(((0, 1), (2, 3, 4)))
        """
        sizes = check_sizes("sizes", sizes, "subspace")
        key = (cls, *sizes)
        cache = {} if torch.compiler.is_compiling() else _ISA  # no side effects when compiled
        if key not in cache:
            cache[key] = cls._of(nesting.of_subspaces(sizes))
        return cache[key]  # type: ignore[no-any-return]

    @classmethod
    def balanced(cls, branching: Sequence[int]) -> Self:
        """Return the tree in which all nodes of a level have the same number of children.

        Args:
            branching: The number of children per level, root first.

        Example:
            >>> LpNestedTree.balanced((2, 1, 2))
            LpNestedTree((((0, 1),), ((2, 3),)))
        """
        branching = check_sizes("branching", branching, "level")
        nesting.check_depth(len(branching))
        return cls._of(nesting.of_branching(branching))

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
        return tuple(
            tuple(nodes[k] for k in places) for places in rows.level_ranges(self.children)
        )

    @property
    def num_nodes(self) -> int:
        """The number of inner nodes, which is the number of exponents."""
        return len(self.children)

    @property
    def depth(self) -> int:
        """The number of levels of inner nodes, 1 for a flat tree and 2 for ISA."""
        return len(rows.level_ranges(self.children))

    @property
    def subspaces(self) -> tuple[tuple[int, ...], ...]:
        """The coordinates under each child of the root."""
        return tuple(rows.leaves_under(self.children, child) for child in self.children[0])

    def place(self, node: Nested | SupportsIndex) -> int:
        """Return the index in :attr:`nodes` of an inner node, given as nested tuples or by index.

        Raises:
            TypeError: If ``node`` is neither.
            ValueError: If the tree has no such node; a coordinate is a leaf, not a node.

        Example:
            >>> tree = LpNestedTree.isa([2, 3])
            >>> tree.place((2, 3, 4)), tree.place(0)
            (2, 0)
        """
        return nesting.place_of(node, self.children)

    def ancestors(self, node: Nested | SupportsIndex) -> list[int]:
        """Return the indices in :attr:`nodes` of the inner nodes above a node, root first."""
        return rows.ancestors(self.children, ~self.place(node))

    def subtree(self, node: Nested | SupportsIndex) -> tuple[LpNestedTree, list[int]]:
        """Return the subtree of a node, and the indices of its inner nodes in :attr:`nodes`.

        Its coordinates are renumbered from 0, in ascending order.
        """
        sub, places = rows.subtree_rows(self.children, self.place(node))
        rank = {x: k for k, x in enumerate(sorted(x for row in sub for x in row if x >= 0))}
        return LpNestedTree._of(tuple(tuple(rank.get(x, x) for x in row) for row in sub)), places

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
        """Draw the tree as text, one line per node and leaf.

        Args:
            exponents: The number to write beside each node, in the order of :attr:`nodes`; by
                default, the indices of the nodes.

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
            numbers = element_reprs(exponents) if isinstance(exponents, Tensor) else exponents
            labels = [f"p = {shortest_repr(x) if isinstance(x, Tensor) else x}" for x in numbers]
        if len(labels) != self.num_nodes:
            raise ValueError(f"expected {self.num_nodes} exponents, but got {len(labels)}")
        return "\n".join(rows.drawing(self.children, labels))


def _restore(cls: type[LpNestedTree], children: Rows) -> LpNestedTree:
    return cls._of(children)
