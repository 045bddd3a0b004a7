r"""Training objectives: each is a function that returns its terms as means over the batch.

Each uses one sample :math:`z \sim q(z \mid x)` per image and any prior with a ``log_prob``. The
returned entry ``objective`` is the weighted sum to maximise.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from models import VAE

Terms = dict[str, Tensor]


def log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    """Log p(x | z) under independent Bernoullis; grey pixels allowed: (N, pixels) -> (N,)."""
    return -binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


def elbo(
    x: Tensor,
    vae: VAE,
    prior: Distribution,
    beta: float,
    kl: Literal["monte-carlo", "analytic"] = "monte-carlo",
) -> Terms:
    r"""Equation 12 of the paper: the VAE, beta-VAE, ISA-VAE and ISA-beta-VAE.

    .. math:: \log p(x \mid z) - \beta \, (\log q(z \mid x) - \log p(z))

    Args:
        x: Pixels from 0 to 1, (N, pixels).
        vae: q(z | x) and p(x | z).
        prior: p(z), event shape (latents,). By default its KL is estimated from samples even if
            normal, so that the arms of a comparison differ only in the prior.
        beta: Weight of the rate.
        kl: ``"analytic"`` uses the exact rate (normal prior only) instead of the sampled one.
    """
    posterior = vae.encoder(x)
    z = posterior.rsample()
    log_px = log_likelihood(x, vae.decoder(z))
    if kl == "analytic":
        rate = kl_divergence(Independent(posterior, 1), prior)
    else:
        rate = posterior.log_prob(z).sum(-1) - prior.log_prob(z)
    return bound(log_px, rate, beta)


def bound(log_px: Tensor, rate: Tensor, beta: float) -> Terms:
    """The terms of equation 12: means over the last axis of the per-image terms."""
    log_px, rate = log_px.mean(-1), rate.mean(-1)
    return {"objective": log_px - beta * rate, "log_px": log_px, "kl": rate}


def tcvae(
    x: Tensor,
    vae: VAE,
    prior: Distribution,
    beta: float,
    total: int,
    sizes: Sequence[int],
    *,
    tc: Literal["dims", "groups"] = "dims",
    estimator: Literal["mws", "mss"] = "mws",
    alpha: float = 1.0,
    gamma: float = 1.0,
) -> Terms:
    r"""The beta-TCVAE of Chen et al. (2018) and the ISA-beta-TCVAE: the rate in three parts.

    .. math::
        \log p(x \mid z) - \alpha \log \frac{q(z \mid x)}{q(z)}
        - \beta \log \frac{q(z)}{\prod_k q(z_k)} - \gamma \log \frac{\prod_k q(z_k)}{p(z)}

    The products run over all latents (``tc="dims"``) or over the subspaces (``"groups"``). The
    last part is a sum of KL divergences only if p factorises in the same way: the normal does,
    ISA does over its subspaces. For ISA over all latents it can be negative; it uses the joint
    density of the prior, so no marginal is needed. With all weights 1 this is the ELBO itself.

    Args:
        x: Pixels from 0 to 1, (N, pixels).
        vae: q(z | x) and p(x | z).
        prior: p(z), event shape (latents,).
        beta: Weight of the total correlation.
        total: Number of images in the training set.
        sizes: Dimensions of the subspaces.
        tc: Total correlation across dimensions or subspaces.
        estimator: Estimator of q(z). With ``"mws"`` the parts are off by constants (see
            `log_weights`), so the names of the terms include the estimator.
        alpha: Weight of the mutual information between images and code.
        gamma: Weight of the last part.
    """
    posterior = vae.encoder(x)
    z = posterior.rsample()
    log_px = log_likelihood(x, vae.decoder(z))
    weights = (alpha, beta, gamma)
    return decomposed(log_px, posterior, z, prior, weights, total, sizes, tc, estimator)


def decomposed(
    log_px: Tensor,
    posterior: Normal,
    z: Tensor,
    prior: Distribution,
    weights: tuple[float, float, float],
    total: int,
    sizes: Sequence[int],
    tc: Literal["dims", "groups"] = "dims",
    estimator: Literal["mws", "mss"] = "mws",
) -> Terms:
    """The terms of `tcvae` from per-image terms; the weights are (alpha, beta, gamma)."""
    alpha, beta, gamma = weights
    groups = [1] * z.shape[1] if tc == "dims" else list(sizes)
    mixture = log_weights(len(z), total, estimator, z.device)
    log_joint, log_product = aggregate(z, posterior, groups, mixture)
    log_qzx, log_pz = posterior.log_prob(z).sum(-1), prior.log_prob(z)
    log_px = log_px.mean()
    information = (log_qzx - log_joint).mean()
    correlation = (log_joint - log_product).mean()
    rest = (log_product - log_pz).mean()
    correlation_name, rest_name = part_names(tc, prior)
    return {
        "objective": log_px - alpha * information - beta * correlation - gamma * rest,
        "log_px": log_px,
        "kl": (log_qzx - log_pz).mean(),
        f"index_code_mi_{estimator}": information,
        f"{correlation_name}_{estimator}": correlation,
        f"{rest_name}_{estimator}": rest,
    }


def part_names(tc: str, prior: Distribution) -> tuple[str, str]:
    """Names of the second and third part of the rate.

    An ISA prior with independent latents factorises as well; this case is not distinguished.
    """
    if tc == "groups":
        return "tc_between_subspaces", "subspace_kl"
    factorises = isinstance(prior, Independent)
    return "total_correlation", "dimension_wise_kl" if factorises else "product_to_prior"


def log_weights(
    batch: int,
    total: int,
    estimator: Literal["mws", "mss"],
    device: torch.device | None = None,
) -> Tensor:
    r"""Logarithms of the weights w_ij in :math:`q(z_i) \approx \sum_j w_{ij} q(z_i \mid x_j)`.

    With minibatch-weighted sampling all weights are 1 / (total batch). Each row sums to
    1 / total, so the estimate of log q(z) is too low by about log(total), and a total correlation
    of d parts too high by (d - 1) log(total). Gradients equal those of the plain batch mean.

    With minibatch-stratified sampling each row sums to 1, and the estimate of q(z_i) is unbiased
    if x_i is fixed and the others are drawn without replacement: 1 / total for the image itself,
    1 / M for each of the other M = batch - 1, except for one that stands for all images outside
    the batch, with (total - M) / (total M). This needs a batch of at least 2.

    Returns:
        The log weights, (batch, batch); row i belongs to z_i.
    """
    least = 2 if estimator == "mss" else 1
    if not least <= batch <= total:
        raise ValueError(
            f"{estimator} needs a batch size from {least} to the data set's {total}, got {batch}"
        )
    if estimator == "mws":
        return torch.full((batch, batch), -math.log(total * batch), device=device)
    others = batch - 1
    weights = torch.full((batch, batch), 1 / others, dtype=torch.float64, device=device)
    weights.fill_diagonal_(1 / total)
    row = torch.arange(batch, device=device)
    weights[row, (row + 1) % batch] = (total - others) / (total * others)
    return weights.log().float()


def aggregate(
    z: Tensor, posterior: Normal, groups: Sequence[int], log_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Estimate log q(z) and the sum of log q(z_k) over groups of latents; both (N,).

    Args:
        z: A sample from each posterior, (N, latents).
        posterior: q(z | x_j) of the batch, batch shape (N, latents).
        groups: Sizes of consecutive groups of latents.
        log_weights: Log weights from the function `log_weights`, (N, N).
    """
    log_q = posterior.log_prob(z[:, None])  # (i, j, latent)
    log_weights = log_weights.to(log_q)
    if all(size == 1 for size in groups):
        parts = log_q
    else:
        parts = torch.stack([part.sum(-1) for part in log_q.split(list(groups), dim=-1)], dim=-1)
    log_joint = torch.logsumexp(log_q.sum(-1) + log_weights, dim=1)
    log_parts = torch.logsumexp(parts + log_weights[..., None], dim=1)
    return log_joint, log_parts.sum(-1)


