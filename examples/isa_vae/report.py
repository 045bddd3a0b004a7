"""What a run leaves behind: config.json, model.pt, metrics.json, two figures, and a summary."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import checkpoint
import numpy as np
import torch
from checkpoint import State
from config import Config
from data import Pictures
from evaluate import choose_rows, evaluate
from panels import reconstructions, traversal
from torch import Tensor
from torch.distributions import Distribution

METRICS = "metrics.json"
TRAVERSED = (0, 2, 3, 0, 16, 16)  # a heart in the middle, or the picture most like it


def start(config: Config, folder: Path) -> None:
    """Make the folder of a new run, with its settings in it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(config.to_json(), folder / checkpoint.CONFIG)


def finish(
    config: Config,
    state: State,
    prior: Distribution,
    packed: Tensor,
    sprites: Pictures,
    folder: Path,
) -> None:
    """Score the model, write everything, and print the summary."""
    vae, began = state.vae.eval(), time.monotonic()
    weights = {key: value.cpu() for key, value in vae.state_dict().items()}
    checkpoint.write_whole(weights, folder / checkpoint.MODEL)
    rows = choose_rows(len(sprites), config.eval_images, config.seed)
    scores = evaluate(vae, prior, packed, sprites, rows, config.seed, progress=True)
    metrics = {
        "config": config.to_json(),
        "images": {"source": sprites.source, "count": len(sprites)},
        "evaluated": {
            "rows": "all" if len(rows) == len(sprites) else "random subset",
            "count": len(rows),
        },
        "steps": state.step,
        "scores": scores,
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
        "seconds": {"training": state.seconds, "scoring": time.monotonic() - began},
    }
    write_json(metrics, folder / METRICS)
    reconstructions(vae, packed, config.seed, folder / "reconstructions.png")
    row = int(np.abs(sprites.classes - np.array(TRAVERSED)).sum(1).argmin())
    variance, stddev = scores["posterior_mean_variance"], prior.variance.sqrt()
    traversal(vae, packed, row, variance, stddev, folder / "traversal.png")
    print(summary(metrics, folder), flush=True)


def write_json(values: dict[str, Any], path: Path) -> None:
    """Strict JSON (a NaN would be an error), whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def summary(metrics: dict[str, Any], folder: Path) -> str:
    """The scores as a few lines of text."""
    scores, config, images = metrics["scores"], metrics["config"], metrics["images"]
    source = "drawn" if images["source"] == "drawn" else f"read from {images['source']}"
    whole = metrics["evaluated"]["rows"] == "all"
    rows = (
        f"all {images['count']:,}"
        if whole
        else (f"A RANDOM SUBSET of {metrics['evaluated']['count']:,} of {images['count']:,}")
    )
    sizes = "x".join(map(str, config["sizes"]))
    exponents = f", p0 {config['p0']}, p {config['p']}" if config["prior"] == "isa" else ""
    analytic = "" if scores["kl_analytic"] is None else f", {scores['kl_analytic']:.3f} analytic"
    gaps = "   ".join(f"{k} {text(v)}" for k, v in scores["mig_per_factor"].items())
    seconds = metrics["seconds"]
    return f"""
{config["prior"]} prior, subspaces {sizes}{exponents}, beta {config["beta"]}, seed {config["seed"]}
Scored on {rows} images ({source})

  MIG                 {text(scores["mig"])}
    per factor        {gaps}
  log p(x|z)          {scores["log_likelihood"]:.2f} nats per image
  KL(q(z|x) || p(z))  {scores["kl_monte_carlo"]:.3f} nats (Monte Carlo, standard error \
{text(scores["kl_monte_carlo_standard_error"])}){analytic}
  active units        {scores["active_units"]} of {sum(config["sizes"])}
  time                {seconds["training"]:.0f} s training ({metrics["steps"]} steps), \
{seconds["scoring"]:.0f} s scoring

Written to {folder}:
  {METRICS}          all of these numbers, and the settings
  {checkpoint.MODEL}, {checkpoint.CONFIG}  the model, for checkpoint.load_model
  {checkpoint.CHECKPOINT}         the state of training, for --resume
  reconstructions.png, traversal.png"""


def text(value: float | None) -> str:
    """A score to three digits, or that there is none."""
    return "undefined" if value is None else f"{value:.3f}"
