"""Inputs of the metrics: codes, factors, their validation, and which latents count.

A code is the posterior mean of N images, (N, latents), and for some scores also the standard
deviation. Factors are the values that each image was generated with, (N, factors); only equality
of values matters, and for SAP their order. NumPy arrays and tensors on any device are accepted.

**Which latents count.** An unused latent has nearly the same mean for every image. Two thresholds
on the variation of that mean are in use, for different purposes; both are kept because published
numbers rely on them:

- `ACTIVE`, a variance of 0.01 (Burda et al. 2016): the number of active units, and the scores
  whose names end in ``_active``;
- `PRUNED`, a *standard deviation* of 0.05, so a variance of 0.0025 (``prune_dims.threshold`` of
  disentanglement_lib): latents below it have no vote in the FactorVAE score. The score divides by
  the variance, so it must exclude collapsed latents, but not those that encode a factor weakly.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any] | Tensor

ACTIVE = 0.01  # variance of the posterior mean above which a latent is active
PRUNED = 0.05  # standard deviation of the posterior mean above which a latent has a vote


class ScoringError(ValueError):
    """The model cannot be scored, for example because its training diverged."""


def check_posteriors(mean: Tensor, std: Tensor) -> None:
    """Raise ScoringError unless these are parameters of normal distributions."""
    if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
        raise ScoringError("posteriors must have finite means and positive, finite deviations")


def as_code(mean: Array) -> Tensor:
    """Convert posterior means to a CPU tensor in float32 or float64: (N, latents)."""
    code = numbers(mean, "codes")
    if code.ndim != 2 or len(code) == 0:
        raise ValueError(f"codes must have shape (N, latents), but got {tuple(code.shape)}")
    if not code.isfinite().all():
        wrong = int((~code.isfinite()).any(1).sum())
        raise ScoringError(f"codes must be finite, but {wrong} of {len(code)} rows are not")
    return code


def as_posteriors(mean: Array, std: Array) -> tuple[Tensor, Tensor]:
    """Convert means and standard deviations to one precision; both (N, latents)."""
    code, width = numbers(mean, "codes"), numbers(std, "std")
    if code.ndim != 2 or len(code) == 0 or code.shape != width.shape:
        raise ValueError(
            "codes and std must both have shape (N, latents), but got "
            f"{tuple(code.shape)} and {tuple(width.shape)}"
        )
    check_posteriors(code, width)
    return code, width.to(code)


def numbers(values: Array, name: str) -> Tensor:
    """Convert to a CPU tensor; integers and anything wider than float32 become float64."""
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} must be numbers, but got an array of {array.dtype}")
        small = array.dtype.kind == "f" and array.dtype.itemsize <= 4
        return torch.from_numpy(array.astype(np.float32 if small else np.float64))
    found = values.detach().cpu()
    if found.is_complex():
        raise TypeError(f"{name} must be real numbers, but got a tensor of {found.dtype}")
    wide = not found.is_floating_point() or found.dtype == torch.float64
    return found.double() if wide else found.float()


def as_classes(factors: Array, rows: int) -> Tensor:
    """Convert the values of the factors to integers in the same order, (N, factors).

    Fractional values, such as the positions in the dSprites file, are numbered. A factor with more
    than 20 of them, and more than half as many as rows, counts as continuous and is rejected.
    """
    found = factors if isinstance(factors, Tensor) else np.asarray(factors)
    shape = tuple(found.shape)
    if len(shape) != 2 or shape[0] != rows or shape[1] == 0:
        hint = "; pass a single factor as factors[:, None]" if len(shape) == 1 else ""
        raise ValueError(
            f"factors must have shape (N, factors) with N = {rows} like the codes, but got "
            f"{shape}{hint}"
        )
    integral = isinstance(found, Tensor) and not found.is_floating_point()
    if integral or (isinstance(found, np.ndarray) and found.dtype.kind in "iub"):
        whole = found if isinstance(found, Tensor) else torch.from_numpy(found.astype(np.int64))
        return whole.detach().cpu().long()
    columns = numbers(found, "factors").T
    return torch.stack([numbered(column, k) for k, column in enumerate(columns)], dim=1)


def numbered(column: Tensor, index: int) -> Tensor:
    """Rank of each value among the distinct values of a factor: (N,) -> (N,)."""
    if not column.isfinite().all():
        raise ValueError(f"column {index} of factors must be finite")
    values, number = column.unique(return_inverse=True)
    if len(values) > max(len(column) / 2, 20) and not values.equal(values.round()):
        raise ValueError(
            f"column {index} of factors has {len(values)} values in {len(column)} rows: a "
            "continuous factor must be binned first"
        )
    return number


def factor_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Check the names, one per factor; the default is factor0, factor1, ..."""
    _check_is_list("names", names)
    found = tuple(f"factor{k}" for k in range(count)) if names is None else tuple(names)
    if len(found) != count or len(set(found)) != count:
        raise ValueError(f"there must be {count} distinct names, one per factor, but got {found}")
    return found


