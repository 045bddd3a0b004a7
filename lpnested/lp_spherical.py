"""The Lp-spherical distribution: one exponent for all coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.distributions import Distribution, constraints

from lpnested.arguments import common_shape
from lpnested.digits import parameter_repr
from lpnested.lp_nested import LpNested
from lpnested.precision import as_parameter, broadcast_to
from lpnested.radii import checked_parameters
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
        validate_args: Whether to validate arguments, as in torch.

    Example:
        >>> import torch
        >>> radial = torch.distributions.LogNormal(0.0, 1.0)
        >>> LpSpherical(3, 1.0, radial).log_prob(torch.tensor([0.5, -0.5, 0.0]))
        tensor(-2.3052)
    """

    arg_constraints: ClassVar = {"p": constraints.positive}
    _stored: ClassVar = {"p": 0}

    def __init__(
        self,
        dim: int,
        p: Tensor | float,
        radial: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        p = as_parameter("p", p, like=checked_parameters(radial, validate_args))
        batch_shape = common_shape(p.shape, radial.batch_shape)
        self.p = broadcast_to(p, batch_shape)
        self._set_up(LpNestedTree.flat(dim), batch_shape, validate_args, radial)

    @property
    def exponents(self) -> Tensor:  # type: ignore[override]
        """The exponents of the tree, shape ``(*batch, 1)``."""
        return self.p.unsqueeze(-1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> LpSpherical:
        new: LpSpherical = self._get_checked_instance(LpSpherical, _instance)
        super().expand(batch_shape, _instance=new)
        return new

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(dim: {self.tree.dim}, p: {parameter_repr(self.p)}, "
            f"radial: {self.radial})"
        )
