"""Train the ISA-VAE and score it: `python examples/isa_vae/train.py [--help]`."""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Waiting threads sleep: spinning ones make training some twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from config import Config, UsageError, parse
from data.pictures import Pictures, as_pixels
from data.sources import load_data
from metrics import ScoringError
from models import Discriminator, exponents, make_prior
from objectives import Terms, discriminator_loss, elbo, factorvae, tcvae
from running import checkpoint
from running.checkpoint import State, make_vae
from running.folders import can_go_on, run_folder, start
from running.outputs import finish
from running.process import (
    DIVERGED,
    Board,
    StoppedError,
    StopRequest,
    exit_status,
    keep_freed_memory,
)
from torch import Tensor
from tqdm import tqdm

LOOK = 50  # steps between two looks at the terms, each of which waits for the device
DISCRIMINATOR_ADAM = {"lr": 1e-4, "betas": (0.5, 0.9)}  # Kim and Mnih 2018


def make_state(config: Config, channels: int) -> State:
    """Models and optimisers before the first step: a function of the settings."""
    torch.manual_seed(config.seed)
    vae = make_vae(config, channels).to(config.device)
    prior = make_prior(config)
    groups: list[dict[str, Any]] = [{"params": vae.parameters(), "lr": config.learning_rate}]
    if config.learn_exponents:
        groups.append({"params": prior.parameters(), "lr": config.exponent_rate})
    for group in groups:
        group["full_rate"] = group["lr"]
    state = State(vae, prior, torch.optim.Adam(groups, fused=True))
    if config.objective == "factorvae":
        state.discriminator = Discriminator(config.latents).to(config.device)
        state.discriminator_optimiser = torch.optim.Adam(
            state.discriminator.parameters(), **DISCRIMINATOR_ADAM, fused=True
        )
    return state


def permutation(epoch: int, total: int, config: Config) -> Tensor:
    """Order of the images in an epoch: a function of seed and epoch, so nothing is stored."""
    seed = int(np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0])
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order.to(config.device)


def decayed(step: int, steps: int, config: Config) -> float:
    """Factor of the learning rates: 1, then linear to zero over the last part."""
    return min(1.0, (steps - step) / max(1.0, config.decay * steps))


def objective(x: Tensor, state: State, config: Config, total: int) -> tuple[Terms, Tensor | None]:
    """The terms that the settings ask for, and what the discriminator is to learn from."""
    vae, prior = state.vae, state.prior()
    if config.objective == "vae":
        return elbo(x, vae, prior, config.beta, config.kl), None
    if state.discriminator is not None:
        return factorvae(x, vae, prior, config.beta, state.discriminator)
    return tcvae(
        x,
        vae,
        prior,
        config.beta,
        total,
        config.sizes,
        tc=config.tc,
        estimator=config.estimator,
        alpha=config.alpha,
        gamma=config.gamma,
    ), None


def update(
    state: State, config: Config, packed: Tensor, rows: Tensor, following: Tensor, pixels: int
) -> Terms:
    """One step on the pictures `rows`; FactorVAE's discriminator looks at the next ones too."""
    terms, z = objective(as_pixels(packed[rows], pixels), state, config, len(packed))
    state.optimiser.zero_grad()
    (-terms["objective"]).backward()
    state.optimiser.step()
    if state.discriminator is None or state.discriminator_optimiser is None or z is None:
        return terms
    with torch.no_grad():
        unrelated = state.vae.encoder(as_pixels(packed[following], pixels)).sample()
    loss = discriminator_loss(state.discriminator, z, unrelated)
    state.discriminator_optimiser.zero_grad()
    loss.backward()
    state.discriminator_optimiser.step()
    return terms | {"discriminator_loss": loss}


def record(state: State, folder: Path) -> dict[str, float]:
    """Add the means of the terms since the last record to the history."""
    line = {name: value.item() / LOOK for name, value in state.running.items()}
    check_finite(line["objective"], state, folder)
    state.running.clear()
    state.history.append({"step": state.step, **line, **exponents(state.prior())})
    return state.history[-1]


