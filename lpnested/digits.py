"""Numbers as text: the fewest digits that read back to the same number of its dtype."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["each", "shortest", "shown"]


def shortest(x: Tensor) -> str:
    """A scalar with the fewest digits that read back to it in its dtype; "..." without numbers.

    Example:
        >>> shortest(torch.tensor(2.1)), shortest(torch.tensor(1 / 3, dtype=torch.float64))
        ('2.1', '0.3333333333333333')
    """
    return each(x)[0]


def shown(x: Tensor) -> str:
    """A parameter in a repr: its numbers where they are one or a short vector, else its shape.

    Example:
        >>> shown(torch.tensor([2.1, 2.2])), shown(torch.ones(3, 4))
        ('[2.1, 2.2]', '(3, 4)')
    """
    if x.dim() > 1 or x.numel() > 8:
        return str(tuple(x.shape))
    texts = each(x)
    if "..." in texts:
        return str(tuple(x.shape))
    return f"[{', '.join(texts)}]" if x.dim() else texts[0]


def each(x: Tensor) -> list[str]:
    """:func:`shortest` of every number; it does not raise, on no device and under no tracer.

    Example:
        >>> each(torch.tensor([0.1, 100, torch.inf]))
        ['0.1', '100', 'inf']
    """
    unknown = ["..."] * x.numel()
    if hasattr(x, "fake_mode"):  # its numbers would be symbols
        return unknown
    try:
        return _texts(x.detach().flatten().tolist(), x.dtype)
    except Exception:  # each transform and type of tensor has an error of its own for this
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
