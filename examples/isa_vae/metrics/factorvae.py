r"""The majority-vote score of Kim and Mnih (2018), from given posterior means.

Fix one factor, take a batch of images that share its value, and find the latent that varies least,
relative to its variance over all images:

.. math:: d^* = \arg\min_j \frac{\operatorname{Var}_{batch}(\mu_j)}{\operatorname{Var}(\mu_j)}

This latent votes for the factor. A first set of votes assigns to each latent the factor that it
votes for most often; the score is the fraction of a second set that this predicts correctly. With
K factors, the chance level is about 1 / K. Latents whose mean has a standard deviation below 0.05
have no vote, as in disentanglement_lib (see codes.py). While Kim and Mnih encode new images, here
the rows of a batch are drawn with replacement from the given means.
"""

import torch
from torch import Tensor

from .codes import PRUNED, Array, active_units, as_classes, as_code

BATCH = 64
TRAIN, TEST = 10_000, 5_000  # batches, as in disentanglement_lib
CHUNK = 500  # batches processed at once


def factorvae_score(
    mean: Array,
    classes: Array,
    generator: torch.Generator,
    batch: int = BATCH,
    train: int = TRAIN,
    test: int = TEST,
) -> float:
    """Accuracy of the majority vote, from 0 to 1.

    It is 0 if no latent has a vote, and NaN if a factor never varies, since fixing that factor
    selects nothing.

    Args:
        mean: Posterior means, (N, z).
        classes: Values of the factors, (N, factors).
        generator: Random generator for the batches.
        batch: Images per batch.
        train: Number of batches that assign factors to latents, split evenly over the factors.
        test: Number of batches that the score is measured on.
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
    """Count how often each latent varied least with each factor fixed: (active, factors)."""
    columns = []
    for column in classes.T:
        rows = fixed_batches(column, -(-batches // classes.shape[1]), batch, generator)
        least = [scaled[part].var(1).argmin(1) for part in rows.split(CHUNK)]
        columns.append(torch.bincount(torch.cat(least), minlength=scaled.shape[1]))
    return torch.stack(columns, dim=-1)


def fixed_batches(column: Tensor, batches: int, batch: int, generator: torch.Generator) -> Tensor:
    """Draw batches of rows that share a factor's value, that of a random row: (batches, batch)."""
    _, value, count = column.unique(return_inverse=True, return_counts=True)
    order = value.argsort(stable=True)
    start = count.cumsum(0) - count
    fixed = value[torch.randint(len(value), (batches, 1), generator=generator)]
    place = torch.rand(batches, batch, generator=generator, dtype=torch.float64) * count[fixed]
    return order[start[fixed] + place.long()]
