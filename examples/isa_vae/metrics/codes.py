"""What is scored, and whether it can be: codes, factors, and which latents count.

A code is the posterior mean of N images, (N, latents), and for some scores its deviation. Factors
are the values that each image was made with, (N, factors): only whether two values are equal
counts, and for SAP their order. NumPy arrays and tensors on any device will do.

**Which latents count.** A latent that is not used has nearly the same mean for every image. By
the variance of that mean over the images two thresholds are in use, for different ends, and both
are kept, because published numbers rest on them:

- `ACTIVE`, a variance of 0.01 (Burda et al. 2016): the count of active units, and the scores whose
  names end in ``_active``;
- `PRUNED`, a *standard deviation* of 0.05, so a variance of 0.0025 (``prune_dims.threshold`` of
  disentanglement_lib): latents without a vote in the FactorVAE score. It divides by the variance,
  so only what has collapsed is to be left out, and not a latent that encodes a factor small.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any] | Tensor

ACTIVE = 0.01  # variance of the posterior mean from which a latent is active
PRUNED = 0.05  # standard deviation of the posterior mean from which a latent has a vote


class ScoringError(ValueError):
    """A model that has no scores, as after a training that diverged."""


def check_posteriors(mean: Tensor, std: Tensor) -> None:
    """Raise ScoringError unless all are normal distributions."""
    if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
        raise ScoringError("posteriors must have finite means and positive, finite deviations")


def as_code(mean: Array) -> Tensor:
    """Posterior means as a tensor on the CPU, in float32 or float64: (N, latents)."""
    code = numbers(mean, "codes")
    if code.ndim != 2 or len(code) == 0:
        raise ValueError(f"codes must have shape (N, latents), but got {tuple(code.shape)}")
    if not code.isfinite().all():
        wrong = int((~code.isfinite()).any(1).sum())
        raise ScoringError(f"codes must be finite, but {wrong} of {len(code)} rows are not")
    return code


def as_posteriors(mean: Array, std: Array) -> tuple[Tensor, Tensor]:
    """Means and deviations in one precision: two of (N, latents)."""
    code, width = numbers(mean, "codes"), numbers(std, "std")
    if code.ndim != 2 or len(code) == 0 or code.shape != width.shape:
        raise ValueError(
            "codes and std must both have shape (N, latents), but got "
            f"{tuple(code.shape)} and {tuple(width.shape)}"
        )
    check_posteriors(code, width)
    return code, width.to(code)


def numbers(values: Array, name: str) -> Tensor:
    """As a tensor on the CPU; whole numbers and what is wider than float32 become float64."""
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
    """Values of the factors as whole numbers in the same order, (N, factors).

    Values with a fraction, as the positions of dSprites' file, are numbered; but where more than
    half of many rows have a value of their own, the factor is continuous, and has no entropy.
    """
    found = factors if isinstance(factors, Tensor) else np.asarray(factors)
    shape = tuple(found.shape)
    if len(shape) != 2 or shape[0] != rows or shape[1] == 0:
        hint = "; one factor alone is factors[:, None]" if len(shape) == 1 else ""
        raise ValueError(
            f"factors must have shape (N, factors) with N = {rows} as the codes, but got "
            f"{shape}{hint}"
        )
    whole = isinstance(found, Tensor) and not found.is_floating_point()
    if whole or (isinstance(found, np.ndarray) and found.dtype.kind in "iub"):
        kept = found if isinstance(found, Tensor) else torch.from_numpy(found.astype(np.int64))
        return kept.detach().cpu().long()
    columns = numbers(found, "factors").T
    return torch.stack([numbered(column, k) for k, column in enumerate(columns)], dim=1)


def numbered(column: Tensor, place: int) -> Tensor:
    """Place of each value among the values of a factor: (N,) -> (N,)."""
    if not column.isfinite().all():
        raise ValueError(f"column {place} of factors must be finite")
    values, number = column.unique(return_inverse=True)
    if len(values) > max(len(column) / 2, 20) and not values.equal(values.round()):
        raise ValueError(
            f"column {place} of factors has {len(values)} values in {len(column)} rows: a "
            "continuous factor must be cut into bins first"
        )
    return number


def factor_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """The names given, one for each factor; without any, factor0, factor1, ..."""
    _check_is_list("names", names)
    found = tuple(f"factor{k}" for k in range(count)) if names is None else tuple(names)
    if len(found) != count or len(set(found)) != count:
        raise ValueError(
            f"there must be {count} different names, one for each factor, but got {found}"
        )
    return found


def chosen_names(chosen: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    """The factors that a gap is a mean over: those chosen, by default all."""
    _check_is_list("mig_factors", chosen)
    found = tuple(names if chosen is None else chosen)
    unknown = [name for name in found if name not in names]
    if unknown or not found:
        raise ValueError(
            f"mig_factors must be some of the factors {', '.join(names)}, but got "
            f"{', '.join(found) or 'none'}"
        )
    return found


def _check_is_list(argument: str, names: Sequence[str] | None) -> None:
    if isinstance(names, str):
        raise ValueError(f"{argument} must be a list of names, but got the text {names!r}")


def check_sizes(sizes: Sequence[int], latents: int) -> None:
    """Raise ValueError unless subspaces of these sizes have each latent once."""
    if sum(sizes) != latents or min(sizes) < 1:
        raise ValueError(
            f"sizes must be positive and add up to the {latents} latents, but got {tuple(sizes)}"
        )


def active_units(mean: Array, variance: float = ACTIVE) -> Tensor:
    """Latents with Var_n E[z_j | x_n] > 0.01 (Burda et al. 2016): (N, z) -> (z,) bool."""
    return as_code(mean).double().var(0, correction=0) > variance


def entropy_of(p: Tensor) -> Tensor:
    """H of a discrete distribution, in nats."""
    return 0 - torch.xlogy(p, p).sum()


def number_groups(classes: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Number the values of all factors through, and count them.

    Returns:
        Group of each image under each factor, (factors, N), and each factor's p(v).
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
    """(first - second) / H(v_k), NaN for a factor that never varies: each (..., factors)."""
    return ((first - second) / entropy).where(entropy > 0, torch.nan)


def leads(information: Tensor, entropy: Tensor) -> Tensor:
    """What the best latent knows of each factor beyond the second best, as a share of H(v_k).

    Args:
        information: I(z_j; v_k), (z, factors); a single latent is compared with 0.
        entropy: H(v_k), (factors,).

    Returns:
        (factors,); NaN for a factor that never varies.
    """
    best = torch.nn.functional.pad(information, (0, 0, 0, 1)).topk(2, dim=0).values
    return relative_lead(best[0], best[1], entropy)
