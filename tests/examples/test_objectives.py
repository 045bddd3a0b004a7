"""The objectives against a data set small enough to sum over: estimators, parts and signs.

The oracle is numpy and loops: a few codes of known normal posteriors, and every minibatch.
"""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from torch import nn
from torch.distributions import Independent, Normal
from torch.testing import assert_close

from config import PRESETS
from lpnested import ISA
from models import Discriminator
from objectives import (
    aggregate,
    discriminator_loss,
    elbo,
    factorvae,
    log_likelihood,
    log_weights,
    part_names,
    shuffle_latents,
    tcvae,
)
from train import make_state, update

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


# The oracle, from the paper and Chen et al. (2018) alone.


def log_normal(z, mean, scale):
    """log N(z; mean, scale^2), entry by entry."""
    return -0.5 * ((z - mean) / scale) ** 2 - np.log(scale) - 0.5 * math.log(2 * math.pi)


def log_mean(values):
    """log of the mean of exp(values), over the first axis."""
    top = np.max(values, axis=0)
    return top + np.log(np.mean(np.exp(values - top), axis=0))


def exact(z, means, scales, group):
    """log q(z_G) = log 1/N sum_n prod_{j in G} N(z_j; mean_nj, scale_nj), z of (..., latents)."""
    rows = [
        sum(log_normal(z[..., j], mean[j], scale[j]) for j in group)
        for mean, scale in zip(means, scales, strict=True)
    ]
    return log_mean(np.stack(rows))


def log_isa(z, sizes, p0, p, s):
    """The product form: sum_k log c_k - ||z_k||_{p_k}^{p0} / s, with s as in the paper."""
    total, start = 0.0, 0
    for size, pk in zip(sizes, p, strict=True):
        part = np.abs(z[..., start : start + size])
        log_c = (
            math.log(p0)
            + (size - 1) * math.log(pk)
            + gammaln(size / pk)
            - size * math.log(2)
            - size * gammaln(1 / pk)
            - gammaln(size / p0)
            - size / p0 * math.log(s)
        )
        total, start = total + log_c - (part**pk).sum(-1) ** (p0 / pk) / s, start + size
    return total


def consecutive(sizes):
    """Indices of the latents of each group."""
    ends = list(itertools.accumulate(sizes))
    return [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]


# A data set: picture n is the unit vector e_n, and q(z | x_n) is a normal that is looked up.


class Toy(nn.Module):
    def __init__(self, means, scales):
        super().__init__()
        self.means = nn.Parameter(torch.as_tensor(means, dtype=torch.float64))
        self.scales = nn.Parameter(torch.as_tensor(scales, dtype=torch.float64))
        torch.manual_seed(7)
        self.decoder = nn.Linear(self.means.shape[1], self.means.shape[0]).double()

    def encoder(self, x):
        return Normal(x @ self.means, x @ self.scales)


def toy(total=6, latents=4, seed=0):
    rng = np.random.default_rng(seed)
    means, scales = rng.normal(size=(total, latents)), rng.uniform(0.3, 0.9, (total, latents))
    return Toy(means, scales), means, scales


def pictures(total, rows=None):
    return torch.eye(total, dtype=torch.float64)[list(range(total)) if rows is None else rows]


def normal_prior(latents=4, scale=1.0):
    zeros = torch.zeros(latents, dtype=torch.float64)
    return Independent(Normal(zeros, torch.full_like(zeros, scale)), 1)


def isa_prior(sizes=(2, 2), p0=2.1, p=(1.7, 2.6), scale=1.0):
    return ISA(sizes, torch.tensor(p0).double(), torch.tensor(p).double(), scale)


PRIORS = {"normal": normal_prior(), "isa": isa_prior()}
both_priors = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
both_kinds = pytest.mark.parametrize("tc", ["dims", "groups"])
both_estimators = pytest.mark.parametrize("estimator", ["mws", "mss"])


