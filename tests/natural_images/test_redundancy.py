"""What factorization removes, on sources that are known."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import gennorm

from densities.source_models import Nested
from densities.unmixing import Unmixing
from findings.redundancy import factorize, mean_size_correlation, redundancy
from findings.tile_bootstrap import TileBootstrap
from lpnested import LpNestedTree
from photographs.whitening import Whitening

pytestmark = pytest.mark.slow

TREE = LpNestedTree(((0, 1), (2, 3)))
EXPONENTS = torch.tensor([0.8, 1.5, 2.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def model():
    sources = Nested(TREE, 2)
    sources.log_exponents.data = EXPONENTS.log()
    sources.mixture.places.data = torch.tensor([-1.0, 1.0])
    weight = torch.eye(4) + 0.2 * torch.arange(16.0).reshape(4, 4) / 16
    return Unmixing(weight, sources).double().requires_grad_(False)


@pytest.fixture(scope="module")
def patches(model):
    """Samples of the model's own density."""
    torch.manual_seed(0)
    z = model.sources.distribution().sample((3000,))
    return (z @ torch.linalg.inv(model.weight).T).numpy()


def test_factorized_coordinates_are_independent_generalized_normals(model, patches):
    found = factorize(model, patches)
    below = [1.5, 1.5, 2.0, 2.0]
    for column, p in zip(found.after.T, below, strict=True):
        u = np.sort(gennorm(p).cdf(column))
        distance = np.abs(u - (np.arange(len(u)) + 0.5) / len(u)).max()
        assert distance < 1.63 / math.sqrt(len(u))  # Kolmogorov and Smirnov at one percent
    assert mean_size_correlation(found.before) > 0.3 > 0.05 > mean_size_correlation(found.after)


def test_the_determinant_is_that_of_autograd(model, patches):
    from lpnested.transforms import NestedRadialFactorization

    transform = NestedRadialFactorization(model.sources.distribution())
    found = factorize(model, patches[:3])
    for z, log_det in zip(torch.tensor(found.before), found.log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(transform, z)
        assert log_det == pytest.approx(jacobian.det().abs().log().item(), abs=1e-8)


def test_redundancy_is_removed_and_no_more_than_there_was(model, patches):
    """The density is the truth here: no factorial code of held-out data costs less."""
    whitening = Whitening(np.zeros(5), np.zeros((4, 5)), log_det=0.5)
    x, y = patches[:1500], patches[1500:]
    bootstrap = TileBootstrap(np.arange(1500) // 50, np.zeros(1500, int), 300, seed=0)
    line, _ = redundancy(model, x, y, whitening, bootstrap)
    truth = -(model(torch.tensor(y)).mean().item() + 0.5) / (4 * math.log(2))
    assert line["density"]["mean"] == pytest.approx(truth)
    assert line["before"]["mean"] > line["after"]["mean"] + 0.05
    assert -0.001 < line["after"]["mean"] - truth < 0.02
    assert line["removed"]["low"] > 0
    assert line["removed"]["mean"] == pytest.approx(line["before"]["mean"] - line["after"]["mean"])
