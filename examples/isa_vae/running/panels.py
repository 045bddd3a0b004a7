"""Figures of a trained model: reconstructions, latent traversals and training curves."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from data.pictures import as_pixels
from metrics import ACTIVE
from models import VAE
from running.files import write_atomic

matplotlib.use("Agg")  # draws into files: no display needed
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

COLUMNS = 12
STEPS = 11  # images per row of the traversal
SPAN = 2.5  # range of the traversal, in standard deviations of the prior to either side
UNUSED = 2  # number of inactive latents to draw after the active ones


def tile(images: Tensor, gap: int = 4) -> Tensor:
    """(rows, columns, channels, 64, 64) -> one image with gaps, (height, width, 1 or 3)."""
    padded = torch.nn.functional.pad(images, (gap // 2,) * 4, value=1.0)
    return padded.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically, and close it."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight")
    plt.close(figure)
    write_atomic(drawn.getvalue(), path)


def show(
    grid: Tensor, labels: list[str], title: str, path: Path, groups: Sequence[int] = ()
) -> None:
    """Write a grid of images, (rows, columns, channels, 64, 64), with a label for each row.

    Groups of rows are separated by a line and have labels of different colours.
    """
    rows, columns = grid.shape[:2]
    figure, axes = plt.subplots(figsize=(0.75 * columns + 1.9, 0.75 * rows + 0.6), dpi=120)
    axes.imshow(
        tile(grid).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
    axes.set_yticks([68 * row + 34 for row in range(rows)], labels)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=11)
    for row, group in enumerate(groups):
        axes.get_yticklabels()[row].set_color(f"C{group % 10}")
        if row and group != groups[row - 1]:
            axes.axhline(68 * row, color="white", lw=4)
            axes.axhline(68 * row, color="black", lw=1)
    save(figure, path)


@torch.no_grad()
def reconstructions(
    vae: VAE, packed: Tensor, shape: tuple[int, int, int], seed: int, path: Path, label: str = ""
) -> None:
    """Draw random images, each above its reconstruction from the posterior mean.

    The label, such as that of a stand-in, is put before the title.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(packed), (2 * COLUMNS,), generator=generator)
    x = as_pixels(packed[rows.to(packed.device)], math.prod(shape))
    decoded = vae.decoder(vae.encoder(x).mean).sigmoid()
    pairs = torch.stack([x, decoded], dim=1).cpu().view(2, COLUMNS, 2, *shape)
    grid = pairs.transpose(1, 2).flatten(0, 1)
    title = "Reconstructions of random pictures (decoder at the posterior mean)"
    show(grid, ["original", "model"] * 2, label + title, path)


@torch.no_grad()
def traversal(
    vae: VAE,
    packed: Tensor,
    shape: tuple[int, int, int],
    row: int,
    variance: list[float],
    stddev: Tensor,
    path: Path,
    label: str = "",
    sizes: Sequence[int] | None = None,
) -> None:
    """Draw one latent at a time moving through the prior's range, from the code of one image.

    Args:
        vae: The trained model.
        packed: The images, (N, bytes).
        shape: Shape of an image: channels, height, width.
        row: Row of the image to start from.
        variance: Variance of the posterior mean of each latent, (latents,); latents are drawn in
            descending order of it.
        stddev: Standard deviation of the prior, (latents,).
        path: File of the figure.
        label: Text before the title.
        sizes: Sizes of the prior's subspaces, if any; they are marked and drawn one by one.
    """
    subspace = [k for k, size in enumerate(sizes or ()) for _ in range(size)]
    order = sorted(range(len(variance)), key=lambda j: -variance[j])
    order = order[: sum(v > ACTIVE for v in variance) + UNUSED]
    if sizes is not None:
        order = sorted(order, key=lambda j: (subspace[j], -variance[j]))
    code = vae.encoder(as_pixels(packed[row : row + 1], math.prod(shape))).mean[0]
    moves = torch.linspace(-SPAN, SPAN, STEPS, device=code.device)
    z = code.repeat(len(order), STEPS, 1)
    for line, j in enumerate(order):
        z[line, :, j] = moves * stddev[j]
    grid = vae.decoder(z).sigmoid().cpu().view(len(order), STEPS, *shape)
    place = [f"subspace {subspace[j] + 1}: " if sizes is not None else "" for j in order]
    labels = [f"{at}z{j}   Var {variance[j]:.2f}" for at, j in zip(place, order, strict=True)]
    title = (
        f"One latent at a time, from {-SPAN} to {SPAN} standard deviations of the prior:\n"
        f"the first {len(order)} of {len(variance)} by the variance of their posterior mean"
    )
    title += ", one subspace after the other" if sizes is not None else ""
    groups = [subspace[j] for j in order] if sizes is not None else ()
    show(grid, labels, label + title, path, groups)


TERMS = {"objective": "objective", "log_px": "log p(x|z)", "kl": "KL(q(z|x) || p(z))"}


def training_curve(history: Sequence[dict[str, float]], path: Path, label: str = "") -> None:
    """Plot the terms of the objective during training, each a mean over a few steps.

    The axes leave out the steep beginning if it would hide the rest.
    """
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.2), dpi=120, layout="constrained")
    for axes, (key, name) in zip(panels, TERMS.items(), strict=True):
        values = [line[key] for line in history]
        axes.plot([line["step"] for line in history], values, lw=1.5)
        later = values[len(values) // 10 :]
        if later and max(later) > min(later):
            low, high = min(later), max(later)
            axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        axes.set(title=name, xlabel="step", ylabel="nats per picture")
        axes.grid(color="0.92")
    few = "" if history else " (too few steps to plot)"
    figure.suptitle(f"{label}Training{few}", fontsize=11)
    save(figure, path)
