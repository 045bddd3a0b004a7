r"""Entropies of mixtures of many normals, on grids that follow them.

For the entropy of a mixture, :math:`H = \int \varphi(P)` with :math:`\varphi(p) = -p \log p`, one
grid would have to be as wide as all of its components and as fine as the narrowest. So they are
sorted by width into octaves. With :math:`P_k` the sum of those of octave k and of all wider ones,

.. math:: H = \sum_k \int \big( \varphi(P_k) - \varphi(P_{k + 1}) \big)\, dz

and octave k has a grid of its own, twice as fine as that of k + 1. Its integrand is 0 except near
the components of octave k: only there need the grid exist, which is cut into tiles; and as the
integrand ends smoothly wherever it ends, sums over the points have no error to speak of. What is
wider is interpolated from the grid before. And as entropies do not change where components that
nowhere meet are moved, gaps between them are closed first.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS_PER_SIGMA = 6  # grid points in a standard deviation of the narrowest of an octave
SIGMAS = 7.5  # from where on a component is nothing
REACH = 90  # grid points in that many standard deviations of the widest
HALO = 8  # points beyond both ends of a tile that its children need
MARGIN = 256  # points beyond both ends, so that the periodic transform meets nobody
TILE = 2**12  # points of a tile
MAX_LINES = 2**18  # of the finest grid: a line is the density of one group on one tile
RATIO = 1.1  # of neighbouring variances in the table of smoothing kernels
# Lagrange's polynomial through eight points, in their middle: an error of 1e-7 of a normal's peak.
MIDDLE = tuple(w / 2048 for w in (-5, 49, -245, 1225, 1225, -245, 49, -5))


@dataclass(frozen=True)
class Components:
    """The normals, sorted by their means, in units of the finest grid's step."""

    mean: Tensor  # (N,)
    std: Tensor  # (N,)
    octave: Tensor  # of the width, (N,)
    groups: Tensor  # that each belongs to, (factors, N)
    count: Tensor  # of the components of each group, (num_groups,)

    def near(self, octave: int, start: int, size: int) -> tuple[slice, Tensor]:
        """Those that may reach into a tile of an octave's grid, and their octaves."""
        ends = self.mean.new_tensor([start - HALO - REACH, start + size + HALO + REACH])
        first, last = torch.searchsorted(self.mean, ends * 2.0**octave).tolist()
        return slice(first, last), self.octave[first:last]


def mixture_entropies(
    mean: Tensor, std: Tensor, groups: Tensor, num_groups: int
) -> tuple[Tensor, float]:
    """The differential entropy of every group's mixture, in nats.

    Where the finest grid would need more than MAX_LINES, the narrowest components are widened
    until it does not: that is the entropy of the variable with so little noise added.

    Args:
        mean: Of the components, in float64, (N,).
        std: Their standard deviations, in float64, (N,).
        groups: The group of each under each factor, (factors, N).
        num_groups: Of all factors together.

    Returns:
        The entropies, (num_groups,), and the share of the components that were widened.
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
    """The means, where components that meet keep their distance and gaps between others close.

    Zero is at the narrowest component, so that nothing of it is lost to a very wide one.
    """
    order = (mean - SIGMAS * std).argsort()
    left, spread = (mean - SIGMAS * std)[order], 2 * SIGMAS * std[order]
    right = (mean + SIGMAS * std)[order].cummax(0).values
    first = torch.ones_like(left, dtype=torch.bool)
    first[1:] = left[1:] > right[:-1]
    cluster = first.cumsum(0) - 1
    base = left[first]
    width = torch.zeros_like(base).scatter_reduce(0, cluster, right - base[cluster], "amax")
    width = width.scatter_reduce(0, cluster, spread, "amax")  # what rounding far from 0 took away
    offset = width.cumsum(0) - width
    place = torch.empty_like(mean)
    place[order] = (mean[order] - base[cluster]).maximum(spread / 2) + offset[cluster]
    number = torch.empty_like(order)
    number[order] = cluster
    narrowest = std.argmin()
    same = number == number[narrowest]
    return torch.where(same, mean - mean[narrowest], place - place[narrowest])


def root(components: Components) -> tuple[int, int, int]:
    """Octave, start and size of the tile that holds everything."""
    top = int(components.octave.max())
    while True:
        low, high = (float(components.mean[k]) / 2.0**top for k in (0, -1))
        start = math.floor(low) - REACH - HALO
        if (length := high - start + REACH + HALO) <= TILE:
            return top, start, 2 ** math.ceil(math.log2(max(length, 64)))
        top += 1


def width_that_fits(mean: Tensor, std: Tensor, factors: int, num_groups: int) -> float:
    """The least width at which the finest grid has MAX_LINES or fewer; the means are sorted."""
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
    """Add to the entropies what a tile and all finer ones within it hold.

    Args:
        components: The normals.
        entropies: They are written to, (num_groups,).
        octave: Of the grid.
        start: Place of the first point on it.
        size: Number of points.
        wider: Densities of the wider components, (num_groups, size + 2 HALO); None where they are
            all zero.
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
    """Densities of the groups that have components among the rows, on a tile and its halo."""
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
    """A part of a tile on the grid that is twice as fine: (groups, size + 2 HALO)."""
    first, count = HALO // 2 + start, size // 2 + HALO
    even = density[:, first : first + count]
    odd = torch.zeros_like(even)
    for k, weight in enumerate(MIDDLE, first - len(MIDDLE) // 2 + 1):
        odd.add_(density[:, k : k + count], alpha=weight)
    return torch.stack([even, odd], -1).flatten(1)


def negative_plogp(p: Tensor) -> Tensor:
    """-p log p; transforms and interpolation leave densities a little below 0."""
    p = p.clamp_min(0)
    return -torch.xlogy(p, p)


def transformed(
    place: Tensor, width: Tensor, groups: Tensor, num_groups: int, size: int
) -> Tensor:
    """Fourier transform of every group's sum of normals, on a grid of step 1.

    Each normal becomes four that together have its mean and its variance: with means at the two
    nearest grid points, and with the two nearest variances of a geometric table. All that share a
    variance are smoothed at once.

    Args:
        place: Mean of each normal, (N,).
        width: Its standard deviation, (N,).
        groups: Its group under each factor, (factors, N).
        num_groups: Of all factors together.
        size: Of the grid.

    Returns:
        (num_groups, size // 2 + 1).
    """
    cell = place.long()
    right = place - cell  # share of the right grid point
    variance = width.square() - right * (1 - right)
    level = ((variance / variance.min()).log() / math.log(RATIO)).long()
    table = variance.min() * RATIO ** torch.arange(int(level.max()) + 2, dtype=torch.float64)
    upper = (variance - table[level]) / (table[level + 1] - table[level])  # share of that variance
    order = level.argsort()
    ends = torch.searchsorted(level[order], torch.arange(-1, len(table) + 1)).tolist()
    omega = 2 * torch.pi * torch.fft.rfftfreq(size, dtype=torch.float64)
    spectrum = torch.zeros(num_groups, len(omega), dtype=torch.complex128)
    for k, kernel in enumerate(table):
        rows = order[ends[k] : ends[k + 2]]  # level k - 1 has it as upper variance, k as lower
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
