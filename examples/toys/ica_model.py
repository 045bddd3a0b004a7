r"""Over-complete independent component analysis with a factorised normal per data point.

The model is :math:`z_k \sim t_\nu`, :math:`x \mid z \sim N(W z, \sigma^2 I_D)` with more
components K than dimensions D. Each data point has its own
:math:`q_n(z) = \prod_k N(m_{nk}, s_{nk}^2)`.

.. math:: F_\beta = \sum_n E_{q_n} \log p(x_n \mid z)
    + \beta \sum_{nk} \big(H(q_{nk}) + E_{q_{nk}} \log t_\nu(z_k)\big)

Shapes: ``x`` (N, D), ``weights`` (D, K), ``mean`` and ``log_std`` (N, K). ``nu`` is
:math:`\nu`, ``noise_std`` is :math:`\sigma`. Everything is in nats and float64.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

NODES = 32  # quadrature nodes for q
NOISE_NODES = 5  # quadrature nodes for the noise, in each dimension
SPAN, POINTS = 9.0, 181  # grid for the component that the likelihood integrates over


@functools.cache
def hermite(nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss-Hermite quadrature for the standard normal."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return torch.from_numpy(points), torch.from_numpy(weights / weights.sum())


def log_student_t(z: Tensor, nu: float) -> Tensor:
    """Log density of Student's t with nu degrees of freedom."""
    constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
    return constant - (nu + 1) / 2 * torch.log1p(z.square() / nu)


def expected_log_prior(mean: Tensor, log_std: Tensor, nu: float) -> Tensor:
    r""":math:`E_q \log p(z)` by quadrature over each component, shape (N,)."""
    points, weights = hermite(NODES)
    z = mean.unsqueeze(-1) + log_std.exp().unsqueeze(-1) * points
    return (log_student_t(z, nu) @ weights).sum(-1)


def entropy(log_std: Tensor) -> Tensor:
    """Entropy of q, shape (N,)."""
    return (log_std + math.log(2 * math.pi * math.e) / 2).sum(-1)


def reconstruction(
    x: Tensor, weights: Tensor, mean: Tensor, log_std: Tensor, noise_std: float
) -> Tensor:
    r""":math:`E_q \log p(x \mid z)`, shape (N,)."""
    error = (x - mean @ weights.T).square().sum(-1)
    error = error + (2 * log_std).exp() @ weights.square().sum(0)
    return -x.shape[-1] * math.log(2 * math.pi * noise_std**2) / 2 - error / (2 * noise_std**2)


def free_energy(
    x: Tensor,
    weights: Tensor,
    mean: Tensor,
    log_std: Tensor,
    nu: float,
    noise_std: float,
    beta: float = 1.0,
) -> Tensor:
    r""":math:`F_\beta`, summed over all data."""
    minus_kl = entropy(log_std) + expected_log_prior(mean, log_std, nu)
    return (reconstruction(x, weights, mean, log_std, noise_std) + beta * minus_kl).sum()


def best_weights(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    r"""The weights that maximise the free energy for given q and any beta, shape (D, K).

    .. math:: W = \sum_n x_n m_n^T
        \Big(\sum_n m_n m_n^T + \mathrm{diag}\, s_n^2 \Big)^{-1}
    """
    second = mean.T @ mean + (2 * log_std).exp().sum(0).diag()
    return torch.linalg.solve(second, mean.T @ x).T


def log_likelihood(x: Tensor, weights: Tensor, nu: float, noise_std: float) -> Tensor:
    r"""Log likelihood of all data by quadrature, for two dimensions and three components.

    With B of the two longest columns of W and w the shortest one,

    .. math:: p(x) = \int t_\nu(u) \, E_\epsilon \, t_\nu(y_1) \, t_\nu(y_2) \, du \, / |\det B|,
        \quad y = B^{-1} (x - w u - \sigma \epsilon)

    over a grid of :math:`\mathrm{asinh}\, u` and Gauss-Hermite nodes of the noise.
    """
    order = weights.norm(dim=0).argsort(descending=True)
    basis, shortest = weights[:, order[:2]], weights[:, order[2]]
    grid = torch.linspace(-SPAN, SPAN, POINTS, dtype=x.dtype)
    nodes, masses = hermite(NOISE_NODES)
    noise = noise_std * torch.cartesian_prod(nodes, nodes)
    log_mass = torch.cartesian_prod(masses, masses).log().sum(-1)
    log_step = log_student_t(grid.sinh(), nu) + (grid.cosh() * (grid[1] - grid[0])).log()

    inverse = basis.inverse().T
    moves = (grid.sinh()[:, None, None] * shortest + noise) @ inverse  # (grid, noise, 2)
    total = torch.zeros((), dtype=x.dtype)
    for part in (x @ inverse).split(64):
        terms = log_student_t(part[:, None, None] - moves, nu).sum(-1)
        total = total + (terms + log_mass + log_step[:, None]).logsumexp((-2, -1)).sum()
    return total - len(x) * basis.det().abs().log()
