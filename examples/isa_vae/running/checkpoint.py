"""Atomic checkpoints: written completely or not at all, and read as plain data."""

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from config import Config, UsageError
from models import VAE
from running.files import write_atomic
from usage import reason

FORMAT = 2
CHECKPOINT = "checkpoint.pt"  # everything needed to resume training
MODEL = "model.pt"  # weights of the model
PRIOR = "prior.pt"  # parameters of a learned prior
CONFIG = "config.json"


@dataclass
class State:
    """Everything that changes in training, except the random number generators held by torch."""

    vae: VAE
    prior: nn.Module  # returns p(z) when called
    optimiser: Optimizer
    discriminator: nn.Module | None = None
    discriminator_optimiser: Optimizer | None = None
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)  # means over a few steps each
    running: dict[str, Tensor] = field(default_factory=dict)  # sums of terms since the last record

    def parts(self) -> dict[str, nn.Module | Optimizer]:
        """Everything with a state dict, by name."""
        names = ("vae", "prior", "optimiser", "discriminator", "discriminator_optimiser")
        found = {name: getattr(self, name) for name in names}
        return {name: part for name, part in found.items() if part is not None}

    def parameters(self) -> list[Tensor]:
        """All learned parameters."""
        modules = [part for part in self.parts().values() if isinstance(part, nn.Module)]
        return [weight for module in modules for weight in module.parameters()]


def save(state: State, config: Config, fingerprint: str, folder: Path) -> None:
    """Save the checkpoint of a run."""
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
    save_atomic(content, folder / CHECKPOINT)


def restore(state: State, content: dict[str, Any], config: Config, fingerprint: str) -> None:
    """Restore the state from a checkpoint's content, if it belongs to the same data."""
    if content["data"] != fingerprint:
        raise UsageError("--resume: the images differ from those the run started with; see --data")
    for name, part in state.parts().items():
        part.load_state_dict(content["parts"][name])
    state.step, state.seconds = content["step"], content["seconds"]
    state.history = content["history"]
    state.running = {name: value.to(config.device) for name, value in content["running"].items()}
    torch.set_rng_state(content["rng"])
    if content["cuda_rng"] is not None and torch.device(config.device).type == "cuda":
        torch.cuda.set_rng_state(content["cuda_rng"], torch.device(config.device))


def save_atomic(value: object, path: Path) -> None:
    """Like torch.save, but `path` is a complete file at all times."""
    content = io.BytesIO()
    torch.save(value, content)
    write_atomic(content.getvalue(), path)


def require_checkpoint(folder: Path) -> Path:
    """Return the path of a run's checkpoint, or raise a UsageError if there is none."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise UsageError(f"--resume: {path} does not exist, so there is nothing to resume")
    return path


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Read a run's checkpoint, or raise a UsageError if it is missing, truncated or damaged."""
    path = require_checkpoint(folder)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load may not verify the checksums
        if damaged is not None:
            raise ValueError(f"bad CRC-32 in {damaged}")
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise ValueError(f"its format is {found}, not {FORMAT}")
    except Exception as error:  # a damaged file can make the readers raise anything
        why = reason(error)
        raise UsageError(f"--resume: {path} is not a complete checkpoint ({why})") from error
    return content


def make_vae(config: Config, channels: int) -> VAE:
    """Create the untrained model of a run."""
    return VAE(config.latents, config.hidden, config.activation, config.model, channels)


def save_model(state: State, folder: Path) -> None:
    """Save the weights of a run, and its prior if that was learned."""
    save_atomic(cpu_state_dict(state.vae), folder / MODEL)
    if list(state.prior.parameters()):
        save_atomic(cpu_state_dict(state.prior), folder / PRIOR)


def cpu_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """State dict of a module with all tensors on the CPU."""
    return {name: value.cpu() for name, value in module.state_dict().items()}


def load_model(folder: Path) -> tuple[Config, VAE]:
    """Load a finished run's settings and model from its config.json and model.pt."""
    config = Config.from_json(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    vae = make_vae(config, channels=3 if config.data_set == "cars3d" else 1)
    vae.load_state_dict(torch.load(folder / MODEL, map_location="cpu", weights_only=True))
    return config, vae.eval()