def sampled(vae, x, seed):
    """The z that an objective draws after that seed."""
    torch.manual_seed(seed)
    return vae.encoder(x).rsample().detach()


# The bound.


def test_sampled_and_exact_rate_of_the_normal_agree_in_expectation():
    vae, means, scales = toy()
    x = pictures(6).repeat(20_000, 1)
    prior = normal_prior(scale=0.7)
    closed = ((scales**2 + means**2) / (2 * 0.7**2) - 0.5 + np.log(0.7) - np.log(scales)).sum() / 6
    exactly = elbo(x, vae, prior, 1.0, "analytic")["kl"].item()
    assert exactly == pytest.approx(closed, rel=1e-12)

    z = sampled(vae, x, 1).numpy()
    ratio = log_normal(z, np.tile(means, (20_000, 1)), np.tile(scales, (20_000, 1))).sum(-1)
    ratio -= log_normal(z, 0.0, 0.7).sum(-1)
    torch.manual_seed(1)
    rate = elbo(x, vae, prior, 1.0)["kl"].item()
    assert rate == pytest.approx(ratio.mean(), rel=1e-9)
    assert abs(rate - closed) < 4 * ratio.std() / math.sqrt(len(ratio))


@pytest.mark.parametrize("kl", ["monte-carlo", "analytic"])
def test_the_bound_is_likelihood_less_weighted_rate(kl):
    vae, *_ = toy()
    values = []
    for beta in (0.0, 1.0, 2.5):
        torch.manual_seed(0)
        terms = elbo(pictures(6), vae, normal_prior(), beta, kl)
        assert_close(terms["objective"], terms["log_px"] - beta * terms["kl"])
        values.append((terms["log_px"], terms["kl"]))
    assert values[0] == values[1] == values[2]  # the weight changes nothing else


def test_the_rate_of_isa_has_the_joint_density():
    """The product form of the paper; its s is our scale ** p0."""
    vae, means, scales = toy(latents=5)
    scale, p0, p, sizes = 1.3, 2.1, (1.7, 2.6), (2, 3)
    z = sampled(vae, pictures(6), 3).numpy()
    log_pz = log_isa(z, sizes, p0, p, scale**p0)
    torch.manual_seed(3)
    terms = elbo(pictures(6), vae, isa_prior(sizes, p0, p, scale), 1.0)
    expected = (log_normal(z, means, scales).sum(-1) - log_pz).mean()
    assert terms["kl"].item() == pytest.approx(expected, rel=1e-6)


def test_grey_pixels_have_the_cross_entropy():
    x = torch.rand(5, 9, dtype=torch.float64)
    logits = 3 * torch.randn(5, 9, dtype=torch.float64)
    chance = 1 / (1 + np.exp(-logits.numpy()))
    expected = x.numpy() * np.log(chance) + (1 - x.numpy()) * np.log(1 - chance)
    assert_close(log_likelihood(x, logits), torch.from_numpy(expected.sum(-1)))
    best = x.logit()
    assert (log_likelihood(x, best) >= log_likelihood(x, logits)).all()
    far = torch.tensor([[1e4, -1e4]])  # no infinity where the decoder is sure, and wrong or right
    assert_close(log_likelihood(torch.tensor([[1.0, 0.0]]), far), torch.zeros(1))
    assert_close(log_likelihood(torch.tensor([[0.0, 0.5]]), far), torch.tensor([-1.5e4]))


# Estimators of q(z).


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 2), (1, 3), (3, 1), (4,)])
def test_the_mean_over_all_pictures_is_q(sizes):
    vae, means, scales = toy()
    z = sampled(vae, pictures(6), 0)
    weights = torch.full((6, 6), -math.log(6), dtype=torch.float64)
    joint, parts = aggregate(z, vae.encoder(pictures(6)), sizes, weights)
    groups = [exact(z.numpy(), means, scales, group) for group in consecutive(sizes)]
    assert_close(joint.detach().numpy(), exact(z.numpy(), means, scales, range(4)))
    assert_close(parts.detach().numpy(), sum(groups))


