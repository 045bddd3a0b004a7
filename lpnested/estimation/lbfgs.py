"""L-BFGS to the largest likelihood of one data set."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lpnested.estimation.likelihood import Likelihood
from lpnested.estimation.newton import Outcome, Report, State, begun, newton, state_at

__all__ = ["lbfgs"]

_HISTORY = 20
_WORST = 1e4  # log-likelihood per observation, below the best, that a line search sees
_EVALUATIONS = 30  # of one line search
_NO_CHANGE = 1e-16


def lbfgs(
    likelihood: Likelihood, start: Tensor, max_iter: int, tol: float, report: Report
) -> Outcome:
    """Torch's L-BFGS with a strong Wolfe line search, on the profile likelihood.

    What the line search found last is where the next iteration begins: it is not computed again.
    A step after which an exponent is 0, for all that matters, is taken back, and Newton's
    method, whose steps are short, goes on from there.
    """
    places, seen = likelihood.outer, _Memory(likelihood, start)
    outer = start[..., places].clone().requires_grad_()
    optimizer = _optimizer(outer)

    def closure() -> Tensor:
        state = seen(outer.detach())
        outer.grad = state.gradient[..., places].clone()
        return seen.bounded(state.loss, outer.grad)

    state, iteration, moved = begun(seen(outer.detach())), 0, True
    while places and moved and iteration < max_iter and bool(state.largest(places) > tol):
        before = outer.detach().clone()
        optimizer.step(closure)
        new = seen(outer.detach())
        if likelihood.has_vanished(new.vector):
            return _by_newton(likelihood, state, iteration, max_iter, tol, report)
        state, iteration, moved = new, iteration + 1, not torch.equal(before, outer)
        report(iteration, state, state.largest(places))
    finished = state.largest(places) <= tol
    return Outcome(state, torch.tensor(iteration), finished if moved else finished | True)


def _optimizer(outer: Tensor) -> torch.optim.LBFGS:
    options: dict[str, Any] = {"max_iter": 1, "max_eval": _EVALUATIONS, "tolerance_grad": 0.0}
    options |= {"tolerance_change": _NO_CHANGE, "history_size": _HISTORY}
    return torch.optim.LBFGS([outer], line_search_fn="strong_wolfe", **options)


def _by_newton(
    likelihood: Likelihood, state: State, before: int, max_iter: int, tol: float, report: Report
) -> Outcome:
    def shifted(iteration: int, state: State, largest: Tensor) -> None:
        report(before + iteration, state, largest)

    outcome = newton(likelihood, state.vector, max_iter - before, tol, shifted)
    return outcome._replace(iterations=before + outcome.iterations)


class _Memory:
    """The states by the point; the radius of the best so far is where the next one begins."""

    def __init__(self, likelihood: Likelihood, start: Tensor) -> None:
        self.likelihood, self.vector = likelihood, start.clone()
        self.states: dict[tuple[float, ...], State] = {}
        self.highest = math.inf

    def __call__(self, outer: Tensor) -> State:
        key = tuple(outer.tolist())
        if key not in self.states:
            self.states[key] = self._state(outer)
        return self.states[key]

    def _state(self, outer: Tensor) -> State:
        vector = self.vector.clone()
        vector[..., self.likelihood.outer] = outer
        if not outer.isfinite().all():  # the line search has lost its way
            return State(vector, vector.new_tensor(math.inf), torch.zeros_like(vector))
        state = state_at(self.likelihood, vector)
        if state.loss + _WORST < self.highest:
            self.vector, self.highest = state.vector, state.loss.item() + _WORST
        return state

    def bounded(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """A loss that the line search can interpolate, even where the likelihood is NaN."""
        if loss <= self.highest:
            return loss
        gradient.mul_(_WORST / (loss - self.highest + _WORST)).nan_to_num_(0.0, 0.0, 0.0)
        return torch.full_like(loss, self.highest)
