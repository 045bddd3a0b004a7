r"""Entropies of mixtures of many normals, on adaptive grids.

For the entropy of a mixture, :math:`H = \int \varphi(P)` with :math:`\varphi(p) = -p \log p`, a
single grid would have to span all components and resolve the narrowest. So the components are
sorted by width into octaves. With :math:`P_k` the sum of those of octave k and all wider ones,

.. math:: H = \sum_k \int \big( \varphi(P_k) - \varphi(P_{k + 1}) \big)\, dz

and octave k has its own grid, twice as fine as that of k + 1. Its integrand is 0 except near the
components of octave k, so the grid consists of tiles that exist only there; and since the
integrand falls off smoothly everywhere, the error of summing over grid points is negligible. Wider
components are interpolated from the coarser grid. Moving components that do not overlap leaves
entropies unchanged, so gaps between them are closed first.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS_PER_SIGMA = 6  # grid points per standard deviation of the narrowest component of an octave
SIGMAS = 7.5  # standard deviations beyond which a component is negligible
REACH = 90  # the same in grid points, for the widest component of an octave
HALO = 8  # extra points at both ends of a tile, needed by its children
MARGIN = 256  # extra points at both ends, so that the periodic transform does not wrap around
TILE = 2**12  # grid points per tile
MAX_LINES = 2**18  # limit for the finest grid; a line is the density of one group on one tile
RATIO = 1.1  # ratio of consecutive variances in the table of smoothing kernels
# Lagrange interpolation midway between eight points: error 1e-7 of a normal's peak.
MIDDLE = tuple(w / 2048 for w in (-5, 49, -245, 1225, 1225, -245, 49, -5))


@dataclass(frozen=True)
class Components:
    """The normals, sorted by their means, in units of the finest grid's step."""

    mean: Tensor  # (N,)
    std: Tensor  # (N,)
    octave: Tensor  # octave of the width, (N,)
    groups: Tensor  # group of each component under each factor, (factors, N)
    count: Tensor  # number of components of each group, (num_groups,)

    def near(self, octave: int, start: int, size: int) -> tuple[slice, Tensor]:
        """The components that may reach into a tile of an octave's grid, and their octaves."""
        ends = self.mean.new_tensor([start - HALO - REACH, start + size + HALO + REACH])
        first, last = torch.searchsorted(self.mean, ends * 2.0**octave).tolist()
        return slice(first, last), self.octave[first:last]


def mixture_entropies(
    mean: Tensor, std: Tensor, groups: Tensor, num_groups: int
) -> tuple[Tensor, float]:
    """Differential entropy of every group's mixture, in nats.

    If the finest grid would need more than MAX_LINES, the narrowest components are widened until
    it does not, which amounts to adding a little noise to the variable.

    Args:
        mean: Means of the components, in float64, (N,).
        std: Standard deviations of the components, in float64, (N,).
        groups: Group of each component under each factor, (factors, N).
        num_groups: Number of groups of all factors together.

    Returns:
        The entropies, (num_groups,), and the fraction of components that were widened.
    """
    mean = closed_up(mean, std)
    order = mean.argsort()
    mean, std, groups = mean[order], std[order], groups[:, order]
    narrowest = width_that_fits(mean, std, len(groups), num_groups)
    step = narrowest / STEPS_PER_SIGMA
    widened = float((std < narrowest).double().mean())
    scaled = std.clamp_min(narrowest) / step
    octave = (scaled / STEPS_PER_SIGMA * (1 + 1e-12)).log2().floor().long()
    count = torch.stack([g.bincount(minlength=num_groups) for g in groups]).sum(0).double()
    components = Components(mean / step, scaled, octave, groups, count)
    top, start, size = root(components)
    entropies = torch.zeros(num_groups, dtype=torch.float64)
    visit(components, entropies, top, start, size, None)
    return entropies + math.log(step), widened


def closed_up(mean: Tensor, std: Tensor) -> Tensor:
    """Shift the means to close gaps, while components that overlap keep their distance.

    Zero is at the narrowest component, so that very wide ones do not cost it precision.
    """
    order = (mean - SIGMAS * std).argsort()
    left, spread = (mean - SIGMAS * std)[order], 2 * SIGMAS * std[order]
    right = (mean + SIGMAS * std)[order].cummax(0).values
    first = torch.ones_like(left, dtype=torch.bool)
    first[1:] = left[1:] > right[:-1]
    cluster = first.cumsum(0) - 1
    base = left[first]
    width = torch.zeros_like(base).scatter_reduce(0, cluster, right - base[cluster], "amax")
    width = width.scatter_reduce(0, cluster, spread, "amax")  # undo rounding far from 0
    offset = width.cumsum(0) - width
    place = torch.empty_like(mean)
    place[order] = (mean[order] - base[cluster]).maximum(spread / 2) + offset[cluster]
    number = torch.empty_like(order)
    number[order] = cluster
    narrowest = std.argmin()
    same = number == number[narrowest]
    return torch.where(same, mean - mean[narrowest], place - place[narrowest])


def root(components: Components) -> tuple[int, int, int]:
    """Octave, start and size of a tile that covers all components."""
    top = int(components.octave.max())
    while True:
        low, high = (float(components.mean[k]) / 2.0**top for k in (0, -1))
        start = math.floor(low) - REACH - HALO
        if (length := high - start + REACH + HALO) <= TILE:
            return top, start, 2 ** math.ceil(math.log2(max(length, 64)))
        top += 1