SHAPES = [(2, 2), (2, 8), (3, 3), (3, 5), (4, 6), (5, 5)]


@pytest.mark.parametrize(("batch", "total"), SHAPES)
@pytest.mark.parametrize("group", [(1,), (0, 2), (0, 1, 2)])
def test_stratified_sampling_is_unbiased(batch, total, group):
    """The mean over all minibatches with x_i, wherever in it x_i stands, is q(z_i) itself."""
    vae, means, scales = toy(total, 3, seed=batch)
    z = sampled(vae, pictures(total), 0)
    own, width = total - 1, len(group)
    truth = math.exp(exact(z[own].numpy(), means, scales, group))
    weights = log_weights(batch, total, "mss")
    columns = vae.encoder(pictures(total))
    rest = [n for n in range(total) if n != own]
    for row in range(batch):
        orders = [
            [*others[:row], own, *others[row:]]
            for others in itertools.permutations(rest, batch - 1)
        ]
        values = []
        for order in orders:
            pick = torch.tensor(order)
            posterior = Normal(
                columns.loc[pick][:, list(group)], columns.scale[pick][:, list(group)]
            )
            joint, _ = aggregate(z[pick][:, list(group)], posterior, [width], weights)
            values.append(joint[row].exp().item())
        assert np.mean(values) == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize(("batch", "total"), [*SHAPES, (5, 100), (128, 128), (64, 737_280)])
def test_stratified_weights_are_those_of_the_paper(batch, total):
    """1/N for the picture itself, on the diagonal: not in column 0, as the released code."""
    weights, others = log_weights(batch, total, "mss").double().exp().numpy(), batch - 1
    assert_close(weights.sum(1), np.ones(batch), rtol=1e-6, atol=0)
    assert_close(weights.diagonal().copy(), np.full(batch, 1 / total), rtol=1e-6, atol=0)
    stands_for_all = (total - others) / (total * others)
    expected = np.sort([stands_for_all] + [1 / others] * (others - 1))
    for row in range(batch):
        assert_close(np.sort(np.delete(weights[row], row)), expected, rtol=1e-6, atol=0)


def test_stratified_sampling_of_two_pictures_is_exact():
    """Of more than two it is right on average only, also where the batch is all there is."""
    vae, means, scales = toy(2)
    z = sampled(vae, pictures(2), 0)
    joint, _ = aggregate(z, vae.encoder(pictures(2)), [4], log_weights(2, 2, "mss"))
    expected = exact(z.numpy(), means, scales, range(4))
    assert_close(joint.detach().numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("batch", "total"), [(1, 9), (2, 5), (7, 737_280)])
def test_minibatch_weights_are_all_the_same(batch, total):
    weights = log_weights(batch, total, "mws")
    assert_close(weights, torch.full((batch, batch), -math.log(batch * total)))


@pytest.mark.parametrize(("estimator", "batch"), [("mss", 1), ("mss", 8), ("mws", 0), ("mws", 8)])
def test_a_batch_that_cannot_stand_for_all_is_refused(estimator, batch):
    least = 2 if estimator == "mss" else 1
    with pytest.raises(ValueError, match=f"a batch size from {least} to the data set.s 7"):
        log_weights(batch, 7, estimator)
    for size in range(least, 8):
        weights = log_weights(size, 7, estimator).double().exp()
        assert weights.isfinite().all()
        whole = 1 if estimator == "mss" else 1 / 7
        torch.testing.assert_close(weights.sum(1), torch.full((size,), whole).double())


