"""The distributions as Pyro distributions, for ``pyro.sample`` (extra ``lpnested[pyro]``).

Derived distributions, such as the ``radial`` and ``subspaces`` of ISA and a ``marginal``, are Pyro
distributions as well; a radial that you pass is used unchanged.

Example:
    >>> import pyro
    >>> from lpnested.pyro import ISA
    >>> prior = ISA([2, 2], p0=2.1, p=2.2)
    >>> pyro.sample("z", prior.expand([5]).to_event(1)).shape
    torch.Size([5, 4])
    >>> pyro.sample("first", prior.subspaces[0]).shape
    torch.Size([2])
"""

from __future__ import annotations

from typing import Any

from torch.distributions import Distribution

from lpnested.generalized_gamma import GeneralizedGamma as _GeneralizedGamma
from lpnested.generalized_normal import GeneralizedNormal as _GeneralizedNormal
from lpnested.isa import ISA as _ISA
from lpnested.lp_nested import LpNested as _LpNested
from lpnested.lp_spherical import LpSpherical as _LpSpherical

try:
    from pyro.distributions.torch_distribution import TorchDistributionMixin
except ImportError as error:
    raise ImportError(
        f"lpnested.pyro needs Pyro, which could not be imported ({error}): "
        "pip install 'lpnested[pyro]'"
    ) from error

__all__ = ["ISA", "GeneralizedGamma", "GeneralizedNormal", "LpNested", "LpSpherical"]


class _DerivesPyro:
    """Mixin, before a core class, that replaces derived distributions by their Pyro versions."""

    def _derive(self, family: type[Distribution], *arguments: Any) -> Distribution:
        derived: Distribution = super()._derive(_COUNTERPARTS[family], *arguments)  # type: ignore[misc]
        return derived


class GeneralizedGamma(_GeneralizedGamma, TorchDistributionMixin):  # type: ignore[misc]
    """:class:`lpnested.GeneralizedGamma` for Pyro."""


class GeneralizedNormal(_GeneralizedNormal, TorchDistributionMixin):  # type: ignore[misc]
    """:class:`lpnested.GeneralizedNormal` for Pyro."""


class LpNested(_DerivesPyro, _LpNested, TorchDistributionMixin):  # type: ignore[misc]
    """:class:`lpnested.LpNested` for Pyro."""


class LpSpherical(_DerivesPyro, _LpSpherical, TorchDistributionMixin):  # type: ignore[misc]
    """:class:`lpnested.LpSpherical` for Pyro."""


class ISA(_DerivesPyro, _ISA, TorchDistributionMixin):  # type: ignore[misc]
    """:class:`lpnested.ISA` for Pyro."""


_COUNTERPARTS: dict[type[Distribution], type[Distribution]] = {
    _GeneralizedGamma: GeneralizedGamma,
    _GeneralizedNormal: GeneralizedNormal,
    _LpNested: LpNested,
    _LpSpherical: LpSpherical,
    _ISA: ISA,
}
