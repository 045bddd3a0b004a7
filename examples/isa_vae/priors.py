"""The priors of the arms, as modules that return a distribution over the latents when called."""

import torch
from config import Config
from torch import nn
from torch.distributions import Distribution, Independent, Normal

from lpnested import ISA
from lpnested.nn import Learnable


class Fixed(nn.Module):
    """Returns the same distribution every time, and has nothing to learn."""

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        self.distribution = distribution

    def forward(self) -> Distribution:
        return self.distribution


def make_prior(config: Config) -> nn.Module:
    """p(z), on the device of the run; all kinds have event shape (latents,)."""
    device = torch.device(config.device)
    unit = config.scale == "unit-variance"
    if config.prior == "normal":
        loc = torch.zeros(config.latents, device=device)
        scale = torch.full_like(loc, 1.0 if unit else float(config.scale))
        return Fixed(Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False))
    kind = ISA.unit_variance if unit else ISA
    p = config.p * len(config.sizes) if len(config.p) == 1 else config.p
    values = {"p0": torch.tensor(config.p0, device=device), "p": torch.tensor(p, device=device)}
    if not unit:
        values["scale"] = torch.tensor(float(config.scale), device=device)
    if config.learn_exponents:
        prior = Learnable(kind, config.sizes, learn=("p",), validate_args=False, **values)
        return prior.to(device)
    return Fixed(kind(config.sizes, **values, validate_args=False))


def exponents(prior: Distribution) -> dict[str, float]:
    """The exponents of an ISA prior as p0, p1, ..., pK; none for a normal one."""
    if not isinstance(prior, ISA):
        return {}
    values = torch.cat([prior.p0.detach().reshape(1), prior.p.detach().reshape(-1)]).tolist()
    return {f"p{k}": value for k, value in enumerate(values)}
