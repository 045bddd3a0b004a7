"""Appendix B.3 to B.5: `python examples/toys/factor_analysis.py [--help]`.

Sweeps of factor analysis over rotations, split components and beta.

The data enter through their second moment alone, chosen as that of the model with orthogonal
weights. So all weights of a sweep have the same, maximal likelihood; only the bound differs.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from factor_model import (
    free_energy,
    log_likelihood,
    maximise_free_energy,
    mean_field,
    posterior_precision,
    rotation,
    split_weights,
)
from records import command, require, versions, write_json

FILE = "factor_analysis.json"
START_DEGREES = 30.0  # rotation of the initial weights when maximising the free energy


@dataclass(frozen=True)
class Config:
    """Sweep factor analysis over rotations, split components and beta. Takes a second.

    The defaults reproduce the paper's two numbers; the paper's own settings are not known.
    """

    num: int = 100
    """Number of data points."""
    variances: tuple[float, float] = (0.180230, 0.027165)
    """Variances of the data along their two principal axes."""
    noise: float = 0.0135825
    """Variance of the observation noise; smaller than both variances."""
    betas: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)
    """Values of beta for the rotation sweep of B.5."""
    points: int = 61
    """Number of points in each sweep."""
    out: Path = Path("runs/toys")
    """Output folder."""


def moment(config: Config) -> Tensor:
    """Second moment of the data, shape (2, 2)."""
    return torch.tensor(config.variances, dtype=torch.float64).diag()


def orthogonal_weights(config: Config) -> Tensor:
    """Maximum-likelihood weights along the principal axes, shape (2, 2)."""
    return (moment(config) - config.noise * torch.eye(2, dtype=torch.float64)).sqrt()


def rotated(config: Config, degrees: Tensor | float) -> Tensor:
    """The weights with a rotated latent space, of equal likelihood, shape (*batch, 2, 2)."""
    angle = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64))
    return orthogonal_weights(config) @ rotation(angle)


def rotation_sweep(config: Config) -> dict[str, Any]:
    """B.3: likelihood and free energy against the rotation of the latent space."""
    degrees = torch.linspace(0, 90, config.points, dtype=torch.float64)
    data = (config.noise, moment(config), config.num)
    at_45 = rotated(config, 45.0)
    return {
        "log_likelihood_at_45_degrees": log_likelihood(at_45, *data).item(),
        "free_energy_at_45_degrees": free_energy(at_45, *data).item(),
        "free_energy_at_0_degrees": free_energy(rotated(config, 0.0), *data).item(),
        "posteriors": [posterior(config, angle) for angle in (0.0, 22.5, 45.0)],
        "degrees": degrees.tolist(),
        "log_likelihood": log_likelihood(rotated(config, degrees), *data).tolist(),
        "free_energy": free_energy(rotated(config, degrees), *data).tolist(),
    }


def posterior(config: Config, degrees: float) -> dict[str, Any]:
    """Covariance of the exact posterior, and the variances of the factorised one."""
    weights = rotated(config, degrees)
    return {
        "degrees": degrees,
        "exact_covariance": posterior_precision(weights, config.noise).inverse().tolist(),
        "mean_field_variance": mean_field(weights, config.noise)[1].tolist(),
    }


def pruning_sweep(config: Config) -> dict[str, Any]:
    """B.4: three components, the first of which is split into two copies by rho."""
    rho = torch.linspace(0, math.pi / 2, config.points, dtype=torch.float64).sin()
    first, second = orthogonal_weights(config).diagonal().tolist()
    weights = split_weights(rho, first, second)
    data = (config.noise, moment(config), config.num)
    bound = free_energy(weights, *data)
    return {
        "rho_of_lowest_free_energy": rho[bound.argmin()].item(),
        "lowest_free_energy": bound.min().item(),
        "free_energy_of_one_copy": [bound[0].item(), bound[-1].item()],
        "rho": rho.tolist(),
        "log_likelihood": log_likelihood(weights, *data).tolist(),
        "free_energy": bound.tolist(),
    }


def beta_sweep(config: Config) -> list[dict[str, Any]]:
    """B.5: the rotation sweep with different weights of the divergence.

    The ripple is the loss of the objective at 45 degrees; divided by beta it is the divergence of
    the factorised posterior from the exact one.
    """
    degrees = torch.linspace(0, 90, config.points, dtype=torch.float64)
    rows = []
    for beta in config.betas:
        arguments = (config.noise, moment(config), config.num, beta)
        objective = free_energy(rotated(config, degrees), *arguments)
        ripple = objective[0] - free_energy(rotated(config, 45.0), *arguments)
        values = {"ripple": ripple.item(), "ripple_over_beta": ripple.item() / beta}
        best = degrees[objective >= objective.max() - 1e-9].tolist()
        rows.append(
            {"beta": beta, **values, "best_degrees": best, "objective": objective.tolist()}
        )
    return rows


def noise_sweep(config: Config) -> list[dict[str, Any]]:
    r"""B.5's caveat: at fixed noise the best squared weights are ``variance - beta * noise``.

    Each row has these squared norms, and those found by maximising the free energy numerically
    from rotated weights.
    """
    start, variances = rotated(config, START_DEGREES), torch.tensor(config.variances).double()
    largest = math.ceil(variances.max().item() / config.noise) + 1
    rows = []
    for beta in range(1, largest + 1):
        data = (config.noise, moment(config), config.num, beta)
        found = torch.linalg.svdvals(maximise_free_energy(start, *data)).square()
        formula = (variances - beta * config.noise).clamp_min(0).sort(descending=True).values
        rows.append({"beta": beta, "formula": formula.tolist(), "found": found.tolist()})
    return rows


def check(config: Config) -> None:
    """Raise a UsageError that names the first invalid flag."""
    require(config.num > 0, "--num", "positive", config.num)
    require(config.points > 1, "--points", "2 or more", config.points)
    low = min(config.variances)
    require(0 < config.noise < low, "--noise", f"between 0 and {low}", config.noise)
    require(len(config.betas) > 0 and min(config.betas) > 0, "--betas", "positive", config.betas)


def summary(results: dict[str, Any], path: Path) -> str:
    """Format the results as a few lines of text."""
    sweep, split = results["rotation"], results["pruning"]
    ripples = "  ".join(f"{row['beta']:g}: {row['ripple']:.2f}" for row in results["beta"])
    over = "  ".join(f"{row['beta']:g}: {row['ripple_over_beta']:.2f}" for row in results["beta"])
    pruned = next((r["beta"] for r in results["noise"] if min(r["found"]) < 1e-6), math.inf)
    straight, tilted = sweep["free_energy_at_0_degrees"], sweep["free_energy_at_45_degrees"]
    likelihood = sweep["log_likelihood_at_45_degrees"]
    one, rho = split["free_energy_of_one_copy"][0], split["rho_of_lowest_free_energy"]
    return f"""
B.3  log likelihood {likelihood:.2f} nats at every rotation; free energy {tilted:.2f} at 45 \
degrees, {straight:.2f} at 0
B.4  free energy {one:.2f} with one copy, {split["lowest_free_energy"]:.2f} with two equal ones \
(rho {rho:.2f})
B.5  ripple of the objective, by beta      {ripples}
     the same divided by beta              {over}
     at fixed noise the weaker component is pruned from beta = {pruned:g} on

Written to {path}"""


def run(argv: Sequence[str]) -> str:
    """Parse the flags, run the sweeps, and return the summary."""
    config = tyro.cli(Config, args=argv)
    check(config)
    settings = dataclasses.asdict(config)
    del settings["out"]
    results = {
        "config": settings,
        "versions": versions(),
        "rotation": rotation_sweep(config),
        "pruning": pruning_sweep(config),
        "beta": beta_sweep(config),
        "noise": noise_sweep(config),
    }
    write_json(results, config.out / FILE)
    return summary(results, config.out / FILE)


if __name__ == "__main__":
    sys.exit(command(run, sys.argv[1:]))
