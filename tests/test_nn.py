"""Learnable parameters as a module."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch.distributions import Gamma

from cases import needs_gammas_without_memory
from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree
from lpnested.nn import Learnable


def test_only_what_is_learned_is_a_parameter_and_the_rest_is_state():
    module = Learnable(ISA, [4] * 3, p0=2.0, p=torch.full((3,), 2.1), learn=("p",))
    assert [name for name, _ in module.named_parameters()] == ["unconstrained.p"]
    assert set(module.state_dict()) == {"unconstrained.p", "p0"}
    torch.testing.assert_close(module().p, torch.full((3,), 2.1))
    torch.testing.assert_close(module.p, module().p)
    assert "ISA" in repr(module)


@pytest.mark.slow
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


# Deferred initialisation -------------------------------------------------------------------------


def isa(p0: float, p: float) -> Learnable:
    return Learnable(ISA, [2, 2], p0=p0, p=p, scale=p0 / 2, validate_args=False, learn=("p", "p0"))


def with_a_radial(p0: float, p: float) -> Learnable:
    tree = LpNestedTree((0, (1, (2, 3))))
    radial = Learnable(GeneralizedGamma, dim=4.0, p=p0, learn="p", validate_args=False)
    exponents = torch.tensor([p0, p, 2 * p])
    return Learnable(LpNested, tree, exponents=exponents, radial=radial, learn="exponents")


@pytest.mark.parametrize("make", [isa, with_a_radial])
def test_a_module_made_without_memory_is_filled_by_a_state_dict(make):
    with torch.device("meta"):
        empty = make(2.0, 2.0)
    assert all(tensor.is_meta for tensor in empty.state_dict().values())
    assert "Learnable" in repr(empty)
    full = make(1.3, 0.7)
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(full.state_dict())
    x = full().sample((5,))
    assert torch.equal(filled().log_prob(x), full().log_prob(x))
    assert torch.equal(filled().variance, full().variance)


@pytest.mark.parametrize("make", [isa, with_a_radial])
def test_a_state_dict_may_be_assigned_to_a_module_without_memory(make):
    with torch.device("meta"):
        empty = make(2.0, 2.0)
    full = make(1.3, 0.7)
    empty.load_state_dict(full.state_dict(), assign=True)
    x = full().sample((5,))
    assert torch.equal(empty().log_prob(x), full().log_prob(x))


def test_a_distribution_without_memory_has_shapes():
    with torch.device("meta"):
        dist = isa(2.0, 2.0)()
        x = torch.empty(3, 4)
    assert dist.log_prob(x).is_meta and dist.log_prob(x).shape == (3,)


@needs_gammas_without_memory
def test_draws_without_memory_have_shapes():
    with torch.device("meta"):
        assert isa(2.0, 2.0)().sample((5,)).shape == (5, 4)


# Dtypes ------------------------------------------------------------------------------------------


def test_an_integer_is_learned_as_a_floating_parameter():
    module = Learnable(
        GeneralizedGamma, dim=torch.tensor(3), p=torch.tensor([1, 2]), learn=("dim", "p")
    )
    torch.testing.assert_close(module.p.detach(), torch.tensor([1.0, 2.0]))
    module().log_prob(torch.tensor(1.3)).sum().backward()
    assert all(parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_keep_their_value_under_a_default_dtype_of_half_precision(dtype):
    torch.set_default_dtype(dtype)
    module = Learnable(GeneralizedNormal, loc=0.1, scale=1.3, p=2.1, learn=("p", "scale"))
    for name, number in {"loc": 0.1, "scale": 1.3, "p": 2.1}.items():
        assert getattr(module(), name).item() == pytest.approx(number, rel=1e-6)


@pytest.mark.parametrize("array", [torch.tensor, np.array])
def test_numbers_beside_a_float64_tensor_are_not_rounded_to_float32(array):
    """As where the distribution is made of the same arguments."""
    p = array([2.2, 0.7])
    p = p.double() if isinstance(p, torch.Tensor) else p
    module = Learnable(ISA, [2, 2], p0=2.1, p=p, scale=1.3, learn="p0")
    dist = ISA([2, 2], 2.1, p, 1.3)
    assert module().p0.dtype == torch.float64
    torch.testing.assert_close(module().p0.detach(), dist.p0, rtol=1e-15, atol=0)
    assert torch.equal(module().scale, dist.scale)


@pytest.mark.parametrize("name", ["half", "bfloat16"])
@pytest.mark.parametrize("learn", [(), ("p",)])
def test_a_module_in_half_precision_is_refused_in_plain_words(name, learn):
    module = Learnable(ISA, [2, 2], p0=2.1, p=2.2, learn=learn)
    getattr(module, name)()
    with pytest.raises(TypeError, match="must be float32 or float64, but got torch"):
        module()


def test_under_autocast_parameters_and_densities_stay_as_they_are():
    module = Learnable(ISA, [2, 2], p0=2.1, p=2.2, learn=("p",))
    x = torch.randn(5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = module().log_prob(x)
    assert torch.equal(inside, module().log_prob(x))


# State -------------------------------------------------------------------------------------------


def test_what_is_passed_is_copied():
    p0, p = torch.tensor(2.0), np.array([2.0, 1.5])
    module = Learnable(ISA, [2, 2], p0=p0, p=p, learn="p")
    p0.fill_(9.0)
    p.fill(9.0)
    assert module.p0 == 2.0
    assert module.p.tolist() == pytest.approx([2.0, 1.5])


def test_a_distribution_made_before_a_step_shows_its_constrained_values_of_then():
    """The module is called again after each step: the documentation's loops do."""
    module = Learnable(GeneralizedNormal, loc=0.0, scale=1.0, p=1.5, learn=("loc", "p"))
    with torch.no_grad():
        module.unconstrained["p"].add_(1.0)
    torch.testing.assert_close(module().p, module.p)
    assert module.p.item() == pytest.approx(1.5 * math.e)


def test_functional_call_takes_other_parameters():
    module = Learnable(ISA, [2, 2], p0=2.0, p=2.2, learn=("p",))
    log_p = torch.tensor([0.1])
    dist = torch.func.functional_call(module, {"unconstrained.p": log_p}, ())
    torch.testing.assert_close(dist.p, log_p.exp().expand(2))


def test_a_copy_and_a_pickle_are_modules_of_their_own():
    module = Learnable(ISA, [2, 2], p0=2.0, p=2.2, learn=("p",))
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        with torch.no_grad():
            twin.unconstrained["p"].zero_()
        torch.testing.assert_close(twin.p.detach(), torch.ones(1))
        assert module.p.item() == pytest.approx(2.2)


def test_a_list_of_tensors_is_one_parameter_of_its_own():
    parts = [torch.tensor(1.5), torch.tensor(2.5)]
    module = Learnable(ISA, [2, 2], p0=2.0, p=parts, learn="p")
    parts[0].fill_(9.0)
    assert len(list(module.parameters())) == 1
    torch.testing.assert_close(module.p.detach(), torch.tensor([1.5, 2.5]))
