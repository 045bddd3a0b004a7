"""Score trained models: `python examples/isa_vae/evaluate.py --help`."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# Idle threads must sleep: spinning makes everything slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import tyro
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from config import Config, UsageError, check, require
from data.pictures import Pictures
from data.sources import load_data
from metrics import ScoringError, disentanglement, mig_sampled, udr
from running.checkpoint import State
from running.files import lines_as_csv, write_json, write_text
from running.folders import load_trained
from running.outputs import score, summary
from running.process import exit_status, keep_freed_memory
from running.scoring import choose_rows, encode, number

SCORES = "scores.json"
UDR_IMAGES = 2000


@dataclass(frozen=True)
class Evaluation:
    """Score trained models with every available metric.

    A model is a folder with model.pt and config.json, as written by train.py and by sweep.py with
    --keep-models. The scores are written to scores.json in it, in the format of train.py's
    metrics.json.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of the models."""
    scores: Literal["mig", "light", "all"] = "all"
    """Metrics to compute: the MIG alone; light: also those that take seconds; all: also SAP and
    DCI."""
    eval_images: int | None = None
    """Score this many random images instead of all of them."""
    sampled_mig: int | None = None
    """Also estimate the MIG by sampling, as Chen et al. do, with this many samples on as many
    random images, and by quadrature on the same images for comparison. 2000 take seconds."""
    data: Path | None = None
    """Original files of the data set, as for train.py."""
    cache: Path | None = None
    """Cache folder for rendered images, as for train.py."""
    udr: bool = False
    """Compare models that differ only in their seed: adds the unsupervised disentanglement
    ranking of each to its scores."""
    table: Path | None = None
    """Also write all scores to this CSV, one line per model."""
    device: str = "auto"
    """Device: cpu, cuda, ...; auto picks cuda if available."""


def udr_inputs(state: State, packed: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Inputs of UDR: posterior means of some images, the same for every model, and the mean KL of
    each latent to a normal with the prior's variance; (N, latents) and (latents,).
    """
    rows = choose_rows(len(packed), UDR_IMAGES, seed=0).to(packed.device)
    mean, std = encode(state.vae, packed[rows], pixels)
    marginal = Normal(torch.zeros_like(mean), state.prior().variance.detach().sqrt().cpu())
    return mean, kl_divergence(Normal(mean, std), marginal).mean(0)


def compare_mig(state: State, packed: Tensor, pictures: Pictures, count: int) -> dict[str, Any]:
    """Compute the MIG by sampling and by quadrature, on the same random images."""
    rows = choose_rows(len(packed), count, seed=0)
    mean, std = encode(state.vae, packed[rows.to(packed.device)], pictures.pixels)
    columns = [pictures.factors.index(name) for name in pictures.mig_factors]
    classes = torch.from_numpy(pictures.classes)[rows][:, columns]
    names, generator = pictures.mig_factors, torch.Generator().manual_seed(0)
    found = disentanglement(mean, std, classes, names, mig_factors=names)
    return {
        f"mig_sampled_of_{len(rows)}_rows": number(
            mig_sampled(mean.double(), std.double(), classes, count, generator)
        ),
        f"mig_quadrature_of_{len(rows)}_rows": number(found.mig),
    }


def load(folder: Path, evaluation: Evaluation) -> tuple[Config, State]:
    """Load a model with its training settings, except those that concern the scores."""
    config, state = load_trained(folder, evaluation.device, evaluation.data, evaluation.cache)
    config = dataclasses.replace(
        config, scores=evaluation.scores, eval_images=evaluation.eval_images
    )
    check(config)
    return config, state


def run(evaluation: Evaluation) -> None:
    """Score the models in order; consecutive models of one data set share it."""
    folders = evaluation.folders
    require(len(folders) > 0, "folders", "one or more", "none")
    count = evaluation.sampled_mig
    require(count is None or count > 0, "sampled_mig", "a positive number", count)
    require(len(set(folders)) == len(folders), "folders", "each given once", "one twice")
    configs = {folder: load(folder, evaluation)[0] for folder in folders}  # fail early on errors
    settings = {folder: str(dataclasses.replace(c, seed=0)) for folder, c in configs.items()}
    if evaluation.udr and len(set(settings.values())) == len(folders):
        raise UsageError("--udr: no two of the models differ only in their seed")
    loaded: dict[str, Pictures] = {}
    scored: dict[Path, dict[str, Any]] = {}
    failed: list[str] = []
    groups: dict[str, dict[Path, tuple[Tensor, Tensor]]] = {}  # models that differ only by seed
    for folder in folders:
        config, state = load(folder, evaluation)
        if config.data_set not in loaded:
            loaded = {config.data_set: load_data(config)}
        pictures = loaded[config.data_set]
        state.step = state.step or config.num_steps(len(pictures))  # not recorded by sweeps
        packed = torch.from_numpy(pictures.packed).to(config.device)
        try:
            scored[folder] = score(config, state, packed, pictures)
        except ScoringError as error:
            failed.append(f"{folder}: the model cannot be scored: {error}")
            continue
        if evaluation.sampled_mig:
            more = compare_mig(state, packed, pictures, evaluation.sampled_mig)
            scored[folder]["scores"]["more"] |= more
        write_json(scored[folder], folder / SCORES)
        print(summary(scored[folder], folder, files=False), flush=True)
        if evaluation.udr:
            group = groups.setdefault(settings[folder], {})
            group[folder] = udr_inputs(state, packed, pictures.pixels)
    if evaluation.udr:
        add_udr(groups, scored)
    written = [folder / SCORES for folder in scored]
    if evaluation.table and scored:
        lines = [table_line(folder, metrics) for folder, metrics in scored.items()]
        write_text(lines_as_csv(lines, ["model", "seed", "beta", "data", "mig"]), evaluation.table)
        written.append(evaluation.table)
    if written:
        print("\nWritten:", *written, sep="\n  ")
    if failed:
        raise UsageError("\n  ".join(failed))


def add_udr(
    groups: dict[str, dict[Path, tuple[Tensor, Tensor]]], scored: dict[Path, dict[str, Any]]
) -> None:
    """Add UDR to the scores of all models in groups of two or more."""
    for models in (models for models in groups.values() if len(models) > 1):
        for folder, value in zip(models, udr([*models.values()]).tolist(), strict=True):
            scored[folder]["scores"]["more"]["udr_spearman"] = value
            write_json(scored[folder], folder / SCORES)
            print(f"{folder}: UDR {value:.3f} among {len(models)}")


def table_line(folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of a model as a line of the table."""
    scores, config = metrics["scores"], metrics["config"]
    numbers = {name: x for name, x in scores.items() if isinstance(x, int | float | None)}
    return {
        "model": folder.name,
        "seed": config["seed"],
        "beta": config["beta"],
        "data": f"{config['data_set']} ({metrics['images']['source']})",
        "evaluated": metrics["evaluated"]["count"],
        **numbers,
        **scores["more"],
    }


def main(argv: Sequence[str]) -> int:
    """Return the exit status: 0 success, 2 usage error, 130 Ctrl-C."""
    keep_freed_memory()
    evaluation = tyro.cli(Evaluation, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    stopped = "stopped; scores.json is written for the models scored so far"
    return exit_status(lambda: run(evaluation), stopped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
