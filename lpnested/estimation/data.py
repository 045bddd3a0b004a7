"""The observations of a fit: checked once, then iterated for every evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from lpnested.precision import result_dtype

__all__ = ["Data"]

_MIXERS = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # odd, of 64 bits
_LAST = torch.iinfo(torch.int64).max  # the mark of an observation that does not count
_INSIDE = 0.5  # of the support of every distribution that is likely here


class Data:
    """Observations of shape ``(N, *batch, *event)`` as chunks of rows, each with its weights.

    Whoever iterates gets float64: a whole tensor is converted once, the chunks of an iterable
    each time. Observations of weight 0 are left out, whatever they hold; in a batch, where the
    others of their row may count, another observation stands in for them.

    Args:
        data: A tensor, or a re-iterable of chunks: tensors, or pairs of a tensor and its weights.
        weights: How often each row counts, shape ``(N,)`` or ``(N, *batch)``.
        event_shape: The shape of one observation, ``(dim,)`` or ``()``.

    Attributes:
        batch: The shape of the data sets that are fitted side by side.
        dtype: The dtype that results are given back in.
        total: The sum of the weights, shape ``(*batch)``.
        rows: The number of observations of positive weight, shape ``(*batch)``.
        zeros: The number of their coordinates that are exactly 0.
        zero_rows: The number of them whose coordinates are all 0.
        repeated: The number of them that are equal to an earlier one.
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
        return (_counted(value, weights) for value, weights in self._chunks())

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
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
        counts, shapes, given = [], set(), 0
        for chunk in self._chunks():
            _check(*chunk, event_shape)
            given += len(chunk[0])
            value, weights = _counted(*chunk)
            marks = _mark(value, event_shape).masked_fill(weights == 0, _LAST)
            counts.append((weights.sum(0), *_numbers(value, weights, event_shape), marks))
            shapes.add(value.shape[1:])
        if len(shapes) != 1:
            what = f"chunks of the shapes {sorted(map(tuple, shapes))}" if shapes else "none"
            raise ValueError(f"data must have observations, all of one shape, but got {what}")
        shape = shapes.pop()
        self.batch = shape[: len(shape) - len(event_shape)]
        *sums, all_marks = zip(*counts, strict=True)
        self.total, self.rows, self.zeros, self.zero_rows = (
            torch.stack(parts).sum(0) for parts in sums
        )
        ordered = torch.cat(all_marks).sort(0).values
        self.repeated = ((ordered[1:] == ordered[:-1]) & (ordered[1:] != _LAST)).sum(0)
        first = _value_and_weights(next(iter(self._source)))[0]
        self.device = first.device
        self.dtype = torch.promote_types(result_dtype(first), torch.float32)
        self._check_counts(given)

    def _check_counts(self, given: int) -> None:
        if given and not (self.total > 0).all():
            raise ValueError(
                "weights must be positive for one observation at least, but all are 0"
            )
        equal = self.repeated >= self.rows - 1
        if equal.any():
            raise ValueError(
                f"data must have two different observations at least, but all "
                f"{int(self.rows[equal].min())} are equal"
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
            "pass a list, a DataLoader, or an object whose __iter__ starts again"
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
    if value.is_complex():
        raise TypeError(f"data must be real, but got {value.dtype}")
    return _usable(value), None if weights is None else _usable(torch.as_tensor(weights))


def _usable(value: Tensor) -> Tensor:
    """Apart from any graph; a tensor of inference mode can't take part in one, a copy can."""
    return value.clone() if value.is_inference() else value.detach()


def _counted(value: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The chunk without rows of weight 0, and with a stand-in where only some data sets have 0."""
    if (weights > 0).all():
        return value, weights
    kept = (weights > 0).reshape(len(weights), -1).any(1)
    value, weights = value[kept], weights[kept]
    if (weights > 0).all():
        return value, weights
    weight, place = weights.max(0, keepdim=True)
    weight, place, wide = (_unsqueezed_like(x, value) for x in (weight, place, weights))
    other = value.gather(0, place.expand(1, *value.shape[1:]))
    return torch.where(wide > 0, value, other.where(weight > 0, _INSIDE)), weights


def _unsqueezed_like(x: Tensor, value: Tensor) -> Tensor:
    return x.reshape(*x.shape, *[1] * (value.dim() - x.dim()))


def _check(value: Tensor, weights: Tensor, event_shape: torch.Size) -> None:
    own = value.shape[value.dim() - len(event_shape) :]
    if value.dim() < 1 + len(event_shape) or own != event_shape:
        expected = ", ".join(["N", "*batch", *map(str, event_shape)])
        raise ValueError(f"data must have shape ({expected}), but got {tuple(value.shape)}")
    if not ((weights >= 0) & (weights < math.inf)).all():
        raise ValueError("weights must be finite and not negative")
    counted = _unsqueezed_like(weights > 0, value)
    for name, bad in (("NaN", value.isnan() & counted), ("infinite", value.isinf() & counted)):
        if bad.any():
            rows = bad.flatten(1).any(1) if bad.dim() > 1 else bad
            places = rows.nonzero().flatten().tolist()
            raise ValueError(
                f"data must be finite, but {len(places)} observations have {name} values, the "
                f"first at row {places[0]}: leave them out"
            )


def _numbers(
    value: Tensor, weights: Tensor, event_shape: torch.Size
) -> tuple[Tensor, Tensor, Tensor]:
    """How many observations there are, how many zero coordinates, how many rows of zeros."""
    zero = value == 0
    count = (zero.sum(-1) if event_shape else zero.long()) * (weights > 0)
    return (weights > 0).sum(0), count.sum(0), (count == event_shape.numel()).sum(0)


def _mark(value: Tensor, event_shape: torch.Size) -> Tensor:
    """A whole number that equal observations share, and others do not but by rare chance."""
    bits = (value + 0.0).contiguous().view(torch.int64)  # -0 has the bits of 0 then
    if not event_shape:
        return bits
    mark = bits + torch.arange(1, bits.shape[-1] + 1, device=bits.device) * _MIXERS[0]
    for mixer in _MIXERS[1:]:
        mark = (mark ^ (mark >> 32)) * mixer
    return (mark ^ (mark >> 32)).sum(-1)
