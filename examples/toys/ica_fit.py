"""Fit over-complete ICA: variational EM from the true weights, then L-BFGS to the maximum.

Only improving steps are accepted. EM is slow if the noise is small; L-BFGS optimises all of q
jointly, with the weights at their optimum for q.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ica_model import best_weights, free_energy

EVERY = 10  # EM steps between recorded points
INNER = 5  # L-BFGS steps on q within an EM step


@dataclass(frozen=True)
class Config:
    """Fit over-complete ICA by VI and beta-VI from the true weights. One to two minutes."""

    nu: float = 3.0
    """Degrees of freedom of the sources: the lower, the sparser."""
    noise_std: float = 0.1
    """Standard deviation of the observation noise."""
    angles: tuple[float, float, float] = (0.0, 60.0, 120.0)
    """Directions in degrees of the true weights, which have norm 1."""
    num: int = 250
    """Number of data points per data set."""
    betas: tuple[float, ...] = (1.0, 3.0, 8.0)
    """Weights of the divergence; 1 is plain VI."""
    seeds: int = 10
    """Number of data sets."""
    em_steps: int = 100
    """Steps of variational EM before the final maximisation."""
    out: Path = Path("runs/toys")
    """Output folder."""


def true_weights(config: Config) -> Tensor:
    """The true weights, columns of norm 1, shape (2, 3)."""
    angles = torch.tensor(config.angles, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()])


def draw(config: Config, seed: int) -> Tensor:
    """Draw data from the model, shape (N, 2)."""
    generator = np.random.default_rng(seed)
    sources = torch.from_numpy(generator.standard_t(config.nu, (config.num, 3)))
    noise = torch.from_numpy(generator.standard_normal((config.num, 2)))
    return sources @ true_weights(config).T + config.noise_std * noise


def initial_q(x: Tensor, config: Config, beta: float) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation of the best q for the true weights and normal sources."""
    weights, noise = true_weights(config), beta * config.noise_std**2
    inner = weights.T @ weights + noise * torch.eye(3, dtype=x.dtype)
    mean = torch.linalg.solve(inner, weights.T @ x.T).T
    log_std = -(1 + weights.square().sum(0) / noise).log() / 2
    return mean.contiguous(), log_std.repeat(len(x), 1)


def maximise(value: Callable[..., Tensor], parameters: list[Tensor], steps: int) -> float:
    """Maximise a value over the parameters in place, and return it; never makes it worse."""
    before, initial = value(*parameters).item(), [p.clone() for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_()
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=steps,
        history_size=30,
        tolerance_grad=1e-4,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        negative = -value(*parameters)
        negative.backward()
        return negative

    optimiser.step(loss)
    for parameter in parameters:
        parameter.requires_grad_(False)
    if (after := value(*parameters).item()) >= before:
        return after
    for parameter, old in zip(parameters, initial, strict=True):
        parameter.copy_(old)
    return before


class Point(NamedTuple):
    """One point of a fit."""

    stage: str  # truth, em or converged
    em_step: int
    free_energy: float
    weights: Tensor
    gradient: float  # largest slope of the free energy in q, with the best weights


def largest_slope(value: Callable[..., Tensor], parameters: list[Tensor]) -> float:
    """The largest absolute entry of the gradient."""
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    slopes = torch.autograd.grad(value(*leaves), leaves)
    return max(slope.abs().max().item() for slope in slopes)


def fit(x: Tensor, config: Config, beta: float) -> list[Point]:
    """Fit q and the weights; record the true weights, every tenth step of EM, and the maximum."""
    q = list(initial_q(x, config, beta))
    weights = true_weights(config)
    settings = (config.nu, config.noise_std, beta)

    def with_weights(mean: Tensor, log_std: Tensor) -> Tensor:
        return free_energy(x, weights, mean, log_std, *settings)

    def with_best_weights(mean: Tensor, log_std: Tensor) -> Tensor:
        return free_energy(x, best_weights(x, mean, log_std), mean, log_std, *settings)

    def point(stage: str, step: int, value: float) -> Point:
        return Point(stage, step, value, weights, largest_slope(with_best_weights, q))

    path = [point("truth", 0, maximise(with_weights, q, 300))]
    for step in range(1, config.em_steps + 1):
        weights = best_weights(x, *q)
        value = maximise(with_weights, q, INNER)
        if step % EVERY == 0 or step == config.em_steps:
            path.append(point("em", step, value))
    value = maximise(with_best_weights, q, 3000)
    weights = best_weights(x, *q)
    return [*path, point("converged", config.em_steps, value)]