@both_kinds
def test_minibatch_weighted_parts_are_off_by_constants(tc):
    """Of all pictures: log q low by log N, so for d parts MI, TC and rest +1, d - 1, -d of it."""
    total, sizes = 6, (1, 3)
    vae, means, scales = toy(total)
    groups = consecutive((1,) * 4 if tc == "dims" else sizes)
    z = sampled(vae, pictures(total), 5).numpy()
    log_qzx = log_normal(z, means, scales).sum(-1)
    log_q = exact(z, means, scales, range(4))
    log_parts = sum(exact(z, means, scales, group) for group in groups)
    log_pz = log_normal(z, 0.0, 1.0).sum(-1)
    torch.manual_seed(5)
    terms = tcvae(pictures(total), vae, PRIORS["normal"], 1.0, total, sizes, tc=tc)
    _, _, _, *parts = terms.values()
    assert_close(
        [
            part.item() - k * math.log(total)
            for part, k in zip(parts, constants(groups), strict=True)
        ],
        [(log_qzx - log_q).mean(), (log_q - log_parts).mean(), (log_parts - log_pz).mean()],
        rtol=1e-5,
        atol=1e-6,
    )


def constants(groups):
    return 1, len(groups) - 1, -len(groups)


def test_minibatch_weighted_gradients_are_those_of_the_batch_mean():
    vae, *_ = toy()
    x = pictures(6, [4, 0, 2])

    def gradients(log_q):
        torch.manual_seed(0)
        posterior = vae.encoder(x)
        z = posterior.rsample()
        joint, parts = log_q(z, posterior)
        return torch.autograd.grad((joint - 3 * parts).sum(), [vae.means, vae.scales])

    def ours(z, posterior):
        return aggregate(z, posterior, [1, 3], log_weights(3, 1000, "mws"))

    def plainest(z, posterior):
        def log_q(group):
            means, scales = posterior.loc[:, group], posterior.scale[:, group]
            densities = [
                Normal(mean, scale).log_prob(z[:, group]).sum(-1).exp()
                for mean, scale in zip(means, scales, strict=True)
            ]
            return (sum(densities) / 3).log()

        return log_q(slice(0, 4)), log_q(slice(0, 1)) + log_q(slice(1, 4))

    for one, other in zip(gradients(ours), gradients(plainest), strict=True):
        assert_close(one, other)
        assert one.abs().sum() > 0


# The decomposition.


@both_priors
@both_kinds
@both_estimators
def test_with_all_weights_one_the_parts_are_the_bound(prior, tc, estimator):
    """To rounding, for any batch and estimator: what one part gains, another loses."""
    vae, *_ = toy(8)
    x, settings = pictures(8, [1, 5, 2, 7]), {"tc": tc, "estimator": estimator}
    results = []
    for objective, more in ((elbo, {}), (tcvae, {"total": 8, "sizes": (2, 2), **settings})):
        torch.manual_seed(4)
        terms = objective(x, vae, prior, 1.0, **more)
        grads = torch.autograd.grad(terms["objective"], [vae.means, vae.scales])
        results.append((*(terms[key] for key in ("objective", "log_px", "kl")), *grads))
    assert_close(*results, rtol=1e-9, atol=1e-9)
    _, _, kl, *parts = terms.values()
    assert len(parts) == 3
    assert_close(sum(parts), kl, rtol=1e-9, atol=1e-9)


@both_priors
@both_kinds
@both_estimators
def test_every_part_has_its_own_weight(prior, tc, estimator):
    vae, *_ = toy(8)
    torch.manual_seed(4)
    terms = tcvae(
        *(pictures(8, [1, 5, 2, 7]), vae, prior, 5.0, 8, (2, 2)),
        **{"tc": tc, "estimator": estimator, "alpha": 0.25, "gamma": 3.0},
    )
    objective, log_px, _, information, correlation, rest = terms.values()
    assert_close(objective, log_px - 0.25 * information - 5 * correlation - 3 * rest)


