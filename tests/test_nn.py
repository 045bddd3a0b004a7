"""Learnable parameters as a module."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Gamma

from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree
from lpnested.nn import Learnable


def test_only_what_is_learned_is_a_parameter_and_the_rest_is_state():
    module = Learnable(ISA, [4] * 3, p0=2.0, p=torch.full((3,), 2.1), learn=("p",))
    assert [name for name, _ in module.named_parameters()] == ["unconstrained.p"]
    assert set(module.state_dict()) == {"unconstrained.p", "p0"}
    torch.testing.assert_close(module().p, torch.full((3,), 2.1))
    torch.testing.assert_close(module.p, module().p)
    assert "ISA" in repr(module)


def test_gradients_reach_the_parameters_and_descent_finds_the_exponents():
    torch.manual_seed(0)
    data = ISA([3, 3], p0=2.0, p=torch.tensor([1.2, 4.0])).sample((4000,))
    module = Learnable(ISA, [3, 3], p0=2.0, p=torch.full((2,), 2.1), learn=("p",))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(120):
        optimiser.zero_grad()
        (-module().log_prob(data).mean()).backward()
        optimiser.step()
    torch.testing.assert_close(module.p.detach(), torch.tensor([1.2, 4.0]), rtol=0.1, atol=0)


def test_a_state_dict_restores_the_distribution():
    def make(p):
        return Learnable(ISA, [2, 2], p0=2.0, p=torch.tensor(p), learn=("p", "p0"))

    source, target = make([1.5, 3.0]), make([2.0, 2.0])
    target.load_state_dict(source.state_dict())
    x = torch.randn(5, 4)
    assert torch.equal(source().log_prob(x), target().log_prob(x))


def test_a_module_follows_dtype():
    module = Learnable(GeneralizedNormal, loc=0.0, scale=1.0, p=1.5, learn=("loc", "p")).double()
    assert module().log_prob(torch.zeros((), dtype=torch.float64)).dtype == torch.float64


def test_unit_variance_stays_unit_variance_while_learning():
    module = Learnable(ISA.unit_variance, [4, 4], p0=2.0, p=torch.tensor([1.3]), learn=("p",))
    (-module().log_prob(torch.randn(50, 8)).mean()).backward()
    assert module.unconstrained.p.grad.abs().item() > 0
    torch.testing.assert_close(module().variance.mean().detach(), torch.tensor(1.0))


def test_a_radial_may_be_learnable_too():
    tree = LpNestedTree((0, (1, 2)))
    radial = Learnable(GeneralizedGamma, dim=3.0, p=2.0, learn=("p", "dim"))
    module = Learnable(
        LpNested, tree, exponents=torch.tensor([2.0, 1.0]), radial=radial, learn=("exponents",)
    )
    module().log_prob(torch.randn(7, 3)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert len(list(module.parameters())) == 3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Learnable(ISA, [2], p0=2.0, p=2.0, learn=("q",)), r"\['q'\]"),
        (lambda: Learnable(ISA, [2], p0=-2.0, p=2.0, learn=("p0",)), "p0 must satisfy"),
        (lambda: Learnable(Gamma, concentration=2.0, rate=0.0, learn=("rate",)), "rate must"),
    ],
)
def test_bad_arguments_are_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()
