"""Trees with their exponents as text: ``2.1:(2.2:4, 2.2:4)``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor

from lpnested.digits import element_reprs
from lpnested.nesting import MAX_DEPTH
from lpnested.precision import as_parameter, default_dtype
from lpnested.tree import LpNestedTree

__all__ = ["format", "parse"]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf(?:inity)?))"
    r"|(?P<sign>[:(),]))",
    re.IGNORECASE,
)


def parse(text: str, dtype: torch.dtype | None = None) -> tuple[LpNestedTree, Tensor]:
    """Parse a tree and its exponents from text.

    A node is ``exponent:(child, ...)``; a child is a node or the index of a coordinate. The short
    form ``exponent:4`` is a node with the next four coordinates after the largest one so far.

    Args:
        text: The text.
        dtype: ``torch.float32`` or ``torch.float64``; defaults to torch's default dtype, or to
            float32 if that is a half precision.

    Returns:
        The tree, and the exponents in the order of its nodes, shape ``(num_nodes,)``.

    Raises:
        ValueError: If the text does not parse; the message points to the position.
        TypeError: If ``text`` is not a string or ``dtype`` is not supported.

    Example:
        >>> parse("2.1:(2.2:4, 2.2:4)")
        (LpNestedTree(((0, 1, 2, 3), (4, 5, 6, 7))), tensor([2.1000, 2.2000, 2.2000]))
        >>> parse("1:(0, 2:(1, 2))")[0]
        LpNestedTree((0, (1, 2)))
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string such as '2.1:(2.2:4, 2.2:4)', but got {text!r}")
    dtype = _check_dtype(default_dtype() if dtype is None else dtype)
    parser = _Parser(text, dtype)
    root = parser.read_tree()
    parser.expect_end()
    try:
        tree = LpNestedTree(root)
    except ValueError as error:
        raise ValueError(f"{error}: {text[:200]!r}") from None
    ordered = [exponent for level in parser.exponents for exponent in level]
    return tree, torch.tensor(ordered, dtype=dtype)


def format(tree: LpNestedTree, exponents: Tensor) -> str:
    """Format a tree and its exponents as text that :func:`parse` restores exactly.

    The exponents are exact in their own dtype.

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
    return "".join(_format_tokens(tree, element_reprs(exponents)))


def _format_tokens(tree: LpNestedTree, numbers: list[str]) -> Iterator[str]:
    seen = 0
    pending: list[int | str] = [~0]  # children still to write, and the punctuation between them
    while pending:
        child = pending.pop()
        if isinstance(child, str):
            yield child
        elif child >= 0:
            seen = max(seen, child + 1)
            yield str(child)
        else:
            row = tree.children[~child]
            short = row == tuple(range(seen, seen + len(row)))
            seen += len(row) if short else 0
            yield f"{numbers[~child]}:{len(row) if short else '('}"
            if not short:
                signs = [", "] * (len(row) - 1) + [")"]
                pending += reversed([x for pair in zip(row, signs, strict=True) for x in pair])


def _check_dtype(dtype: Any) -> torch.dtype:
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"exponents must be float32 or float64, but got dtype {dtype}, which rounds them: "
            "an exponent of 2.1 becomes 2.094 in bfloat16, which is another distribution"
        )
    return dtype  # type: ignore[no-any-return]


class _Parser:
    """A cursor over the tokens of a text."""

    def __init__(self, text: str, dtype: torch.dtype) -> None:
        self.text, self.dtype = text, dtype
        self.tokens = list(self._tokens())
        self.next = 0
        self.seen = 0
        self.exponents: list[list[float]] = []
        """By depth, so that concatenation is breadth first."""

    def _tokens(self) -> Iterator[tuple[str, str, int]]:
        """The kind, text and position of each token, then an end marker."""
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
        start = max(0, place - 60)  # shorten long texts
        excerpt = "".join(" " if x.isspace() else x for x in self.text[start : place + 40])
        dots = "..." if start else ""
        caret = " " * (len(dots) + place - start) + "^"
        raise ValueError(f"expected {expected} here:\n  {dots}{excerpt}\n  {caret}")

    def accept(self, *signs: str) -> str | None:
        """Consume the next token if it is one of these signs."""
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
        taken = self.accept(*signs)
        if taken is None:
            self.fail(self.tokens[self.next][2], " or ".join(repr(sign) for sign in signs))
        return taken

    def expect_end(self) -> None:
        kind, _, place = self.tokens[self.next]
        if kind != "end":
            self.fail(place, "the end of the text")

    def read_tree(self) -> list[Any]:
        """Read nested lists of coordinates, and collect the exponents of their nodes by depth."""
        top: list[Any] = []
        opened = [top]  # the nodes that enclose the current position
        while not top or len(opened) > 1:
            self.read_child(opened)
            while len(opened) > 1 and len(opened[-1]) and self.expect(",", ")") == ")":
                opened.pop()
        root: list[Any] = top[0]
        return root

    def read_child(self, opened: list[list[Any]]) -> None:
        """Read a coordinate, a node in short form, or a node up to its first child."""
        depth = len(opened) - 1
        expected = "a coordinate or the exponent of a node" if depth else "the exponent of a node"
        text, place = self.number(expected)
        if depth == 0:
            self.expect(":")
        elif self.accept(":") is None:
            leaf = self.integer(text, place, "the whole number of a coordinate, or ':' after it")
            self.seen = max(self.seen, leaf + 1)
            opened[-1].append(leaf)
            return
        self.add_exponent(text, place, depth)
        is_open = self.accept("(") is not None
        node = [] if is_open else self.read_count()
        opened[-1].append(node)
        if is_open:
            opened.append(node)

    def read_count(self) -> list[int]:
        text, place = self.number("'(' or a number of coordinates")
        count = self.integer(text, place, "a whole number")
        if count < 1:
            self.fail(place, "at least one coordinate")
        self.seen += count
        return list(range(self.seen - count, self.seen))

    def add_exponent(self, text: str, place: int, depth: int) -> None:
        exponent, limits = float(text), torch.finfo(self.dtype)
        if not 0 < exponent < float("inf"):
            self.fail(place, "a positive, finite exponent")
        if not limits.tiny <= exponent <= limits.max:
            self.fail(place, f"an exponent within the range of {self.dtype}")
        if depth == MAX_DEPTH:
            self.fail(place, f"no deeper node (a tree may have up to {MAX_DEPTH} levels)")
        if depth == len(self.exponents):
            self.exponents.append([])
        self.exponents[depth].append(exponent)
