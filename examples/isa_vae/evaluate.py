"""Score trained models: `python examples/isa_vae/evaluate.py --help`."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# Waiting threads sleep: spinning ones make everything slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import tyro
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
from torch import Tensor
from torch.distributions import Normal, kl_divergence

SCORES = "scores.json"
UDR_IMAGES = 2000


@dataclass(frozen=True)
class Evaluation:
    """Score models that were trained before, with every metric there is.

    A model is a folder with model.pt and config.json, as train.py leaves it and sweep.py with
    --keep-models. What is written into it is scores.json, in the form of train.py's metrics.json.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of the models."""
    scores: Literal["mig", "light", "all"] = "all"
    """Metrics beside the MIG: none; those that take seconds; or SAP and DCI as well."""
    eval_images: int | None = None
    """Score this many random images instead of all of them."""
    sampled_mig: int | None = None
    """Estimate the MIG as Chen et al. do as well, with this many samples, on as many random
    images; and by quadrature on the same ones, to compare. 2000 take seconds."""
    data: Path | None = None
    """The real files of the data set, as for train.py."""
    cache: Path | None = None
    """Folder of the drawn data sets, as for train.py."""
    udr: bool = False
    """Compare those models with one another that differ in the seed only: adds the unsupervised
    disentanglement ranking of each to its scores."""
    table: Path | None = None
    """Write all scores into this CSV as well, a line for each model."""
    device: str = "auto"
    """cpu, cuda, ...; auto: cuda where there is one."""


def seen(state: State, packed: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """What UDR compares: posterior means of some pictures, the same for every model, and the
    mean KL of each latent to a normal of the prior's variance: (N, z), (z,).
    """
    rows = choose_rows(len(packed), UDR_IMAGES, seed=0).to(packed.device)
    mean, std = encode(state.vae, packed[rows], pixels)
    marginal = Normal(torch.zeros_like(mean), state.prior().variance.detach().sqrt().cpu())
    return mean, kl_divergence(Normal(mean, std), marginal).mean(0)


def sampled(state: State, packed: Tensor, pictures: Pictures, count: int) -> dict[str, Any]:
    """The MIG by sampling and by quadrature, on the same random pictures."""
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
    """A model with what it was trained by, but for how it is to be scored."""
    config, state = load_trained(folder, evaluation.device, evaluation.data, evaluation.cache)
    config = dataclasses.replace(
        config, scores=evaluation.scores, eval_images=evaluation.eval_images
    )
    check(config)
    return config, state


def run(evaluation: Evaluation) -> None:
    """Score the models one after the other; those of one data set in a row share it."""
    folders = evaluation.folders
    require(len(folders) > 0, "folders", "one or more", "none")
    count = evaluation.sampled_mig
    require(count is None or count > 0, "sampled_mig", "a positive number", count)
    require(len(set(folders)) == len(folders), "folders", "each given once", "one twice")
    configs = {folder: load(folder, evaluation)[0] for folder in folders}  # mistakes end it here
    settings = {folder: str(dataclasses.replace(c, seed=0)) for folder, c in configs.items()}
    if evaluation.udr and len(set(settings.values())) == len(folders):
        raise UsageError("--udr: no two of the models differ in the seed only")
    loaded: dict[str, Pictures] = {}
    scored: dict[Path, dict[str, Any]] = {}
    broken: list[str] = []
    alike: dict[str, dict[Path, tuple[Tensor, Tensor]]] = {}  # models that differ in the seed
    for folder in folders:
        config, state = load(folder, evaluation)
        if config.data_set not in loaded:
            loaded = {config.data_set: load_data(config)}
        pictures = loaded[config.data_set]
        state.step = state.step or config.num_steps(len(pictures))  # a sweep keeps no count
        packed = torch.from_numpy(pictures.packed).to(config.device)
        try:
            scored[folder] = score(config, state, packed, pictures)
        except ScoringError as error:
            broken.append(f"{folder}: the model cannot be scored: {error}")
            continue
        if evaluation.sampled_mig:
            more = sampled(state, packed, pictures, evaluation.sampled_mig)
            scored[folder]["scores"]["more"] |= more
        write_json(scored[folder], folder / SCORES)
        print(summary(scored[folder], folder, files=False), flush=True)
        if evaluation.udr:
            like = alike.setdefault(settings[folder], {})
            like[folder] = seen(state, packed, pictures.pixels)
    if evaluation.udr:
        rank(alike, scored)
    written = [folder / SCORES for folder in scored]
    if evaluation.table and scored:
        lines = [line(folder, metrics) for folder, metrics in scored.items()]
        write_text(lines_as_csv(lines, ["model", "seed", "beta", "data", "mig"]), evaluation.table)
        written.append(evaluation.table)
    if written:
        print("\nWritten:", *written, sep="\n  ")
    if broken:
        raise UsageError("\n  ".join(broken))


def rank(
    alike: dict[str, dict[Path, tuple[Tensor, Tensor]]], scored: dict[Path, dict[str, Any]]
) -> None:
    """Add UDR to the scores of all models that have others to be compared with."""
    for models in (models for models in alike.values() if len(models) > 1):
        for folder, value in zip(models, udr([*models.values()]).tolist(), strict=True):
            scored[folder]["scores"]["more"]["udr_spearman"] = value
            write_json(scored[folder], folder / SCORES)
            print(f"{folder}: UDR {value:.3f} among {len(models)}")


def line(folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """The scores of a model for the table."""
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
    """Exit status: 0 done, 2 wrong use, 130 Ctrl-C."""
    keep_freed_memory()
    evaluation = tyro.cli(Evaluation, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    stopped = "stopped; the models scored so far have their scores.json"
    return exit_status(lambda: run(evaluation), stopped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
