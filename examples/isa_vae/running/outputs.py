"""Outputs of a run: model.pt, metrics.json, three figures, and a printed summary."""

import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from config import Config
from data.pictures import Pictures
from models import exponents
from running import checkpoint
from running.checkpoint import State
from running.files import versions, write_json
from running.panels import reconstructions, training_curve, traversal
from running.scoring import choose_rows, evaluate
from running.typical import typical

METRICS = "metrics.json"
MIDDLE = {"dsprites": (0, 2, 3, 0, 16, 16)}  # a centred heart, where the traversal starts


def finish(
    config: Config, state: State, packed: Tensor, pictures: Pictures, folder: Path
) -> dict[str, Any]:
    """Score the model, write all outputs, and print the summary."""
    vae, prior = state.vae.eval(), state.prior()
    checkpoint.save_model(state, folder)
    metrics = score(config, state, packed, pictures)
    write_json(metrics, folder / METRICS)
    label = label_of(pictures)
    path = folder / "reconstructions.png"
    reconstructions(vae, packed, pictures.shape, config.seed, path, label)
    row = middle_row(config, pictures)
    variance = metrics["scores"]["posterior_mean_variance"]
    stddev = prior.variance.detach().sqrt()
    path = folder / "traversal.png"
    sizes = config.sizes if config.prior == "isa" else None
    traversal(vae, packed, pictures.shape, row, variance, stddev, path, label, sizes)
    training_curve(state.history, folder / "training.png", label)
    print(summary(metrics, folder), typical(config), next_steps(folder), sep="\n", flush=True)
    return metrics


def label_of(pictures: Pictures) -> str:
    """Heading that marks figures of stand-in data; empty otherwise."""
    return f"STAND-IN DATA: {pictures.source}\n" if "stand-in" in pictures.source else ""


def middle_row(config: Config, pictures: Pictures) -> int:
    """Row of the image nearest to the middle of all factors."""
    middle = MIDDLE.get(config.data_set, pictures.classes.max(0) // 2)
    return int(np.abs(pictures.classes - np.array(middle)).sum(1).argmin())


def score(
    config: Config, state: State, packed: Tensor, pictures: Pictures, progress: bool = True
) -> dict[str, Any]:
    """Score a trained model; the result also records what exactly was scored."""
    vae, prior, began = state.vae.eval(), state.prior(), time.monotonic()
    rows = choose_rows(len(pictures), config.eval_images, config.seed)
    more = further_scores(config, pictures)
    scores = evaluate(vae, prior, packed, pictures, rows, config.seed, progress, more)
    return {
        "config": config.to_json(),
        "images": {"source": pictures.source, "count": len(pictures)},
        "evaluated": {
            "rows": "all" if len(rows) == len(pictures) else "random subset",
            "count": len(rows),
        },
        "steps": state.step,
        "scores": scores,
        "exponents": exponents(prior),
        "history": state.history,
        "versions": versions(),
        "seconds": {"training": state.seconds, "scoring": time.monotonic() - began},
    }


def further_scores(
    config: Config, pictures: Pictures
) -> Callable[[Tensor, Tensor, Tensor], dict[str, float | None]] | None:
    """The metrics that --scores adds to the MIG; None if there are none."""
    if config.scores == "mig":
        return None
    from metrics import all_scores

    whole = config.eval_images is None or config.eval_images >= len(pictures)

    return partial(
        all_scores,
        factors=pictures.factors,
        mig_factors=pictures.mig_factors,
        sizes=config.sizes,
        seed=config.seed,
        heavy=config.scores == "all",
        whole=whole,
    )


def summary(metrics: dict[str, Any], folder: Path, files: bool = True) -> str:
    """Format the scores as a few lines of text, with the files that a training wrote."""
    scores, config, images = metrics["scores"], metrics["config"], metrics["images"]
    rendered = images["source"] == "drawn" or images["source"].startswith("stand-in")
    source = images["source"] if rendered else f"read from {images['source']}"
    whole = metrics["evaluated"]["rows"] == "all"
    rows = (
        f"all {images['count']:,}"
        if whole
        else (f"A RANDOM SUBSET of {metrics['evaluated']['count']:,} of {images['count']:,}")
    )
    sizes = "x".join(map(str, config["sizes"]))
    exponents = "".join(f", {name} {value:.3g}" for name, value in metrics["exponents"].items())
    objective = "" if config["objective"] == "vae" else f"{config['objective']}, "
    more = "".join(f"  {name:<34} {text(value)}\n" for name, value in scores["more"].items())
    analytic = "" if scores["kl_analytic"] is None else f", {scores['kl_analytic']:.3f} analytic"
    gaps = "   ".join(f"{k} {text(v)}" for k, v in scores["mig_per_factor"].items())
    widened = scores.get("widened_share")
    bound = f"  (a lower bound: {widened:.1%} of posteriors were too narrow)" if widened else ""
    seconds = metrics["seconds"]
    trained = f"{seconds['training']:.0f} s" if seconds["training"] else "untimed"
    return f"""
{objective}{config["prior"]} prior, subspaces {sizes}{exponents}, beta {config["beta"]}, \
seed {config["seed"]}
Scored on {rows} images ({source})

  MIG                 {text(scores["mig"])}{bound}
    per factor        {gaps}
  log p(x|z)          {text(scores["log_likelihood"], 2)} nats per image
  KL(q(z|x) || p(z))  {text(scores["kl_monte_carlo"])} nats (Monte Carlo, standard error \
{text(scores["kl_monte_carlo_standard_error"])}){analytic}
  active units        {scores["active_units"]} of {sum(config["sizes"])}
{more}  time                {trained} training ({metrics["steps"]} steps), \
{seconds["scoring"]:.0f} s scoring
{written(folder) if files else ""}"""


def written(folder: Path) -> str:
    """List the files of a run."""
    return f"""
Written to {folder}:
  {METRICS}          all of these numbers, and the settings
  {checkpoint.MODEL}, {checkpoint.CONFIG}  the model, for evaluate.py
  {checkpoint.CHECKPOINT}         the training state, for --resume
  training.png          the terms of the objective during training
  reconstructions.png, traversal.png  reconstructed images, and the effect of each latent"""


def next_steps(folder: Path) -> str:
    """Suggest commands to run next."""
    here = Path(sys.argv[0]).parent
    return f"""
Next:
  python {here / "evaluate.py"} {shlex.quote(str(folder))} --scores light   more metrics
  python {here / "sweep.py"} smoke   a sweep: a single seed is not conclusive"""


def text(value: float | None, digits: int = 3) -> str:
    """Format a score; None is "undefined"."""
    return "undefined" if value is None else f"{value:.{digits}f}"
