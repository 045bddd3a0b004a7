"""nflows: ISA as the base of a flow, alone and conditioned on a context."""

import pytest
import torch

from lpnested import ISA
from lpnested.nn import Learnable


@pytest.fixture
def base(bring):
    nflows = bring("nflows.distributions.base")

    class Base(nflows.Distribution):
        """The interface that nflows asks of a base."""

        def __init__(self) -> None:
            super().__init__()
            self.prior = Learnable(ISA, [2, 1], p0=2.0, p=4.0, learn="p0")

        def _log_prob(self, inputs, context):
            return self.prior().log_prob(inputs)

        def _sample(self, num_samples, context):
            rows = () if context is None else (len(context),)
            return self.prior().sample((*rows, num_samples))

    return Base()


@pytest.mark.parametrize("context", [None, 2])
def test_a_flow_trains_with_isa_as_its_base(base, bring, context):
    flow = bring("nflows.flows.base").Flow(
        bring("nflows.transforms.autoregressive").MaskedAffineAutoregressiveTransform(
            features=3, hidden_features=8, context_features=context
        ),
        base,
    )
    given = None if context is None else torch.randn(128, context)
    data = 2 * torch.randn(128, 3) + 1
    optimiser = torch.optim.Adam(flow.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = -flow.log_prob(data, context=given).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    assert base.prior.p0.item() != 2.0
    some = None if given is None else given[:4]
    x, log_prob = flow.sample_and_log_prob(5, context=some)
    assert x.shape == ((5, 3) if context is None else (4, 5, 3))
    assert log_prob.shape == x.shape[:-1] and log_prob.isfinite().all()
