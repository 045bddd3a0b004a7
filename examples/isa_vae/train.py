"""Train the ISA-VAE on dSprites and score it: `python examples/isa_vae/train.py [--help]`."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# Waiting threads sleep: spinning ones make training some twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import checkpoint
import numpy as np
import torch
from checkpoint import State
from config import Config, UsageError, parse
from data import Pictures, default_cache, draw_dsprites, load_dsprites_npz, unpack
from interrupt import StopRequest
from memory import keep_freed_memory
from models import VAE
from objectives import elbo
from report import finish, start
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from tqdm import tqdm

from lpnested import ISA

LOOK = 50  # steps between two looks at the loss, each of which waits for the device


class StoppedError(Exception):
    """The end of a run before its last step, with the exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def make_prior(config: Config) -> Distribution:
    """p(z), on the device of the run; both kinds have event shape (latents,)."""
    device = torch.device(config.device)
    unit = config.scale == "unit-variance"
    if config.prior == "normal":
        loc = torch.zeros(config.latents, device=device)
        scale = torch.full_like(loc, 1.0 if unit else float(config.scale))
        return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)
    p0, p = torch.tensor(config.p0, device=device), torch.tensor(config.p, device=device)
    if unit:
        return ISA.unit_variance(config.sizes, p0, p, validate_args=False)
    scale = torch.tensor(float(config.scale), device=device)
    return ISA(config.sizes, p0, p, scale=scale, validate_args=False)


def load_data(config: Config) -> Pictures:
    """The real set where a file is given, else the drawn one."""
    if config.data is None:
        return draw_dsprites(config.cache or default_cache(), progress=True)
    try:
        return load_dsprites_npz(config.data, progress=True)
    except (ValueError, OSError) as error:
        raise UsageError(f"--data: {error}") from error


def permutation(epoch: int, total: int, config: Config) -> Tensor:
    """Order of the images in an epoch: a function of seed and epoch, so nothing is stored."""
    seed = int(np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0])
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order.to(config.device)


def learning_rate(step: int, steps: int, config: Config) -> float:
    """Constant, then linear to zero over the last part."""
    left = (steps - step) / max(1.0, config.decay * steps)
    return config.learning_rate * min(1.0, left)


def check_finite(loss: Tensor, state: State, folder: Path) -> None:
    """Stop before a NaN gets into a checkpoint."""
    if loss.isfinite() and all(w.isfinite().all() for w in state.vae.parameters()):
        return
    raise StoppedError(
        f"the loss is no longer finite near step {state.step}; the last good checkpoint is "
        f"{folder / checkpoint.CHECKPOINT}. Try a smaller --learning-rate.",
        status=1,
    )


def train(
    config: Config, state: State, prior: Distribution, packed: Tensor, folder: Path, data: str
) -> None:
    """The loop; what it makes of `state` depends on config and data, not on interruptions."""
    vae, optimiser = state.vae, state.optimiser
    total, steps = len(packed), config.num_steps(len(packed))
    per_epoch = total // config.batch_size  # the last images of a permutation are left out
    order = permutation(state.step // per_epoch, total, config)
    running = torch.zeros((), device=packed.device)
    began = saved = time.monotonic()
    before = state.seconds
    bar = tqdm(total=steps, initial=state.step, desc="training", unit="step")
    with StopRequest() as stop, bar:
        while state.step < steps:
            epoch, batch = divmod(state.step, per_epoch)
            if batch == 0:
                order = permutation(epoch, total, config)
            rows = order[batch * config.batch_size : (batch + 1) * config.batch_size]
            optimiser.param_groups[0]["lr"] = learning_rate(state.step, steps, config)

            loss = -elbo(unpack(packed[rows]), vae, prior, config.beta).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

            state.step += 1
            state.seconds = before + time.monotonic() - began
            running += loss.detach()
            bar.update()
            if state.step % LOOK == 0:
                check_finite(running, state, folder)
                bar.set_postfix(elbo=f"{-running.item() / LOOK:.1f}")
                running.zero_()
            due = time.monotonic() - saved >= config.checkpoint_seconds
            if due or stop.signal is not None or state.step == steps:
                check_finite(running, state, folder)
                checkpoint.save(state, config, data, folder)
                saved = time.monotonic()
            if stop.signal is not None:
                raise StoppedError(f"stopped after step {state.step}", status=128 + stop.signal)


def run_folder(config: Config) -> Path:
    """The folder of the run: to be resumed, or a new one that holds nothing yet."""
    folder = config.out or Path("runs") / config.run_name
    if config.out is not None or config.resume:
        if (
            not config.resume
            and folder.exists()
            and (not folder.is_dir() or any(folder.iterdir()))
        ):
            raise UsageError(f"--out: {folder} is not empty; add --resume to continue that run")
        return folder
    count = 1
    while folder.exists():
        count += 1
        folder = Path("runs") / f"{config.run_name}-{count}"
    return folder


def run(argv: Sequence[str]) -> None:
    """Everything, from flags to figures."""
    config = parse(argv)
    folder, content = run_folder(config), None
    if config.resume:
        content = checkpoint.read_checkpoint(folder)
        config = parse(argv, saved=Config.from_json(content["config"]))
    sprites = load_data(config)
    if config.batch_size > len(sprites):
        raise UsageError(f"--batch-size {config.batch_size} is more than {len(sprites)} images")
    data = sprites.fingerprint()

    torch.manual_seed(config.seed)
    vae = VAE(config.latents, config.hidden, config.activation).to(config.device)
    state = State(vae, torch.optim.Adam(vae.parameters(), config.learning_rate, fused=True))
    prior = make_prior(config)
    packed = torch.from_numpy(sprites.packed).to(config.device)
    if content is not None:
        checkpoint.restore(state, content, config, data)
    else:
        start(config, folder)
        checkpoint.save(state, config, data, folder)
    try:
        train(config, state, prior, packed, folder, data)
        finish(config, state, prior, packed, sprites, folder)
    except (KeyboardInterrupt, StoppedError) as stop:
        if isinstance(stop, StoppedError) and stop.status == 1:
            raise
        status = stop.status if isinstance(stop, StoppedError) else 130
        command = f"python {sys.argv[0]} --resume --out {folder}"
        raise StoppedError(f"{stop or 'stopped'}; to continue:\n  {command}", status) from None


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 diverged, 2 wrong use, 130 Ctrl-C."""
    keep_freed_memory()
    try:
        run(argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StoppedError as stop:
        print(stop, file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
