r"""Unsupervised disentanglement ranking (Duan et al. 2020): do models agree on their latents?

This needs no labels: if models that differ only in their seed find the same latents, up to order
and sign, then these are presumably the factors. For a pair (i, j), with R(a, b) the similarity of
latent a of model i and latent b of model j, from 0 to 1:

.. math::
    UDR_{ij} = \frac1{d_a + d_b} \Big[ \sum_b \frac{r_b^2}{\sum_a R(a, b)}
                                     + \sum_a \frac{r_a^2}{\sum_b R(a, b)} \Big],
    \quad r_b = \max_a R(a, b), \quad r_a = \max_b R(a, b)

Sums, maxima and the counts d_a, d_b include only informative latents, those with a KL above 0.01.
The score of a model is the median over its pairs. All models must be evaluated on the same images,
in the same order.

This is the paper's formula. The authors' code, in disentanglement_lib, excludes uninformative
latents in the same way, but *averages differently*: it averages over b, over a, and then the two
means, which differs if d_a and d_b do (for one latent, against a copy of it and noise, 2/3 here
and 3/4 there). With the Lasso, whose R is not symmetric, it uses one direction of a pair, while
the mean of both is used here.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .codes import Array, as_code, numbers
from .sap_dci import scikit_learn, standardised

INFORMATIVE = 0.01  # nats
LASSO_PENALTY = 0.1  # as in the authors' code

Similarity = Callable[[Tensor, Tensor], Tensor]


def udr(
    models: Sequence[tuple[Array, Array]],
    similarity: Similarity | None = None,
) -> Tensor:
    """Score each model by the median of its UDR with every other one, from 0 to 1.

    Args:
        models: For each model, the posterior means, (N, z), and the mean KL of every latent,
            (z,), or True for informative latents.
        similarity: `spearman`, the default, or `lasso`.

    Returns:
        The scores, (models,).
    """
    if len(models) < 2:
        raise ValueError(f"UDR compares models, so it needs at least 2, but got {len(models)}")
    if len({len(mean) for mean, _ in models}) > 1:
        raise ValueError("all models must be evaluated on the same images, in the same order")
    codes = [informative(as_code(mean), numbers(kl, "the KL of latents")) for mean, kl in models]
    count = len(codes)
    scores = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            scores[i, j] = udr_of((similarity or spearman)(codes[i], codes[j])) if i != j else 0
    pairs = (scores + scores.T) / 2  # equal, unless the similarity is asymmetric
    others = ~torch.eye(count, dtype=torch.bool)
    return pairs[others].view(count, count - 1).quantile(0.5, dim=1)


def informative(mean: Tensor, kl: Tensor) -> Tensor:
    """Select the informative latents, in float64: (N, z), (z,) -> (N, informative)."""
    if kl.shape != mean.shape[1:]:
        raise ValueError(
            f"each of the {mean.shape[1]} latents needs its mean KL, but got {tuple(kl.shape)}"
        )
    return mean[:, kl > INFORMATIVE].double()


def udr_of(similarity: Tensor) -> float:
    """UDR of a pair from R(a, b), (d_a, d_b); 0 if either model has no informative latent."""
    if similarity.numel() == 0:
        return 0.0
    strength = [relative_strength(similarity, dim).sum() for dim in (0, 1)]
    return float(sum(strength) / sum(similarity.shape))


def relative_strength(similarity: Tensor, dim: int) -> Tensor:
    """max(R)^2 / sum(R): 1 for a latent with exactly one match, equal to it; 0 / 0 is 0."""
    total = similarity.sum(dim)
    return torch.where(total > 0, similarity.amax(dim).square() / total, 0.0)


def spearman(left: Tensor, right: Tensor) -> Tensor:
    """|rank correlation| of all pairs of columns, 0 for constants: (N, a), (N, b) -> (a, b)."""
    ranked = [standardised(ranks(columns)) for columns in (left, right)]
    return (ranked[0].T @ ranked[1]).abs().div(len(left)).clamp_max(1)


def lasso(left: Tensor, right: Tensor) -> Tensor:
    """|weight| of each column of left in a Lasso regression of each of right: (a, b)."""
    if left.shape[1] == 0 or right.shape[1] == 0:
        return torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64)
    model = scikit_learn("linear_model").Lasso(alpha=LASSO_PENALTY)
    model.fit(standardised(left).numpy(), standardised(right).numpy())
    weights = torch.from_numpy(model.coef_).view(right.shape[1], left.shape[1])
    return weights.abs().T.double()


def ranks(columns: Tensor) -> Tensor:
    """Rank the values of each column, from 1, with mean ranks for ties: (N, z) -> (N, z)."""
    ranked = []
    for column in columns.T:
        _, place, count = column.unique(return_inverse=True, return_counts=True)
        ranked.append((count.cumsum(0) - (count - 1) / 2).double()[place])
    return torch.stack(ranked, dim=-1) if ranked else columns.double()
