"""Plots of trees and of two-dimensional distributions (extra ``lpnested[plot]``).

Every function draws into ``ax``, or into the current axes, and returns the axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from lpnested.functional import norm
from lpnested.precision import as_parameter, default_dtype
from lpnested.rows import leaves_under, level_ranges
from lpnested.tree import LpNestedTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["contours", "density", "samples", "tree"]


def tree(
    tree: LpNestedTree,
    exponents: Tensor | Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a tree, root at the top, with the exponents in its nodes.

    Args:
        tree: The tree.
        exponents: The exponents, shape ``(num_nodes,)``; by default, nodes show their symbols.
        ax: The axes to draw into.

    Example:
        >>> ax = tree(LpNestedTree.isa([2, 3]), [2.1, 2.2, 2.2])
    """
    labels = _labels(tree, exponents)
    ax = _axes(ax)
    box = {"boxstyle": "circle,pad=0.25", "edgecolor": "0.3", "linewidth": 1.0}
    across = {leaf: float(k) for k, leaf in enumerate(leaves_under(tree.children, ~0))}
    for depth, places in reversed(list(enumerate(level_ranges(tree.children)))):
        for k in places:
            row = tree.children[k]
            x = across[~k] = sum(across[child] for child in row) / len(row)
            for child in row:
                end = across[child]
                ax.plot([x, end], [-depth, -depth - 1], color="0.6", linewidth=1.0, zorder=1)
                if child >= 0:
                    _write(ax, end, -depth - 1, f"$x_{{{child}}}$", {**box, "facecolor": "white"})
            _write(ax, x, -depth, labels[k], {**box, "facecolor": "#cfe3f5"})
    ax.set(xlim=(-0.7, tree.dim - 0.3), ylim=(-tree.depth - 0.4, 0.4))
    ax.set_axis_off()
    return ax


def _labels(tree: LpNestedTree, exponents: Tensor | Sequence[float] | None) -> list[str]:
    if exponents is None:
        return [f"$p_{{{k}}}$" for k in range(tree.num_nodes)]
    exponents = as_parameter("exponents", exponents)
    if exponents.shape != (tree.num_nodes,):
        raise ValueError(
            f"exponents must have shape ({tree.num_nodes},), but got {tuple(exponents.shape)}"
        )
    return [f"{p:.3g}" for p in exponents.tolist()]


def _write(ax: Axes, x: float, y: float, text: str, box: dict[str, Any]) -> None:
    ax.text(x, y, text, ha="center", va="center", bbox=box)


def contours(
    tree: LpNestedTree,
    exponents: Tensor | Sequence[float],
    ax: Axes | None = None,
    levels: Sequence[float] = (0.5, 1.0, 1.5),
    limit: float = 1.8,
    coordinates: tuple[int, int] = (0, 1),
    **style: Any,
) -> Axes:
    """Draw contours of the Lp-nested function in two coordinates, with all others 0.

    Args:
        tree: The tree.
        exponents: The exponents, shape ``(num_nodes,)``.
        ax: The axes to draw into.
        levels: The values of the function to draw.
        limit: Half the width of the square, in the units of the coordinates.
        coordinates: The two coordinates to draw.
        **style: Further arguments of ``Axes.contour``.

    Example:
        >>> ax = contours(LpNestedTree.flat(2), [0.7])
    """
    exponents = as_parameter("exponents", exponents).detach().cpu()
    points, axis = _grid(tree.dim, limit, coordinates)
    values = norm(points, exponents, tree)
    ax = _axes(ax)
    ax.contour(axis.numpy(), axis.numpy(), values.numpy(), levels=list(levels), **style)
    return _square(ax, coordinates)


def density(
    dist: Distribution,
    ax: Axes | None = None,
    limit: float = 3.0,
    coordinates: tuple[int, int] = (0, 1),
    **style: Any,
) -> Axes:
    """Draw the density of a distribution in two coordinates, with all others 0, as an image.

    Args:
        dist: A distribution of vectors with an empty batch shape.
        ax: The axes to draw into.
        limit: Half the width of the square, in the units of the coordinates.
        coordinates: The two coordinates to draw.
        **style: Further arguments of ``Axes.pcolormesh``.

    Example:
        >>> from lpnested import ISA
        >>> ax = density(ISA([1, 1], p0=1.0, p=1.0))
    """
    _check_vectors(dist)
    points, axis = _grid(dist.event_shape[0], limit, coordinates)
    with torch.no_grad():
        values = dist.log_prob(points.to(dist.sample().device)).exp().cpu()
    ax = _axes(ax)
    ax.pcolormesh(
        axis.numpy(), axis.numpy(), values.numpy(), **{"cmap": "Blues", "shading": "auto", **style}
    )
    return _square(ax, coordinates)


def samples(
    dist: Distribution,
    ax: Axes | None = None,
    num: int = 2000,
    coordinates: tuple[int, int] = (0, 1),
    **style: Any,
) -> Axes:
    """Draw samples of a distribution in two of its coordinates.

    Args:
        dist: A distribution of vectors with an empty batch shape.
        ax: The axes to draw into.
        num: The number of samples.
        coordinates: The two coordinates to draw.
        **style: Further arguments of ``Axes.scatter``.

    Example:
        >>> from lpnested import ISA
        >>> ax = samples(ISA([2, 2], p0=1.0, p=8.0), coordinates=(0, 2))
    """
    _check_vectors(dist)
    _check_coordinates(dist.event_shape[0], coordinates)
    drawn = dist.sample(torch.Size([num]))[:, list(coordinates)].cpu().numpy()
    ax = _axes(ax)
    ax.scatter(*drawn.T, **{"s": 4.0, "alpha": 0.4, "linewidths": 0.0, **style})
    return _square(ax, coordinates)


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    try:  # import pyplot only if no axes are given
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "lpnested.plot draws with matplotlib, which can't be imported: "
            "pip install 'lpnested[plot]'"
        ) from error
    return plt.gca()


def _check_vectors(dist: Distribution) -> None:
    if dist.batch_shape or len(dist.event_shape) != 1:
        raise ValueError(
            f"dist must be one distribution of vectors, but {dist} has batch shape "
            f"{tuple(dist.batch_shape)} and event shape {tuple(dist.event_shape)}"
        )


def _grid(dim: int, limit: float, coordinates: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return points ``(rows, columns, dim)`` of a square in two coordinates, and its axis."""
    _check_coordinates(dim, coordinates)
    axis = torch.linspace(-limit, limit, 301, dtype=default_dtype())
    points = axis.new_zeros(len(axis), len(axis), dim)
    points[..., coordinates[0]], points[..., coordinates[1]] = axis, axis[:, None]
    return points, axis


def _check_coordinates(dim: int, coordinates: tuple[int, int]) -> None:
    if len(set(coordinates)) != 2 or not all(0 <= k < dim for k in coordinates):
        raise ValueError(f"coordinates must be two of 0..{dim - 1}, but got {coordinates}")


def _square(ax: Axes, coordinates: tuple[int, int]) -> Axes:
    ax.set(xlabel=f"$x_{{{coordinates[0]}}}$", ylabel=f"$x_{{{coordinates[1]}}}$", aspect="equal")
    return ax
