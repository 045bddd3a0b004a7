"""Trees with their exponents as text: ``2.1:(2.2:4, 2.2:4)``."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from typing import NoReturn, TypeAlias

import torch
from torch import Tensor

from lpnested.precision import as_parameter
from lpnested.tree import LpNestedTree, Nested

__all__ = ["format", "parse"]

_Read: TypeAlias = tuple[tuple[Nested, ...], dict[Nested, float]]

_TOKEN = re.compile(r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<sign>[:(),]))")


def parse(text: str, dtype: torch.dtype | None = None) -> tuple[LpNestedTree, Tensor]:
    """A tree and its exponents from text.

    A node is ``exponent:(child, ...)``; a child is a node or the number of a coordinate. The short
    form ``exponent:4`` is a node of four coordinates, those after the largest one read so far.

    Args:
        text: The text.
        dtype: The dtype of the exponents; without it torch's default.

    Returns:
        The tree, and the exponents in the order of its nodes, shape ``(num_nodes,)``.

    Raises:
        ValueError: Where the text is no such tree; the message points to the place.

    Example:
        >>> parse("2.1:(2.2:4, 2.2:4)")
        (LpNestedTree(((0, 1, 2, 3), (4, 5, 6, 7))), tensor([2.1000, 2.2000, 2.2000]))
        >>> parse("1:(0, 2:(1, 2))")[0]
        LpNestedTree((0, (1, 2)))
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string such as '2.1:(2.2:4, 2.2:4)', but got {text!r}")
    parser = _Parser(text)
    root, exponents = parser.read_node()
    parser.expect_end()
    try:
        tree = LpNestedTree(root)
    except ValueError as error:
        raise ValueError(f"{error}: {text!r}") from None
    ordered = [exponents[node] for node in tree.nodes]
    return tree, torch.tensor(ordered, dtype=dtype or torch.get_default_dtype())


def format(tree: LpNestedTree, exponents: Tensor) -> str:
    """The text that :func:`parse` reads back to this tree and, in their dtype, these exponents.

    Args:
        tree: The tree.
        exponents: The exponents, shape ``(num_nodes,)``.

    Example:
        >>> format(LpNestedTree.isa([4, 4]), torch.tensor([2.1, 2.2, 2.2]))
        '2.1:(2.2:4, 2.2:4)'
    """
    exponents = as_parameter("exponents", exponents)
    if exponents.shape != (tree.num_nodes,):
        raise ValueError(
            f"{tree!r} has {tree.num_nodes} inner nodes, so exponents must have shape "
            f"({tree.num_nodes},), but got {tuple(exponents.shape)}"
        )
    if not ((exponents > 0) & exponents.isfinite()).all():
        raise ValueError(f"exponents must be positive and finite, but got {exponents}")
    number = dict(zip(tree.nodes, map(_shortest, exponents.detach().cpu()), strict=True))
    seen = 0

    def write(node: Nested) -> str:
        nonlocal seen
        if isinstance(node, int):
            seen = max(seen, node + 1)
            return str(node)
        if node == tuple(range(seen, seen + len(node))):
            seen += len(node)
            return f"{number[node]}:{len(node)}"
        return f"{number[node]}:({', '.join([write(child) for child in node])})"

    return write(tree.root)


def _shortest(exponent: Tensor) -> str:
    """The fewest digits that give the same number in its dtype."""
    texts = (builtins.format(exponent.item(), f".{digits}g") for digits in range(1, 18))
    return next(t for t in texts if torch.tensor(float(t), dtype=exponent.dtype) == exponent)


class _Parser:
    """A cursor over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._tokens())
        self.next = 0
        self.seen = 0

    def _tokens(self) -> Iterator[tuple[str, str, int]]:
        """Kind, text and place of each token, and an end."""
        place, end = 0, len(self.text.rstrip())
        while place < end:
            match = _TOKEN.match(self.text, place)
            if match is None:
                place += len(self.text[place:]) - len(self.text[place:].lstrip())
                self.fail(place, "a number, ':', '(', ',' or ')'")
            kind = str(match.lastgroup)
            yield kind, match[kind], match.start(kind)
            place = match.end()
        yield "end", "the end", end

    def fail(self, place: int, expected: str) -> NoReturn:
        raise ValueError(f"expected {expected} here:\n  {self.text}\n  {' ' * place}^")

    def take(self, *signs: str) -> str | None:
        """The next token if it is one of these signs."""
        kind, text, _ = self.tokens[self.next]
        if kind == "sign" and text in signs:
            self.next += 1
            return text
        return None

    def number(self, expected: str) -> tuple[str, int]:
        kind, text, place = self.tokens[self.next]
        if kind != "number":
            self.fail(place, expected)
        self.next += 1
        return text, place

    def integer(self, text: str, place: int, expected: str) -> int:
        if not text.isdigit():
            self.fail(place, expected)
        return int(text)

    def expect(self, *signs: str) -> str:
        taken = self.take(*signs)
        if taken is None:
            self.fail(self.tokens[self.next][2], " or ".join(repr(sign) for sign in signs))
        return taken

    def expect_end(self) -> None:
        kind, _, place = self.tokens[self.next]
        if kind != "end":
            self.fail(place, "the end of the text")

    def read_node(self) -> _Read:
        """A node and the exponents of all nodes within it."""
        text, place = self.number("the exponent of a node")
        self.expect(":")
        return self.read_children(text, place)

    def read_children(
        self, text: str, place: int
    ) -> tuple[tuple[Nested, ...], dict[Nested, float]]:
        exponent = float(text)
        if not 0 < exponent < float("inf"):
            self.fail(place, "a positive, finite exponent")
        if self.take("(") is None:
            count = self.integer(*self.number("'(' or a number of coordinates"), "a whole number")
            if count < 1:
                self.fail(self.tokens[self.next - 1][2], "at least one coordinate")
            node: tuple[Nested, ...] = tuple(range(self.seen, self.seen + count))
            self.seen += count
            return node, {node: exponent}
        children: list[Nested] = []
        exponents: dict[Nested, float] = {}
        while True:
            children.append(self.read_child(exponents))
            if self.expect(",", ")") == ")":
                node = tuple(children)
                return node, {node: exponent, **exponents}

    def read_child(self, exponents: dict[Nested, float]) -> Nested:
        text, place = self.number("a coordinate or the exponent of a node")
        if self.take(":") is None:
            leaf = self.integer(text, place, "the whole number of a coordinate, or ':' after it")
            self.seen = max(self.seen, leaf + 1)
            return leaf
        node, below = self.read_children(text, place)
        exponents.update(below)
        return node
