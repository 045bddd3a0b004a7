"""The example's parts that have a time limit: drawing, unpacking, the prior in training, MIG."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from data import draw_dsprites, pack, render_dsprites, unpack
from metrics import disentanglement, mig_sampled, mixtures
from models import VAE
from objectives import elbo, log_likelihood
from peers import independent
from plan import Case, Setting, sync_of
from render import FACTORS, MIG_FACTORS, all_classes
from timing import Budget, interleave, spread
from torch import Tensor
from torch.distributions import Distribution, Normal, kl_divergence

from lpnested import ISA
from lpnested.nn import Learnable

LATENTS, HIDDEN = 20, 1200  # of the paper
SIZES = [4] * 5
CHENS_SAMPLES = 10_000  # for each entropy, in the code of Chen et al.
PART = 11_520  # images on which both estimators of MIG are compared with the truth


def plan(quick: bool) -> list[Setting]:
    """Drawing is told for one core, MIG for two."""
    return [Setting(1), Setting(2)]


def cases(setting: Setting, quick: bool) -> list[Case]:
    """MIG on all images and the paper's batch in a full run only."""
    if setting.threads == 1:
        return [Case({"what": "drawing dSprites"}, partial(measure_drawing, 1 if quick else 3))]
    batch, budget = (512, Budget(seconds=4.0)) if quick else (2048, Budget(35.0, min_rounds=5))
    samples, runs = (60, 2) if quick else (250, 4)
    found = [
        Case({"what": "training step", "batch": batch}, partial(measure_step, batch, budget)),
        Case({"what": "MIG error", "images": PART}, partial(measure_mig_error, samples, runs)),
    ]
    return found if quick else [*found, Case({"what": "MIG time"}, measure_mig_time)]


def measure_drawing(rounds: int) -> dict[str, Any]:
    """All 737,280 images, without the cache."""
    times = [seconds(draw_dsprites) for _ in range(rounds)]
    return {"rounds": rounds, "contenders": {"drawing": {"seconds": spread(times)}}}


