"""Pictures of trees and of two-dimensional distributions (extra ``lpnested[plot]``).

Every function draws into ``ax``, or into the current axes, and returns them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from lpnested.functional import norm
from lpnested.tree import LpNestedTree, Nested

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["contours", "density", "samples", "tree"]


def tree(tree: LpNestedTree, exponents: Tensor | None = None, ax: Axes | None = None) -> Axes:
    """Draw a tree, root on top, with its exponents in its nodes.

    Args:
        tree: The tree.
        exponents: The exponents, shape ``(num_nodes,)``; without them nodes show their symbol.
        ax: The axes to draw into.

    Example:
        >>> ax = tree(LpNestedTree.isa([2, 3]), torch.tensor([2.1, 2.2, 2.2]))
    """
    ax = _axes(ax)
    if exponents is not None and exponents.shape != (tree.num_nodes,):
        raise ValueError(
            f"exponents must have shape ({tree.num_nodes},), but got {tuple(exponents.shape)}"
        )
    across = iter(range(tree.dim))
    box = {"boxstyle": "circle,pad=0.25", "edgecolor": "0.3", "linewidth": 1.0}

    def label(node: Nested) -> str:
        if isinstance(node, int):
            return f"$x_{{{node}}}$"
        place = tree.nodes.index(node)
        return f"$p_{{{place}}}$" if exponents is None else f"{exponents[place].item():.3g}"

    def draw(node: Nested, depth: int) -> float:
        children = [] if isinstance(node, int) else [draw(child, depth + 1) for child in node]
        x = sum(children) / len(children) if children else float(next(across))
        for child in children:
            ax.plot([x, child], [-depth, -depth - 1], color="0.6", linewidth=1.0, zorder=1)
        face = "white" if isinstance(node, int) else "#cfe3f5"
        ax.text(x, -depth, label(node), ha="center", va="center", bbox={**box, "facecolor": face})
        return x

    draw(tree.root, 0)
    ax.set(xlim=(-0.7, tree.dim - 0.3), ylim=(-tree.depth - 0.4, 0.4))
    ax.set_axis_off()
    return ax


def contours(
    tree: LpNestedTree,
    exponents: Tensor,
    ax: Axes | None = None,
    levels: Sequence[float] = (0.5, 1.0, 1.5),
    limit: float = 1.8,
    coordinates: tuple[int, int] = (0, 1),
    **style: Any,
) -> Axes:
    """Draw iso-contours of the Lp-nested function, all but two coordinates 0.

    Args:
        tree: The tree.
        exponents: The exponents, shape ``(num_nodes,)``.
        ax: The axes to draw into.
        levels: The values of the function to draw.
        limit: Half the width of the square, in the units of the coordinates.
        coordinates: The two coordinates to draw.
        **style: What else goes to ``Axes.contour``.

    Example:
        >>> ax = contours(LpNestedTree.flat(2), torch.tensor([0.7]))
    """
    points, axis = _grid(tree.dim, limit, coordinates)
    values = norm(points, exponents.detach().cpu(), tree)
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
    """Draw the density of a distribution, all but two coordinates 0, as an image.

    Args:
        dist: A distribution of vectors with an empty batch shape.
        ax: The axes to draw into.
        limit: Half the width of the square, in the units of the coordinates.
        coordinates: The two coordinates to draw.
        **style: What else goes to ``Axes.pcolormesh``.

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
        **style: What else goes to ``Axes.scatter``.

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
    import matplotlib.pyplot as plt  # pyplot only where the user brings no axes of their own

    return plt.gca()


def _check_vectors(dist: Distribution) -> None:
    if dist.batch_shape or len(dist.event_shape) != 1:
        raise ValueError(
            f"dist must be one distribution of vectors, but {dist} has batch shape "
            f"{tuple(dist.batch_shape)} and event shape {tuple(dist.event_shape)}"
        )


def _grid(dim: int, limit: float, coordinates: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Points ``(rows, columns, dim)`` of a square in two coordinates, and its axis."""
    _check_coordinates(dim, coordinates)
    axis = torch.linspace(-limit, limit, 301)
    points = torch.zeros(len(axis), len(axis), dim)
    points[..., coordinates[0]], points[..., coordinates[1]] = axis, axis[:, None]
    return points, axis


def _check_coordinates(dim: int, coordinates: tuple[int, int]) -> None:
    if len(set(coordinates)) != 2 or not all(0 <= k < dim for k in coordinates):
        raise ValueError(f"coordinates must be two of 0..{dim - 1}, but got {coordinates}")


def _square(ax: Axes, coordinates: tuple[int, int]) -> Axes:
    ax.set(xlabel=f"$x_{{{coordinates[0]}}}$", ylabel=f"$x_{{{coordinates[1]}}}$", aspect="equal")
    return ax
