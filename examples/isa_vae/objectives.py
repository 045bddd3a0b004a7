"""The evidence lower bound with one sample of z, for any prior with a log_prob."""

from models import VAE
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import binary_cross_entropy_with_logits


def log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    """Log p(x | z) of binary pixels under independent Bernoullis: (N, pixels) -> (N,)."""
    return -binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


def elbo(x: Tensor, vae: VAE, prior: Distribution, beta: float) -> Tensor:
    r"""Equation 12 of the paper, one sample of z for each picture.

    .. math:: \log p(x \mid z) - \beta \, (\log q(z \mid x) - \log p(z)), \quad z \sim q(z \mid x)

    Args:
        x: Binary pixels, (N, 4096).
        vae: q(z | x) and p(x | z).
        prior: Over vectors z, event shape (latents,). The normal prior is sampled like any other,
            so that the arms of a comparison differ in nothing but the prior.
        beta: Weight of the rate.

    Returns:
        The bound for each picture, (N,).
    """
    posterior = vae.encoder(x)
    z = posterior.rsample()
    rate = posterior.log_prob(z).sum(-1) - prior.log_prob(z)
    return log_likelihood(x, vae.decoder(z)) - beta * rate