@both_priors
def test_groups_of_one_are_dimensions(prior):
    vae, *_ = toy()
    values = []
    for tc, sizes in (("dims", (2, 2)), ("groups", (1, 1, 1, 1))):
        torch.manual_seed(2)
        terms = tcvae(pictures(6), vae, prior, 2.0, 6, sizes, tc=tc)
        values.append(list(terms.values()))
    assert_close(*values)


def full_data_parts(vae, prior, total, sizes, tc, repeats=60, rounds=15):
    """Means and standard errors of the three parts, with q(z) summed over all pictures."""
    x = pictures(total).repeat(repeats, 1)
    groups = consecutive((1,) * sum(sizes) if tc == "dims" else sizes)
    draws = []
    for seed in range(rounds):
        torch.manual_seed(seed)
        with torch.no_grad():
            terms = tcvae(x, vae, prior, 1.0, len(x), sizes, tc=tc)  # of copies: q is the same
        parts = [part.item() for part in list(terms.values())[3:]]
        shift = math.log(len(x))
        draws.append([part - k * shift for part, k in zip(parts, constants(groups), strict=True)])
    draws = np.array(draws)
    return draws.mean(0), draws.std(0, ddof=1) / math.sqrt(rounds)


@both_priors
def test_parts_between_subspaces_are_divergences(prior):
    """Positive here, as the subspaces of either prior are independent."""
    vae, *_ = toy()
    mean, error = full_data_parts(vae, prior, 6, (2, 2), "groups")
    assert (mean > 4 * error).all()
    assert mean[0] < math.log(6)  # the information on one of six pictures


