"""Two ways to the largest likelihood: L-BFGS for one data set, damped Newton for many at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lpnested.estimation_likelihood import Likelihood

__all__ = ["Progress", "State", "chosen", "lbfgs", "newton"]

_HISTORY = 20
_WORST = 1e4  # log-likelihood per observation, below the best, that a line search is told
_EVALUATIONS = 30  # of one line search
_NO_CHANGE = 1e-16
_HALVINGS = 30  # of a step, until it is taken
_LONGEST = 1.0  # step of Newton's method, in logarithms
_FLAT = 1e-6  # relative to the largest curvature


class Progress(NamedTuple):
    """What a callback is told after each iteration."""

    iteration: int
    log_likelihood: Tensor
    """Of all observations, shape ``(*batch)``."""
    gradient: Tensor
    """Its largest component per observation, shape ``(*batch)``."""


class State(NamedTuple):
    """Where an optimiser is."""

    vector: Tensor
    loss: Tensor
    gradient: Tensor

    def largest(self, places: Sequence[int]) -> Tensor:
        """The largest component of the gradient, shape ``(*batch)``; 0 where nothing is free."""
        part = self.gradient[..., places].abs()
        return part.amax(-1) if places else self.loss.new_zeros(self.loss.shape)


Report = Callable[[int, State, Tensor], None]


def _begun(state: State) -> State:
    """The first state, if there is a way on from it."""
    if not (state.loss.isfinite() & state.gradient.isfinite().all(-1)).all():
        raise ValueError(
            "the likelihood of these data is not finite where the fit begins: they may be too "
            "large or too small for the arithmetic of this distribution; divide them by a scale, "
            "or pass an instance that is nearer to them"
        )
    return state


def _at(likelihood: Likelihood, vector: Tensor) -> State:
    """The state with the best radius for these exponents."""
    vector = likelihood.profile(vector)
    return State(vector, *likelihood(vector))


def lbfgs(
    likelihood: Likelihood, start: Tensor, max_iter: int, tol: float, report: Report
) -> tuple[State, Tensor]:
    """The state and the number of iterations, by torch's L-BFGS with a strong Wolfe line search.

    What the line search found last is where the next iteration begins: it is not computed again.
    """
    places, seen = likelihood.outer, _Memory(likelihood, start)
    outer = start[..., places].clone().requires_grad_()
    options: dict[str, Any] = {"max_iter": 1, "max_eval": _EVALUATIONS, "tolerance_grad": 0.0}
    optimizer = torch.optim.LBFGS(
        [outer],
        tolerance_change=_NO_CHANGE,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
        **options,
    )

    def closure() -> Tensor:
        state = seen(outer.detach())
        outer.grad = state.gradient[..., places].clone()
        return seen.bounded(state.loss, outer.grad)

    state, iteration = _begun(seen(outer.detach())), 0
    while places and iteration < max_iter and bool(state.largest(places) > tol):
        before = outer.detach().clone()
        optimizer.step(closure)
        state, iteration = seen(outer.detach()), iteration + 1
        report(iteration, state, state.largest(places))
        if torch.equal(before, outer):
            break  # no step is better
    return state, torch.tensor(iteration)


class _Memory:
    """The states by the point; the radius of the best so far is where the next one begins."""

    def __init__(self, likelihood: Likelihood, start: Tensor) -> None:
        self.likelihood, self.vector = likelihood, start.clone()
        self.states: dict[tuple[float, ...], State] = {}
        self.highest = math.inf

    def __call__(self, outer: Tensor) -> State:
        key = tuple(outer.tolist())
        if key not in self.states:
            vector = self.vector.clone()
            vector[..., self.likelihood.outer] = outer
            state = _at(self.likelihood, vector)
            self.states[key] = state
            if state.loss + _WORST < self.highest:
                self.vector, self.highest = state.vector, state.loss.item() + _WORST
        return self.states[key]

    def bounded(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """What the line search can interpolate: far too long a step may be no number at all."""
        if loss <= self.highest:
            return loss
        gradient.mul_(_WORST / (loss - self.highest + _WORST)).nan_to_num_(0.0, 0.0, 0.0)
        return torch.full_like(loss, self.highest)


def newton(
    likelihood: Likelihood, start: Tensor, max_iter: int, tol: float, report: Report
) -> tuple[State, Tensor]:
    """The states and numbers of iterations of many data sets, by Newton's method side by side.

    The curvature is that of the profile likelihood, made positive; a step is at most 1 long and
    is halved until the likelihood grows.
    """
    places, state = likelihood.outer, _begun(_at(likelihood, start))
    iterations = torch.zeros_like(state.loss, dtype=torch.long)
    stuck = torch.zeros_like(iterations, dtype=torch.bool)
    for iteration in range(1, max_iter + 1):
        active = (state.largest(places) > tol) & ~stuck
        if not active.any():
            break
        step = _newton_step(likelihood, state, places)
        state, moved = _halved(likelihood, state, step * active.unsqueeze(-1), places)
        stuck |= active & ~moved
        iterations += active
        report(iteration, state, state.largest(places))
    return state, iterations


def _newton_step(likelihood: Likelihood, state: State, places: Sequence[int]) -> Tensor:
    curvature = _profile_curvature(likelihood, state, places)
    values, vectors = torch.linalg.eigh(curvature)
    values = values.abs()
    values = values.maximum(_FLAT * values.amax(-1, keepdim=True)).clamp_min(1e-30)
    gradient = state.gradient[..., places].unsqueeze(-1)
    step = -(vectors @ ((vectors.mT @ gradient) / values.unsqueeze(-1))).squeeze(-1)
    longest = step.abs().amax(-1, keepdim=True)
    limited: Tensor = step * (_LONGEST / longest.clamp_min(_LONGEST))
    return limited


def _profile_curvature(likelihood: Likelihood, state: State, places: Sequence[int]) -> Tensor:
    rows, size = [], 1e-5
    for k in places:
        step = torch.zeros_like(state.vector)
        step[..., k] = size
        ahead = _at(likelihood, state.vector + step).gradient
        rows.append((ahead - state.gradient)[..., places] / size)
    curvature = torch.stack(rows, -2)
    return ((curvature + curvature.mT) / 2).nan_to_num()


def _halved(
    likelihood: Likelihood, state: State, step: Tensor, places: Sequence[int]
) -> tuple[State, Tensor]:
    """The state after a step, and which data sets took it."""
    slope = (step * state.gradient[..., places]).sum(-1)
    length, taken = torch.ones_like(state.loss), slope == 0
    moved = ~taken
    for _ in range(_HALVINGS):
        vector = state.vector.clone()
        vector[..., places] += (length * ~taken).unsqueeze(-1) * step
        new = _at(likelihood, vector)
        better = ~taken & (new.loss <= state.loss + 1e-4 * length * slope)
        state = chosen(better, new, state)
        taken, length = taken | better, length / 2
        if taken.all():
            break
    return state, moved & taken


def chosen(where: Tensor, new: State, old: State) -> State:
    column = where.unsqueeze(-1)
    return State(
        torch.where(column, new.vector, old.vector),
        torch.where(where, new.loss, old.loss),
        torch.where(column, new.gradient, old.gradient),
    )
