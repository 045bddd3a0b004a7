"""Notes: what a user should know about a fit, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution, Laplace

from lpnested.estimation.data import Data
from lpnested.estimation.information import BOUNDARY
from lpnested.generalized_normal import GeneralizedNormal
from lpnested.lp_nested import LpNested

if TYPE_CHECKING:
    from lpnested.estimation.result import FitResult

__all__ = ["notes_of"]

_Z = 1.96  # of a test at 5 %
_SMOOTH = 1.25
_FEWEST = 10  # observations for each parameter
_REPEATED = 0.01  # the part of univariate observations that rounding may have made equal


def notes_of(result: FitResult, data: Data, boundary: Tensor) -> Iterator[str]:
    """The notes on a result, given its data and which parameters are at the boundary."""
    yield from _on_convergence(result)
    yield from _on_data(result, data)
    yield from _on_parameters(result, boundary)
    yield from _on_tree(result)


def _on_convergence(result: FitResult) -> Iterator[str]:
    failed, kink = ~torch.as_tensor(result.converged), _has_kink(result.distribution)
    if "loc" in result.parameters and kink.any():
        cause = "" if isinstance(result.distribution, Laplace) else f"p is below {_SMOOTH}"
        yield (
            f"{cause}{_where(kink) * bool(cause)}{': ' * bool(cause)}the likelihood bends sharply "
            f"in loc at every observation, its gradient need not vanish where it is largest, and "
            f"the standard error of loc means nothing; a Learnable with loc fixed, at the median "
            f"for example, has neither trouble"
        )
    if failed.any():
        yield (
            f"not converged{_where(failed)}: after {int(result.iterations.max())} iterations the "
            f"gradient is {result.gradient.abs().max():.1e} per observation; raise max_iter or "
            f"start nearer, unless an exponent goes to 0 or infinity, or all radii become equal: "
            f"then there is no largest likelihood inside"
        )


def _has_kink(dist: Distribution) -> Tensor:
    """Whether the log density has a kink, or nearly one, at its location."""
    if isinstance(dist, GeneralizedNormal):
        return dist.p < _SMOOTH
    return torch.tensor(isinstance(dist, Laplace))


def _on_data(result: FitResult, data: Data) -> Iterator[str]:
    univariate = not isinstance(result.distribution, LpNested)
    zeros = data.zeros * (not univariate)
    if zeros.any():
        inside = torch.as_tensor(result.converged).all()
        yield (
            f"{int(zeros.sum())} coordinates are exactly 0{_where(zeros > 0)}: the likelihood has "
            f"no upper bound as exponents go to 0"
            f"{', and the result is an optimum in the interior' * bool(inside)}; if they are "
            f"small values cut off, the exponents are too small"
        )
    repeated = data.repeated > (_REPEATED * data.rows if univariate else 0)
    if repeated.any():
        yield (
            f"{int(data.repeated.sum())} observations are duplicates of others{_where(repeated)}: "
            f"if they are copies, the standard errors are too small"
        )
    few = data.total < _FEWEST * len(result.parameters)
    if few.any():
        yield (
            f"{_least(data.total)} observations for {len(result.parameters)} "
            f"parameters{_where(few)}: below {_FEWEST} for each, standard errors and tests are "
            f"rough; share exponents, or take a smaller tree"
        )


def _on_parameters(result: FitResult, boundary: Tensor) -> Iterator[str]:
    for k, name in enumerate(result.parameters):
        above = boundary[..., k] & (result.values[..., k] > BOUNDARY) & ("scale" not in name)
        if above.any():
            yield (
                f"{name} is above {BOUNDARY:g}{_where(above)}, at the boundary: the likelihood is "
                f"flat and the exponent as good as infinite, so it has no standard error (NaN)"
            )
    unknown = result.standard_errors.isnan() & ~boundary
    if unknown.any():
        yield (
            f"the information is not positive definite{_where(unknown.any(-1))}, so there are no "
            f"standard errors (NaN): these data do not distinguish some parameters"
        )


def _on_tree(result: FitResult) -> Iterator[str]:
    if not isinstance(result.distribution, LpNested):
        return
    single = [k for k, row in enumerate(result.distribution.tree.children) if len(row) == 1]
    if single:
        yield (
            f"{_nodes(single)} with one child: the exponent there means nothing, so it is fixed, "
            f"and not counted as a parameter"
        )
    tests: dict[tuple[int, str], list[int]] = {}  # tied exponents share one
    for (parent, child), z in result.merge_z.items():
        equal = z.abs() < _Z
        if equal.any():
            shown = f"z = {z.item():+.2f}" if not z.dim() else _where(equal).strip()
            tests.setdefault((parent, shown), []).append(child)
    if tests:
        pairs = [f"{_nodes(c)} and parent {p} ({shown})" for (p, shown), c in tests.items()]
        yield f"exponents that could be equal, and the levels be one: {', '.join(pairs)}"


def _nodes(places: list[int]) -> str:
    return f"node{'s' * (len(places) > 1)} {', '.join(map(str, places))}"


def _where(which: Tensor) -> str:
    return f" in {int(which.sum())} of {which.numel()} data sets" if which.dim() else ""


def _least(total: Tensor) -> str:
    return f"{total.min().item():g}"
