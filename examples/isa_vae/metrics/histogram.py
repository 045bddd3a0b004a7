r"""The mutual information gap as Locatello et al. (2019) compute it, and the modularity from it.

Their library, disentanglement_lib, divides the range of every posterior mean into 20 bins of equal
width and computes the mutual information of two discrete variables:

.. math::
    I(b_j; v_k) = \sum_{b, v} p(b, v) \log \frac{p(b, v)}{p(b)\, p(v)}

It is provided for comparison with published numbers, under a name of its own, because it differs
from the quantity in mig.py: it cannot exceed log 20, although orientation has an entropy of log 40
and a position log 32; it ignores the width of the posterior; outliers stretch the bins; and on S
rows noise appears to have about (bins - 1)(V - 1) / 2S nats of information on a factor with V
values.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .codes import (
    Array,
    as_classes,
    as_code,
    chosen_names,
    entropy_of,
    factor_entropy,
    factor_names,
    number_groups,
    numbers,
)
from .mig import Disentanglement

BINS = 20


def binned(values: Tensor, bins: int = BINS) -> Tensor:
    """Bin index of each value, with equal bins from the smallest to the largest: (N,) -> (N,)."""
    array = values.double().numpy()
    edges = np.histogram_bin_edges(array, bins)
    return torch.from_numpy(np.digitize(array, edges[:-1]) - 1)  # the largest is in the last bin


def discrete_information(left: Tensor, right: Tensor) -> Tensor:
    """Mutual information of two discrete variables, numbered from 0, in nats: (N,), (N,) -> ()."""
    shape = int(left.max()) + 1, int(right.max()) + 1
    count = torch.bincount(left * shape[1] + right, minlength=shape[0] * shape[1])
    joint = count.double().view(shape) / len(left)
    marginal = entropy_of(joint.sum(0)) + entropy_of(joint.sum(1))
    return (marginal - entropy_of(joint)).clamp_min(0)


def histogram_disentanglement(
    mean: Array,
    classes: Array,
    factors: Sequence[str] | None = None,
    mig_factors: Sequence[str] | None = None,
    bins: int = BINS,
) -> Disentanglement:
    """Mutual information of every binned posterior mean with every factor.

    Args:
        mean: Posterior means, (N, z).
        classes: Values of the factors, (N, factors).
        factors: Names of the factors; by default factor0, factor1, ...
        mig_factors: Factors to average the MIG over; by default all, including shape.
        bins: Number of bins per latent.
    """
    mean = as_code(mean)
    classes = as_classes(classes, len(mean))
    names = factor_names(factors, classes.shape[1])
    chosen = chosen_names(mig_factors, names)
    values = [column.unique(return_inverse=True)[1] for column in classes.T]
    latents = [binned(column, bins) for column in mean.T]
    rows = [torch.stack([discrete_information(b, v) for v in values]) for b in latents]
    entropy = factor_entropy(number_groups(classes)[1])
    exact = torch.zeros(len(rows))  # no posterior is widened, since bins ignore widths
    return Disentanglement(names, chosen, torch.stack(rows), entropy, exact)


def mig_histogram(mean: Array, classes: Array, bins: int = BINS) -> float:
    """The MIG of disentanglement_lib: the mean over all factors; NaN if one never varies."""
    return histogram_disentanglement(mean, classes, bins=bins).mig


def modularity(information: Array) -> float:
    r"""Whether each latent encodes only one factor (Ridgeway and Mozer 2018, section 3).

    With m_jk the information of latent j on factor k, of K factors, and m_j* its largest:

    .. math:: \frac1z \sum_j \Big( 1 - \frac{\sum_{k \ne *} m_{jk}^2}{(K - 1)\, m_{j*}^2} \Big)

    A latent without any information scores 0, as in disentanglement_lib; the paper leaves this
    case open. Note that with a histogram even noise has a little information, and a score close
    to that of a latent that mixes all factors; pass only the rows of active latents to avoid it.

    Args:
        information: I(z_j; v_k), (z, factors).

    Returns:
        The score, from 0 to 1; NaN for a single factor or without latents.
    """
    square = numbers(information, "information").double().square()
    best = square.amax(1)
    spread = (square.sum(1) - best) / (best * (square.shape[1] - 1))
    return float(torch.where(best > 0, 1 - spread, 0.0).mean())
