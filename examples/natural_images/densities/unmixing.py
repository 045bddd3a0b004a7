"""A matrix followed by a density of sources, fitted by maximum likelihood with L-BFGS."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CHUNK = 10  # iterations between updates of the progress bar
HISTORY = 20  # update pairs kept by L-BFGS


class Unmixing(nn.Module):
    """The density of x, given that of its sources z = W x: log p(W x) + log |det W|."""

    def __init__(self, weight: Tensor, sources: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.sources = sources

    def unmix(self, x: Tensor) -> Tensor:
        """The sources, ``(N, dim)``."""
        return x @ self.weight.T

    def log_det(self) -> Tensor:
        """The logarithm of |det W|."""
        return torch.linalg.slogdet(self.weight).logabsdet

    def forward(self, x: Tensor) -> Tensor:
        """The log density of each row, ``(N, dim) -> (N,)``."""
        return self.sources(self.unmix(x)) + self.log_det()


@dataclass(frozen=True)
class Effort:
    """The cost of a fit."""

    iterations: int
    evaluations: int


def maximise(
    model: Unmixing, x: Tensor, iterations: int, tick: Callable[[int], object] = lambda _: None
) -> Effort:
    """Fit all parameters to the rows of x. `tick` receives the number of iterations just done.

    Raises:
        FloatingPointError: If the likelihood is no longer finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=CHUNK,
        max_eval=100 * CHUNK,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -model(x).double().mean()
        if not value.isfinite():
            raise FloatingPointError("the likelihood is no longer finite")
        value.backward()  # type: ignore[no-untyped-call]
        return value

    state, done = optimiser.state[parameters[0]], 0
    while done < iterations:
        optimiser.param_groups[0]["max_iter"] = min(CHUNK, iterations - done)
        optimiser.step(loss)  # type: ignore[arg-type, no-untyped-call]
        before, done = done, int(state["n_iter"])
        tick(done - before)
        if done - before < optimiser.param_groups[0]["max_iter"]:
            break  # converged to a tolerance
    return Effort(done, int(state["func_evals"]))
