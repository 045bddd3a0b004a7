"""The observations of a fit: checked once, and gone over again for every evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from lpnested.precision import result_dtype

__all__ = ["Data"]

_GOLDEN = (math.sqrt(5) - 1) / 2


class Data:
    """Observations of shape ``(N, *batch, *event)`` as chunks of rows, each with its weights.

    It is float64 for whoever goes over it: a whole tensor is converted once, the chunks of an
    iterable each time.

    Args:
        data: A tensor, or a re-iterable of chunks: tensors, or pairs of a tensor and its weights.
        weights: How often each row counts, shape ``(N,)`` or ``(N, *batch)``.
        event_shape: The shape of one observation, ``(dim,)`` or ``()``.

    Attributes:
        batch: The shape of the data sets that are fitted side by side.
        dtype: The dtype that results are given back in.
        total: The sum of the weights, shape ``(*batch)``.
        zeros: The number of coordinates that are exactly 0, shape ``(*batch)``.
        zero_rows: The number of observations with no other coordinate.
        repeated: The number of observations that occurred before.
        rows: The number of observations.
        device: Where they are.
    """

    def __init__(
        self,
        data: Tensor | Iterable[Any],
        weights: Tensor | None,
        event_shape: torch.Size,
    ) -> None:
        self._event_dim = len(event_shape)
        self._source = _source(data, weights)
        self._examine(event_shape)
        if isinstance(data, Tensor):
            self._source = list(self)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Values ``(rows, *batch, *event)`` and weights ``(rows, *batch)``, both float64."""
        for chunk in self._source:
            value, weights = _value_and_weights(chunk)
            batch = value.shape[1 : value.dim() - self._event_dim]
            if weights is None:
                weights = value.new_ones(len(value))
            if weights.shape not in {value.shape[:1], value.shape[: 1 + len(batch)]}:
                raise ValueError(
                    f"weights must have shape ({len(value)},), one for each observation, or "
                    f"{tuple(value.shape[: 1 + len(batch)])}, but got {tuple(weights.shape)}"
                )
            weights = weights.to(device=value.device, dtype=torch.float64)
            weights = weights.reshape(-1, *[1] * len(batch)) if weights.dim() == 1 else weights
            yield value.double(), weights.expand(-1, *batch)

    def _examine(self, event_shape: torch.Size) -> None:
        """Refuse what no distribution has a likelihood for, and count what is unusual."""
        counts, shapes = [], set()
        for value, weights in self:
            _check(value, weights, event_shape)
            counts.append((weights.sum(0), *_zeros(value, event_shape), _mark(value, event_shape)))
            shapes.add(value.shape[1:])
        if len(shapes) != 1:
            what = f"chunks of the shapes {sorted(map(tuple, shapes))}" if shapes else "none"
            raise ValueError(f"data must have observations, all of one shape, but got {what}")
        shape = shapes.pop()
        self.batch = shape[: len(shape) - len(event_shape)]
        *sums, marks = zip(*counts, strict=True)
        self.total, self.zeros, self.zero_rows = (torch.stack(parts).sum(0) for parts in sums)
        ordered = torch.cat(marks).sort(0).values
        self.rows, self.repeated = len(ordered), (ordered[1:] == ordered[:-1]).sum(0)
        first = _value_and_weights(next(iter(self._source)))[0]
        self.device = first.device
        self.dtype = torch.promote_types(result_dtype(first), torch.float32)
        self._check_counts()

    def _check_counts(self) -> None:
        if (self.repeated >= self.rows - 1).any():
            raise ValueError(
                f"data must have two different observations at least, but all {self.rows} are "
                f"equal"
            )
        if not (self.total > 0).all():
            raise ValueError(
                "weights must be positive for one observation at least, but all are 0"
            )


def _source(data: Any, weights: Any) -> Any:
    if isinstance(data, Tensor):
        return [(data, weights)]
    if not isinstance(data, Iterable):
        raise TypeError(
            f"data must be a tensor of shape (N, *batch, dim), or an iterable of such chunks, "
            f"but got {type(data).__name__}"
        )
    if iter(data) is data:
        raise ValueError(
            "data are gone over many times, but an iterator such as a generator gives them once: "
            "pass a list, a DataLoader, or an object whose __iter__ begins anew"
        )
    if weights is not None:
        raise ValueError(
            "where data are chunks, weights come with them: let each chunk be a pair of a tensor "
            "and its weights, and leave weights out"
        )
    return data


def _value_and_weights(chunk: Any) -> tuple[Tensor, Tensor | None]:
    parts = list(chunk) if isinstance(chunk, (tuple, list)) else [chunk]
    value, weights = (*parts, None)[:2]
    if len(parts) > 2 or not isinstance(value, Tensor) or value.dim() == 0:
        raise ValueError(
            f"data must be a tensor of shape (N, *batch, dim), or chunks that are such tensors or "
            f"pairs of one and its weights, but got {parts if len(parts) > 2 else value!r:.200}"
        )
    return value.detach(), None if weights is None else torch.as_tensor(weights).detach()


def _check(value: Tensor, weights: Tensor, event_shape: torch.Size) -> None:
    own = value.shape[value.dim() - len(event_shape) :]
    if value.dim() < 1 + len(event_shape) or own != event_shape:
        expected = ", ".join(["N", "*batch", *map(str, event_shape)])
        raise ValueError(f"data must have shape ({expected}), but got {tuple(value.shape)}")
    for name, bad in (("NaN", value.isnan()), ("infinite", value.isinf())):
        if bad.any():
            rows = bad.flatten(1).any(1) if bad.dim() > 1 else bad
            places = rows.nonzero().flatten().tolist()
            raise ValueError(
                f"data must be finite, but {len(places)} observations have {name} values, the "
                f"first at row {places[0]}: leave them out"
            )
    if not ((weights >= 0) & (weights < math.inf)).all():
        raise ValueError("weights must be finite and not negative")


def _zeros(value: Tensor, event_shape: torch.Size) -> tuple[Tensor, Tensor]:
    """The number of coordinates that are 0, and of observations with no other one."""
    zero = value == 0
    count = zero.sum(-1) if event_shape else zero.long()
    return count.sum(0), (count == event_shape.numel()).sum(0)


def _mark(value: Tensor, event_shape: torch.Size) -> Tensor:
    """A number that equal observations share, and others do not but by rare chance."""
    if not event_shape:
        return value
    places = torch.arange(1, value.shape[-1] + 1, dtype=value.dtype, device=value.device)
    return (value * (1 + (places * _GOLDEN).frac())).sum(-1)
