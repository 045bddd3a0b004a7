"""Damped Newton steps to the largest likelihood, for many data sets at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lpnested.estimation.likelihood import Likelihood

__all__ = ["Outcome", "Progress", "Report", "State", "begun", "chosen", "newton", "state_at"]

_HALVINGS = 30  # of a step, until it is taken
_LONGEST = 1.0  # step of Newton's method, in logarithms
_FLAT = 1e-6  # relative to the largest curvature


class Progress(NamedTuple):
    """What a callback receives after each iteration."""

    iteration: int
    log_likelihood: Tensor
    """The sum over all observations, shape ``(*batch)``."""
    gradient: Tensor
    """The largest component of the gradient per observation, shape ``(*batch)``."""


class State(NamedTuple):
    """Where an optimiser is."""

    vector: Tensor
    loss: Tensor
    gradient: Tensor

    def largest(self, places: Sequence[int]) -> Tensor:
        """The largest component of the gradient, shape ``(*batch)``; 0 where nothing is free."""
        part = self.gradient[..., places].abs()
        return part.amax(-1) if places else self.loss.new_zeros(self.loss.shape)


class Outcome(NamedTuple):
    """Where an optimiser ended."""

    state: State
    iterations: Tensor
    finished: Tensor
    """Whether it ended by itself, at an optimum or where no step is better."""


Report = Callable[[int, State, Tensor], None]


def begun(state: State) -> State:
    """The first state, if there is a way on from it."""
    if not (state.loss.isfinite() & state.gradient.isfinite().all(-1)).all():
        raise ValueError(
            "the likelihood of these data is not finite where the fit begins: they may be too "
            "large or too small for the arithmetic of this distribution; divide them by a scale, "
            "or pass an instance that is nearer to them"
        )
    return state


def state_at(likelihood: Likelihood, vector: Tensor) -> State:
    """The state with the best radius for these exponents."""
    vector = likelihood.profile(vector)
    return State(vector, *likelihood(vector))


def newton(
    likelihood: Likelihood, start: Tensor, max_iter: int, tol: float, report: Report
) -> Outcome:
    """Newton's method on the profile likelihood, with its curvature made positive.

    A step is at most 1 long and is halved until the likelihood grows. Where an exponent runs off
    to 0 it ends.
    """
    places, state = likelihood.outer, begun(state_at(likelihood, start))
    iterations = torch.zeros_like(state.loss, dtype=torch.long)
    stuck = torch.zeros_like(iterations, dtype=torch.bool)
    for iteration in range(1, max_iter + 1):
        active = (state.largest(places) > tol) & ~stuck
        if not active.any():
            break
        step = _newton_step(likelihood, state, places)
        state, moved = _halved(likelihood, state, step * active.unsqueeze(-1), places)
        stuck |= active & (~moved | likelihood.has_vanished(state.vector))
        iterations += active
        report(iteration, state, state.largest(places))
    finished = (state.largest(places) <= tol) | stuck
    return Outcome(state, iterations, finished & ~likelihood.has_vanished(state.vector))


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
        ahead = state_at(likelihood, state.vector + step).gradient
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
        new = state_at(likelihood, vector)
        better = ~taken & (new.loss <= state.loss + 1e-4 * length * slope)
        state = chosen(better, new, state)
        taken, length = taken | better, length / 2
        if taken.all():
            break
    return state, moved & taken


def chosen(where: Tensor, new: State, old: State) -> State:
    wide = where.unsqueeze(-1)
    return State(
        torch.where(wide, new.vector, old.vector),
        torch.where(where, new.loss, old.loss),
        torch.where(wide, new.gradient, old.gradient),
    )
