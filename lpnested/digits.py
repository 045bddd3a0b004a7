"""Numbers as text, with the fewest digits that round-trip in their dtype."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["element_reprs", "parameter_repr", "shortest_repr"]


def shortest_repr(x: Tensor) -> str:
    """Format a scalar with the fewest digits that round-trip in its dtype; "..." if unavailable.

    Example:
        >>> third = torch.tensor(1 / 3, dtype=torch.float64)
        >>> shortest_repr(torch.tensor(2.1)), shortest_repr(third)
        ('2.1', '0.3333333333333333')
    """
    return element_reprs(x)[0]


def parameter_repr(x: Tensor) -> str:
    """Format a parameter for a repr: a scalar or short vector by its numbers, else its shape.

    Example:
        >>> parameter_repr(torch.tensor([2.1, 2.2])), parameter_repr(torch.ones(3, 4))
        ('[2.1, 2.2]', '(3, 4)')
    """
    if x.dim() > 1 or x.numel() > 8:
        return str(tuple(x.shape))
    texts = element_reprs(x)
    if "..." in texts:
        return str(tuple(x.shape))
    return f"[{', '.join(texts)}]" if x.dim() else texts[0]


def element_reprs(x: Tensor) -> list[str]:
    """Apply :func:`shortest_repr` to every number; never raises, on any device or under a tracer.

    Example:
        >>> element_reprs(torch.tensor([0.1, 100, torch.inf]))
        ['0.1', '100', 'inf']
    """
    unknown = ["..."] * x.numel()
    if hasattr(x, "fake_mode"):  # a fake tensor has symbols, no numbers
        return unknown
    try:
        return _texts(x.detach().flatten().tolist(), x.dtype)
    except Exception:  # transforms and tensor subclasses all raise different errors here
        return unknown


def _texts(numbers: list[Any], dtype: torch.dtype) -> list[str]:
    if not dtype.is_floating_point or dtype == torch.float64:
        return [_text(x) for x in numbers]
    texts = ["" if x - x == 0 else _text(x) for x in numbers]  # nan and inf have no digits
    for digits in range(1, 10):
        rest = [k for k, text in enumerate(texts) if not text]
        if not rest:
            break
        rounded = [float(f"{numbers[k]:.{digits}g}") for k in rest]
        back = torch.tensor(rounded, dtype=dtype, device="cpu").tolist()
        for k, x, y in zip(rest, rounded, back, strict=True):
            texts[k] = _text(x) if y == numbers[k] else ""
    return texts


def _text(x: float) -> str:
    return repr(x).removesuffix(".0")
