"""Accelerate: a model made without memory, and filled from a checkpoint."""

import pytest
import torch

from lpnested import ISA, GeneralizedGamma, LpNested, LpNestedTree
from lpnested.nn import Learnable


@pytest.fixture
def accelerate(bring):
    return bring("accelerate")


def isa(p=2.0):
    return Learnable(ISA, [2, 2], p0=2.0, p=p, scale=1.5, learn=("p", "p0"))


def nested(p=2.0):
    radial = Learnable(GeneralizedGamma, dim=3.0, p=p, learn="p")
    tree = LpNestedTree((0, (1, 2)))
    return Learnable(LpNested, tree, exponents=[1.0, p], radial=radial, learn="exponents")


@pytest.mark.slow
@pytest.mark.parametrize("include_buffers", [False, True])
@pytest.mark.parametrize("make", [isa, nested])
def test_an_empty_model_is_filled_by_a_checkpoint(accelerate, tmp_path, make, include_buffers):
    full = make(1.3)
    torch.save(full.state_dict(), tmp_path / "weights.bin")
    with accelerate.init_empty_weights(include_buffers=include_buffers):
        empty = make()
    assert all(parameter.is_meta for parameter in empty.parameters())
    empty = accelerate.load_checkpoint_and_dispatch(
        empty, str(tmp_path / "weights.bin"), device_map={"": "cpu"}
    )
    x = full().sample((5,))
    assert torch.equal(empty().log_prob(x), full().log_prob(x))


def test_a_prepared_model_takes_a_step(accelerate):
    accelerator = accelerate.Accelerator(cpu=True)
    model = isa()
    model, optimiser = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    before = model.p.detach().clone()
    accelerator.backward(-model().log_prob(torch.randn(20, 4)).mean())
    optimiser.step()
    assert not torch.equal(model.p, before)