def chosen_names(chosen: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    """Check the names of the factors to average the gap over; the default is all."""
    _check_is_list("mig_factors", chosen)
    found = tuple(names if chosen is None else chosen)
    unknown = [name for name in found if name not in names]
    if unknown or not found:
        raise ValueError(
            f"mig_factors must be among the factors {', '.join(names)}, but got "
            f"{', '.join(found) or 'none'}"
        )
    return found


def _check_is_list(argument: str, names: Sequence[str] | None) -> None:
    if isinstance(names, str):
        raise ValueError(f"{argument} must be a list of names, but got the string {names!r}")


def check_sizes(sizes: Sequence[int], latents: int) -> None:
    """Raise ValueError unless subspaces of these sizes partition the latents."""
    if sum(sizes) != latents or min(sizes) < 1:
        raise ValueError(
            f"sizes must be positive and add up to the {latents} latents, but got {tuple(sizes)}"
        )


def active_units(mean: Array, variance: float = ACTIVE) -> Tensor:
    """Latents with Var_n E[z_j | x_n] > 0.01 (Burda et al. 2016): (N, z) -> (z,) bool."""
    return as_code(mean).double().var(0, correction=0) > variance


def entropy_of(p: Tensor) -> Tensor:
    """Entropy of a discrete distribution, in nats."""
    return 0 - torch.xlogy(p, p).sum()


def number_groups(classes: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Number the values of all factors consecutively, and count them.

    Returns:
        The group of each image under each factor, (factors, N), and p(v) of each factor.
    """
    groups, prior, offset = [], [], 0
    for column in classes.T:
        _, value, count = column.unique(return_inverse=True, return_counts=True)
        groups.append(value + offset)
        prior.append(count.double() / len(column))
        offset += len(count)
    return torch.stack(groups), prior


def factor_entropy(prior: Sequence[Tensor]) -> Tensor:
    """H(v_k) of each factor from its p(v), in nats: (factors,)."""
    return torch.stack([entropy_of(p) for p in prior])


def relative_lead(first: Tensor, second: Tensor, entropy: Tensor) -> Tensor:
    """(first - second) / H(v_k), NaN for a factor that never varies; all (..., factors)."""
    return ((first - second) / entropy).where(entropy > 0, torch.nan)


def leads(information: Tensor, entropy: Tensor) -> Tensor:
    """Lead in information of the best latent for each factor over the second best, per H(v_k).

    Args:
        information: I(z_j; v_k), (z, factors); a single latent leads over 0.
        entropy: H(v_k), (factors,).

    Returns:
        The leads, (factors,); NaN for a factor that never varies.
    """
    best = torch.nn.functional.pad(information, (0, 0, 0, 1)).topk(2, dim=0).values
    return relative_lead(best[0], best[1], entropy)
