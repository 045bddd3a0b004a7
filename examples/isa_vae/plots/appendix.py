"""Appendix A.5: the representative model of each arm, its latents and its traversals."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from config import Config, UsageError
from data.pictures import Pictures
from data.sources import load_data
from plots.factors import latent_factor_plot, representative
from running import checkpoint
from running.checkpoint import State
from running.folders import load_trained
from running.outputs import label_of, middle_row
from running.panels import reconstructions, traversal
from running.scoring import choose_rows, encode
from sweeps.rows import Row, key_of, read_row

ENCODED = 50_000  # images that the plots average over


def draw_appendix(
    rows: Sequence[Row], sweep: Path, out: Path, data: Path | None, cache: Path | None
) -> list[Path]:
    """Draw three figures for the representative run of each arm and beta, and return their paths.

    Args:
        rows: All runs to choose from.
        sweep: Folder of a sweep that kept the models of the selected runs.
        out: Folder of the figures.
        data: Original file that the models were trained on.
        cache: Cache folder for rendered images.
    """
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        if row["status"] == "done":
            groups.setdefault((row["arm"], float(row["beta"])), []).append(row)
    chosen = [(representative(runs), len(runs)) for _, runs in sorted(groups.items())]
    check_models([row for row, _ in chosen], sweep)
    written: list[Path] = []
    pictures: Pictures | None = None
    for run, count in tqdm(chosen, desc="models", unit="model"):
        name = key_of(run)
        config, state = load_trained(sweep / "runs" / name, data=data, cache=cache)
        pictures = pictures or load_data(config)
        row = read_row(sweep / "rows" / f"{name}.json")
        scores = f"MIG {row['mig']:.3f}, log p(x|z) {row['log_px']:.1f}"
        of = f"chosen of {count} runs" if count > 1 else "the only run"
        title = f"{row['arm']}, beta {row['beta']:g}, seed {row['seed']}: {scores}, {of}"
        title = label_of(pictures) + title
        written += draw_model(config, state, pictures, title, out, name)
    return written


def check_models(runs: Sequence[Row], sweep: Path) -> None:
    """Raise a UsageError with the commands that make them if any of these models are missing."""
    commands = [
        f"  python examples/isa_vae/sweep.py {run['experiment']} --arms {run['arm']} "
        f"--betas {run['beta']:g} --seeds {run['seed']} --keep-models"
        for run in runs
        if not (sweep / "runs" / key_of(run) / checkpoint.MODEL).is_file()
        or not (sweep / "rows" / f"{key_of(run)}.json").is_file()
    ]
    if commands:
        raise UsageError(
            f"{sweep} lacks {len(commands)} of the {len(runs)} models to draw. To make them, run "
            "(with --out and --data as for that sweep)\n"
            + "\n".join(commands)
            + "\nThis skips finished runs; delete the row of a run to repeat it."
        )


def draw_model(
    config: Config, state: State, pictures: Pictures, title: str, out: Path, name: str
) -> list[Path]:
    """Draw latents against factors, a traversal from the middle, and reconstructions."""
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
