r"""Mean-field factor analysis in closed form: likelihood, free energy, and beta-VI.

The model is :math:`z \sim N(0, I_K)`, :math:`x \mid z \sim N(W z, \sigma^2 I_D)`. Data enter only
through their number :math:`N` and second moment :math:`T = \frac{1}{N} \sum_n x_n x_n^T`. The
factorised normal :math:`q_n` that maximises

.. math:: F_\beta = \sum_n E_{q_n} \log p(x_n \mid z) - \beta\, KL(q_n \| p(z))

is the mean-field posterior of a model with noise :math:`\beta \sigma^2`. All functions take
``weights`` of shape ``(*batch, D, K)``, ``noise`` :math:`= \sigma^2`, ``moment`` :math:`= T` of
shape ``(D, D)`` and ``num`` :math:`= N`, and return nats summed over all data, ``(*batch)``.
"""

import math

import torch
from torch import Tensor


def posterior_precision(weights: Tensor, noise: float) -> Tensor:
    r""":math:`P = I + W^T W / \sigma^2`, shape ``(*batch, K, K)``."""
    identity = torch.eye(weights.shape[-1], dtype=weights.dtype)
    return identity + weights.mT @ weights / noise


def mean_field(weights: Tensor, noise: float, beta: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""The best factorised normal, with mean :math:`R x` and variances :math:`v`.

    .. math:: R = P_\beta^{-1} W^T / (\beta \sigma^2), \quad v_k = 1 / (P_\beta)_{kk}, \quad
        P_\beta = I + W^T W / (\beta \sigma^2)

    Returns:
        R of shape ``(*batch, K, D)`` and v of shape ``(*batch, K)``.
    """
    precision = posterior_precision(weights, beta * noise)
    return (
        torch.linalg.solve(precision, weights.mT / (beta * noise)),
        1 / precision.diagonal(dim1=-2, dim2=-1),
    )


def log_likelihood(weights: Tensor, noise: float, moment: Tensor, num: int) -> Tensor:
    r"""Log likelihood of the data, with model covariance :math:`S = W W^T + \sigma^2 I`.

    .. math:: -\tfrac{N}{2} (\log |2 \pi S| + \mathrm{tr}\, S^{-1} T)
    """
    covariance = weights @ weights.mT + noise * torch.eye(len(moment), dtype=moment.dtype)
    fit = torch.linalg.solve(covariance, moment.expand_as(covariance))
    return -num / 2 * ((2 * math.pi * covariance).logdet() + trace(fit))


def reconstruction(
    weights: Tensor, noise: float, moment: Tensor, num: int, beta: float = 1.0
) -> Tensor:
    r"""Expected log likelihood of the data under q, with :math:`A = I - W R`.

    .. math:: -\tfrac{N}{2} \Big(D \log 2 \pi \sigma^2
        + \frac{\mathrm{tr}\, A T A^T + \sum_k v_k \|w_k\|^2}{\sigma^2}\Big)
    """
    project, variance = mean_field(weights, noise, beta)
    left = torch.eye(len(moment), dtype=moment.dtype) - weights @ project
    error = trace(left @ moment @ left.mT) + (variance * weights.square().sum(-2)).sum(-1)
    return -num / 2 * (len(moment) * math.log(2 * math.pi * noise) + error / noise)


def kl(weights: Tensor, noise: float, moment: Tensor, num: int, beta: float = 1.0) -> Tensor:
    r"""Divergence of q from the prior.

    .. math:: \tfrac{N}{2} \Big(\sum_k (v_k - \log v_k - 1) + \mathrm{tr}\, R T R^T\Big)
    """
    project, variance = mean_field(weights, noise, beta)
    widths = (variance - variance.log() - 1).sum(-1)
    return num / 2 * (widths + trace(project @ moment @ project.mT))


def free_energy(
    weights: Tensor, noise: float, moment: Tensor, num: int, beta: float = 1.0
) -> Tensor:
    r""":math:`F_\beta`, equation 13; with beta = 1 the evidence lower bound."""
    arguments = (weights, noise, moment, num, beta)
    return reconstruction(*arguments) - beta * kl(*arguments)


def trace(matrix: Tensor) -> Tensor:
    """Sum of the diagonal, shape ``(*batch)``."""
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def rotation(phi: Tensor) -> Tensor:
    """Rotations of the plane by phi radians, shape ``(*batch, 2, 2)``."""
    rows = [phi.cos(), -phi.sin(), phi.sin(), phi.cos()]
    return torch.stack(rows, -1).unflatten(-1, (2, 2))


def split_weights(rho: Tensor, first: float, second: float) -> Tensor:
    r"""Three components, the first of which is split into two copies, shape ``(*batch, 2, 3)``.

    .. math:: W(\rho) = \begin{pmatrix} a \sqrt{1 - \rho^2} & 0 & a \rho \\ 0 & b & 0 \end{pmatrix}

    The covariance :math:`W W^T = \mathrm{diag}(a^2, b^2)` is the same for every rho.
    """
    weights = torch.zeros(*rho.shape, 2, 3, dtype=rho.dtype)
    weights[..., 0, 0] = first * (1 - rho.square()).sqrt()
    weights[..., 0, 2] = first * rho
    weights[..., 1, 1] = second
    return weights


def maximise_free_energy(
    start: Tensor, noise: float, moment: Tensor, num: int, beta: float = 1.0
) -> Tensor:
    """Maximise the free energy locally from initial weights, shape ``(D, K)``."""
    weights = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weights],
        max_iter=500,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -free_energy(weights, noise, moment, num, beta) / num
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach()
