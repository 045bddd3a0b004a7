r"""The majority vote of Kim and Mnih (2018), from posterior means that are already there.

Fix one factor, look at a batch of images that agree in it, and see which latent varies least,
relative to its variance over all images:

.. math:: d^* = \arg\min_j \frac{\operatorname{Var}_{batch}(\mu_j)}{\operatorname{Var}(\mu_j)}

The latent votes for the factor. A first set of votes gives each latent the factor that it is voted
for most often; the score is the share of a second set that this gets right. With K factors, chance
is about 1 / K. Latents whose mean has a standard deviation below 0.05 have no vote, as in
disentanglement_lib: see codes.py. Where Kim and Mnih encode new images, the rows of a batch are
drawn, with replacement, from those whose means are given.
"""

import torch
from torch import Tensor

from .codes import PRUNED, Array, active_units, as_classes, as_code

BATCH = 64
TRAIN, TEST = 10_000, 5_000  # batches, as in disentanglement_lib
CHUNK = 500  # batches at once


def factorvae_score(
    mean: Array,
    classes: Array,
    generator: torch.Generator,
    batch: int = BATCH,
    train: int = TRAIN,
    test: int = TEST,
) -> float:
    """Accuracy of the majority vote, from 0 to 1.

    It is 0 if no latent has a vote, and NaN if a factor never varies: a batch that agrees in it is
    like any other.

    Args:
        mean: Of the posteriors, (N, z).
        classes: Values of the factors, (N, factors).
        generator: Draws the batches.
        batch: Images in each.
        train: Batches that assign a factor to each latent, the same number for every factor.
        test: Batches that the score is measured on.
    """
    mean = as_code(mean)
    classes = as_classes(classes, len(mean))
    if (classes == classes[0]).all(0).any():
        return torch.nan
    voters = mean[:, active_units(mean, PRUNED**2)].double()
    if voters.shape[1] == 0:
        return 0.0
    scaled = (voters / voters.std(0)).float()
    factor_of = votes(scaled, classes, train, batch, generator).argmax(1)
    tested = votes(scaled, classes, test, batch, generator)
    return float(tested.gather(1, factor_of[:, None]).sum() / tested.sum())


def votes(
    scaled: Tensor, classes: Tensor, batches: int, batch: int, generator: torch.Generator
) -> Tensor:
    """How often each latent varied least while each factor was fixed: (active, factors)."""
    columns = []
    for column in classes.T:
        rows = fixed_batches(column, -(-batches // classes.shape[1]), batch, generator)
        least = [scaled[part].var(1).argmin(1) for part in rows.split(CHUNK)]
        columns.append(torch.bincount(torch.cat(least), minlength=scaled.shape[1]))
    return torch.stack(columns, dim=-1)


def fixed_batches(column: Tensor, batches: int, batch: int, generator: torch.Generator) -> Tensor:
    """Rows that agree in the value of a factor; a random row decides which: (batches, batch)."""
    _, value, count = column.unique(return_inverse=True, return_counts=True)
    order = value.argsort(stable=True)
    start = count.cumsum(0) - count
    fixed = value[torch.randint(len(value), (batches, 1), generator=generator)]
    place = torch.rand(batches, batch, generator=generator, dtype=torch.float64) * count[fixed]
    return order[start[fixed] + place.long()]