def check_finite(value: float, state: State, folder: Path) -> None:
    """Stop before a NaN gets into a checkpoint."""
    if math.isfinite(value) and all(weight.isfinite().all() for weight in state.parameters()):
        return
    raise StoppedError(
        f"the loss is no longer finite near step {state.step}; the last good checkpoint is "
        f"{folder / checkpoint.CHECKPOINT}. Try a smaller --learning-rate.",
        status=DIVERGED,
    )


def train(
    config: Config,
    state: State,
    packed: Tensor,
    pixels: int,
    folder: Path,
    data: str,
    tell: Callable[[int], None] | None = None,
) -> None:
    """The loop; what it makes of `state` depends on config and data, not on interruptions.

    Shows a bar, unless there is somebody to `tell` the number of steps done.
    """
    total, steps = len(packed), config.num_steps(len(packed))
    per_epoch = total // config.batch_size  # the last images of a permutation are left out
    order = permutation(state.step // per_epoch, total, config)
    began = saved = time.monotonic()
    before = state.seconds
    bar = tqdm(total=steps, initial=state.step, desc="training", unit="step", disable=bool(tell))
    with StopRequest() as stop, bar, Board(folder, state.step, config.tensorboard) as board:
        while state.step < steps:
            epoch, batch = divmod(state.step, per_epoch)
            if batch == 0:
                order = permutation(epoch, total, config)
            rows, following = (
                order[start : start + config.batch_size]
                for start in (
                    batch * config.batch_size,
                    (batch + 1) % per_epoch * config.batch_size,
                )
            )
            for group in state.optimiser.param_groups:
                group["lr"] = group["full_rate"] * decayed(state.step, steps, config)
            terms = update(state, config, packed, rows, following, pixels)

            state.step += 1
            state.seconds = before + time.monotonic() - began
            for name, value in terms.items():
                state.running[name] = state.running.get(name, 0.0) + value.detach()
            bar.update()
            if state.step % LOOK == 0:
                line = record(state, folder)
                board.add(line)
                if tell:
                    tell(state.step)
                bar.set_postfix(objective=f"{line['objective']:.1f}")
            due = time.monotonic() - saved >= config.checkpoint_seconds
            if due or stop.signal is not None or state.step == steps:
                check_finite(terms["objective"].item(), state, folder)
                checkpoint.save(state, config, data, folder)
                saved = time.monotonic()
            if stop.signal is not None:
                raise StoppedError(f"stopped after step {state.step}", status=128 + stop.signal)


def fit(
    config: Config,
    pictures: Pictures,
    packed: Tensor,
    folder: Path,
    content: dict[str, Any] | None = None,
    tell: Callable[[int], None] | None = None,
) -> State:
    """Train from the first step, or from the content of a checkpoint, to the last."""
    if config.batch_size > len(pictures):
        raise UsageError(f"--batch-size {config.batch_size} is more than {len(pictures)} images")
    data = pictures.fingerprint()
    state = make_state(config, pictures.shape[0])
    if content is not None:
        checkpoint.restore(state, content, config, data)
    else:
        start(config, folder)
        checkpoint.save(state, config, data, folder)
    train(config, state, packed, pictures.pixels, folder, data, tell)
    return state


def run(argv: Sequence[str]) -> None:
    """Everything, from flags to figures."""
    config, content = parse(argv), None
    with run_folder(config) as folder:
        if config.resume:
            content = checkpoint.read_checkpoint(folder)
            config = parse(argv, saved=Config.from_json(content["config"]))
        pictures = load_data(config)
        packed = torch.from_numpy(pictures.packed).to(config.device)
        try:
            state = fit(config, pictures, packed, folder, content)
            finish(config, state, packed, pictures, folder)
        except ScoringError as error:
            raise StoppedError(f"the model cannot be scored: {error}", DIVERGED) from error
        except (KeyboardInterrupt, StoppedError, OSError) as stop:
            raise can_go_on(stop, folder) from None


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 diverged, 2 wrong use, 130 Ctrl-C."""
    keep_freed_memory()
    return exit_status(lambda: run_or_stop(argv), "stopped; nothing was written")


def run_or_stop(argv: Sequence[str]) -> int:
    """Run; a training that was stopped or diverged says so, and has its own status."""
    try:
        run(argv)
    except StoppedError as stop:
        print(stop, file=sys.stderr)
        return stop.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
