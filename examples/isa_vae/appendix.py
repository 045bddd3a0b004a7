"""Appendix A.5: the representative model of each arm, its latents and its traversals."""

from collections.abc import Sequence
from pathlib import Path

import checkpoint
import torch
from checkpoint import State
from config import Config, UsageError
from data import Pictures
from factor_plots import latent_factor_plot, representative
from panels import reconstructions, traversal
from report import label_of, middle_row
from scoring import choose_rows, encode
from sources import load_data
from table import Row
from trained import load_trained

ENCODED = 50_000  # pictures that the plots are averages over


def draw_appendix(
    rows: Sequence[Row], sweep: Path, out: Path, data: Path | None, cache: Path | None
) -> list[Path]:
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
        config, state = load_kept(sweep / "runs" / name, data, cache)
        pictures = pictures or load_data(config)
        scores = f"MIG {row['mig']:.3f}, log p(x|z) {row['log_px']:.1f}"
        of = f"chosen of {len(runs)} runs" if len(runs) > 1 else "the only run"
        title = f"{arm}, beta {beta:g}, seed {row['seed']}: {scores}, {of}"
        title = label_of(pictures) + title
        written += draw_model(config, state, pictures, title, out, name)
    return written


def load_kept(folder: Path, data: Path | None, cache: Path | None) -> tuple[Config, State]:
    """A model that a sweep kept."""
    if not (folder / checkpoint.MODEL).is_file():
        raise UsageError(
            f"{folder} holds no {checkpoint.MODEL}: models are kept by sweep.py --keep-models, "
            "which does not run again what is finished (delete the row of that run to have it)"
        )
    return load_trained(folder, data=data, cache=cache)


def draw_model(
    config: Config, state: State, pictures: Pictures, title: str, out: Path, name: str
) -> list[Path]:
    """Latents against factors, a traversal from the middle, and reconstructions."""
    out.mkdir(parents=True, exist_ok=True)
    vae, packed = state.vae, torch.from_numpy(pictures.packed).to(config.device)
    chosen = choose_rows(len(packed), ENCODED, seed=0)
    mean, std = encode(vae, packed[chosen.to(packed.device)], pictures.pixels)
    classes = torch.from_numpy(pictures.classes)[chosen]
    kinds = ("factors", "traversal", "reconstructions")
    paths = [out / f"{name}-{kind}.png" for kind in kinds]
    sizes = config.sizes if config.prior == "isa" else None
    latent_factor_plot(mean, std, classes, pictures.factors, sizes, paths[0], title=title)
    row = middle_row(config, pictures)
    variance = mean.double().var(0).tolist()
    stddev = state.prior().variance.detach().sqrt().cpu()
    label = label_of(pictures)
    traversal(vae, packed, pictures.shape, row, variance, stddev, paths[1], label)
    reconstructions(vae, packed, pictures.shape, config.seed, paths[2], label)
    return paths
