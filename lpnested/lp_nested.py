"""The general Lp-nested symmetric distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from lpnested import functional as F
from lpnested.arguments import check_exponents, common_shape
from lpnested.digits import parameter_repr
from lpnested.gamma_radii import marginal_radius
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.layout import layout_of
from lpnested.precision import as_parameter, broadcast_to, result_dtype, upcast, working_dtype
from lpnested.radial import log_density
from lpnested.radial_draws import sample_nested
from lpnested.radial_moments import generator_mode, log_radial_moment, mean_log, radial_entropy
from lpnested.radii import checked_parameters
from lpnested.tree import LpNestedTree, Nested
from lpnested.validation import POSITIVE_ROW, initialize

__all__ = ["LpNested"]

D = TypeVar("D", bound=Distribution)


class LpNested(Distribution):
    r"""The :math:`L_p`-nested symmetric distribution with any radius (Sinz & Bethge 2010, eq. 7).

    .. math:: \rho(x) = \frac{\varrho(r)}{r^{n-1} S_f(1)}, \quad r = f(x)

    with the :math:`L_p`-nested function :math:`f` of a tree
    (:func:`lpnested.functional.log_norm`), its surface area :math:`S_f(1)`, and the density
    :math:`\varrho` of the radius. Radius and direction are independent, and the direction is
    uniform on the unit sphere of :math:`f`.

    ``sample`` is exact (Algorithm 1). ``log_prob`` saturates at -3.4e38 (float32) or -4e260
    (float64), with gradient 0 there, and at -3e30 on a device without float64. A gradient that
    overflows saturates too, and the gradient at a zero coordinate is 0.

    Args:
        tree: The tree.
        exponents: One exponent :math:`p_I > 0` per inner node, in the order of ``tree.nodes``,
            shape ``(*batch, num_nodes)``.
        radial: Any univariate torch Distribution on the positive reals; its batch broadcasts.
        validate_args: Whether to validate arguments, as in torch.

    Raises:
        ValueError: If the exponents do not match the tree or are not positive and finite, or if
            the support of the radial is not the positive reals.
        TypeError: If the exponents are float16 or bfloat16.

    Example:
        >>> tree = LpNestedTree((0, (1, 2)))
        >>> radial = torch.distributions.Gamma(3.0, 1.0)
        >>> dist = LpNested(tree, torch.tensor([1.0, 2.0]), radial)
        >>> dist.log_prob(torch.tensor([1.0, 0.0, 1.0]))
        tensor(-4.5310)
        >>> dist.sample((5,)).shape
        torch.Size([5, 3])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"exponents": POSITIVE_ROW}
    support = constraints.real_vector
    has_rsample = False
    _stored: ClassVar[dict[str, int]] = {"exponents": 1}
    """The tensor parameters, and the number of event dimensions of each."""

    def __init__(
        self,
        tree: LpNestedTree,
        exponents: Tensor | Sequence[float],
        radial: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(tree, LpNestedTree):
            raise TypeError(f"tree must be an LpNestedTree, but got {tree!r}")
        like = checked_parameters(radial, validate_args)
        exponents = check_exponents(as_parameter("exponents", exponents, like), tree)
        batch_shape = common_shape(exponents.shape[:-1], radial.batch_shape)
        self.exponents = broadcast_to(exponents, (*batch_shape, tree.num_nodes))
        self._set_up(tree, batch_shape, validate_args, radial)

    def _set_up(
        self,
        tree: LpNestedTree,
        batch_shape: torch.Size,
        validate_args: bool | None,
        radial: Distribution | None = None,
    ) -> None:
        """Finish construction, once the parameters are set."""
        self.tree = tree
        if radial is not None:
            matches = radial.batch_shape == batch_shape  # Dynamo of torch 2.11 can't trace expand
            self.radial = radial if matches else radial.expand(batch_shape)
        device = getattr(self, next(iter(self._stored))).device
        layout_of(tree, device)  # fill the cache for a compiled log_prob
        initialize(self, batch_shape, torch.Size([tree.dim]), validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> LpNested:
        new: LpNested = self._get_checked_instance(LpNested, _instance)
        batch_shape = torch.Size(batch_shape)
        new.tree = self.tree
        for name, event_dim in self._stored.items():
            setattr(new, name, getattr(self, name).expand(*batch_shape, *(-1,) * event_dim))
        if not isinstance(getattr(type(self), "radial", None), property):
            new.radial = self.radial.expand(batch_shape)
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _derive(self, family: Callable[..., D], *arguments: Any) -> D:
        """Construct a distribution derived from this one; overridden in :mod:`lpnested.pyro`."""
        return family(*arguments, validate_args=False)

    def norm(self, value: Tensor) -> Tensor:
        """Return the radius :math:`f(x)` of a value, shape ``(*sample, *batch)``."""
        return F.norm(value, self.exponents, self.tree)

    def log_prob(self, value: Tensor) -> Tensor:
        empty = isinstance(value, Tensor) and value.numel() == 0  # torch can't validate these
        if self._validate_args and not empty:
            self._validate_sample(value)
        return self._log_density(value)

    def _log_density(self, value: Tensor) -> Tensor:
        return log_density(self.radial, value, self.exponents, self.tree)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Draw exact samples, shape ``(*sample_shape, *batch, dim)``, without gradient."""
        return sample_nested(self.radial, self.exponents, self.tree, sample_shape)

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} has no reparametrised sampler: use sample() for exact samples "
            f"without gradient, their log_prob() for a score-function gradient, or the inverse of "
            f"lpnested.transforms.NestedRadialFactorization for samples with gradients"
        )

    @property
    def log_surface_area(self) -> Tensor:
        r"""The logarithm of :math:`S_f(1)`, shape ``(*batch)``."""
        return F.log_surface_area(self.exponents, self.tree)

    @property
    def log_volume(self) -> Tensor:
        r"""The logarithm of the volume of :math:`\{x : f(x) \leq 1\}`, shape ``(*batch)``."""
        return F.log_volume(self.exponents, self.tree)

    def moment(self, orders: Tensor | Sequence[float]) -> Tensor:
        r"""Return the mixed absolute moment :math:`\mathrm{E} \prod_i |x_i|^{k_i}`.

        Args:
            orders: The orders :math:`k_i`, shape ``(*sample, *batch, dim)``. The moment is inf
                if an order is -1 or less, or if the moment of the radius is infinite.

        Raises:
            NotImplementedError: If the moment of the radius has no closed form.

        Example:
            >>> dist = LpNested(LpNestedTree.flat(2), [2.0], torch.distributions.Chi2(3.0))
            >>> dist.moment([2.0, 0.0])
            tensor(7.5000)
        """
        device = self.exponents.device
        orders = torch.as_tensor(orders, dtype=working_dtype(device), device=device)
        angular = F.log_moment(orders, upcast(self.exponents), self.tree)
        radial = log_radial_moment(self.radial, orders.sum(-1))
        return (angular + radial).exp().to(self._dtype)

    @property
    def mean(self) -> Tensor:
        """The mean, which is zero, or NaN where the mean of the radius is infinite."""
        infinite = log_radial_moment(self.radial, 1) == torch.inf
        mean = torch.where(infinite, torch.nan, 0.0).to(self._dtype)
        return mean.unsqueeze(-1).expand(self._extended_shape())

    @property
    def mode(self) -> Tensor:
        """The mode, which is zero, or NaN where the density is unbounded at 0 or not unique."""
        zero = generator_mode(self.radial, self.tree.dim).to(self._dtype)
        return zero.unsqueeze(-1).expand(self._extended_shape())

    @property
    def variance(self) -> Tensor:
        """The variances of the coordinates; inf where infinite or too large for the dtype."""
        return self._log_variance().exp().to(self._dtype)

    @property
    def stddev(self) -> Tensor:
        """The standard deviations of the coordinates."""
        return (0.5 * self._log_variance()).exp().to(self._dtype)

    def _log_variance(self) -> Tensor:
        angular = F.log_coordinate_moment(2, upcast(self.exponents), self.tree)
        return angular + log_radial_moment(self.radial, 2).unsqueeze(-1)

    @property
    def covariance_matrix(self) -> Tensor:
        """The diagonal matrix of variances; coordinates are uncorrelated, but not independent."""
        return torch.diag_embed(self.variance)

    def entropy(self) -> Tensor:
        area = F.log_surface_area(upcast(self.exponents), self.tree)
        spread = (self.tree.dim - 1) * mean_log(self.radial)
        return (radial_entropy(self.radial) + spread + area).to(self._dtype)

    def marginal(self, node: Nested) -> LpNested:
        """Return the marginal of the coordinates under an inner node, in ascending order.

        It is again Lp-nested. Its radius has a closed form if the radius of this distribution is a
        generalized gamma of dimension ``tree.dim`` whose exponent equals every exponent above the
        node, as for the subspaces of ISA: a generalized gamma of the node's dimension.

        Args:
            node: One of ``tree.nodes``, or its index there.

        Raises:
            ValueError: If the node is not in the tree, or is a leaf.
            TypeError: If ``node`` is neither a node nor an index.
            NotImplementedError: If the radius of the marginal has no closed form.

        Example:
            >>> from lpnested import ISA
            >>> ISA([2, 3], p0=2.0, p=1.5).marginal((2, 3, 4)).radial.dim
            tensor(3.)
        """
        place = self.tree.place(node)
        subtree, places = self.tree.subtree(place)
        radial = self.radial
        if any(len(self.tree.children[k]) > 1 for k in self.tree.ancestors(place)):
            parameters = marginal_radius(radial, self.exponents, self.tree, place)
            radial = self._derive(GeneralizedGamma, *parameters)
        return self._derive(LpNested, subtree, self.exponents[..., places], radial)

    @property
    def _dtype(self) -> torch.dtype:
        return result_dtype(self.exponents)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.tree!r}, exponents: {parameter_repr(self.exponents)}, "
            f"radial: {self.radial})"
        )