def test_a_product_of_pictures_has_no_correlation_between_subspaces():
    """Three codes of the first subspace with each of two of the second; within, they depend."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(3, 2)), rng.normal(size=(2, 2))
    means = np.array([np.concatenate(pair) for pair in itertools.product(first, second)])
    vae = Toy(means, np.full((6, 4), 0.4))
    mean, _ = full_data_parts(vae, normal_prior(), 6, (2, 2), "groups", 5, 5)
    assert mean[1] == pytest.approx(0, abs=1e-5)
    mean, error = full_data_parts(vae, normal_prior(), 6, (2, 2), "dims")
    assert mean[1] > 4 * error[1]


def test_a_code_that_is_the_prior_has_no_parts():
    vae = Toy(np.zeros((6, 4)), np.ones((6, 4)))
    for tc in ("dims", "groups"):
        mean, _ = full_data_parts(vae, normal_prior(), 6, (2, 2), tc, 5, 3)
        assert_close(mean, np.zeros(3), rtol=0, atol=1e-5)


CROSS = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])


def test_what_is_left_of_isa_over_latents_can_be_negative():
    """Codes on the axes, where the prior is: the product of their marginals is elsewhere too."""
    vae, prior = Toy(CROSS, np.full((4, 2), 0.3)), isa_prior((2,), 4.0, (1.0,), 8**0.25)
    mean, error = full_data_parts(vae, prior, 4, (2,), "dims")
    assert mean[2] < -4 * error[2]
    assert mean.sum() > 0
    whole, _ = full_data_parts(vae, prior, 4, (2,), "groups")
    assert whole[1] == pytest.approx(0, abs=1e-5)  # one subspace: nothing between
    assert whole[2] > 0
    assert whole[2] == pytest.approx(mean[1] + mean[2], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "tc", "names"),
    [
        ("normal", "dims", ("total_correlation", "dimension_wise_kl")),
        ("isa", "dims", ("total_correlation", "product_to_prior")),
        ("normal", "groups", ("tc_between_subspaces", "subspace_kl")),
        ("isa", "groups", ("tc_between_subspaces", "subspace_kl")),
    ],
)
def test_parts_are_called_what_they_are(name, tc, names):
    vae, *_ = toy()
    assert part_names(tc, PRIORS[name]) == names
    terms = tcvae(pictures(6), vae, PRIORS[name], 1.0, 6, (2, 2), tc=tc)
    parts = [f"{name}_mws" for name in ("index_code_mi", *names)]
    assert list(terms) == ["objective", "log_px", "kl", *parts]


# FactorVAE.

R, NOISE = 0.6, 0.5  # correlation of q(z); deviation of q(z | x)


class Correlated(nn.Module):
    """Pictures are standard normal in two dimensions, codes N(0, [[1, r], [r, 1]]) over them."""

    def __init__(self):
        super().__init__()
        self.r = nn.Parameter(torch.tensor(R, dtype=torch.float64))
        self.decoder = nn.Linear(2, 2).double()

    def encoder(self, x):
        """Means of covariance [[1, r], [r, 1]] - NOISE^2, so that with the noise it is q(z)."""
        own = 1 - NOISE**2
        first = math.sqrt(own) * x[:, 0]
        second = self.r / own * first + (own - self.r**2 / own).sqrt() * x[:, 1]
        mean = torch.stack([first, second], -1)
        return Normal(mean, torch.full_like(mean, NOISE))


def optimal(z):
    """The exact classifier: logits are the log densities of q(z) and the product of marginals."""
    quadratic = (z[:, 0] ** 2 - 2 * R * z[:, 0] * z[:, 1] + z[:, 1] ** 2) / (1 - R**2)
    joint = -0.5 * quadratic - 0.5 * math.log(1 - R**2) - math.log(2 * math.pi)
    product = -0.5 * z.square().sum(-1) - math.log(2 * math.pi)
    return torch.stack([joint, product], -1)


def correlated_terms(beta, n=100_000):
    torch.manual_seed(0)
    vae, x = Correlated(), torch.randn(n, 2, dtype=torch.float64)
    return vae, *factorvae(x, vae, normal_prior(2), beta, optimal)


def test_the_best_classifier_gives_the_total_correlation():
    vae, terms, z = correlated_terms(beta=2.0)
    assert_close(z.T.cov(), torch.tensor([[1, R], [R, 1]]).double(), rtol=0, atol=0.02)
    logits = optimal(z)
    error = (logits[:, 0] - logits[:, 1]).std() / math.sqrt(len(z))
    found, truth = terms["total_correlation_by_discriminator"], -0.5 * math.log(1 - R**2)
    assert abs(found - truth) < 4 * error < 0.1 * truth
    assert_close(terms["objective"], terms["log_px"] - terms["kl"] - 2 * found)
    assert not z.requires_grad
    slope = torch.autograd.grad(found, vae.r)[0].item()
    assert slope == pytest.approx(R / (1 - R**2), rel=0.1)  # so that ascent makes r smaller


def test_no_weight_gives_the_bound():
    vae, *_ = toy()
    values = []
    for objective, more in ((elbo, (1.0,)), (factorvae, (0.0, Discriminator(4, 8).double()))):
        torch.manual_seed(0)
        terms = objective(pictures(6), vae, PRIORS["isa"], *more)
        terms = terms if isinstance(terms, dict) else terms[0]
        values.append([terms[key] for key in ("objective", "log_px", "kl")])
    assert_close(*values)


def test_a_discriminator_at_chance_loses_log_two():
    z = torch.randn(50, 3)
    for logit in (0.0, 7.0):  # equal logits of any size
        loss = discriminator_loss(lambda z, c=logit: torch.full((len(z), 2), c), z, z)
        assert loss.item() == pytest.approx(math.log(2), rel=1e-6)


def test_the_discriminator_is_rewarded_for_the_ratio_that_the_penalty_takes():
    """At the optimum its loss is log 2 - JSD, below chance; with the classes swapped, above it."""
    *_, z = correlated_terms(beta=1.0)
    best = discriminator_loss(optimal, z, z)
    swapped = discriminator_loss(lambda z: optimal(z).flip(-1), z, z)
    off = [discriminator_loss(lambda z, c=c: c * optimal(z), z, z) for c in (0.7, 1.4)]
    assert best < min(off) <= max(off) < math.log(2) < swapped


def test_shuffling_keeps_marginals_and_breaks_dependence():
    z = torch.randn(20_000, 1) * torch.tensor([1.0, -2.0, 0.5])
    shuffled = shuffle_latents(z)
    assert torch.equal(shuffled.sort(0).values, z.sort(0).values)
    correlation = shuffled.T.corrcoef() - torch.eye(3)
    assert correlation.abs().max() < 4 / math.sqrt(len(z))
    assert (z.T.corrcoef().abs() > 0.99).all()


def test_all_pairs_of_permutations_are_as_frequent():
    z = torch.arange(3.0)[:, None].expand(3, 2)
    counts = {}
    for _ in range(3600):
        key = tuple(shuffle_latents(z).flatten().tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 36
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 75  # p of 1e-4


@pytest.fixture
def factor_state():
    """A run of FactorVAE before its first step, eight pictures, and the next four after four."""
    config = replace(
        PRESETS["smoke"],
        **{"objective": "factorvae", "sizes": (2, 1), "hidden": 8, "beta": 3.0, "device": "cpu"},
    )
    state = make_state(config, 1)
    assert len(list(state.discriminator.parameters())) == 14
    packed = torch.randint(0, 256, (8, 512), dtype=torch.uint8)
    return state, config, packed, torch.arange(4), torch.arange(4, 8)


def step(factor_state):
    state, config, packed, rows, following = factor_state
    torch.manual_seed(5)
    return update(state, config, packed, rows, following, 4096)


def stop(optimiser):
    for group in optimiser.param_groups:
        group["lr"] = 0.0


def weights(module):
    return [weight.detach().clone() for weight in module.parameters()]


def test_each_player_moves_on_its_own(factor_state):
    """With one optimiser stopped, only the other's weights change: none holds both."""
    state = factor_state[0]
    players = {"vae": state.optimiser, "discriminator": state.discriminator_optimiser}
    for moving, still in (("vae", "discriminator"), ("discriminator", "vae")):
        rates = [group["lr"] for group in players[still].param_groups]
        stop(players[still])
        before = {name: weights(getattr(state, name)) for name in players}
        step(factor_state)
        after = {name: weights(getattr(state, name)) for name in players}
        assert all(map(torch.equal, before[still], after[still]))
        assert not any(map(torch.equal, before[moving], after[moving]))
        for group, rate in zip(players[still].param_groups, rates, strict=True):
            group["lr"] = rate


