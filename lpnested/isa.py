"""The ISA distribution: independent Lp-spherical subspaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.lp_nested import LpNested
from lpnested.lp_spherical import LpSpherical
from lpnested.precision import as_parameter, as_parameters
from lpnested.tree import LpNestedTree

__all__ = ["ISA"]


class ISA(LpNested):
    r"""The prior of Independent Subspace Analysis (Stuehmer et al. 2020, eqs. 9-11).

    .. math:: \rho(x) \propto \exp\big(-(f(x)/s)^{p_0}\big), \quad
        f(x) = \Big(\sum_k \|x_k\|_{p_k}^{p_0}\Big)^{1/p_0}

    for consecutive subspaces :math:`x_k`. The subspaces are independent, the coordinates within
    one are not. The paper's :math:`s` is ``scale**p0``, so its default is ``scale=1``, of variance
    0.495 at (2.1, 2.2) and size 4; ``ISA(sizes, 2.0, 2.0, scale=2**0.5)`` is the standard normal.

    Args:
        sizes: The number of coordinates of each subspace.
        p0: The exponent :math:`p_0 > 0` of the root, shape ``(*batch)``.
        p: The exponents :math:`p_k > 0` of the subspaces, shape ``(*batch, len(sizes))``,
            or ``(*batch, 1)`` or a number for one that all share.
        scale: The scale :math:`s > 0`, shape ``(*batch)``.
        validate_args: Whether to check arguments, as in torch.

    Raises:
        ValueError: Where ``p`` does not fit ``sizes``, or a parameter is not positive and finite.
        TypeError: Where a parameter is float16 or bfloat16.

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
        "p": constraints.independent(constraints.positive, 1),
        "scale": constraints.positive,
    }

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
        exponents = torch.atleast_1d(as_parameter("p", p, like=_tensor_among(p0, scale)))
        if exponents.shape[-1] not in (1, num):
            raise ValueError(
                f"there are {num} subspaces, so p must have shape (*batch, {num}) or (*batch, 1), "
                f"but got {tuple(exponents.shape)}"
            )
        columns = as_parameters(p0=_column("p0", p0), p=exponents, scale=_column("scale", scale))
        self.p0, self.scale = columns[0][..., 0], columns[2][..., 0]
        self.p = columns[1].expand(*self.p0.shape, num)
        exponents = torch.cat([self.p0.unsqueeze(-1), self.p], -1)
        radial = GeneralizedGamma(tree.dim, self.p0, self.scale, validate_args=False)
        super().__init__(tree, exponents, radial, validate_args=validate_args)

    @classmethod
    def unit_variance(
        cls,
        sizes: Sequence[int],
        p0: Tensor | float,
        p: Tensor | float | Sequence[float],
        validate_args: bool | None = None,
    ) -> ISA:
        """The distribution at the scale where coordinates have variance 1 on average.

        Example:
            >>> from lpnested import ISA
            >>> ISA.unit_variance([4, 4], p0=2.1, p=2.2).scale
            tensor(1.4215)
        """
        unscaled = cls(sizes, p0, p, validate_args=validate_args)
        scale = unscaled.variance.mean(-1).rsqrt()
        return cls(sizes, unscaled.p0, unscaled.p, scale, validate_args=validate_args)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of coordinates of each subspace."""
        return tuple(len(subspace) for subspace in self.tree.subspaces)

    @property
    def subspaces(self) -> tuple[LpSpherical, ...]:
        r"""The independent factors, :math:`L_{p_k}`-spherical with generalized gamma radius."""
        return tuple(
            LpSpherical(
                size,
                self.p[..., k],
                GeneralizedGamma(size, self.p0, self.scale, validate_args=False),
                validate_args=False,
            )
            for k, size in enumerate(self.sizes)
        )

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> ISA:
        new: ISA = self._get_checked_instance(ISA, _instance)
        new.p0 = self.p0.expand(tuple(batch_shape))
        new.p = self.p.expand(*batch_shape, -1)
        new.scale = self.scale.expand(tuple(batch_shape))
        super().expand(batch_shape, _instance=new)
        return new

    def __repr__(self) -> str:
        parameters = [
            f"{name}: {value.tolist() if value.dim() <= event_dim else tuple(value.shape)}"
            for name, value, event_dim in (
                ("p0", self.p0, 0),
                ("p", self.p, 1),
                ("scale", self.scale, 0),
            )
        ]
        return f"{type(self).__name__}(sizes: {self.sizes}, {', '.join(parameters)})"


def _column(name: str, parameter: Tensor | float) -> Tensor | float:
    number = isinstance(parameter, (int, float))
    return parameter if number else as_parameter(name, parameter).unsqueeze(-1)


def _tensor_among(*parameters: Tensor | float) -> Tensor | None:
    """The first floating tensor, whose dtype and device the numbers take."""
    tensors = (x for x in parameters if isinstance(x, Tensor) and x.is_floating_point())
    return next(tensors, None)