def seconds(call: Callable[[], object]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure_step(batch: int, budget: Budget) -> dict[str, Any]:
    """A step of the paper's MLP with different rates, in units of the one with the analytic KL."""
    torch.manual_seed(0)
    classes = all_classes()[torch.randperm(737_280)[:batch].numpy()]
    packed = torch.from_numpy(pack(render_dsprites(classes)))
    normal = independent(Normal, LATENTS)
    isa = ISA(SIZES, 2.1, 2.2, validate_args=False)
    learned = Learnable(ISA, SIZES, p0=2.1, p=[2.2] * 5, learn=("p",), validate_args=False)
    contenders = {
        "analytic KL": trained(packed, analytic),
        "Independent(Normal)": trained(packed, lambda x, vae: bound(x, vae, normal)),
        "ISA": trained(packed, lambda x, vae: bound(x, vae, isa)),
        "ISA, learned p": trained(packed, lambda x, vae: bound(x, vae, learned()), learned),
        "plainest loop, ISA": plainest(packed, lambda x, vae: bound(x, vae, isa)),
        "unpacking the batch": lambda: unpack(packed),
    }
    return interleave(contenders, "analytic KL", budget, sync=sync_of("cpu"))


def bound(x: Tensor, vae: VAE, prior: Distribution) -> Tensor:
    """The bound with a sampled rate."""
    return elbo(x, vae, prior, 1.0)["objective"]


def analytic(x: Tensor, vae: VAE) -> Tensor:
    """The bound with the KL divergence to the standard normal in closed form."""
    posterior = vae.encoder(x)
    prior: Distribution = Normal(torch.zeros(()), torch.ones(()), validate_args=False)
    rate = kl_divergence(posterior, prior).sum(-1)
    return log_likelihood(x, vae.decoder(posterior.rsample())) - rate


def trained(
    packed: Tensor,
    objective: Callable[[Tensor, VAE], Tensor],
    prior: torch.nn.Module | None = None,
) -> Callable[[], None]:
    """One step of Adam on a model of its own."""
    vae = VAE(LATENTS, HIDDEN)
    parameters = [*vae.parameters(), *(prior.parameters() if prior is not None else ())]
    optimiser = torch.optim.Adam(parameters, 1e-4, fused=True)

    def step() -> None:
        loss = -objective(unpack(packed), vae).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def plainest(packed: Tensor, objective: Callable[[Tensor, VAE], Tensor]) -> Callable[[], None]:
    """The same step as anybody writes it: a dense first layer, Adam as it comes, float images."""
    vae, images = VAE(LATENTS, HIDDEN), unpack(packed)
    vae.encoder.layers[0] = torch.nn.Linear(images.shape[1], HIDDEN)
    optimiser = torch.optim.Adam(vae.parameters(), 1e-4)

    def step() -> None:
        loss = -objective(images, vae).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def posteriors(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and deviation, (N, 20), as of a trained encoder with 8 active latents; classes (N, 4).

    Active latents see mostly one factor each and a little of the others, with deviations from
    0.03 to 0.6; the others are at the prior.
    """
    generator = torch.Generator().manual_seed(0)
    columns = [FACTORS.index(factor) for factor in MIG_FACTORS]
    classes = torch.from_numpy(all_classes())[:, columns]
    scaled = classes.double() / classes.max(0).values - 0.5
    mixing = torch.eye(4).repeat(1, 2) + 0.2 * torch.randn(4, 8, generator=generator)
    active = 2 * torch.tanh(2 * scaled @ mixing.double())
    silent = 0.02 * torch.randn(len(classes), LATENTS - 8, generator=generator).double()
    mean = torch.cat([active, silent], 1)
    std = torch.rand(mean.shape, generator=generator).double().mul(3).sub(3.5).exp()
    std[:, 8:] = 1 - 0.02 * std[:, 8:]
    return mean[rows].float(), std[rows].float(), classes[rows]


def measure_mig_error(samples: int, runs: int) -> dict[str, Any]:
    """Both estimators on a part of the images, against quadrature on a grid four times finer."""
    rows = torch.randperm(737_280, generator=torch.Generator().manual_seed(0))[:PART]
    mean, std, classes = posteriors(rows)
    began = time.perf_counter()
    found = disentanglement(mean, std, classes, MIG_FACTORS).mig
    exact_seconds = time.perf_counter() - began
    truth = finely(mean, std, classes)
    generator = torch.Generator().manual_seed(0)
    began = time.perf_counter()
    sampled = [mig_sampled(mean, std, classes, samples, generator) for _ in range(runs)]
    sampled_seconds = (time.perf_counter() - began) / runs
    rms = (sum((mig - truth) ** 2 for mig in sampled) / runs) ** 0.5
    return {
        "mig": truth,
        "quadrature": {"seconds": exact_seconds, "error": abs(found - truth)},
        "sampled": {
            "samples": samples,
            "runs": runs,
            "seconds": sampled_seconds,
            "error": rms,
            "error_extrapolated": rms * (samples / CHENS_SAMPLES) ** 0.5,
            "extrapolated_to_samples": CHENS_SAMPLES,
        },
    }


def finely(mean: Tensor, std: Tensor, classes: Tensor) -> float:
    """MIG with more of the grid than the example uses."""
    names = ("STEPS_PER_SIGMA", "REACH", "MARGIN", "TILE", "MAX_LINES")
    before = {name: getattr(mixtures, name) for name in names}
    vars(mixtures).update({name: 4 * value for name, value in before.items()})
    try:
        return disentanglement(mean, std, classes, MIG_FACTORS).mig
    finally:
        vars(mixtures).update(before)


def measure_mig_time(few: int = 1, more: int = 6) -> dict[str, Any]:
    """All 737,280 images: quadrature outright, sampling for a few samples and extrapolated.

    Its cost is exactly proportional to samples x N x z, but for what it does once; so it is timed
    for two small numbers of samples and their difference is extended to Chen's 10,000.
    """
    mean, std, classes = posteriors(torch.arange(737_280))
    exact = seconds(lambda: disentanglement(mean, std, classes, MIG_FACTORS))
    generator = torch.Generator().manual_seed(0)
    mig_sampled(mean, std, classes, few, generator)  # warms up
    t_few, t_more = (
        seconds(lambda s=s: mig_sampled(mean, std, classes, s, generator)) for s in (few, more)
    )
    per_sample = (t_more - t_few) / (more - few)
    return {
        "quadrature": {"seconds": exact},
        "sampled": {
            "measured": {str(few): t_few, str(more): t_more},
            "seconds_extrapolated": t_few + (CHENS_SAMPLES - few) * per_sample,
            "extrapolated_to_samples": CHENS_SAMPLES,
        },
    }
