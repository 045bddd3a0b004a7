"""Maximum likelihood: exponents and radius of a tree from data, with standard errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, LogNormal

from lpnested.estimation.data import Data
from lpnested.estimation.errors import carried, exponent_slopes, wald
from lpnested.estimation.information import beyond_boundary, covariance_of, polish
from lpnested.estimation.lbfgs import lbfgs
from lpnested.estimation.likelihood import Likelihood
from lpnested.estimation.model import Model
from lpnested.estimation.module import module_of
from lpnested.estimation.newton import Outcome, Progress, State, newton
from lpnested.estimation.notes import notes_of
from lpnested.estimation.result import FitResult
from lpnested.estimation.start import check_support, locate, starting_vector
from lpnested.lp_nested import LpNested
from lpnested.nn import Learnable
from lpnested.tree import LpNestedTree

__all__ = ["FitResult", "Progress", "fit"]

_KINDS = ("observed", "sandwich")


@torch.inference_mode(False)
@torch.enable_grad()
def fit(
    model: LpNestedTree | Learnable | Distribution | type[Distribution],
    data: Tensor | Iterable[Any],
    radial: Distribution | type[Distribution] | Learnable | None = None,
    weights: Tensor | None = None,
    covariance: str = "observed",
    max_iter: int = 200,
    tol: float = 1e-6,
    callback: Any = None,
) -> FitResult:
    r"""Fit a distribution by maximum likelihood, with standard errors of its parameters.

    .. math:: \hat\theta = \arg\max_\theta \sum_i w_i \log \rho(x_i; \theta)

    over the exponents and the radius of a tree, over what a :class:`lpnested.nn.Learnable` learns,
    or over all parameters of a univariate distribution. For given exponents, the best radius has
    a closed form for ``LogNormal``, ``GeneralizedGamma`` (its scale) and ISA; for ``Gamma`` it
    comes from a Newton iteration, and for a ``MixtureSameFamily`` of these from expectation
    maximisation. The resulting profile likelihood is maximised over the logarithms of the
    exponents. Any other radius is estimated together with them. A single data set is fitted by
    L-BFGS, several side by side by a damped Newton method; both end with Newton steps in all
    parameters. All computations are in float64.

    Args:
        model: What to fit: a tree; a ``Learnable``, of which only what it learns is estimated, and
            a parameter that several exponents share stays shared; or a univariate distribution
            such as :class:`lpnested.GeneralizedNormal`, by its class or an instance to start from.
            A location starts at the median where that is more likely.
        data: Shape ``(N, *batch, dim)``, or ``(N, *batch)`` if univariate: each index of the
            batch is a data set of its own, with parameters of its own. Or an iterable of chunks
            ``(rows, *batch, dim)`` that can be iterated repeatedly: tensors, or pairs of a tensor
            and its weights. Only one chunk is in memory at a time, besides the radii of all
            observations.
        radial: The radius over a tree, by its class or an instance to start from (for a mixture,
            always an instance); ``LogNormal`` if left out. The dimension of a
            ``GeneralizedGamma`` is fixed: to that of the tree, or of the instance. The logits of
            a mixture are log odds against its last component.
        weights: How often each observation counts, shape ``(N,)`` or ``(N, *batch)``. An
            observation of weight 0 may hold anything, NaN included, so that data sets of
            different sizes can be padded to a common one.
        covariance: ``"observed"`` is the inverse of the observed information; ``"sandwich"`` is
            valid for a misspecified model as well.
        max_iter: The largest number of iterations.
        tol: The fit has converged when no component of the gradient per observation is larger.
        callback: Called with a :class:`lpnested.estimation.Progress` after each iteration; or a
            progress bar, whose ``update`` is called.

    Returns:
        The fitted distribution with its errors; printing it draws the tree with exponents and
        standard errors.

    Raises:
        ValueError: Where data have NaN, infinite values or another shape, are no observation of
            the model, or come from an iterator that gives them once only.
        TypeError: Where the model, the radial or the data have the wrong type.

    Example:
        >>> from lpnested import ISA
        >>> data = ISA([2, 2], p0=1.0, p=torch.tensor([2.0, 4.0])).sample((2000,))
        >>> result = fit(LpNestedTree.isa([2, 2]), data, radial=torch.distributions.Gamma)
        >>> result.converged, result.parameters[:3]
        (True, ('exponents[0]', 'exponents[1]', 'exponents[2]'))
        >>> error = result.values[0] - 1.0
        >>> bool(error.abs() < 3 * result.standard_errors[0])
        True
    """
    if covariance not in _KINDS:
        raise ValueError(f"covariance must be one of {_KINDS}, but got {covariance!r}")
    if isinstance(model, LpNestedTree) and radial is None:
        radial = LogNormal
    module = module_of(model, radial)
    observations = Data(data, weights, module().event_shape)
    function = Model(module, observations.batch, observations.device)
    check_support(function, observations)
    locate(function, observations)
    likelihood = Likelihood(function, observations)
    report = _reporter(callback, observations)
    optimise = newton if observations.batch else lbfgs
    start = starting_vector(likelihood, observations)
    outcome = optimise(likelihood, start, max_iter, tol, report)
    return _result(likelihood, outcome, tol, covariance)


def _reporter(callback: Any, data: Data) -> Callable[[int, State, Tensor], None]:
    if callback is None:
        return lambda *_: None
    if not callable(callback):
        return lambda *_: callback.update()

    def report(iteration: int, state: State, largest: Tensor) -> None:
        callback(Progress(iteration, -state.loss * data.total, largest))

    return report


def _result(likelihood: Likelihood, outcome: Outcome, tol: float, kind: str) -> FitResult:
    model, data = likelihood.model, likelihood.data
    state, information = polish(likelihood, outcome.state, outcome.finished)
    boundary = beyond_boundary(model, state.vector)
    of_vector = covariance_of(likelihood, state.vector, information, boundary, kind)
    slopes = model.slopes(state.vector)[..., model.free]
    values = model.constrained(state.vector)
    converged = state.largest(model.free) <= tol
    on_tree = _on_tree(model, state.vector, of_vector)
    result = FitResult(
        distribution=model.made_of(values, data.dtype),
        parameters=tuple(model.names[k] for k in model.free),
        values=values[..., model.free],
        covariance=slopes.unsqueeze(-1) * of_vector * slopes.unsqueeze(-2),
        exponent_errors=on_tree[0],
        merge_z=on_tree[1],
        log_likelihood=-state.loss * data.total,
        log_likelihood_se=data.total.sqrt() * likelihood.spread(state.vector, state.loss),
        num_observations=data.total,
        converged=converged if data.batch else bool(converged),
        iterations=outcome.iterations,
        gradient=-state.gradient[..., model.free],
    )
    return replace(result, notes=tuple(notes_of(result, data, boundary)))


def _on_tree(
    model: Model, vector: Tensor, covariance: Tensor
) -> tuple[Tensor | None, dict[tuple[int, int], Tensor]]:
    """The standard errors of all exponents, and the Wald statistics of children and parents."""
    dist, slopes = model(vector), exponent_slopes(model, vector)
    if slopes is None or not isinstance(dist, LpNested):
        return None, {}
    of_logs = carried(slopes, covariance)
    errors = dist.exponents * of_logs.diagonal(dim1=-2, dim2=-1).sqrt()
    return errors.detach(), wald(dist, of_logs)
