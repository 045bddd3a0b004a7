r"""The mathematics of :math:`L_p`-nested functions, as pure functions of tensors and a tree.

Natural shapes: ``value`` is ``(*sample, *batch, dim)``, ``exponents`` ``(*batch, num_nodes)`` in
the order of ``tree.nodes``, a result ``(*sample, *batch)``. The arithmetic is float64 where the
device has it; a result has the promoted dtype of the arguments. For a node :math:`I`,
:math:`p_I` is its exponent, :math:`l_I` its number of children, :math:`n_I` the number of leaves
under it, and :math:`n_c` the number of leaves under its child :math:`c`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lpnested.arguments import check_exponents, prepare, rows_of
from lpnested.gamma_ratio import log_gamma_ratio
from lpnested.ops import norm as operation
from lpnested.ops import reference
from lpnested.precision import as_parameter, result_dtype, saturate_cast
from lpnested.sphere import sample_sphere
from lpnested.traversal import align, in_layout_order, path_sums, reduce_tree, unsqueeze_like
from lpnested.tree import LpNestedTree

__all__ = [
    "log_coordinate_moment",
    "log_moment",
    "log_norm",
    "log_surface_area",
    "log_volume",
    "norm",
    "sample_sphere",
]


def log_norm(value: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    r"""The logarithm of the :math:`L_p`-nested function (Sinz & Bethge 2010, eq. 1).

    .. math:: \log f(x), \quad f_I = \Big(\sum_{c \in I} f_c^{p_I}\Big)^{1/p_I}

    At the origin the result is the logarithm of the smallest normal float64, -708.4, not -inf. The
    gradient at a zero coordinate is 0, which is a subgradient for :math:`p \geq 1`; for
    :math:`p < 1` the one-sided derivatives there are infinite with opposite signs. On a device
    without float64 the logarithm at the origin is -87.3, and the gradient is also 0 where the
    share :math:`x_i\, \partial \log f / \partial x_i` is below the smallest float32.

    Args:
        value: Shape ``(*sample, *batch, dim)``.
        exponents: Shape ``(*batch, num_nodes)``.
        tree: The tree.

    Raises:
        ValueError: If a shape does not match the tree.
        TypeError: If the exponents are float16 or bfloat16.

    Example:
        >>> tree = LpNestedTree((0, (1, 2)))
        >>> log_norm(torch.tensor([3.0, 2.0, 2.0]), torch.tensor([2.0, 1.0]), tree).exp()
        tensor(5.)
    """
    exponents = check_exponents(exponents, tree)
    return operation.log_norm(value, exponents, tree).to(result_dtype(value, exponents))


def norm(value: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    r"""The :math:`L_p`-nested function :math:`f(x)` itself; see :func:`log_norm`.

    Overflow saturates at the largest finite number. At the origin the value and the gradient
    are 0.

    Example:
        >>> norm(torch.tensor([3.0, 4.0]), torch.tensor([2.0]), LpNestedTree.flat(2))
        tensor(5.)
    """
    exponents = check_exponents(exponents, tree)
    return saturate_cast(reference.norm(value, exponents, tree), result_dtype(value, exponents))


def log_surface_area(exponents: Tensor, tree: LpNestedTree) -> Tensor:
    r"""The logarithm of :math:`S_f(1)` (eq. 8), the surface area in the sense of eq. 7.

    .. math:: \log S_f(1) = n \log 2 + \sum_I \Big[ -(l_I - 1) \log p_I
        + \sum_{c \in I} \log\Gamma\Big(\frac{n_c}{p_I}\Big)
        - \log\Gamma\Big(\frac{n_I}{p_I}\Big) \Big]

    :math:`S_f(1)` is :math:`n` times the volume of the unit ball (:func:`log_volume`); it is the
    ordinary surface area only for the 2-norm.

    Args:
        exponents: Shape ``(*batch, num_nodes)``.
        tree: The tree.

    Example:
        >>> log_surface_area(torch.tensor([2.0]), LpNestedTree.flat(2)).exp()  # 2 pi
        tensor(6.2832)
    """
    exponents = check_exponents(exponents, tree)
    return saturate_cast(reference.log_surface_area(exponents, tree), result_dtype(exponents))


def log_volume(exponents: Tensor, tree: LpNestedTree) -> Tensor:
    r"""The logarithm of the volume of the unit ball, :math:`\{x : f(x) \leq 1\}`.

    Example:
        >>> log_volume(torch.tensor([1.0]), LpNestedTree.flat(3)).exp()  # 2^3 / 3!
        tensor(1.3333)
    """
    exponents = check_exponents(exponents, tree)
    area = reference.log_surface_area(exponents, tree)
    return saturate_cast(area - math.log(tree.dim), result_dtype(exponents))


def log_moment(orders: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    r"""The logarithm of a mixed absolute moment of the uniform distribution on the unit sphere.

    .. math:: \log \mathrm{E} \prod_i |u_i|^{k_i} = \sum_I \Big[
        \log\Gamma\Big(\frac{n_I}{p_I}\Big) - \log\Gamma\Big(\frac{n_I + K_I}{p_I}\Big)
        + \sum_{c \in I} \log\Gamma\Big(\frac{n_c + K_c}{p_I}\Big)
        - \log\Gamma\Big(\frac{n_c}{p_I}\Big) \Big]

    where :math:`K_I` is the sum of the orders under :math:`I`. The result is inf if an order is -1
    or less, except for a single coordinate, which has no direction.

    Args:
        orders: The orders :math:`k_i`, real, shape ``(*sample, *batch, dim)``.
        exponents: Shape ``(*batch, num_nodes)``.
        tree: The tree.

    Example:
        >>> orders = torch.tensor([2.0, 0.0, 0.0])
        >>> log_moment(orders, torch.tensor([2.0]), LpNestedTree.flat(3)).exp()
        tensor(0.3333)
    """
    orders = as_parameter("orders", orders)
    exponents = check_exponents(exponents, tree)
    p, layout = prepare(exponents, tree)
    rows, p = align(rows_of(orders, tree, "orders"), p)
    singular = (rows <= -1).any(0)
    rows = torch.where(singular, 0.0, rows)
    levels = reduce_tree(rows, p, layout, lambda children, _: children.sum(1))
    edge_orders, node_orders = (torch.cat(orders) for orders in zip(*levels, strict=True))
    p_node, p_edge = in_layout_order(p, layout.nodes), p.index_select(0, layout.parents)
    node_sizes = unsqueeze_like(in_layout_order(layout.node_sizes, layout.nodes), p)
    edge_sizes = unsqueeze_like(layout.edge_sizes, p)
    nodes = log_gamma_ratio(node_sizes / p_node, node_orders / p_node).sum(0)
    edges = log_gamma_ratio(edge_sizes / p_edge, edge_orders / p_edge).sum(0)
    result = torch.where(singular, _at_singularity(tree), edges - nodes)
    return saturate_cast(result, result_dtype(orders, exponents))


def log_coordinate_moment(order: float, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    r"""The logarithm of :math:`\mathrm{E} |u_i|^k` of every coordinate; see :func:`log_moment`.

    Args:
        order: The order :math:`k`; the result is inf for :math:`k \leq -1`.
        exponents: Shape ``(*batch, num_nodes)``.
        tree: The tree.

    Returns:
        Shape ``(*batch, dim)``.

    Example:
        >>> log_coordinate_moment(2, torch.tensor([2.0]), LpNestedTree.flat(4)).exp()
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    exponents = check_exponents(exponents, tree)
    p, layout = prepare(exponents, tree)
    p_edge = p.index_select(0, layout.parents)
    sizes = unsqueeze_like(layout.edge_sizes, p)
    parent_sizes = unsqueeze_like(layout.node_sizes.index_select(0, layout.parents), p)
    singular = torch.as_tensor(order, dtype=p.dtype, device=p.device) <= -1
    step = torch.where(singular, 0.0, order) / p_edge
    ratios = log_gamma_ratio(sizes / p_edge, step) - log_gamma_ratio(parent_sizes / p_edge, step)
    moments = path_sums(ratios, layout).movedim(0, -1)
    moments = torch.where(singular, _at_singularity(tree), moments)
    return saturate_cast(moments, result_dtype(exponents))


def _at_singularity(tree: LpNestedTree) -> float:
    return math.inf if tree.dim > 1 else 0.0
