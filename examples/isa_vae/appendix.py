"""Appendix A.5: the representative model of each arm, its latents and its traversals."""

from collections.abc import Sequence
from pathlib import Path

import checkpoint
import numpy as np
import torch
from checkpoint import load_model
from config import Config, UsageError
from data import Pictures, as_pixels
from factor_plots import latent_factor_plot, representative
from models import VAE
from panels import reconstructions, traversal
from priors import make_prior
from report import MIDDLE
from scoring import choose_rows
from sources import load_data
from table import Row
from torch import Tensor

ENCODED = 50_000  # pictures that the plots are averages over


def draw_appendix(rows: Sequence[Row], sweep: Path, out: Path) -> list[Path]:
    """Three figures for each arm and beta of a sweep that kept its models, in the folder `out`."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        if row["status"] == "done":
            groups.setdefault((row["arm"], float(row["beta"])), []).append(row)
    written: list[Path] = []
    pictures: Pictures | None = None
    for (arm, beta), runs in sorted(groups.items()):
        row = representative(runs)
        name = f"{arm}-beta{beta:g}-seed{row['seed']}"
        config, vae = load_kept(sweep / "runs" / name)
        pictures = pictures or load_data(config)
        title = f"{arm}, beta {beta:g}, seed {row['seed']}: MIG {row['mig']:.3f}, "
        title += f"log p(x|z) {row['log_px']:.1f}, chosen of {len(runs)} runs"
        written += draw_model(config, vae, pictures, title, out, name)
    return written


def load_kept(folder: Path) -> tuple[Config, VAE]:
    """A model that a sweep kept."""
    if not (folder / checkpoint.MODEL).is_file():
        raise UsageError(
            f"{folder} holds no {checkpoint.MODEL}: the models are kept by sweep.py --keep-models"
        )
    return load_model(folder)


@torch.no_grad()
def draw_model(
    config: Config, vae: VAE, pictures: Pictures, title: str, out: Path, name: str
) -> list[Path]:
    """Latents against factors, a traversal from the middle, and reconstructions."""
    out.mkdir(parents=True, exist_ok=True)
    packed = torch.from_numpy(pictures.packed)
    chosen = choose_rows(len(packed), ENCODED, seed=0)
    mean, std = encode(vae, packed[chosen], pictures.pixels)
    classes = torch.from_numpy(pictures.classes)[chosen]
    kinds = ("factors", "traversal", "reconstructions")
    paths = [out / f"{name}-{kind}.png" for kind in kinds]
    latent_factor_plot(mean, std, classes, pictures.factors, config.sizes, paths[0], title=title)
    middle = MIDDLE.get(config.data_set, pictures.classes.max(0) // 2)
    row = int(np.abs(pictures.classes - np.array(middle)).sum(1).argmin())
    variance = mean.double().var(0).tolist()
    stddev = make_prior(config)().variance.detach().sqrt().cpu()
    traversal(vae, packed, pictures.shape, row, variance, stddev, paths[1])
    reconstructions(vae, packed, pictures.shape, config.seed, paths[2])
    return paths


def encode(vae: VAE, packed: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the posteriors, two of (N, z)."""
    posteriors = [vae.encoder(as_pixels(rows, pixels)) for rows in packed.split(4096)]
    parts = [(q.mean, q.stddev) for q in posteriors]
    return torch.cat([mean for mean, _ in parts]), torch.cat([std for _, std in parts])
