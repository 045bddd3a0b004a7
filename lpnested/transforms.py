r"""Radial transforms: from one :math:`L_p`-nested distribution to another, and to independence.

Both scale a value along its direction, or those of its subspaces, so that radii get another
distribution. They are :class:`torch.distributions.Transform`, differentiable in the value and in
all parameters, and can be used in :class:`torch.distributions.TransformedDistribution`. They map
the origin to the origin; a coordinate that would overflow becomes the largest number of the dtype.
Radii are distinguished as far out as tails of exp(-4e260).

The radii may be :class:`lpnested.GeneralizedGamma` and its special cases in torch (``Gamma``,
``Chi2``, ``Exponential``, ``Weibull``, ``HalfNormal``), ``LogNormal``, ``InverseGamma`` and
``HalfCauchy``, which are all accurate in both tails, and any other distribution with ``cdf`` and
``icdf`` on the positive reals, with the accuracy of these: in float64 a ``cdf`` has no digits left
of an upper tail below 1e-16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from lpnested.arguments import common_shape
from lpnested.density_transform import DensityTransform
from lpnested.generalized_normal import GeneralizedNormal
from lpnested.lp_nested import LpNested
from lpnested.nested_map import dependent, independent, leaf_exponents, scaled_by_exp
from lpnested.ops.norm import log_norm
from lpnested.precision import broadcast_to, result_dtype, saturate_cast, upcast
from lpnested.radial_map import check_bijective, radial_map
from lpnested.tree import LpNestedTree

__all__ = ["NestedRadialFactorization", "RadialTransform"]


class RadialTransform(DensityTransform):
    r"""Gives the radius of an :math:`L_p`-nested value another distribution.

    .. math:: y = \frac{g}{r}\, x, \quad r = f(x), \quad g = F_t^{-1}(F_s(r))

    with the distribution functions of two radii, source and target. If :math:`x` has the
    :math:`L_p`-nested distribution with the source as its radius, :math:`y` has that with the
    target. If all exponents are equal and the target is the radius of independent coordinates,
    this is radial factorization (Sinz, Simoncelli & Bethge 2009); by Sinz, Gerwinn & Bethge (2009)
    only a generalized gamma radius makes them independent.
    The determinant of the Jacobian is the ratio of the density generators,

    .. math:: \log \det J = \log \frac{\varrho_s(r)}{r^{n-1}} - \log \frac{\varrho_t(g)}{g^{n-1}}

    At the origin it takes its limit if that is finite, as it is for two generalized gamma radii
    of the same dimension, and otherwise its value at the smallest positive radius.

    Args:
        tree: The tree.
        exponents: Shape ``(*batch, num_nodes)``.
        source: The distribution of :math:`r`; its batch shape broadcasts.
        target: The distribution of :math:`g`; its batch shape broadcasts.
        cache_size: 0, or 1 to keep the latest value, as in torch.

    Raises:
        ValueError: Where the exponents do not fit the tree, or where the distribution function of
            a radius is not a bijection of the positive reals: its support is bounded, or it has
            atoms.
        NotImplementedError: Where a radius has no ``cdf`` or no ``icdf``.
        TypeError: Where the tree or a radius has the wrong type, or the exponents are float16 or
            bfloat16.

    Example:
        >>> from torch.distributions import Exponential, LogNormal
        >>> tree = LpNestedTree((0, (1, 2)))
        >>> transform = RadialTransform(tree, [1.0, 2.0], Exponential(1.0), LogNormal(0.0, 1.0))
        >>> x = torch.tensor([1.0, 3.0, -4.0])
        >>> y = transform(x)
        >>> y, transform.log_abs_det_jacobian(x, y)
        (tensor([  2.7677,   8.3032, -11.0709]), tensor(3.7122))
        >>> torch.allclose(transform.inv(y), x)
        True
    """

    def __init__(
        self,
        tree: LpNestedTree,
        exponents: Tensor | Sequence[float],
        source: Distribution,
        target: Distribution,
        cache_size: int = 0,
    ) -> None:
        super().__init__(cache_size=cache_size)
        check_bijective("source", source)
        check_bijective("target", target)
        law = LpNested(tree, exponents, source)
        shape = common_shape(law.batch_shape, target.batch_shape)
        self.tree = tree
        self.exponents = broadcast_to(law.exponents, (*shape, tree.num_nodes))
        self.source, self.target = (
            radial if radial.batch_shape == shape else radial.expand(shape)
            for radial in (source, target)
        )

    def _arguments(self) -> tuple[Any, ...]:
        return self.tree, self.exponents, self.source, self.target

    def _distributions(self) -> tuple[LpNested, LpNested]:
        source, target = (
            LpNested(self.tree, self.exponents, radial, validate_args=False)
            for radial in (self.source, self.target)
        )
        return source, target

    def _call(self, x: Tensor) -> Tensor:
        return self._scaled(x, self.source, self.target)

    def _inverse(self, y: Tensor) -> Tensor:
        return self._scaled(y, self.target, self.source)

    def _scaled(self, value: Tensor, source: Distribution, target: Distribution) -> Tensor:
        wide = upcast(value)
        log_r = log_norm(wide, self.exponents, self.tree)
        shift = radial_map(source, target, log_r) - log_r
        result = scaled_by_exp(wide, shift.unsqueeze(-1))
        return saturate_cast(result, result_dtype(value, self.exponents))


class NestedRadialFactorization(DensityTransform):
    r"""Makes the coordinates of an :math:`L_p`-nested distribution independent.

    Nested radial factorization (Sinz & Bethge 2010). From the root down,
    every inner node scales the coordinates under it by a :class:`RadialTransform`: the root from
    the radius of the distribution to that of its generalized normal,
    :math:`\mathrm{GG}(n, p_\emptyset)`, and every node :math:`c` below from
    :math:`\mathrm{GG}(n_c, p_I)`, which its radius has after the step of its parent :math:`I`, to
    :math:`\mathrm{GG}(n_c, p_c)`. Here :math:`\mathrm{GG}(n, p)` is the radius of :math:`n`
    independent coordinates of exponent :math:`p`, :class:`lpnested.GeneralizedGamma`. In the end
    the coordinates are independent, each with the generalized normal distribution of scale 1 and
    the exponent of the node above it: :attr:`base`.

    The product of the determinants of all nodes is the ratio of the two densities. At the origin
    it takes its limit where the radius is a generalized gamma variable of dimension ``tree.dim``.

    The inverse is a sampler with gradients in all parameters, the ``rsample`` that
    :class:`lpnested.LpNested` itself does not have.

    Args:
        dist: The distribution of :math:`x`, with any radius that :class:`RadialTransform` takes.
        cache_size: 0, or 1 to keep the latest value, as in torch.

    Raises:
        TypeError: Where ``dist`` is not an :class:`lpnested.LpNested`.
        ValueError: As in :class:`RadialTransform`.
        NotImplementedError: As in :class:`RadialTransform`.

    Example:
        >>> from lpnested import ISA
        >>> from torch.distributions import TransformedDistribution
        >>> dist = ISA([2, 2], p0=1.0, p=3.0)
        >>> transform = NestedRadialFactorization(dist)
        >>> model = TransformedDistribution(transform.base, [transform.inv])
        >>> x = torch.tensor([1.0, -2.0, 0.0, 0.5])
        >>> transform(x)
        tensor([ 0.3987, -0.7974,  0.0000,  0.2867])
        >>> model.log_prob(x), dist.log_prob(x)
        (tensor(-6.4908), tensor(-6.4908))
    """

    def __init__(self, dist: LpNested, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        if not isinstance(dist, LpNested):
            raise TypeError(f"dist must be an LpNested distribution, but got {dist!r}")
        check_bijective("the radius", dist.radial)
        self.dist = dist

    @property
    def base(self) -> Distribution:
        """The distribution of ``y``: independent generalized normals, batch shape ``(*batch)``."""
        p = leaf_exponents(self.dist.exponents, self.dist.tree).to(self.dist.exponents.dtype)
        return Independent(GeneralizedNormal(torch.zeros_like(p), torch.ones_like(p), p), 1)

    def _arguments(self) -> tuple[Any, ...]:
        return (self.dist,)

    def _distributions(self) -> tuple[LpNested, Distribution]:
        return self.dist, self.base

    def _call(self, x: Tensor) -> Tensor:
        return self._mapped(independent, x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self._mapped(dependent, y)

    def _mapped(self, nested_map: Callable[..., Tensor], value: Tensor) -> Tensor:
        dist, exponents = self.dist, self.dist.exponents
        result = nested_map(upcast(value), upcast(exponents), dist.tree, dist.radial)
        return saturate_cast(result, result_dtype(value, exponents))
