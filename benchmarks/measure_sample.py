"""Exact sampling, against as many gammas and against Algorithm 1 with a Dirichlet per node."""

from functools import partial
from typing import Any

import torch
from densities import joined
from layouts import BY_NAME, Layout
from peers import DirichletCascade
from plan import Case, Setting, settings, sync_of
from timing import FULL, QUICK, interleave
from torch.distributions import Dirichlet, Gamma

GAMMA = "Gamma(1/p)"


def plan(quick: bool) -> list[Setting]:
    """One and two threads."""
    return [Setting()] if quick else settings(1, 2)


def cases(setting: Setting, quick: bool) -> list[Case]:
    """The layouts at the sizes that are asked for most."""
    sizes = [("5 x 4", 2048), ("5 x 4", 65_536)]
    if not quick:
        sizes += [("5 x 4", 1_000_000), ("16 x 16", 2048), ("16 x 16", 65_536)]
        sizes += [("ragged, 30 leaves", 65_536), ("500 x 4", 2048)]
    return [
        Case(
            {"layout": name, "N": count},
            partial(measure, BY_NAME[name], count, setting.device, quick),
        )
        for name, count in sizes
    ]


def measure(layout: Layout, count: int, device: str, quick: bool) -> dict[str, Any]:
    """In units of one Gamma(1/p) for each coordinate, all of the same shape."""
    p0, p = layout.exponents(device)
    n, shape = layout.tree.dim, 1 / p[0]
    prior = layout.distribution(p0, p)
    gamma = Gamma(shape, torch.ones_like(shape), validate_args=False)
    dirichlet = Dirichlet(shape.expand(n), validate_args=False)
    cascade = DirichletCascade(layout.tree, joined(p0, p))
    contenders = {
        "lpnested": lambda: prior.sample((count,)),
        GAMMA: lambda: gamma.sample((count, n)),
        "Dirichlet(1/p, ..., 1/p)": lambda: dirichlet.sample((count,)),
        "Algorithm 1, a Dirichlet per node": lambda: cascade.sample(count),
        "torch.randn": lambda: torch.randn(count, n, device=device),
    }
    return interleave(contenders, GAMMA, QUICK if quick else FULL, sync=sync_of(device))
