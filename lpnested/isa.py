"""The ISA distribution: independent Lp-spherical subspaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from lpnested.arguments import common_shape
from lpnested.digits import parameter_repr
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.lp_nested import LpNested
from lpnested.lp_spherical import LpSpherical
from lpnested.ops import gamma, sampling
from lpnested.precision import (
    as_parameter,
    broadcast_to,
    is_number,
    result_dtype,
    unexpand,
)
from lpnested.tree import LpNestedTree
from lpnested.validation import POSITIVE_ROW

__all__ = ["ISA"]


class ISA(LpNested):
    r"""The prior of Independent Subspace Analysis (Stuehmer et al. 2020, eqs. 9-11).

    .. math:: \rho(x) \propto \exp\big(-(f(x)/s)^{p_0}\big), \quad
        f(x) = \Big(\sum_k \|x_k\|_{p_k}^{p_0}\Big)^{1/p_0}

    for consecutive subspaces :math:`x_k`. The subspaces are independent; the coordinates within a
    subspace are not. The paper's :math:`s` is ``scale**p0``, so its default is ``scale=1``, which
    gives variance 0.495 at (p0, p) = (2.1, 2.2) and size 4.
    ``ISA(sizes, 2.0, 2.0, scale=2**0.5)`` is the standard normal.

    Args:
        sizes: The number of coordinates of each subspace.
        p0: The exponent :math:`p_0 > 0` of the root, shape ``(*batch)``.
        p: The exponents :math:`p_k > 0` of the subspaces, shape ``(*batch, len(sizes))``;
            a number or shape ``(*batch, 1)`` for a shared exponent.
        scale: The scale :math:`s > 0`, shape ``(*batch)``.
        validate_args: Whether to validate arguments, as in torch.

    Raises:
        ValueError: If ``p`` does not match ``sizes``, or a parameter is not positive and finite.
        TypeError: If a parameter is float16 or bfloat16.

    Example:
        >>> from lpnested import ISA
        >>> prior = ISA([4, 4, 4, 4, 4], p0=2.1, p=2.2)
        >>> prior.log_prob(torch.zeros(20))
        tensor(-11.8088)
        >>> prior.variance[0]
        tensor(0.4949)
    """

    arg_constraints: ClassVar = {
        "p0": constraints.positive,
        "p": POSITIVE_ROW,
        "scale": constraints.positive,
    }

    _stored: ClassVar = {"p0": 0, "p": 1, "scale": 0}

    def __init__(
        self,
        sizes: Sequence[int],
        p0: Tensor | float,
        p: Tensor | float | Sequence[float],
        scale: Tensor | float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        tree = LpNestedTree.isa(sizes)
        num = tree.num_nodes - 1
        others = ("p0", p0), ("scale", scale)
        like = [as_parameter(name, x) for name, x in others if not is_number(x)]
        p_tensor = as_parameter("p", p, like)
        if p_tensor.dim() and p_tensor.shape[-1] not in (1, num):
            raise ValueError(
                f"there are {num} subspaces, so p must have shape (*batch, {num}) or (*batch, 1), "
                f"but got {tuple(p_tensor.shape)}"
            )
        like = like if is_number(p) else [*like, p_tensor]
        p0 = p0 if isinstance(p0, Tensor) else as_parameter("p0", p0, like)
        scale = scale if isinstance(scale, Tensor) else as_parameter("scale", scale, like)
        shape = common_shape(p0.shape, p_tensor.shape[:-1], scale.shape)
        self.p0, self.scale = broadcast_to(p0, shape), broadcast_to(scale, shape)
        self.p = broadcast_to(p_tensor, (*shape, num))
        self._set_up(tree, shape, validate_args)

    @classmethod
    def unit_variance(
        cls,
        sizes: Sequence[int],
        p0: Tensor | float,
        p: Tensor | float | Sequence[float],
        validate_args: bool | None = None,
    ) -> ISA:
        """Return the distribution with the scale at which coordinates have unit average variance.

        The scale is computed once and does not follow later changes of the exponents.

        Example:
            >>> from lpnested import ISA
            >>> ISA.unit_variance([4, 4], p0=2.1, p=2.2).scale
            tensor(1.4215)
        """
        unscaled = cls(sizes, p0, p, validate_args=validate_args)
        log_mean = unscaled._log_variance().logsumexp(-1) - math.log(unscaled.tree.dim)
        scale = (-0.5 * log_mean).exp().to(unscaled._dtype)
        return cls(sizes, unscaled.p0, unscaled.p, scale, validate_args=validate_args)

    @property
    def exponents(self) -> Tensor:  # type: ignore[override]
        """The exponents of the tree, root first, shape ``(*batch, num_nodes)``."""
        rows = (self.p0.unsqueeze(-1), self.p)
        if not self._batch_shape:
            return self._in_common_dtype(torch.cat(rows, -1))
        p0, p = unexpand(*rows)
        p = p.expand(*p.shape[:-1], self.tree.num_nodes - 1)
        return self._in_common_dtype(torch.cat([p0, p], -1)).expand(*self.p0.shape, -1)

    def _in_common_dtype(self, exponents: Tensor) -> Tensor:
        dtype = result_dtype(exponents, self.scale)
        return exponents if exponents.dtype == dtype else exponents.to(dtype)

    def _log_density(self, value: Tensor) -> Tensor:
        return gamma.log_density(value, self.exponents, None, self.p0, self.scale, self.tree)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        radius = None, self.p0, self.scale
        return sampling.gamma_nested(self.exponents, *radius, self.tree, sample_shape)

    @property
    def radial(self) -> GeneralizedGamma:  # type: ignore[override]
        """The distribution of the radius."""
        return self._derive(GeneralizedGamma, self.tree.dim, self.p0, self.scale)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of coordinates of each subspace."""
        return tuple(len(subspace) for subspace in self.tree.subspaces)

    @property
    def subspaces(self) -> tuple[LpSpherical, ...]:
        r"""The independent factors, :math:`L_{p_k}`-spherical with generalized gamma radius."""
        return tuple(
            self._derive(
                LpSpherical,
                size,
                self.p[..., k],
                self._derive(GeneralizedGamma, size, self.p0, self.scale),
            )
            for k, size in enumerate(self.sizes)
        )

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> ISA:
        new: ISA = self._get_checked_instance(ISA, _instance)
        super().expand(batch_shape, _instance=new)
        return new

    def __repr__(self) -> str:
        parameters = (f"{name}: {parameter_repr(getattr(self, name))}" for name in self._stored)
        return f"{type(self).__name__}(sizes: {self.sizes}, {', '.join(parameters)})"
