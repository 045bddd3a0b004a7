"""What the metrics are given: arrays of any kind, any names, factors that do not vary."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from metrics import (
    ScoringError,
    active_units,
    dci,
    disentanglement,
    factorvae_score,
    histogram_disentanglement,
    log_densities,
    mig_histogram,
    mig_sampled,
    modularity,
    nearest_mean,
    sap,
    score,
    split_rows,
    subspace_mig,
    total_correlation_full,
    udr,
)
from metrics.groupings import random_gaps

pytestmark = pytest.mark.slow

FACTORS = torch.tensor(list(product(range(2), range(3), range(4)))).repeat(10, 1)
MEAN = FACTORS.double() + 0.2 * torch.randn(
    FACTORS.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
)
STD = torch.full_like(MEAN, 0.3)


def seeded():
    return torch.Generator().manual_seed(1)


ROWS = split_rows(len(MEAN), seeded())

# Every metric as a function of (mean, deviation, factors).
METRICS = {
    "mig": lambda m, s, f: disentanglement(m, s, f).mig,
    "mig_sampled": lambda m, s, f: mig_sampled(m, s, f, 50, seeded()),
    "mig_histogram": lambda m, s, f: mig_histogram(m, f),
    "sap": lambda m, s, f: sap(m, f, ROWS, nearest_mean),
    "dci_disentanglement": lambda m, s, f: dci(m, f, ROWS, 0).disentanglement,
    "dci_completeness": lambda m, s, f: dci(m, f, ROWS, 0).completeness,
    "dci_informativeness": lambda m, s, f: dci(m, f, ROWS, 0).informativeness,
    "factorvae": lambda m, s, f: factorvae_score(m, f, seeded(), train=90, test=90),
    "subspace_mig": lambda m, s, f: (
        subspace_mig(log_densities(m, s, f, (1, 2), 20, seeded()), f, [0, 1, 2]).value
    ),
    "random_gaps": lambda m, s, f: random_gaps(m, s, f, (1, 2), 20, 3, seeded()).mean().item(),
}
OTHERS = {
    "total_correlation": lambda m, s, f: (
        total_correlation_full(m, s, (1, 2), 20, seeded())["total"].value
    ),
    "active_units": lambda m, s, f: active_units(m).sum().item(),
    "modularity": lambda m, s, f: modularity(m),
    "udr": lambda m, s, f: udr([(m, s.mean(0)), (m, s.mean(0))])[0].item(),
    "score": lambda m, s, f: score(m, f, s, preset="light", sizes=(1, 2))["sap_nearest_mean"],
}
all_metrics = pytest.mark.parametrize("metric", (METRICS | OTHERS).values(), ids=METRICS | OTHERS)


@pytest.mark.slow
@all_metrics
def test_arrays_of_any_kind_are_the_same_code(metric):
    expected = metric(MEAN, STD, FACTORS)
    assert math.isfinite(expected)
    numpy = MEAN.numpy().copy(), STD.numpy().copy(), FACTORS.numpy()
    assert metric(*numpy) == expected
    for array in numpy:
        array.flags.writeable = False
    assert metric(*numpy) == expected
    backwards = tuple(np.ascontiguousarray(x[::-1])[::-1] for x in numpy)  # negative strides
    assert metric(*backwards) == expected
    narrow = FACTORS.to(torch.uint8), FACTORS.numpy().astype(np.uint16), FACTORS.numpy() * 0.25
    assert all(metric(MEAN, STD, factors) == expected for factors in narrow)
    assert metric(MEAN.clone().requires_grad_(), STD, FACTORS) == expected


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_factor_that_never_varies_has_no_score(metric):
    """Also where a code is noise, whose estimates of no information are not exactly zero."""
    noise = torch.randn(MEAN.shape, generator=seeded(), dtype=torch.float64)
    for value in (0, 7):
        constant = FACTORS.clone()
        constant[:, 1] = value
        assert math.isnan(metric(noise, STD, constant))
        assert math.isnan(metric(MEAN, STD, constant))


def test_the_other_factors_keep_their_gaps():
    constant = torch.cat([FACTORS, torch.zeros_like(FACTORS[:, :1])], dim=1)
    found = disentanglement(MEAN, STD, constant, ("a", "b", "c", "never"))
    plain = disentanglement(MEAN, STD, FACTORS, ("a", "b", "c"))
    assert math.isnan(found.gaps.pop("never")) and found.gaps["a"] == plain.gaps["a"]
    named = disentanglement(
        MEAN, STD, constant, ("a", "b", "c", "never"), mig_factors=tuple("abc")
    )
    assert named.mig == plain.mig


def test_factors_have_any_names_or_none():
    named = disentanglement(MEAN, STD, FACTORS, ("colour", "hue", "tint"))
    bare = disentanglement(MEAN, STD, FACTORS)
    assert named.mig == bare.mig == sum(bare.gaps.values()) / 3
    assert list(bare.gaps) == ["factor0", "factor1", "factor2"]
    alone = disentanglement(MEAN, STD, FACTORS, ("colour", "hue", "tint"), mig_factors=("hue",))
    assert alone.mig == named.gaps["hue"]


NAMED = [
    lambda **k: disentanglement(MEAN, STD, FACTORS, **k),
    lambda **k: histogram_disentanglement(MEAN, FACTORS, **k),
    lambda factors, **k: score(MEAN, FACTORS, STD, names=factors, preset="light", **k),
]


@pytest.mark.parametrize("call", NAMED)
def test_names_that_cannot_be_are_refused_before_anything_is_computed(call):
    for names in (("a", "b"), ("a", "b", "b"), ("a", "b", "c", "d")):
        with pytest.raises(ValueError, match="3 distinct names, one per factor"):
            call(factors=names)
    for wrong in ({"factors": "abc"}, {"factors": ("a", "b", "c"), "mig_factors": "a"}):
        with pytest.raises(ValueError, match="a list of names, but got the string"):
            call(**wrong)
    with pytest.raises(ValueError, match="among the factors a, b, c, but got b, posX"):
        call(factors=("a", "b", "c"), mig_factors=("b", "posX"))
    with pytest.raises(ValueError, match="but got none"):
        call(factors=("a", "b", "c"), mig_factors=())


WRONG = {
    "codes must have shape|both have shape": (MEAN[:, 0], STD[:, 0], FACTORS),
    r"with N = 240 like the codes, but got \(239, 3\)": (MEAN, STD, FACTORS[1:]),
    r"pass a single factor as factors\[:, None\]": (MEAN, STD, FACTORS[:, 0]),
    "must be numbers": (np.full(MEAN.shape, "a"), STD, FACTORS),
    "must be finite|finite means": (MEAN.where(MEAN > 0, torch.nan), STD, FACTORS),
    "factors must be finite": (MEAN, STD, FACTORS / 0),
    "binned first": (MEAN, STD, MEAN),
}


@pytest.mark.parametrize("message", WRONG)
@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_what_cannot_be_scored_is_refused(metric, message):
    with pytest.raises((ValueError, TypeError), match=message):
        metric(*WRONG[message])


def test_deviations_that_cannot_be_are_refused():
    needing = ("mig", "mig_sampled", "subspace_mig", "random_gaps")
    for metric in (METRICS[name] for name in needing):
        with pytest.raises(ValueError, match=r"both have shape .* \(240, 3\) and \(240, 2\)"):
            metric(MEAN, STD[:, :2], FACTORS)
        with pytest.raises(ScoringError, match="positive, finite deviations"):
            metric(MEAN, STD - 0.3, FACTORS)
    with pytest.raises(ValueError, match="needs its mean KL"):
        udr([(MEAN, STD.mean(0)[:2]), (MEAN, STD.mean(0))])


def test_latents_that_count():
    deviations = torch.tensor([0.04, 0.06, 0.09, 0.11])
    unit = (MEAN[:, :1] - MEAN[:, :1].mean()) / MEAN[:, :1].std(correction=0)
    assert active_units(unit * deviations).tolist() == [False, False, False, True]
    assert active_units(unit * deviations, 0.05**2).tolist() == [False, True, True, True]
