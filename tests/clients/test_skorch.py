"""skorch: a density as a scikit-learn estimator."""

import pytest
import torch
from torch import nn

from lpnested import ISA
from lpnested.nn import Learnable


class Density(nn.Module):
    """What skorch calls with a batch of data: its log-density."""

    def __init__(self, p0: float = 2.0) -> None:
        super().__init__()
        self.prior = Learnable(ISA, [2, 2], p0=p0, p=[2.0, 2.0], learn=("p0", "p"))

    def forward(self, x):
        return self.prior().log_prob(x)


class Loss(nn.Module):
    """The negative mean log-density; there is no target."""

    def forward(self, log_prob, _):
        return -log_prob.mean()


@pytest.fixture
def estimator(bring):
    return bring("skorch").NeuralNet(
        Density,
        criterion=Loss,
        optimizer=torch.optim.Adam,
        lr=0.05,
        max_epochs=15,
        batch_size=250,
        train_split=None,
        verbose=0,
    )


@pytest.mark.slow
def test_fit_finds_the_exponents(estimator):
    truth = ISA([2, 2], p0=1.0, p=[1.0, 4.0])
    x = truth.sample((2000,)).numpy()
    estimator.fit(x, torch.zeros(len(x)).numpy())
    loss = estimator.history[:, "train_loss"]
    assert loss[-1] < loss[0] - 0.1
    assert abs(estimator.module_.prior.p0.item() - 1) < 0.15
    assert estimator.predict(x).shape == (2000,)


def test_clone_set_params_and_saved_parameters(estimator, tmp_path, bring):
    clone = bring("sklearn.base").clone
    first = clone(estimator).set_params(module__p0=1.3).initialize()
    assert abs(first.module_.prior.p0.item() - 1.3) < 1e-6
    first.save_params(f_params=tmp_path / "weights.pt")
    second = clone(estimator).initialize()
    second.load_params(f_params=tmp_path / "weights.pt")
    x = torch.randn(5, 4)
    assert torch.equal(first.forward(x), second.forward(x))
