"""Score a trained model: likelihood, KL, active units and the mutual information gap."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence
from tqdm import tqdm

from data.pictures import Pictures, as_pixels
from metrics import ScoringError, active_units, check_posteriors, disentanglement
from models import VAE
from objectives import log_likelihood

BATCH = 4096


def choose_rows(total: int, wanted: int | None, seed: int) -> Tensor:
    """All rows, or `wanted` random ones, in the order of the data."""
    if wanted is None or wanted >= total:
        return torch.arange(total)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(total, generator=generator)[:wanted].sort().values


@dataclass(frozen=True)
class Measured:
    """Outputs of a model for each scored image, on the CPU."""

    rows: Tensor  # rows of the images, (N,)
    mean: Tensor  # posterior means, (N, latents)
    std: Tensor  # posterior standard deviations, (N, latents)
    terms: Tensor  # log p(x|z), log q(z|x) - log p(z), and its analytic mean or NaN, (3, N)


def evaluate(
    vae: VAE,
    prior: Distribution,
    packed: Tensor,
    pictures: Pictures,
    rows: Tensor,
    seed: int,
    progress: bool = False,
    more: Callable[[Tensor, Tensor, Tensor], dict[str, float | None]] | None = None,
) -> dict[str, Any]:
    """Compute all scores over the given rows, with one sample of z per image, as plain numbers.

    Args:
        vae: The trained model.
        prior: p(z).
        packed: The images on the model's device, (N, bytes).
        pictures: The same images, with their factors.
        rows: Rows of the images to score.
        seed: Seed for the samples of z.
        progress: Whether to show progress bars.
        more: Function that computes further scores from the posterior means, their standard
            deviations and the classes.
    """
    found = measure(vae, prior, packed, pictures.pixels, rows, seed, progress)
    classes = torch.from_numpy(pictures.classes)[rows]
    return {
        **likelihood_scores(found),
        **disentanglement_scores(found.mean, found.std, classes, pictures, progress),
        "more": more(found.mean, found.std, classes) if more else {},
    }


@torch.no_grad()
def measure(
    vae: VAE,
    prior: Distribution,
    packed: Tensor,
    pixels: int,
    rows: Tensor,
    seed: int,
    progress: bool = False,
) -> Measured:
    """Run the model on the images, on its device."""
    torch.manual_seed(seed)
    # Allocate all outputs before the first batch: small results between each batch's large
    # temporaries would fragment the heap, and the process would grow with every batch.
    mean = torch.empty(len(rows), *prior.event_shape)
    std = torch.empty_like(mean)
    terms = torch.empty(3, len(rows), dtype=torch.float64)
    for start in tqdm(
        range(0, len(rows), BATCH), desc="scoring", unit="batch", disable=not progress
    ):
        batch = slice(start, start + BATCH)
        x = as_pixels(packed[rows[batch].to(packed.device)], pixels)
        posterior = vae.encoder(x)
        check_posteriors(posterior.mean, posterior.stddev)
        z = posterior.sample()
        rate = posterior.log_prob(z).sum(-1) - prior.log_prob(z)
        exact = analytic_kl(posterior, prior)
        terms[:, batch] = torch.stack([log_likelihood(x, vae.decoder(z)), rate, exact]).cpu()
        mean[batch], std[batch] = posterior.mean.cpu(), posterior.stddev.cpu()
    return Measured(rows, mean, std, terms)


def likelihood_scores(found: Measured) -> dict[str, Any]:
    """Scores of the likelihood, the KL and the activity of the latents."""
    likelihood, rate, exact = found.terms
    if not (likelihood.isfinite().all() and rate.isfinite().all()):
        raise ScoringError("log p(x|z) and log q(z|x) - log p(z) must be finite for every picture")
    return {
        "log_likelihood": number(float(likelihood.mean())),
        "log_likelihood_standard_error": standard_error(likelihood),
        "kl_monte_carlo": number(float(rate.mean())),
        "kl_monte_carlo_standard_error": standard_error(rate),
        "kl_analytic": number(float(exact.mean())),
        "elbo": number(float((likelihood - rate).mean())),
        "active_units": int(active_units(found.mean).sum()),
        "posterior_mean_variance": found.mean.double().var(0, correction=0).tolist(),
    }


@torch.no_grad()
def encode(vae: VAE, packed: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Posterior means and standard deviations of the images, on the CPU; both (N, latents)."""
    posteriors = [vae.encoder(as_pixels(rows, pixels)) for rows in packed.split(BATCH)]
    mean, std = zip(*((q.mean.cpu(), q.stddev.cpu()) for q in posteriors), strict=True)
    return torch.cat(mean), torch.cat(std)


def analytic_kl(posterior: Normal, prior: Distribution) -> Tensor:
    """KL(q(z | x) || p(z)) for a normal prior, (N,); NaN for one without a closed form."""
    if isinstance(prior, Independent):
        return kl_divergence(Independent(posterior, 1), prior)
    return torch.full_like(posterior.mean[:, 0], math.nan)


def disentanglement_scores(
    mean: Tensor, std: Tensor, classes: Tensor, pictures: Pictures, progress: bool
) -> dict[str, Any]:
    """The MIG and the quantities it is computed from; null for a factor that never varies."""
    varies = dict(zip(pictures.factors, np.ptp(pictures.classes, axis=0) > 0, strict=True))
    names = [name for name in pictures.factors if varies[name] or name in pictures.mig_factors]
    columns = classes[:, [pictures.factors.index(factor) for factor in names]]
    scores = disentanglement(mean, std, columns, names, progress, pictures.mig_factors)
    gaps = {factor: number(gap) for factor, gap in scores.gaps.items()}
    return {
        "mig": number(scores.mig),
        "mig_per_factor": {factor: gaps[factor] for factor in pictures.mig_factors},
        "gaps_not_in_mig": {k: gap for k, gap in gaps.items() if k not in pictures.mig_factors},
        "factors": names,
        "factor_entropy": scores.entropy.tolist(),
        "mutual_information": scores.information.tolist(),  # one row per latent
        "widened_share": float(scores.widened.mean()),  # of posteriors too narrow for the grid
    }


def standard_error(values: Tensor) -> float | None:
    """Standard error of the mean over images."""
    return number(float(values.std() / math.sqrt(len(values))))


def number(value: float) -> float | None:
    """Replace NaN and infinity by None, since JSON has neither."""
    return value if math.isfinite(value) else None
