"""Checkpoints that survive a kill: written whole or not at all, read as plain data."""

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from config import Config, UsageError
from models import VAE
from torch import Tensor, nn
from torch.optim import Optimizer
from usage import reason

from running.files import write_whole

FORMAT = 2
CHECKPOINT = "checkpoint.pt"  # everything that training needs to go on
MODEL = "model.pt"  # the weights alone
PRIOR = "prior.pt"  # its parameters, where they are learned
CONFIG = "config.json"


@dataclass
class State:
    """All that changes in training, but for the random number generators, which torch holds."""

    vae: VAE
    prior: nn.Module  # returns p(z) when called
    optimiser: Optimizer
    discriminator: nn.Module | None = None
    discriminator_optimiser: Optimizer | None = None
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)  # means over some steps each
    running: dict[str, Tensor] = field(default_factory=dict)  # sums of the terms since then

    def parts(self) -> dict[str, nn.Module | Optimizer]:
        """What has a state dict, by name."""
        names = ("vae", "prior", "optimiser", "discriminator", "discriminator_optimiser")
        found = {name: getattr(self, name) for name in names}
        return {name: part for name, part in found.items() if part is not None}

    def parameters(self) -> list[Tensor]:
        """All that is learned."""
        modules = [part for part in self.parts().values() if isinstance(part, nn.Module)]
        return [weight for module in modules for weight in module.parameters()]


def save(state: State, config: Config, fingerprint: str, folder: Path) -> None:
    """Write the checkpoint of a run."""
    device = torch.device(config.device)
    content = {
        "format": FORMAT,
        "config": config.to_json(),
        "data": fingerprint,
        "step": state.step,
        "seconds": state.seconds,
        "history": state.history,
        "running": state.running,
        "parts": {name: part.state_dict() for name, part in state.parts().items()},
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }
    save_whole(content, folder / CHECKPOINT)


def restore(state: State, content: dict[str, Any], config: Config, fingerprint: str) -> None:
    """Put a checkpoint's content back, if it belongs to these data."""
    if content["data"] != fingerprint:
        raise UsageError("--resume: the images are not those that the run began with; see --data")
    for name, part in state.parts().items():
        part.load_state_dict(content["parts"][name])
    state.step, state.seconds = content["step"], content["seconds"]
    state.history = content["history"]
    state.running = {name: value.to(config.device) for name, value in content["running"].items()}
    torch.set_rng_state(content["rng"])
    if content["cuda_rng"] is not None and torch.device(config.device).type == "cuda":
        torch.cuda.set_rng_state(content["cuda_rng"], torch.device(config.device))


def save_whole(value: object, path: Path) -> None:
    """torch.save, so that `path` is a complete file at every moment."""
    content = io.BytesIO()
    torch.save(value, content)
    write_whole(content.getvalue(), path)


def require_checkpoint(folder: Path) -> Path:
    """The file of a run's checkpoint, or a UsageError if there is none."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise UsageError(f"--resume: {path} does not exist, so there is nothing to resume")
    return path


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Content of a run's checkpoint, or a UsageError if it is missing, cut short or damaged."""
    path = require_checkpoint(folder)
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
        why = reason(error)
        raise UsageError(f"--resume: {path} is not a complete checkpoint ({why})") from error
    return content


def make_vae(config: Config, channels: int) -> VAE:
    """The untrained model of a run."""
    return VAE(config.latents, config.hidden, config.activation, config.model, channels)


def save_model(state: State, folder: Path) -> None:
    """Write the weights of a run, and its prior if that was learned."""
    save_whole(on_cpu(state.vae), folder / MODEL)
    if list(state.prior.parameters()):
        save_whole(on_cpu(state.prior), folder / PRIOR)


def on_cpu(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a module for any machine."""
    return {name: value.cpu() for name, value in module.state_dict().items()}


def load_model(folder: Path) -> tuple[Config, VAE]:
    """A finished run's settings and model, from its config.json and model.pt."""
    config = Config.from_json(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    vae = make_vae(config, channels=3 if config.data_set == "cars3d" else 1)
    vae.load_state_dict(torch.load(folder / MODEL, map_location="cpu", weights_only=True))
    return config, vae.eval()