def width_that_fits(mean: Tensor, std: Tensor, factors: int, num_groups: int) -> float:
    """Smallest width at which the finest grid has at most MAX_LINES; the means are sorted."""
    least = float(std.min())
    while True:
        tile = (mean[std < 2 * least] * STEPS_PER_SIGMA / (least * TILE)).floor()
        rows = torch.unique_consecutive(tile, return_counts=True)[1]
        if int((rows * factors).clamp_max(num_groups).sum()) <= MAX_LINES:
            return least
        least *= 2


def visit(
    components: Components,
    entropies: Tensor,
    octave: int,
    start: int,
    size: int,
    wider: Tensor | None,
) -> None:
    """Add the contributions of a tile and all finer tiles within it to the entropies.

    Args:
        components: The normals.
        entropies: Entropies to add to, in place, (num_groups,).
        octave: Octave of the grid.
        start: Grid index of the tile's first point.
        size: Number of points.
        wider: Densities of the wider components, (num_groups, size + 2 HALO); None if all are
            zero.
    """
    rows, octaves = components.near(octave, start, size)
    own = (octaves == octave).nonzero().squeeze(1) + rows.start
    total = wider
    if len(own):
        present, density = own_density(components, own, octave, start, size)
        before = torch.zeros_like(density) if wider is None else wider[present]
        after = before + density
        core = slice(HALO, HALO + size)
        gained = negative_plogp(after[:, core]) - negative_plogp(before[:, core])
        entropies[present] += gained.sum(1) * 2.0**octave
        total = torch.zeros(len(entropies), size + 2 * HALO, dtype=torch.float64)
        total = total if wider is None else wider.clone()
        total[present] = after
    if octave == 0:
        return
    parts = 1 if 2 * size <= TILE else 2
    for part in range(parts):
        first, half = 2 * start + part * size, 2 * size // parts
        below = components.near(octave - 1, first, half)[1]
        if len(below) and int(below.min()) < octave:
            finer = None if total is None else refined(total, part * size // 2, half)
            visit(components, entropies, octave - 1, first, half, finer)


def own_density(
    components: Components, rows: Tensor, octave: int, start: int, size: int
) -> tuple[Tensor, Tensor]:
    """Densities of the groups with components among the rows, on a tile and its halo."""
    place = components.mean[rows] / 2.0**octave - (start - MARGIN)
    width = components.std[rows] / 2.0**octave
    groups = components.groups[:, rows]
    seen = torch.zeros_like(components.count, dtype=torch.bool)
    seen[groups.flatten()] = True
    present, local = seen.nonzero().squeeze(1), (seen.cumsum(0) - 1)[groups]
    window = size + 2 * MARGIN
    spectrum = transformed(place, width, local, len(present), window)
    found = torch.fft.irfft(spectrum, n=window)[:, MARGIN - HALO : MARGIN + size + HALO]
    return present, found / (components.count[present, None] * 2.0**octave)


def refined(density: Tensor, start: int, size: int) -> Tensor:
    """Interpolate a part of a tile to the grid twice as fine: (groups, size + 2 HALO)."""
    first, count = HALO // 2 + start, size // 2 + HALO
    even = density[:, first : first + count]
    odd = torch.zeros_like(even)
    for k, weight in enumerate(MIDDLE, first - len(MIDDLE) // 2 + 1):
        odd.add_(density[:, k : k + count], alpha=weight)
    return torch.stack([even, odd], -1).flatten(1)


def negative_plogp(p: Tensor) -> Tensor:
    """-p log p; clamped, since transforms and interpolation leave densities a little below 0."""
    p = p.clamp_min(0)
    return -torch.xlogy(p, p)


def transformed(
    place: Tensor, width: Tensor, groups: Tensor, num_groups: int, size: int
) -> Tensor:
    """Fourier transform of every group's sum of normals, on a grid of step 1.

    Each normal is split into four that preserve its mean and variance: with means at the two
    nearest grid points, and with the two nearest variances of a geometric table. All normals of
    the same variance are smoothed at once.

    Args:
        place: Mean of each normal, (N,).
        width: Standard deviation of each normal, (N,).
        groups: Group of each normal under each factor, (factors, N).
        num_groups: Number of groups of all factors together.
        size: Number of grid points.

    Returns:
        The spectrum of each group, (num_groups, size // 2 + 1).
    """
    cell = place.long()
    right = place - cell  # weight of the right grid point
    variance = width.square() - right * (1 - right)
    level = ((variance / variance.min()).log() / math.log(RATIO)).long()
    table = variance.min() * RATIO ** torch.arange(int(level.max()) + 2, dtype=torch.float64)
    upper = (variance - table[level]) / (table[level + 1] - table[level])  # its weight
    order = level.argsort()
    ends = torch.searchsorted(level[order], torch.arange(-1, len(table) + 1)).tolist()
    omega = 2 * torch.pi * torch.fft.rfftfreq(size, dtype=torch.float64)
    spectrum = torch.zeros(num_groups, len(omega), dtype=torch.complex128)
    for k, kernel in enumerate(table):
        rows = order[ends[k] : ends[k + 2]]  # the upper variance of level k - 1, the lower of k
        if len(rows) == 0:
            continue
        share = torch.where(level[rows] == k, 1 - upper[rows], upper[rows])
        bins = groups[:, rows] * size + cell[rows]
        mass = torch.zeros(num_groups * size, dtype=torch.float64)
        for shift, weight in ((0, share * (1 - right[rows])), (1, share * right[rows])):
            weights = weight.expand_as(bins).flatten()
            mass += torch.bincount((bins + shift).flatten(), weights, len(mass))
        spectrum += torch.fft.rfft(mass.view(num_groups, size)) * (-kernel * omega**2 / 2).exp()
    return spectrum
