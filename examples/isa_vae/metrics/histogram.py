r"""The mutual information gap as Locatello et al. (2019) compute it, and the modularity from it.

Their library, disentanglement_lib, cuts the range of every posterior mean into 20 bins of equal
width and takes the mutual information of two discrete variables:

.. math::
    I(b_j; v_k) = \sum_{b, v} p(b, v) \log \frac{p(b, v)}{p(b)\, p(v)}

It is kept for comparison with published numbers, under a name of its own, because it is another
quantity than that of mig.py: it cannot exceed log 20, where orientation has log 40 and a
position log 32; it does not see the width of a posterior; outliers stretch the bins; and on S rows
noise seems to know about (bins - 1)(V - 1) / 2S nats of a factor with V values.
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
    """Number of the bin of each value, between the smallest and the largest: (N,) -> (N,)."""
    array = values.double().numpy()
    edges = np.histogram_bin_edges(array, bins)
    return torch.from_numpy(np.digitize(array, edges[:-1]) - 1)  # the largest is in the last bin


def discrete_information(left: Tensor, right: Tensor) -> Tensor:
    """I of two discrete variables, numbered from 0, in nats: (N,), (N,) -> ()."""
    shape = int(left.max()) + 1, int(right.max()) + 1
    count = torch.bincount(left * shape[1] + right, minlength=shape[0] * shape[1])
    joint = count.double().view(shape) / len(left)
    apart = entropy_of(joint.sum(0)) + entropy_of(joint.sum(1))
    return (apart - entropy_of(joint)).clamp_min(0)


def histogram_disentanglement(
    mean: Array,
    classes: Array,
    factors: Sequence[str] | None = None,
    mig_factors: Sequence[str] | None = None,
    bins: int = BINS,
) -> Disentanglement:
    """Mutual information of every binned posterior mean with every factor.

    Args:
        mean: Of the posteriors, (N, z).
        classes: Values of the factors, (N, factors).
        factors: Their names; by default factor0, factor1, ...
        mig_factors: Those of them that the MIG is a mean over; by default all, shape too.
        bins: For each latent.
    """
    mean = as_code(mean)
    classes = as_classes(classes, len(mean))
    names = factor_names(factors, classes.shape[1])
    chosen = chosen_names(mig_factors, names)
    values = [column.unique(return_inverse=True)[1] for column in classes.T]
    latents = [binned(column, bins) for column in mean.T]
    rows = [torch.stack([discrete_information(b, v) for v in values]) for b in latents]
    entropy = factor_entropy(number_groups(classes)[1])
    exact = torch.zeros(len(rows))  # nothing is widened: bins know no width
    return Disentanglement(names, chosen, torch.stack(rows), entropy, exact)


def mig_histogram(mean: Array, classes: Array, bins: int = BINS) -> float:
    """The MIG of disentanglement_lib, a mean over all factors given; NaN if one never varies."""
    return histogram_disentanglement(mean, classes, bins=bins).mig


def modularity(information: Array) -> float:
    r"""Whether each latent knows about one factor only (Ridgeway and Mozer 2018, section 3).

    With m_jk the information of latent j in factor k, of K factors, and m_j* its largest:

    .. math:: \frac1z \sum_j \Big( 1 - \frac{\sum_{k \ne *} m_{jk}^2}{(K - 1)\, m_{j*}^2} \Big)

    A latent without any information scores 0, as in disentanglement_lib: the paper leaves it
    open. Mind that by a histogram even noise has a little information, and a score near that of a
    latent that mixes all factors: pass the rows of active latents to leave the others out.

    Args:
        information: I(z_j; v_k), (z, factors).

    Returns:
        A number from 0 to 1; NaN for a single factor or no latent.
    """
    square = numbers(information, "information").double().square()
    best = square.amax(1)
    spread = (square.sum(1) - best) / (best * (square.shape[1] - 1))
    return float(torch.where(best > 0, 1 - spread, 0.0).mean())