def test_each_player_has_the_gradient_of_its_own_loss(factor_state):
    """That of the discriminator doesn't reach the encoder, nor the penalty the discriminator."""
    state, config, packed, rows, following = factor_state
    stop(state.optimiser)
    stop(state.discriminator_optimiser)
    for _ in range(2):  # and none is left over for the next step
        terms = step(factor_state)
    found = {
        name: [weight.grad.clone() for weight in getattr(state, name).parameters()]
        for name in ("vae", "discriminator")
    }
    vae, discriminator = state.vae, state.discriminator
    bits = (packed[:, :, None] >> torch.arange(8)) & 1
    x = bits.flatten(1).float()
    torch.manual_seed(5)
    own, z = factorvae(x[rows], vae, state.prior(), config.beta, discriminator)
    loss_of_vae = torch.autograd.grad(-own["objective"], list(vae.parameters()))
    with torch.no_grad():
        other = vae.encoder(x[following]).sample()
    loss = discriminator_loss(discriminator, z, other)
    expected = torch.autograd.grad(loss, list(discriminator.parameters()))
    assert_close(found["vae"], list(loss_of_vae))
    assert_close(found["discriminator"], list(expected))
    assert_close(terms["discriminator_loss"], loss)
    assert_close(terms["objective"], own["objective"])
