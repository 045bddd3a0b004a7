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
from checkpoint import State
from config import UsageError, check, require
from data import Pictures, as_pixels
from files import write_json
from memory import keep_freed_memory
from report import score, summary
from scoring import choose_rows
from sources import load_data
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from trained import load_trained
from udr import udr

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
    data: Path | None = None
    """The real files of the data set, as for train.py."""
    cache: Path | None = None
    """Folder of the drawn data sets, as for train.py."""
    udr: bool = False
    """Compare the models with one another too, which should differ in the seed only: writes the
    unsupervised disentanglement ranking of each into its scores.json."""
    device: str = "auto"
    """cpu, cuda, ...; auto: cuda where there is one."""


@torch.no_grad()
def seen(state: State, packed: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """What UDR compares: posterior means of some pictures, the same for every model, and the
    mean KL of each latent to a normal of the prior's variance: (N, z), (z,).
    """
    rows = choose_rows(len(packed), UDR_IMAGES, seed=0).to(packed.device)
    posterior = state.vae.encoder(as_pixels(packed[rows], pixels))
    marginal = Normal(torch.zeros_like(posterior.mean), state.prior().variance.sqrt())
    return posterior.mean.cpu(), kl_divergence(posterior, marginal).mean(0).cpu()


def run(evaluation: Evaluation) -> None:
    """Score the models one after the other; models of one data set share it."""
    folders = evaluation.folders
    least = 2 if evaluation.udr else 1
    require(len(folders) >= least, "folders", f"{least} or more", f"{len(folders)}")
    require(len(set(folders)) == len(folders), "folders", "each given once", "one twice")
    loaded: dict[str, Pictures] = {}
    written: dict[Path, dict[str, Any]] = {}
    models: list[tuple[Tensor, Tensor]] = []
    for folder in folders:
        config, state = load_trained(folder, evaluation.device, evaluation.data, evaluation.cache)
        config = dataclasses.replace(
            config, scores=evaluation.scores, eval_images=evaluation.eval_images
        )
        check(config)
        if config.data_set not in loaded:
            alone = not (evaluation.udr and loaded)
            require(alone, "udr", "used for models of one data set", config.data_set)
            loaded = {config.data_set: load_data(config)}
        pictures = loaded[config.data_set]
        packed = torch.from_numpy(pictures.packed).to(config.device)
        metrics: dict[str, Any] = score(config, state, packed, pictures)
        write_json(metrics, folder / SCORES)
        written[folder / SCORES] = metrics
        print(summary(metrics, folder, files=False), flush=True)
        if evaluation.udr:
            models.append(seen(state, packed, pictures.pixels))
    if evaluation.udr:
        for (path, metrics), value in zip(written.items(), udr(models).tolist(), strict=True):
            metrics["scores"]["more"]["udr_spearman"] = value
            write_json(metrics, path)
            print(f"{path.parent}: UDR {value:.3f} among {len(models)}")
    print("\nWritten:", *written, sep="\n  ")


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 2 wrong use, 130 Ctrl-C."""
    keep_freed_memory()
    evaluation = tyro.cli(Evaluation, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    try:
        run(evaluation)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the models scored so far have their scores.json", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
