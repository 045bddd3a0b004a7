"""The training of a stack: its step, its records, and the loop over the pictures."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from card.stacked import Stack
from running.scoring import number
from torch import Tensor
from train import LOOK, permutation


class Training:
    """A stack with its optimiser and its records, all in memory that stays where it is.

    Args:
        stack: The models.
        steps: Of the whole training.
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
        self.of_arm = [  # a term that an arm does not have is NaN
            {name for name, value in found.items() if not value[:, arm].isnan().all()}
            for arm in range(len(stack.arms))
        ]
        shape = (steps // LOOK + 1, len(self.names), len(stack.seeds), len(stack.arms))
        self.sums = torch.zeros(shape, device=device)  # the last is of what is left of the steps
        self.counter = torch.zeros(1, dtype=torch.long, device=device)

    def step(self) -> None:
        """One step of all arms on the rows and the noise of the stack."""
        terms = self.terms()
        self.optimiser.zero_grad()
        (-terms["objective"].sum()).backward()
        self.optimiser.step()
        values = torch.stack([terms[name].detach() for name in self.names])
        self.sums.index_add_(0, self.counter // LOOK, values.unsqueeze(0))
        self.counter.add_(1)

    @torch.no_grad()
    def begin(self, seeds: Sequence[int]) -> None:
        """Be as before the first step, with these seeds."""
        self.stack.begin(seeds)
        self.sums.zero_()
        self.counter.zero_()
        for state in self.optimiser.state.values():
            for value in state.values():
                value.zero_()

    def history(self, seed: int, arm: int) -> list[dict[str, float | None]]:
        """The records of one run, as in train.py; waits for the device."""
        sums = self.sums[:-1, :, seed, arm].tolist()
        return [
            {"step": LOOK * (k + 1)}
            | {
                name: number(value / LOOK)
                for name, value in zip(self.names, line, strict=True)
                if name in self.of_arm[arm]
            }
            for k, line in enumerate(sums)
        ]

    def run(self, advance: Callable[[], None], tell: Callable[[int], None]) -> None:
        """All steps, each by `advance`; `tell` hears the number of those that were begun."""
        stack, size = self.stack, self.stack.config.batch_size
        total = len(stack.packed)
        per_epoch = total // size
        with ThreadPoolExecutor(1) as ahead:  # an epoch's order is drawn while one is trained
            order, following = next_order(ahead.submit(orders, stack, 0), ahead, stack, 0)
            for step in range(self.steps):
                epoch, batch = divmod(step, per_epoch)
                if batch == 0 and epoch > 0:
                    order, following = next_order(following, ahead, stack, epoch)
                stack.rows.copy_(order[:, batch * size : (batch + 1) * size])
                stack.draw_noise()
                advance()
                tell(step + 1)


def orders(stack: Stack, epoch: int) -> Tensor:
    """The order of the pictures in an epoch, for each seed: (seeds, N)."""
    total = len(stack.packed)
    alone = [replace(stack.config, seed=seed, device="cpu") for seed in stack.seeds]
    return torch.stack([permutation(epoch, total, config) for config in alone])


def next_order(
    following: Future[Tensor], ahead: ThreadPoolExecutor, stack: Stack, epoch: int
) -> tuple[Tensor, Future[Tensor]]:
    """The order of this epoch on the device, and that of the next one to come."""
    order = following.result().to(stack.packed.device)
    return order, ahead.submit(orders, stack, epoch + 1)
