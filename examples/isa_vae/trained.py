"""A model that was trained before, with its prior, from its folder."""

import dataclasses
import json
from pathlib import Path

import checkpoint
import torch
from checkpoint import State, load_model
from config import Config, UsageError, find_device
from plain import reason
from priors import make_prior


def load_trained(
    folder: Path, device: str = "auto", data: Path | None = None, cache: Path | None = None
) -> tuple[Config, State]:
    """The settings and the last state, on a device of this machine.

    Args:
        folder: With config.json and model.pt, as train.py and sweep.py --keep-models leave it.
        device: As for train.py.
        data: The real files of its data set; must be given for a model that was trained on them.
        cache: As for train.py.
    """
    try:
        config, vae = load_model(folder)
        if config.data is not None and data is None:
            raise UsageError(f"{folder} was trained on {config.data.name}: give it by --data")
        name = str(find_device(device))
        config = dataclasses.replace(config, data=data, cache=cache, device=name)
        prior = make_prior(config)
        if config.learn_exponents:
            path = folder / checkpoint.PRIOR
            prior.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except UsageError:
        raise
    except Exception as error:  # whatever a damaged file does to the readers
        raise UsageError(
            f"{folder} is no folder of a trained model, with {checkpoint.CONFIG} and "
            f"{checkpoint.MODEL} in it: {reason(error)}"
        ) from error
    vae, prior = vae.to(config.device), prior.to(config.device)
    state = State(vae, prior, torch.optim.Adam(vae.parameters()))
    metrics = folder / "metrics.json"  # of train.py, which says how it was trained
    if metrics.is_file():
        try:
            content = json.loads(metrics.read_text(encoding="utf-8"))
            state.step, state.history = int(content["steps"]), list(content["history"])
            state.seconds = float(content["seconds"]["training"])
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{metrics} is damaged ({error!r}): move it away") from error
    return config, state
