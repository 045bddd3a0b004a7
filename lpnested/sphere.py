r"""Exact draws from the unit sphere of an :math:`L_p`-nested function."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lpnested.arguments import check_exponents
from lpnested.ops import sampling
from lpnested.tree import LpNestedTree

__all__ = ["sample_sphere"]


def sample_sphere(
    exponents: Tensor, tree: LpNestedTree, sample_shape: Sequence[int] = ()
) -> Tensor:
    r"""Draw exact samples from the uniform distribution on the unit sphere (Algorithm 1).

    Uniform in the sense of eq. 7: the direction of any :math:`L_p`-nested symmetric variable.

    .. math:: \log |u_i| = \sum_{I \text{ on the path to } i}
        \frac{1}{p_I} \Big( \log g_c - \log \sum_{c' \in I} g_{c'} \Big), \quad
        g_c \sim \mathrm{Gamma}\Big(\frac{n_c}{p_I}\Big)

    Args:
        exponents: Shape ``(*batch, num_nodes)``.
        tree: The tree.
        sample_shape: The shape of independent draws.

    Returns:
        Shape ``(*sample_shape, *batch, dim)``, without gradient.

    Example:
        >>> import torch
        >>> u = sample_sphere(torch.tensor([1.5]), LpNestedTree.flat(3), (1000,))
        >>> u.abs().pow(1.5).sum(-1).allclose(torch.ones(1000))
        True
    """
    return sampling.nested(check_exponents(exponents, tree), tree, sample_shape)
