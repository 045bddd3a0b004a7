"""Pyro and zuko: the distributions where their users meet them.

Both change global state of torch on import (zuko even overwrites `Distribution.arg_constraints`),
so they are imported inside fixtures that put it back.
"""

import pickle
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.testing import assert_close

SIZES = [2, 3]


@pytest.fixture
def pyro() -> Iterator[ModuleType]:
    pyro = pytest.importorskip("pyro")

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    pyro.enable_validation(True)
    yield pyro
    pyro.clear_param_store()


@pytest.fixture
def zuko() -> Iterator[ModuleType]:
    constraints = Distribution.__dict__["arg_constraints"]
    zuko = pytest.importorskip("zuko")
    Distribution._validate_args, Distribution.arg_constraints = False, {}  # what its import does
    yield zuko
    Distribution.arg_constraints = constraints


def isa(p0: float | Tensor = 2.1, p: float | Tensor = 2.2) -> Distribution:
    from lpnested.pyro import ISA

    return ISA(SIZES, p0, p)


# Pyro -------------------------------------------------------------------------------------------


def test_pyro_classes_are_the_core_classes_that_pyro_knows(pyro: ModuleType) -> None:
    from pyro.distributions.torch_distribution import TorchDistributionMixin

    import lpnested
    import lpnested.pyro as ours

    for name in ("LpNested", "ISA", "LpSpherical", "GeneralizedNormal", "GeneralizedGamma"):
        assert issubclass(getattr(ours, name), (getattr(lpnested, name)))
        assert issubclass(getattr(ours, name), TorchDistributionMixin)


def test_pyro_classes_have_the_same_log_prob_and_pickle(pyro: ModuleType) -> None:
    import lpnested

    x = torch.randn(4, 5)
    dist = isa()
    assert torch.equal(dist.log_prob(x), lpnested.ISA(SIZES, 2.1, 2.2).log_prob(x))
    twin = pickle.loads(pickle.dumps(dist))
    assert type(twin) is type(dist)
    assert torch.equal(twin.log_prob(x), dist.log_prob(x))


def test_pyro_shape_methods_keep_the_class(pyro: ModuleType) -> None:
    dist = isa(p0=torch.tensor([1.5, 2.5]))
    assert type(dist.expand((3, 2))) is type(dist)
    assert dist.expand_by((3,)).batch_shape == (3, 2)
    assert dist.to_event(1).event_shape == (2, 5)
    assert dist.mask(False).log_prob(torch.zeros(2, 5)).abs().sum() == 0
    assert dist().shape == (2, 5)
    assert dist.shape((4,)) == (4, 2, 5)


def test_pyro_sample_in_a_plate_scores_every_row(pyro: ModuleType) -> None:
    def model() -> None:
        with pyro.plate("rows", 7):
            pyro.sample("z", isa())

    trace = pyro.poutine.trace(model).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["z"]["value"].shape == (7, 5)
    assert trace.nodes["z"]["log_prob"].shape == (7,)
    assert_close(trace.nodes["z"]["log_prob"], isa().log_prob(trace.nodes["z"]["value"]))


def test_pyro_svi_learns_the_exponents_of_data(pyro: ModuleType) -> None:
    """It comes down to the loss of the truth. (The second p is learned slowly.)"""
    truth = isa(p0=1.0, p=torch.tensor([1.0, 3.0]))
    data = truth.sample((2000,))
    positive = torch.distributions.constraints.positive

    def model() -> None:
        p0 = pyro.param("p0", torch.tensor(2.0), constraint=positive)
        p = pyro.param("p", torch.tensor([2.0, 2.0]), constraint=positive)
        with pyro.plate("rows", len(data)):
            pyro.sample("z", isa(p0, p), obs=data)

    svi = pyro.infer.SVI(
        model, lambda: None, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO()
    )
    losses = [svi.step() for _ in range(120)]
    best = -truth.log_prob(data).sum().item()
    assert losses[0] > best + 1000
    assert losses[-1] < best + 10
    assert_close(pyro.param("p0").detach(), torch.tensor(1.0), rtol=0.0, atol=0.1)
    assert_close(pyro.param("p").detach()[0], torch.tensor(1.0), rtol=0.0, atol=0.2)


