"""Workloads with a time limit: a training step, and the MIG by quadrature and by sampling.

`python benchmarks/run.py --only example` times them and adds their rows to the table.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from data.dsprites_drawn import FACTORS, MIG_FACTORS, all_classes
from data.pictures import pack, render_dsprites, unpack
from lpnested import ISA
from lpnested.nn import Learnable
from metrics import disentanglement, mig_sampled, mixtures
from models import VAE
from objectives import elbo

IMAGES = 737_280
LATENTS, HIDDEN = 20, 1200  # as in the paper
SIZES = [4] * 5
CHENS_SAMPLES = 10_000  # for each entropy, in the code of Chen et al.
ANALYTIC = "analytic KL"
Objective = Callable[[Tensor, VAE], Tensor]


def training_steps(batch: int) -> dict[str, Callable[[], object]]:
    """A training step of the paper's MLP under several priors, and in the plainest loop."""
    torch.manual_seed(0)
    classes = all_classes()[torch.randperm(IMAGES)[:batch].numpy()]
    packed = torch.from_numpy(pack(render_dsprites(classes)))
    normal = Independent(Normal(torch.zeros(LATENTS), torch.ones(LATENTS)), 1)
    isa = ISA(SIZES, 2.1, 2.2, validate_args=False)
    learned = Learnable(ISA, SIZES, p0=2.1, p=[2.2] * 5, learn=("p",), validate_args=False)

    def exact(x: Tensor, vae: VAE) -> Tensor:
        return elbo(x, vae, normal, 1.0, kl="analytic")["objective"]

    def with_isa(x: Tensor, vae: VAE) -> Tensor:
        return elbo(x, vae, isa, 1.0)["objective"]

    def with_learned(x: Tensor, vae: VAE) -> Tensor:
        return elbo(x, vae, learned(), 1.0)["objective"]

    return {
        ANALYTIC: trained(packed, exact),
        "ISA": trained(packed, with_isa),
        "ISA, learned p": trained(packed, with_learned, learned),
        "plainest loop, ISA": plainest(packed, with_isa),
    }


def trained(
    packed: Tensor, objective: Objective, prior: nn.Module | None = None
) -> Callable[[], None]:
    """One step of Adam on a fresh model."""
    vae = VAE(LATENTS, HIDDEN)
    parameters = [*vae.parameters(), *(prior.parameters() if prior is not None else ())]
    optimiser = torch.optim.Adam(parameters, 1e-4, fused=True)
    return lambda: update(optimiser, objective(unpack(packed), vae))


def plainest(packed: Tensor, objective: Objective) -> Callable[[], None]:
    """The same step written plainly: a dense first layer, default Adam, float images."""
    vae, images = VAE(LATENTS, HIDDEN), unpack(packed)
    vae.encoder.layers[0] = nn.Linear(images.shape[1], HIDDEN)
    optimiser = torch.optim.Adam(vae.parameters(), 1e-4)
    return lambda: update(optimiser, objective(images, vae))


def update(optimiser: torch.optim.Optimizer, objective: Tensor) -> None:
    """Take one optimiser step that increases the objective."""
    optimiser.zero_grad()
    (-objective).backward()
    optimiser.step()


def posteriors(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means and standard deviations, (N, 20), like those of a trained encoder with 8 active
    latents, and classes (N, 4).

    Each active latent encodes mostly one factor and a little of the others, with deviations from
    0.03 to 0.6; the other latents are at the prior.
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


def mig_error(images: int, samples: int, runs: int) -> dict[str, float]:
    """Errors of both estimators on a subset of the images, against a grid four times finer."""
    rows = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(0))[:images]
    mean, std, classes = posteriors(rows)
    truth = finely(mean, std, classes)
    error = abs(disentanglement(mean, std, classes, MIG_FACTORS).mig - truth)
    generator = torch.Generator().manual_seed(0)
    sampled = [mig_sampled(mean, std, classes, samples, generator) for _ in range(runs)]
    rms = (sum((mig - truth) ** 2 for mig in sampled) / runs) ** 0.5
    extrapolated = rms * (samples / CHENS_SAMPLES) ** 0.5
    return {
        "MIG": truth,
        "quadrature": error,
        f"sampling, {samples} samples": rms,
        "10,000 samples, extrapolated": extrapolated,
        "quotient": error / extrapolated,
    }


def finely(mean: Tensor, std: Tensor, classes: Tensor) -> float:
    """MIG with a finer and wider grid than the example uses."""
    names = ("STEPS_PER_SIGMA", "REACH", "MARGIN", "TILE", "MAX_LINES")
    before = {name: getattr(mixtures, name) for name in names}
    vars(mixtures).update({name: 4 * value for name, value in before.items()})
    try:
        return disentanglement(mean, std, classes, MIG_FACTORS).mig
    finally:
        vars(mixtures).update(before)


def mig_time(images: int = IMAGES, few: int = 1, more: int = 6) -> dict[str, float]:
    """Seconds: quadrature measured directly, sampling with few samples and extrapolated.

    The cost of sampling is proportional to samples x N x z, up to a one-off cost; so it is timed
    for two small numbers of samples, and their difference extrapolated to Chen's 10,000.
    """
    mean, std, classes = posteriors(torch.arange(images))
    exact = seconds(lambda: disentanglement(mean, std, classes, MIG_FACTORS))
    generator = torch.Generator().manual_seed(0)
    mig_sampled(mean, std, classes, few, generator)  # warms up
    t_few, t_more = (
        seconds(lambda s=s: mig_sampled(mean, std, classes, s, generator)) for s in (few, more)
    )
    extrapolated = t_few + (CHENS_SAMPLES - few) * (t_more - t_few) / (more - few)
    return {
        "quadrature": exact,
        f"sampling, {more} samples": t_more,
        "10,000 samples, extrapolated": extrapolated,
        "quotient": exact / extrapolated,
    }


def seconds(call: Callable[[], object]) -> float:
    """Time one call, in seconds."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
