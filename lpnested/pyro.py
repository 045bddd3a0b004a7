"""The distributions as Pyro distributions, for ``pyro.sample`` (extra ``lpnested[pyro]``).

Example:
    >>> import pyro
    >>> from lpnested.pyro import ISA
    >>> z = pyro.sample("z", ISA([2, 2], p0=2.1, p=2.2).expand([5]).to_event(1))
    >>> z.shape
    torch.Size([5, 4])
"""

from __future__ import annotations

from pyro.distributions.torch_distribution import TorchDistributionMixin

from lpnested.generalized_gamma import GeneralizedGamma as _GeneralizedGamma
from lpnested.generalized_normal import GeneralizedNormal as _GeneralizedNormal
from lpnested.isa import ISA as _ISA
from lpnested.lp_nested import LpNested as _LpNested
from lpnested.lp_spherical import LpSpherical as _LpSpherical

__all__ = ["ISA", "GeneralizedGamma", "GeneralizedNormal", "LpNested", "LpSpherical"]


class GeneralizedGamma(_GeneralizedGamma, TorchDistributionMixin):  # type: ignore[misc]
    """:class:`lpnested.GeneralizedGamma` for Pyro."""


class GeneralizedNormal(_GeneralizedNormal, TorchDistributionMixin):  # type: ignore[misc]
    """:class:`lpnested.GeneralizedNormal` for Pyro."""


class LpNested(_LpNested, TorchDistributionMixin):  # type: ignore[misc]
    """:class:`lpnested.LpNested` for Pyro."""


class LpSpherical(_LpSpherical, TorchDistributionMixin):  # type: ignore[misc]
    """:class:`lpnested.LpSpherical` for Pyro."""


class ISA(_ISA, TorchDistributionMixin):  # type: ignore[misc]
    """:class:`lpnested.ISA` for Pyro."""
