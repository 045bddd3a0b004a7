"""Rotate the codes of a trained model and measure the effect on the ELBO, as rows of a table.

The measured quantities are defined in bound.py. They concern the ELBO itself (beta = 1), whatever
the training objective of the model.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from tqdm import tqdm

from config import Config
from data.pictures import Pictures, as_pixels
from metrics import active_units, check_posteriors
from models import VAE, make_prior
from running.scoring import choose_rows, encode
from sweeps.experiments import ARMS
from turning.bound import Code, Prior, Rotations, changes, levels, slopes

Row = dict[str, Any]
OWN = "own"  # name of a prior that belongs to no arm
FIXED = tuple(name for name, arm in ARMS.items() if "learn_exponents" not in arm)
PRIORS = ("normal", "normal-0.495", "isa-released", "isa-4-4")
STEP = 7.5
ANGLES = tuple(STEP * k for k in range(13))  # 0 to 90 degrees
# Angles at which slopes are measured. At one of the two, a curve with a period of 90 degrees has
# at least 0.7 times its maximal slope, whatever the orientation of the code.
STEEP = (0.0, 22.5)
PICTURES = 256  # images encoded at once
CHUNK = {"cpu": 2**10, "cuda": 2**13}  # rotated codes decoded at once


@dataclass(frozen=True)
class Plane:
    """Two latents, and whether they share a subspace."""

    first: int
    second: int
    within: bool


class Moments:
    """Running mean and standard deviation over the last dimension."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Add values, (..., N)."""
        values = values.detach().double()
        self.count += values.shape[-1]
        self.sum = self.sum + values.sum(-1)
        self.squares = self.squares + values.square().sum(-1)

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, on the CPU."""
        mean = torch.as_tensor(self.sum).cpu() / self.count
        variance = torch.as_tensor(self.squares).cpu() / self.count - mean.square()
        return mean, variance.clamp_min(0).sqrt()


def measure_rotation(
    vae: VAE,
    prior: Distribution,
    config: Config,
    packed: Tensor,
    pictures: Pictures,
    name: str,
    arms: Sequence[str] = PRIORS,
    images: int = 20_000,
    pairs: int = 3,
    progress: bool = False,
) -> list[Row]:
    """Measure a row for each plane, prior and angle; none if fewer than two latents are active.

    Args:
        vae: The trained model.
        prior: The model's own prior.
        config: The model's settings; batch size and steps determine the gradient noise.
        packed: The images on the model's device, (N, bytes).
        pictures: The same images, with their factors.
        name: Name of the model in the rows.
        arms: Arms whose priors are evaluated besides the model's own.
        images: Number of random images to average over.
        pairs: Maximum number of planes of either kind, within and across subspaces.
        progress: Whether to show a progress bar.
    """
    vae.eval()
    config = dataclasses.replace(config, device=str(packed.device))
    rows = choose_rows(len(pictures), images, config.seed).to(packed.device)
    chosen = packed[rows]
    mean, std = encode(vae, chosen, pictures.pixels)
    check_posteriors(mean, std)
    planes, priors = choose_planes(mean, config.sizes, pairs), make_priors(prior, config, arms)
    if not planes:
        return []
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(config.seed))
    code = Code(*(part.to(packed.device) for part in (mean, std, noise)))
    changed, sloped = Moments(), Moments()
    bar = tqdm(total=len(rows), desc=f"rotating {name}", unit="image", disable=not progress)
    for batch in torch.arange(len(rows), device=packed.device).split(PICTURES):
        x = as_pixels(chosen[batch], pictures.pixels)
        part = Code(code.mean[batch], code.std[batch], code.noise[batch])
        model = (x, part, vae.decoder, priors)
        before = levels(*model)
        found = [changes(*model, chunk, before) for chunk in rotations(planes, ANGLES, x)]
        changed.add(torch.cat(found, dim=1))
        sloped.add(
            torch.cat([slopes(*model, chunk) for chunk in rotations(planes, STEEP, x)], dim=1)
        )
        bar.update(len(batch))
    bar.close()
    steps = config.num_steps(len(pictures))
    head = {"model": name, "arm": priors[0].name, "batch_size": config.batch_size, "steps": steps}
    return [head | row for row in as_rows(planes, priors, changed, sloped, head)]


def choose_planes(mean: Tensor, sizes: Sequence[int], pairs: int) -> list[Plane]:
    """Choose pairs of active latents, within a subspace and then across: of either kind those with
    the largest product of the variances of both posterior means.
    """
    subspace = [k for k, size in enumerate(sizes) for _ in range(size)]
    variance = mean.double().var(0, correction=0).tolist()
    active = active_units(mean).nonzero().squeeze(1).tolist()
    ranked = sorted(
        itertools.combinations(active, 2), key=lambda pair: -variance[pair[0]] * variance[pair[1]]
    )
    planes = [Plane(i, j, within=subspace[i] == subspace[j]) for i, j in ranked]
    within = [plane for plane in planes if plane.within]
    return within[:pairs] + [plane for plane in planes if not plane.within][:pairs]


def arm_of(config: Config) -> str:
    """Name of the arm with the prior of these settings."""
    for name, settings in ARMS.items():
        settings = {"learn_exponents": False} | settings
        if all(getattr(config, key) == value for key, value in settings.items()):
            return name
    return OWN


def make_priors(own: Distribution, config: Config, arms: Sequence[str]) -> list[Prior]:
    """The model's own prior, then those of the arms, all in the units of the model's code."""
    first = arm_of(config)
    priors = [Prior(first, own)]
    deviation = float(own.variance.detach().mean().sqrt())
    for name in dict.fromkeys(name for name in arms if name != first):
        settings = {"learn_exponents": False} | ARMS[name]
        other = make_prior(dataclasses.replace(config, **settings))()
        unit = float(other.variance.mean().sqrt()) / deviation
        priors.append(Prior(name, other, unit))
    return priors


def rotations(planes: Sequence[Plane], angles: Sequence[float], x: Tensor) -> Iterator[Rotations]:
    """Yield all angles of all planes, in chunks that bound the memory for these images."""
    pairs = torch.tensor([(p.first, p.second) for p in planes], device=x.device)
    angle = torch.tensor(angles, dtype=torch.float64).deg2rad().to(x)
    whole = pairs.repeat_interleave(len(angles), 0), angle.repeat(len(planes))[:, None]
    count = max(1, CHUNK.get(x.device.type, CHUNK["cpu"]) // len(x))
    for chunk in zip(*(part.split(count) for part in whole), strict=True):
        yield Rotations(*chunk)


def as_rows(
    planes: Sequence[Plane],
    priors: Sequence[Prior],
    changed: Moments,
    sloped: Moments,
    head: Row,
) -> Iterator[Row]:
    """Yield the means with their standard errors, for each plane, prior and angle."""
    count = len(priors)
    change, spread = changed.result()
    error = spread / math.sqrt(changed.count)
    slope, noise = sloped.result()
    for (p, plane), (k, prior) in itertools.product(enumerate(planes), enumerate(priors)):
        for a, angle in enumerate(ANGLES):
            at = p * len(ANGLES) + a
            row: Row = {
                "kind": "within" if plane.within else "across",
                "plane": f"{plane.first}-{plane.second}",
                "prior": prior.name,
                "angle": angle,
                "change_prior": float(change[1 + k, at]),
                "change_prior_standard_error": float(error[1 + k, at]),
                "change_bound": float(change[1 + count + k, at]),
                "change_bound_standard_error": float(error[1 + count + k, at]),
                "change_log_px": float(change[0, at]),
            }
            if angle in STEEP:
                here = p * len(STEEP) + STEEP.index(angle)
                own, bound = (k, here), (count + k, here)
                row |= slope_scores(slope, noise, own, bound, sloped.count, head)
            yield row


def slope_scores(
    slope: Tensor,
    noise: Tensor,
    prior: tuple[int, int],
    bound: tuple[int, int],
    count: int,
    head: Row,
) -> Row:
    """Slopes in nats per radian, and their noise: the standard deviation of a batch mean.

    Images of a batch are independent draws, so the noise is that of one image divided by the
    square root of the batch size. Over T steps a force adds up as T, and noise as its root.
    """
    batch, steps = head["batch_size"], head["steps"]
    ratio = abs(float(slope[prior])) * math.sqrt(batch) / float(noise[bound])
    return {
        "slope_prior": float(slope[prior]),
        "slope_prior_standard_error": float(noise[prior]) / math.sqrt(count),
        "noise_prior": float(noise[prior]) / math.sqrt(batch),
        "slope_bound": float(slope[bound]),
        "slope_bound_standard_error": float(noise[bound]) / math.sqrt(count),
        "noise_bound": float(noise[bound]) / math.sqrt(batch),
        "signal_to_noise_step": ratio,
        "signal_to_noise_training": ratio * math.sqrt(steps),
    }
