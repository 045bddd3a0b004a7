"""Train the ISA-VAE and score it: `python examples/isa_vae/train.py [--help]`."""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Idle threads must sleep: spinning makes training about twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from config import Config, UsageError, parse
from data.pictures import Pictures, as_pixels
from data.sources import load_data
from metrics import ScoringError
from models import Discriminator, exponents, make_prior
from objectives import Terms, discriminator_loss, elbo, factorvae, tcvae
from running import checkpoint
from running.checkpoint import State, make_vae
from running.folders import run_folder, start, with_resume_hint
from running.outputs import finish
from running.process import (
    DIVERGED,
    StoppedError,
    StopRequest,
    TensorBoardLog,
    exit_status,
    keep_freed_memory,
)

LOG_EVERY = 50  # steps between records of the terms; each record synchronises with the device
DISCRIMINATOR_ADAM = {"lr": 1e-4, "betas": (0.5, 0.9)}  # Kim and Mnih 2018


def make_state(config: Config, channels: int) -> State:
    """Create the models and optimisers; they depend on the settings alone."""
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
    """Return the image order of an epoch, computed from the seed so that nothing is stored."""
    seed = int(np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0])
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order.to(config.device)


def lr_factor(step: int, steps: int, config: Config) -> float:
    """Return the learning-rate factor: 1, then linear decay to zero at the end."""
    return min(1.0, (steps - step) / max(1.0, config.decay * steps))


def objective(x: Tensor, state: State, config: Config, total: int) -> tuple[Terms, Tensor | None]:
    """Compute the terms of the configured objective, and z for FactorVAE's discriminator."""
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
    state: State, config: Config, packed: Tensor, rows: Tensor, next_rows: Tensor, pixels: int
) -> Terms:
    """Take one step on the images `rows`; FactorVAE's discriminator also uses `next_rows`."""
    terms, z = objective(as_pixels(packed[rows], pixels), state, config, len(packed))
    state.optimiser.zero_grad()
    (-terms["objective"]).backward()
    state.optimiser.step()
    if state.discriminator is None or state.discriminator_optimiser is None or z is None:
        return terms
    with torch.no_grad():
        unrelated = state.vae.encoder(as_pixels(packed[next_rows], pixels)).sample()
    loss = discriminator_loss(state.discriminator, z, unrelated)
    state.discriminator_optimiser.zero_grad()
    loss.backward()
    state.discriminator_optimiser.step()
    return terms | {"discriminator_loss": loss}


def record(state: State, folder: Path) -> dict[str, float]:
    """Append the means of the terms since the last record to the history."""
    line = {name: value.item() / LOG_EVERY for name, value in state.running.items()}
    check_finite(line["objective"], state, folder)
    state.running.clear()
    state.history.append({"step": state.step, **line, **exponents(state.prior())})
    return state.history[-1]


def check_finite(value: float, state: State, folder: Path) -> None:
    """Stop training before a NaN is written to a checkpoint."""
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
    report_progress: Callable[[int], None] | None = None,
) -> None:
    """Run the training loop; the result does not depend on interruptions.

    Shows a progress bar, unless `report_progress` is there to receive the number of steps done.
    """
    total, steps = len(packed), config.num_steps(len(packed))
    per_epoch = total // config.batch_size  # drops the last, incomplete batch of an epoch
    order = permutation(state.step // per_epoch, total, config)
    began = saved = time.monotonic()
    before = state.seconds
    hidden = report_progress is not None
    bar = tqdm(total=steps, initial=state.step, desc="training", unit="step", disable=hidden)
    board = TensorBoardLog(folder, state.step, config.tensorboard)
    with StopRequest() as stop, bar, board:
        while state.step < steps:
            epoch, batch = divmod(state.step, per_epoch)
            if batch == 0:
                order = permutation(epoch, total, config)
            rows, next_rows = (
                order[start : start + config.batch_size]
                for start in (
                    batch * config.batch_size,
                    (batch + 1) % per_epoch * config.batch_size,
                )
            )
            for group in state.optimiser.param_groups:
                group["lr"] = group["full_rate"] * lr_factor(state.step, steps, config)
            terms = update(state, config, packed, rows, next_rows, pixels)

            state.step += 1
            state.seconds = before + time.monotonic() - began
            for name, value in terms.items():
                state.running[name] = state.running.get(name, 0.0) + value.detach()
            bar.update()
            if state.step % LOG_EVERY == 0:
                line = record(state, folder)
                board.add(line)
                if report_progress:
                    report_progress(state.step)
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
    saved: dict[str, Any] | None = None,
    report_progress: Callable[[int], None] | None = None,
) -> State:
    """Train from the start, or from a saved checkpoint, to the last step."""
    if config.batch_size > len(pictures):
        raise UsageError(f"--batch-size {config.batch_size} is more than {len(pictures)} images")
    data = pictures.fingerprint()
    state = make_state(config, pictures.shape[0])
    if saved is not None:
        checkpoint.restore(state, saved, config, data)
    else:
        start(config, folder)
        checkpoint.save(state, config, data, folder)
    train(config, state, packed, pictures.pixels, folder, data, report_progress)
    return state


def run(argv: Sequence[str]) -> None:
    """Parse the flags, train, score and draw the figures."""
    config, saved = parse(argv), None
    with run_folder(config) as folder:
        if config.resume:
            saved = checkpoint.read_checkpoint(folder)
            config = parse(argv, saved=Config.from_json(saved["config"]))
        pictures = load_data(config)
        packed = torch.from_numpy(pictures.packed).to(config.device)
        try:
            state = fit(config, pictures, packed, folder, saved)
            finish(config, state, packed, pictures, folder)
        except ScoringError as error:
            raise StoppedError(f"the model cannot be scored: {error}", DIVERGED) from error
        except (KeyboardInterrupt, StoppedError, OSError) as stop:
            raise with_resume_hint(stop, folder) from None


def main(argv: Sequence[str]) -> int:
    """Return the exit status: 0 success, 1 diverged, 2 usage error, 130 Ctrl-C."""
    keep_freed_memory()
    return exit_status(lambda: run_or_stop(argv), "stopped; nothing was written")


def run_or_stop(argv: Sequence[str]) -> int:
    """Run, and report a training that stopped or diverged with its own exit status."""
    try:
        run(argv)
    except StoppedError as stop:
        print(stop, file=sys.stderr)
        return stop.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