def test_pyro_svi_with_isa_as_prior_and_a_normal_guide(pyro: ModuleType) -> None:
    def model() -> None:
        z = pyro.sample("z", isa())
        pyro.sample("x", pyro.distributions.Normal(z, 0.1).to_event(1), obs=torch.ones(5))

    guide = pyro.infer.autoguide.AutoNormal(model)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO())
    for _ in range(250):
        svi.step()
    assert_close(guide.median()["z"], torch.ones(5), rtol=0.0, atol=0.1)


def test_pyro_score_function_serves_a_nested_guide(pyro: ModuleType) -> None:
    """No rsample: Trace_ELBO takes the score-function gradient by itself."""

    def model() -> None:
        pyro.sample("z", isa())

    def guide() -> None:
        p0 = pyro.param(
            "p0", torch.tensor(1.2), constraint=torch.distributions.constraints.positive
        )
        pyro.sample("z", isa(p0=p0))

    loss = pyro.infer.Trace_ELBO(num_particles=50, vectorize_particles=False)
    loss.loss_and_grads(model, guide)
    (parameter,) = [p.unconstrained() for p in (pyro.param("p0"),)]
    assert parameter.grad is not None and parameter.grad.isfinite() and parameter.grad != 0


def test_pyro_nuts_recovers_the_variance_of_the_prior(pyro: ModuleType) -> None:
    kernel = pyro.infer.NUTS(lambda: pyro.sample("z", isa()), step_size=0.5)
    mcmc = pyro.infer.MCMC(kernel, num_samples=150, warmup_steps=50, disable_progbar=True)
    mcmc.run()
    z = mcmc.get_samples()["z"]
    assert z.shape == (150, 5)
    assert_close(z.var(0).mean(), isa().variance.mean(), rtol=0.3, atol=0.0)


# zuko -------------------------------------------------------------------------------------------


def test_zuko_takes_isa_as_an_unconditional_distribution_with_learned_exponents(
    zuko: ModuleType,
) -> None:
    from lpnested import ISA

    lazy = zuko.lazy.UnconditionalDistribution(
        ISA, SIZES, torch.tensor(2.1), torch.tensor([2.2, 0.8])
    )
    dist = lazy()
    assert isinstance(dist, ISA)
    loss = -dist.log_prob(torch.randn(8, 5)).mean()
    loss.backward()
    parameters = list(lazy.parameters())
    assert len(parameters) == 2
    assert all(p.grad.isfinite().all() and p.grad.any() for p in parameters)


def test_zuko_flow_takes_isa_as_its_base(zuko: ModuleType) -> None:
    from lpnested import ISA

    base = zuko.lazy.UnconditionalDistribution(ISA, SIZES, 2.1, 2.2, buffer=True)
    flow = zuko.flows.Flow(zuko.flows.MAF(5, transforms=2, hidden_features=(16,)).transform, base)
    dist = flow()
    x = dist.sample((6,))
    z, volume = dist.transform.call_and_ladj(x)
    assert x.shape == (6, 5)
    assert_close(dist.log_prob(x), ISA(SIZES, 2.1, 2.2).log_prob(z) + volume)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.02)
    data = 2 * torch.randn(256, 5) + 1
    losses = []
    for _ in range(30):
        loss = -flow().log_prob(data).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    assert dist.expand((4,)).sample().shape == (4, 5)


def test_zuko_generalized_normal_agrees_with_ours(zuko: ModuleType) -> None:
    from lpnested import GeneralizedNormal

    x = torch.linspace(-3, 3, 7)
    theirs = zuko.distributions.GeneralizedNormal(torch.tensor(1.7))
    assert_close(GeneralizedNormal(0.0, 1.0, 1.7).log_prob(x), theirs.log_prob(x))
