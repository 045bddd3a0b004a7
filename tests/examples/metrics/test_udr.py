"""UDR of models that agree, that agree in part and that do not."""

from itertools import product

import pytest
import torch
from scipy import stats

from metrics.udr import lasso, relative_strength, spearman, udr, udr_of

ALL = torch.ones(3)  # a KL for each latent: all are informative


@pytest.fixture(scope="module")
def code():
    """Three latents without any correlation, (N, 3)."""
    return torch.tensor(list(product(range(4), range(5), range(6)))).double()


def test_the_same_latents_in_another_order_with_other_signs_and_scales(code):
    other = torch.stack([-code[:, 2], 3 * code[:, 0], code[:, 1].exp()], dim=-1)
    scores = udr([(code, ALL), (code, ALL), (other, ALL)])
    torch.testing.assert_close(scores, torch.ones(3).double())


def test_models_that_share_nothing():
    generator = torch.Generator().manual_seed(0)
    models = [(torch.randn(5000, 6, generator=generator), torch.ones(6)) for _ in range(3)]
    assert (udr(models) < 0.05).all()


def test_a_rotated_model_agrees_with_none_but_its_like(code):
    code = code / code.std(0)
    x, y, z = (code - code.mean(0)).T
    rotated = torch.stack([x + y, x - y, z], dim=-1)
    scores = udr([(code, ALL), (code, ALL), (code, ALL), (rotated, ALL)])
    torch.testing.assert_close(scores[:3], torch.ones(3).double())  # the median of 1, 1 and less
    assert scores[3] < 0.65  # (1 + 2 / 2 * 0.7) / 3 is 0.57


def test_formula_by_hand():
    similarity = torch.tensor([[0.8, 0.1], [0.3, 0.6], [0.0, 0.2]]).double()
    by_column = 0.8**2 / 1.1 + 0.6**2 / 0.9
    by_row = 0.8**2 / 0.9 + 0.6**2 / 0.9 + 0.2**2 / 0.2
    assert udr_of(similarity) == pytest.approx((by_column + by_row) / 5)


def test_the_authors_code_averages_differently():
    """As the module says: a mean over all latents of both here, a mean of two means there."""
    similarity = torch.tensor([[1.0, 0.0]]).double()  # one latent; its copy, and noise
    by_column, by_row = (relative_strength(similarity, dim) for dim in (0, 1))
    assert udr_of(similarity) == pytest.approx(2 / 3)
    assert float(by_column.mean() + by_row.mean()) / 2 == pytest.approx(3 / 4)


def test_a_duplicated_latent_counts_half():
    torch.testing.assert_close(relative_strength(torch.ones(2, 2), 0), torch.full((2,), 0.5))
    assert relative_strength(torch.zeros(2, 2), 0).tolist() == [0, 0]


def test_latents_without_information_do_not_count(code):
    generator = torch.Generator().manual_seed(1)
    noisy = torch.cat([code, torch.randn(len(code), 4, generator=generator)], dim=1)
    kl = torch.tensor([1.0, 0.5, 0.1, 0.009, 0.001, 0, 0])
    torch.testing.assert_close(udr([(noisy, kl), (code, ALL)]), torch.ones(2).double())
    assert (udr([(noisy, torch.ones(7)), (code, ALL)]) < 0.95).all()
    torch.testing.assert_close(
        udr([(noisy, kl > 0.01), (code, ALL > 0)]), torch.ones(2).double()
    )  # activity instead of KL
    assert udr([(noisy, torch.zeros(7)), (code, ALL)]).tolist() == [0, 0]


def test_rank_correlation_agrees_with_scipy_where_values_are_equal():
    generator = torch.Generator().manual_seed(2)
    left = torch.randint(5, (200, 3), generator=generator).double()
    right = left @ torch.randn(3, 2, generator=generator).double()
    right[:100] = right[:100].round()
    expected = [[abs(stats.spearmanr(a, b).statistic) for b in right.T] for a in left.T]
    torch.testing.assert_close(spearman(left, right), torch.tensor(expected))


def test_a_constant_latent_is_like_no_other(code):
    constant = torch.full((len(code), 1), 0.1).double()
    assert spearman(constant, code).tolist() == [[0, 0, 0]]
    assert lasso(code, constant).tolist() == [[0], [0], [0]]


def test_lasso_shrinks_the_weight_of_an_equal_latent_by_its_penalty(code):
    torch.testing.assert_close(
        lasso(code, -code[:, [1, 0, 2]]), 0.9 * torch.eye(3)[[1, 0, 2]].double()
    )
    scores = udr([(code, ALL), (-code, ALL)], similarity=lasso)
    torch.testing.assert_close(scores, torch.full((2,), 0.9).double())
    assert udr([(code, ALL), (code, torch.zeros(3))], similarity=lasso).tolist() == [0, 0]


def test_what_cannot_be_compared_is_refused(code):
    with pytest.raises(ValueError, match="at least 2, but got 1"):
        udr([(code, ALL)])
    with pytest.raises(ValueError, match="same images"):
        udr([(code, ALL), (code[:50], ALL)])
