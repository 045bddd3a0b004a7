"""zuko: ISA as the base of a flow, and the generalized normal under its own distributions."""

from types import ModuleType

import pytest
import torch
from torch.distributions import Distribution
from torch.testing import assert_close

SIZES = [2, 3]


@pytest.fixture
def zuko(bring) -> ModuleType:
    zuko = bring("zuko")
    Distribution._validate_args, Distribution.arg_constraints = False, {}  # what its import does
    return zuko


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


@pytest.mark.slow
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


def test_zuko_trains_a_learnable_prior_that_stays_valid_and_moves(zuko: ModuleType) -> None:
    """As the documentation says: `UnconditionalDistribution(Learnable(...))`."""
    from lpnested import ISA
    from lpnested.nn import Learnable

    prior = Learnable(ISA, SIZES, p0=2.1, p=[2.2, 0.8], learn=("p0", "p"))
    base = zuko.lazy.UnconditionalDistribution(prior)
    flow = zuko.flows.Flow(zuko.flows.MAF(5, transforms=1, hidden_features=(8,)).transform, base)
    assert {"base.f.unconstrained.p0", "base.f.unconstrained.p"} <= set(flow.state_dict())
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.5)  # a raw exponent would go below zero
    data = torch.randn(64, 5)
    for _ in range(10):
        optimizer.zero_grad()
        (-flow().log_prob(data).mean()).backward()
        optimizer.step()
    assert prior.p.gt(0).all() and prior.p.isfinite().all()
    assert not torch.equal(prior.p.detach(), torch.tensor([2.2, 0.8]))
    flow = flow.double()
    assert flow().base.p0.dtype == torch.float64
    assert flow().sample((3,)).dtype == torch.float64


def test_zuko_learns_raw_arguments_without_a_constraint(zuko: ModuleType) -> None:
    """The documentation warns of it: after a step below zero every answer is NaN."""
    from lpnested import ISA

    base = zuko.lazy.UnconditionalDistribution(ISA, SIZES, torch.tensor(0.1), 2.0)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.sub_(0.2)
    assert base().log_prob(torch.ones(5)).isnan()


def test_zuko_leaves_numbers_where_they_are(zuko: ModuleType) -> None:
    """The documentation warns of it: `buffer=True` registers tensors, and no Python numbers."""
    from lpnested import ISA

    lazy = zuko.lazy.UnconditionalDistribution(ISA, SIZES, 2.1, torch.tensor([2.2]), buffer=True)
    assert len(list(lazy.buffers())) == 1


@pytest.mark.parametrize("bounds", [(-0.5, 2.0), (torch.tensor(-0.5), torch.tensor(2.0))])
def test_zuko_truncates_a_generalized_normal(zuko: ModuleType, bounds) -> None:
    """Bounds may be floats, as in zuko's own example; scipy has the law of what is left."""
    stats = pytest.importorskip("scipy.stats")
    from lpnested import GeneralizedNormal

    lower, upper = bounds
    dist = zuko.distributions.Truncated(GeneralizedNormal(0.3, 1.2, 1.7), lower, upper)
    x = dist.sample((2000,))
    assert x.min() >= -0.5 and x.max() <= 2.0
    whole = stats.gennorm(1.7, 0.3, 1.2)
    mass = whole.cdf(2.0) - whole.cdf(-0.5)
    expected = torch.tensor(whole.logpdf(x.numpy())) - torch.log(torch.tensor(mass))
    assert_close(dist.log_prob(x).double(), expected, rtol=1e-5, atol=1e-5)
    law = stats.kstest(x.numpy(), lambda t: (whole.cdf(t) - whole.cdf(-0.5)) / mass)
    assert law.pvalue > 1e-3


def test_zuko_truncates_a_generalized_gamma_with_gradient(zuko: ModuleType) -> None:
    from lpnested import GeneralizedGamma

    scale = torch.tensor(0.7, requires_grad=True)
    dist = zuko.distributions.Truncated(GeneralizedGamma(3, 1.4, scale), 0.5, 2.0)
    x = dist.rsample((200,))
    assert x.min() >= 0.5 and x.max() <= 2.0
    x.mean().backward()
    assert scale.grad.isfinite() and scale.grad != 0
