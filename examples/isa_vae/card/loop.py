"""Training of a stack: its step, its records, and the loop over the images."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from card.stacked import Stack
from running.scoring import number
from train import LOG_EVERY, permutation


class Training:
    """A stack with its optimiser and its records, all in static memory.

    Args:
        stack: The models.
        steps: Total number of training steps.
    """

    def __init__(self, stack: Stack, steps: int) -> None:
        device = stack.packed.device
        self.stack, self.steps, self.terms = stack, steps, stack.terms
        self.optimiser = torch.optim.Adam(
            stack.parameters(),
            lr=stack.config.learning_rate,
            fused=True,
            capturable=device.type == "cuda",
        )
        with torch.no_grad():
            found = stack.terms()
        self.names = tuple(found)
        self.of_arm = [  # names of each arm's terms; others are NaN
            {name for name, value in found.items() if not value[:, arm].isnan().all()}
            for arm in range(len(stack.arms))
        ]
        shape = (steps // LOG_EVERY + 1, len(self.names), len(stack.seeds), len(stack.arms))
        self.sums = torch.zeros(shape, device=device)  # the last: remaining steps
        self.counter = torch.zeros(1, dtype=torch.long, device=device)

    def step(self) -> None:
        """Take one step of all arms on the current rows and noise of the stack."""
        terms = self.terms()
        self.optimiser.zero_grad()
        (-terms["objective"].sum()).backward()
        self.optimiser.step()
        values = torch.stack([terms[name].detach() for name in self.names])
        self.sums.index_add_(0, self.counter // LOG_EVERY, values.unsqueeze(0))
        self.counter.add_(1)

    @torch.no_grad()
    def reset(self, seeds: Sequence[int]) -> None:
        """Reset to the state before the first step, with these seeds."""
        self.stack.reset(seeds)
        self.sums.zero_()
        self.counter.zero_()
        for state in self.optimiser.state.values():
            for value in state.values():
                value.zero_()

    def history(self, seed: int, arm: int) -> list[dict[str, float | None]]:
        """The records of one run, as in train.py; synchronises with the device."""
        sums = self.sums[:-1, :, seed, arm].tolist()
        return [
            {"step": LOG_EVERY * (k + 1)}
            | {
                name: number(value / LOG_EVERY)
                for name, value in zip(self.names, line, strict=True)
                if name in self.of_arm[arm]
            }
            for k, line in enumerate(sums)
        ]

    def run(self, advance: Callable[[], None], report_progress: Callable[[int], None]) -> None:
        """Take all steps with `advance`; `report_progress` receives the number issued so far."""
        stack, size = self.stack, self.stack.config.batch_size
        total = len(stack.packed)
        per_epoch = total // size
        with ThreadPoolExecutor(1) as ahead:  # draws the order of the next epoch during this one
            order, following = next_order(ahead.submit(orders, stack, 0), ahead, stack, 0)
            for step in range(self.steps):
                epoch, batch = divmod(step, per_epoch)
                if batch == 0 and epoch > 0:
                    order, following = next_order(following, ahead, stack, epoch)
                stack.rows.copy_(order[:, batch * size : (batch + 1) * size])
                stack.draw_noise()
                advance()
                report_progress(step + 1)


def orders(stack: Stack, epoch: int) -> Tensor:
    """The order of the images in an epoch, for each seed: (seeds, N)."""
    total = len(stack.packed)
    configs = [replace(stack.config, seed=seed, device="cpu") for seed in stack.seeds]
    return torch.stack([permutation(epoch, total, config) for config in configs])


def next_order(
    following: Future[Tensor], ahead: ThreadPoolExecutor, stack: Stack, epoch: int
) -> tuple[Tensor, Future[Tensor]]:
    """The order of this epoch on the device, and a future for that of the next one."""
    order = following.result().to(stack.packed.device)
    return order, ahead.submit(orders, stack, epoch + 1)
