"""Checkpoints that survive a kill: written whole or not at all, read as plain data."""

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from config import Config, UsageError
from models import VAE
from torch.optim import Optimizer

FORMAT = 1
CHECKPOINT = "checkpoint.pt"  # everything that training needs to go on
MODEL = "model.pt"  # the weights alone
CONFIG = "config.json"


@dataclass
class State:
    """All that changes in training, but for the random number generators, which torch holds."""

    vae: VAE
    optimiser: Optimizer
    step: int = 0
    seconds: float = 0.0


def save(state: State, config: Config, fingerprint: str, folder: Path) -> None:
    """Write the checkpoint of a run."""
    device = torch.device(config.device)
    content = {
        "format": FORMAT,
        "config": config.to_json(),
        "data": fingerprint,
        "step": state.step,
        "seconds": state.seconds,
        "vae": state.vae.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }
    write_whole(content, folder / CHECKPOINT)


def restore(state: State, content: dict[str, Any], config: Config, fingerprint: str) -> None:
    """Put a checkpoint's content back, if it belongs to these data."""
    if content["data"] != fingerprint:
        raise UsageError("--resume: the images are not those that the run began with; see --data")
    state.vae.load_state_dict(content["vae"])
    state.optimiser.load_state_dict(content["optimiser"])
    state.step, state.seconds = content["step"], content["seconds"]
    torch.set_rng_state(content["rng"])
    if content["cuda_rng"] is not None:
        torch.cuda.set_rng_state(content["cuda_rng"], torch.device(config.device))


def write_whole(value: object, path: Path) -> None:
    """torch.save by way of a temporary file, so that `path` is a complete one at every moment."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Content of a run's checkpoint, or a UsageError if it is missing, cut short or damaged."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise UsageError(f"--resume: {path} does not exist, so there is nothing to resume")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load need not look at the checksums
        if damaged is not None:
            raise ValueError(f"bad CRC-32 in {damaged}")
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise ValueError(f"its format is {found}, not {FORMAT}")
    except Exception as error:  # whatever a damaged file does to the readers
        raise UsageError(
            f"--resume: {path} is not a complete checkpoint ({error}); it was left as it is"
        ) from error
    return content


def load_model(folder: Path) -> tuple[Config, VAE]:
    """A finished run's settings and model, from its config.json and model.pt."""
    config = Config.from_json(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    vae = VAE(config.latents, config.hidden, config.activation)
    vae.load_state_dict(torch.load(folder / MODEL, map_location="cpu", weights_only=True))
    return config, vae
