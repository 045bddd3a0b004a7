"""The Lp-spherical distribution: one exponent for all coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.distributions import Distribution, constraints

from lpnested.lp_nested import LpNested
from lpnested.precision import as_parameter
from lpnested.radial import check_radial, first_parameter
from lpnested.tree import LpNestedTree

__all__ = ["LpSpherical"]


class LpSpherical(LpNested):
    r"""The :math:`L_p`-spherically symmetric distribution: :class:`LpNested` on a flat tree.

    .. math:: \rho(x) = \frac{\varrho(r)}{r^{n-1} S_p(1)}, \quad
        r = \Big(\sum_i |x_i|^p\Big)^{1/p}

    Args:
        dim: The number of coordinates.
        p: The exponent :math:`p > 0`, shape ``(*batch)``.
        radial: Any univariate torch Distribution on the positive reals.
        validate_args: Whether to check arguments, as in torch.

    Example:
        >>> import torch
        >>> radial = torch.distributions.LogNormal(0.0, 1.0)
        >>> LpSpherical(3, 1.0, radial).log_prob(torch.tensor([0.5, -0.5, 0.0]))
        tensor(-2.3052)
    """

    arg_constraints: ClassVar = {"p": constraints.positive}

    def __init__(
        self,
        dim: int,
        p: Tensor | float,
        radial: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        check_radial(radial, check_values=False)
        exponents = as_parameter("p", p, like=first_parameter(radial)).unsqueeze(-1)
        batch_shape = exponents.shape[:-1]
        self.p = exponents.squeeze(-1)
        super().__init__(LpNestedTree.flat(dim), exponents, radial, validate_args=validate_args)
        if self.batch_shape != batch_shape:
            self.p = self.exponents.squeeze(-1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> LpSpherical:
        new: LpSpherical = self._get_checked_instance(LpSpherical, _instance)
        new.p = self.p.expand(tuple(batch_shape))
        super().expand(batch_shape, _instance=new)
        return new

    def __repr__(self) -> str:
        p = self.p.item() if self.p.numel() == 1 else self.p.shape
        return f"{type(self).__name__}(dim: {self.tree.dim}, p: {p}, radial: {self.radial})"
