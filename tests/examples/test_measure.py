"""What the benchmarks time of the example is what they say."""

import pytest
import torch

import measure

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_every_step_goes_up_its_objective():
    steps = measure.training_steps(8)
    assert next(iter(steps)) == measure.ANALYTIC and len(steps) == 4
    for step in steps.values():
        step()


def test_the_prior_learns_with_the_model():
    prior = torch.nn.Linear(1, 1, bias=False)
    before = prior.weight.clone()
    images = torch.full((2, 512), 255, dtype=torch.uint8)
    measure.trained(images, lambda x, vae: prior(x[:, :1]).sum(), prior)()
    assert prior.weight > before  # up the objective


@pytest.mark.slow
def test_errors_are_from_the_finer_grid(monkeypatch):
    monkeypatch.setattr(measure, "finely", lambda *_: 0.1086)
    found = measure.mig_error(200, samples=5, runs=1)
    assert found["quadrature"] < 1e-4 < found["sampling, 5 samples"]
    assert found["quotient"] == found["quadrature"] / found["10,000 samples, extrapolated"]
