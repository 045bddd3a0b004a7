"""The base class of transforms that take one distribution of vectors to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform, constraints
from torch.distributions.transforms import _InverseTransform

from lpnested.arguments import common_shape
from lpnested.lp_nested import LpNested
from lpnested.precision import result_dtype, saturate_cast, upcast

__all__ = ["DensityTransform"]


class DensityTransform(Transform):
    """A transform of vectors that takes one distribution to another.

    The determinant of its Jacobian is the ratio of their densities, and its logarithm has the
    rounding of the larger log density. A class supplies both distributions, of ``x`` and of
    ``y``, and the arguments of its constructor.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    @property
    def inv(self) -> Transform:
        """The inverse; unlike those of torch it can be copied and pickled by itself."""
        return _Inverse(self)

    @property
    def sign(self) -> int:
        """The sign of the determinant, positive since the map is increasing along each ray."""
        return 1

    def _arguments(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _distributions(self) -> tuple[Distribution, Distribution]:
        raise NotImplementedError

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        of_x, of_y = self._distributions()
        difference = of_x.log_prob(upcast(x)) - of_y.log_prob(upcast(y))
        return saturate_cast(difference, result_dtype(x, y))

    def with_cache(self, cache_size: int = 1) -> Transform:
        if self._cache_size == cache_size:
            return self
        family: Callable[..., Transform] = type(self)
        return family(*self._arguments(), cache_size=cache_size)

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        of_x, _ = self._distributions()
        own = of_x.batch_shape + of_x.event_shape
        if tuple(shape[-1:]) != of_x.event_shape:
            raise ValueError(f"a value must have shape (*sample, *{tuple(own)}), got {shape}")
        return common_shape(torch.Size(shape), own)

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        return self.forward_shape(shape)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return False
        pairs = zip(self._arguments(), other._arguments(), strict=True)
        return all(are_equal(*pair) for pair in pairs)


class _Inverse(_InverseTransform):
    def __reduce__(self) -> tuple[Callable[..., Transform], tuple[Transform]]:
        return _inverse_of, (self.inv,)


def _inverse_of(transform: Transform) -> Transform:
    return transform.inv


@singledispatch
def are_equal(one: Any, other: Any) -> bool:
    return bool(one == other)


@are_equal.register
def _(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other)


@are_equal.register
def _(one: Distribution, other: Distribution) -> bool:
    """Distributions without declared parameters are equal only to themselves."""
    if one is other:
        return True
    names = one.arg_constraints
    return (
        bool(names)
        and type(one) is type(other)
        and all(are_equal(getattr(one, x), getattr(other, x)) for x in names)
    )


@are_equal.register
def _(one: LpNested, other: LpNested) -> bool:
    parts = ((x.tree, x.exponents, x.radial) for x in (one, other))
    return all(are_equal(*pair) for pair in zip(*parts, strict=True))
