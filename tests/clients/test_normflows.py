"""normflows: ISA as the base of a flow."""

import pytest
import torch

from lpnested import ISA
from lpnested.nn import Learnable


@pytest.fixture
def normflows(bring):
    return bring("normflows")


@pytest.mark.slow
def test_a_flow_trains_with_isa_as_its_base(normflows):
    class Base(normflows.distributions.BaseDistribution):
        """The interface that normflows asks of a base: draws with their density, and densities."""

        def __init__(self) -> None:
            super().__init__()
            self.prior = Learnable(ISA, [1, 1], p0=2.0, p=4.0, learn="p0")

        def forward(self, num_samples=1):
            prior = self.prior()
            z = prior.sample((num_samples,))
            return z, prior.log_prob(z)

        def log_prob(self, z):
            return self.prior().log_prob(z)

    base = Base()
    flows = []
    for _ in range(4):
        net = normflows.nets.MLP([1, 16, 2], init_zeros=True)
        flows += [normflows.flows.AffineCouplingBlock(net), normflows.flows.Permute(2)]
    model = normflows.NormalizingFlow(base, flows)
    data = torch.randn(256, 2) * torch.tensor([2.0, 0.5]) + 1
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = model.forward_kld(data)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    assert base.prior.p0.item() != 2.0
    x, log_prob = model.sample(7)
    torch.testing.assert_close(model.log_prob(x), log_prob, rtol=1e-4, atol=1e-4)