def factorvae(
    x: Tensor, vae: VAE, prior: Distribution, beta: float, discriminator: nn.Module
) -> tuple[Terms, Tensor]:
    r"""FactorVAE (Kim and Mnih 2018): the ELBO minus a classifier's total-correlation estimate.

    .. math::
        \log p(x \mid z) - \log \frac{q(z \mid x)}{p(z)} - \beta \log \frac{D(z)}{1 - D(z)}

    D(z) is the discriminator's probability that z comes from q(z) and not from the product of its
    marginals, so its log ratio estimates the total correlation.

    Returns:
        The terms, and one sample z per image for `discriminator_loss`, (N, latents).
    """
    posterior = vae.encoder(x)
    z = posterior.rsample()
    log_px = log_likelihood(x, vae.decoder(z)).mean()
    rate = (posterior.log_prob(z).sum(-1) - prior.log_prob(z)).mean()
    logits = discriminator(z)
    correlation = (logits[:, 0] - logits[:, 1]).mean()
    terms = {
        "objective": log_px - rate - beta * correlation,
        "log_px": log_px,
        "kl": rate,
        "total_correlation_by_discriminator": correlation,
    }
    return terms, z.detach()


def discriminator_loss(discriminator: nn.Module, z: Tensor, other: Tensor) -> Tensor:
    """Cross entropy of classifying z as from q(z) (class 0) or as shuffled (class 1)."""
    joint, product = discriminator(z), discriminator(shuffle_latents(other))
    zeros = torch.zeros(len(z), dtype=torch.long, device=z.device)
    return (cross_entropy(joint, zeros) + cross_entropy(product, zeros + 1)) / 2


def shuffle_latents(z: Tensor) -> Tensor:
    """Permute each latent across the batch: a sample from the product of the marginals."""
    order = torch.rand(z.shape, device=z.device).argsort(0)
    return z.gather(0, order)
