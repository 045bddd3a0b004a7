"""Scale mixtures with a fixed centre: the radii of the models, as modules with parameters."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, LogNormal, MixtureSameFamily

from lpnested import GeneralizedGamma

REACH = 12.0  # bisection starts this many of a component's standard deviations out
BISECTIONS = 60


class ScaleMixture(nn.Module):
    """Weights and logarithms of scales, ``(*batch, components)``.

    The mean of the logarithms is always zero: the matrix before a density already sets the scale,
    and setting it twice would leave the likelihood flat in one direction.
    """

    def __init__(self, batch: tuple[int, ...], components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(*batch, components))
        self.places = nn.Parameter(torch.zeros(*batch, components))

    @property
    def log_scales(self) -> Tensor:
        """Logarithms of the scales, with mean zero."""
        weights = self.logits.softmax(-1)
        return self.places - (weights * self.places).sum(-1, keepdim=True)

    def spread(self, log_r: Tensor) -> None:
        """Place the components at evenly spaced quantiles of ``log_r``, ``(N, *batch)``."""
        components = self.logits.shape[-1]
        levels = torch.linspace(0.05, 0.95, components + 2, dtype=log_r.dtype)[1:-1]
        with torch.no_grad():
            self.places.copy_(torch.quantile(log_r, levels, dim=0).movedim(0, -1))


class LogNormalMixture(MixtureSameFamily):
    """A mixture of log-normals with an ``icdf``, which radial transforms require."""

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles, by bisection in the logarithm to the precision of the dtype."""
        parts = self.component_distribution
        low = (parts.loc - REACH * parts.scale).amin(-1).expand_as(value)
        high = (parts.loc + REACH * parts.scale).amax(-1).expand_as(value)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            below = self.cdf(middle.exp()) < value
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return ((low + high) / 2).exp()


class LogNormals(ScaleMixture):
    """A mixture of log-normal radii."""

    def __init__(self, components: int) -> None:
        super().__init__((), components)
        self.log_widths = nn.Parameter(torch.zeros(components))

    def spread(self, log_r: Tensor) -> None:
        """Start at quantiles of ``log_r``, each component half as wide as ``log_r``."""
        super().spread(log_r)
        with torch.no_grad():
            self.log_widths.fill_(log_r.std().log() - math.log(2))

    def radial(self) -> LogNormalMixture:
        """The distribution of the radius."""
        components = LogNormal(self.log_scales, self.log_widths.exp(), validate_args=False)
        mixture = Categorical(logits=self.logits, validate_args=False)
        return LogNormalMixture(mixture, components, validate_args=False)


class GammaRadii(ScaleMixture):
    """A mixture of the radii of p-generalized normals in ``dim`` dimensions, ``(subspaces,)``."""

    def radial(self, dim: int, p: Tensor) -> MixtureSameFamily:
        """The distribution of the radii; ``p`` is the exponent of each subspace."""
        scales = self.log_scales.exp()
        dims = torch.full_like(scales, dim)
        components = GeneralizedGamma(dims, p.unsqueeze(-1), scales, validate_args=False)
        mixture = Categorical(logits=self.logits, validate_args=False)
        return MixtureSameFamily(mixture, components, validate_args=False)
