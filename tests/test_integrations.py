"""What programs do with any distribution of torch: export, trace, pickle, move and own it.

Packages that do so are tried in tests/clients, one module each.
"""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.export import Dim
from torch.testing import assert_close

from backends import once
from cases import CASES, Case, each, needs_gammas_without_memory
from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, LpSpherical
from lpnested.nn import Learnable

pytestmark = pytest.mark.usefixtures("backend")

TREE = LpNestedTree((0, (1, 2)))
CLASSES = [GeneralizedGamma, GeneralizedNormal, ISA, LpNested, LpSpherical]


def isa() -> Learnable:
    return Learnable(
        ISA, [2, 1], p0=1.5, p=[2.2, 0.7], scale=1.2, learn=("p0", "p"), validate_args=False
    )


def nested() -> Learnable:
    gamma = torch.distributions.Gamma
    radial = Learnable(gamma, concentration=3.0, rate=1.0, learn="rate", validate_args=False)
    return Learnable(
        LpNested, TREE, exponents=[1.3, 2.2], radial=radial, learn="exponents", validate_args=False
    )


def spherical() -> Learnable:
    radial = Learnable(GeneralizedGamma, dim=3.0, p=1.4, validate_args=False)
    return Learnable(LpSpherical, 3, p=1.7, radial=radial, learn="p", validate_args=False)


def normal() -> Learnable:
    p = torch.tensor([1.7, 0.8, 3.0])
    return Learnable(
        GeneralizedNormal, loc=0.3, scale=1.2, p=p, learn=("loc", "p"), validate_args=False
    )


MODELS = [isa, nested, spherical, normal]
models = pytest.mark.parametrize("make", MODELS)
programs = pytest.mark.parametrize(
    ("make", "strict"), [*((make, False) for make in MODELS), (isa, True)]
)


class LogProb(nn.Module):
    def __init__(self, prior: Learnable) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor) -> Tensor:
        return self.prior().log_prob(x)


class Cdf(LogProb):
    def forward(self, x: Tensor) -> Tensor:
        return self.prior().cdf(x.abs())


class Sample(LogProb):
    def forward(self, x: Tensor) -> Tensor:
        return self.prior().sample((x.shape[0],))


# Programs ----------------------------------------------------------------------------------------


not_writable = pytest.mark.filterwarnings(  # torch 2.11, of its own file
    "ignore:The given buffer is not writable:UserWarning"
)


def exported(module: nn.Module, strict: bool) -> Callable[[Tensor], Tensor]:
    """Exported with a batch that may have any size, saved and loaded."""
    shapes = {"x": {0: Dim.DYNAMIC}}
    program = torch.export.export(
        module, (torch.randn(4, 3),), dynamic_shapes=shapes, strict=strict
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file).module()


@pytest.mark.slow
@not_writable
@programs
def test_a_saved_export_of_log_prob_serves_any_batch(make, strict):
    module = LogProb(make())
    program = exported(module, strict)
    for rows in (2, 7, 300):
        x = torch.randn(rows, 3)
        assert_close(program(x), module(x))


@pytest.mark.slow
@once
@not_writable
def test_a_saved_export_of_cdf_serves_any_batch():
    module = Cdf(Learnable(GeneralizedGamma, dim=3.0, p=1.4, learn="p", validate_args=False))
    program = exported(module, strict=False)
    for rows in (2, 5000):  # the latter is worked on in chunks
        x = torch.randn(rows, 3)
        assert_close(program(x), module(x))


@pytest.mark.slow
@needs_gammas_without_memory
@programs
def test_a_saved_export_of_sample_serves_any_batch(make, strict):
    module = Sample(make())
    program = exported(module, strict)
    assert program(torch.zeros(2, 3)).shape == (2, 3)
    x, y = program(torch.zeros(20000, 3)), program(torch.zeros(20000, 3))
    assert x.shape == (20000, 3) and not torch.equal(x, y)
    assert not x.requires_grad
    assert_close(x.std(0), module.prior().stddev.expand(3).detach(), rtol=0.1, atol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:`torch\\.jit:DeprecationWarning", "ignore:`torch\\.jit:FutureWarning"
)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@models
def test_a_saved_trace_of_log_prob_has_its_values_and_gradients(make):
    module = LogProb(make())
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, (torch.randn(4, 3),)), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    x = torch.randn(7, 3, requires_grad=True)
    assert_close(loaded(x), module(x))
    ours, theirs = (torch.autograd.grad(f(x).sum(), x)[0] for f in (module, loaded))
    assert_close(theirs, ours)
    loaded(x).sum().backward()
    grads = [parameter.grad for parameter in loaded.parameters()]
    module(x).sum().backward()
    for grad, parameter in zip(grads, module.parameters(), strict=True):
        assert_close(grad, parameter.grad)


# State -------------------------------------------------------------------------------------------


def use(dist: Distribution) -> None:
    x = dist.sample((3,))
    dist.log_prob(x)
    dist.mean, dist.variance, dist.stddev, repr(dist)
    for ask in ("exponents", "radial", "subspaces", "log_surface_area"):
        getattr(dist, ask, None)


@each()
def test_a_pickle_is_the_same_before_and_after_use(case: Case):
    dist = case.make()
    before = pickle.dumps(dist)
    use(dist)
    assert pickle.dumps(dist) == before
    assert set(vars(pickle.loads(before))) == set(vars(dist))


@each()
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=["shallow", "deep"])
def test_a_deep_copy_has_parameters_of_its_own_and_a_shallow_one_shares_them(case: Case, copied):
    tensors = case.tensors()
    dist = case.build(**tensors)
    x = dist.sample((3,))
    twin, before = copied(dist), dist.log_prob(x)
    assert torch.equal(twin.log_prob(x), before)
    for tensor in tensors.values():
        tensor.mul_(1.1)
    assert not torch.equal(dist.log_prob(x), before)
    assert torch.equal(twin.log_prob(x), before) == (copied is copy.deepcopy)


def move(thing: object, action: Callable[[Tensor], Tensor]) -> object:
    """As sbi moves a prior to a device: it walks every `__dict__` and sets what it meets."""
    if isinstance(thing, Tensor):
        return action(thing)
    if isinstance(thing, (tuple, list)):
        return type(thing)(move(part, action) for part in thing)
    if isinstance(thing, dict):
        return {key: move(part, action) for key, part in thing.items()}
    if hasattr(thing, "__dict__") and not isinstance(thing, type):
        for name, part in list(vars(thing).items()):
            setattr(thing, name, move(part, action))
    return thing


@each()
def test_a_walk_through_its_attributes_moves_it(case: Case):
    dist = case.make(torch.float32)
    x = dist.sample((3,))
    before = dist.log_prob(x)
    move(dist, torch.clone)
    assert torch.equal(dist.log_prob(x), before)
    move(dist, torch.Tensor.double)
    after = dist.log_prob(x)
    assert after.dtype == dist.sample().dtype == dist.variance.dtype == torch.float64
    assert_close(after.float(), before)


def test_every_tensor_that_it_holds_is_a_parameter():
    """So that who moves, saves or learns its tensors has them all, and none twice."""
    for case in CASES:
        dist = case.make()
        tensors = {name for name, value in vars(dist).items() if isinstance(value, Tensor)}
        assert tensors == set(type(dist).arg_constraints), case


# Modules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", CLASSES)
def test_no_name_collides_with_those_of_a_module(family):
    """GPyTorch's priors are `class Prior(Distribution, Module)`: neither may hide the other."""
    bases = [base for base in family.__mro__ if base.__module__.startswith("lpnested")]
    ours = {name for base in bases for name in vars(base) if not name.startswith("__")}
    assert not (ours - set(dir(Distribution))) & set(dir(nn.Module()))


def as_module(family: type[Distribution], register: str) -> type[nn.Module]:
    """A module that is a distribution too, with its parameters as buffers or as parameters."""

    class Prior(nn.Module, family):
        def __init__(self, *args: object) -> None:
            nn.Module.__init__(self)
            family.__init__(self, *args)
            for name in family.arg_constraints:
                value = getattr(self, name).clone()
                delattr(self, name)
                value = nn.Parameter(value) if register == "register_parameter" else value
                getattr(self, register)(name, value)

    return Prior


PRIORS = [
    (GeneralizedGamma, (3.0, 1.4, 0.7)),
    (GeneralizedNormal, (0.5, 1.3, 1.7)),
    (ISA, ([2, 1], 1.5, 2.2, 0.8)),
    (LpNested, (TREE, [1.3, 2.2], torch.distributions.Gamma(3.0, 1.0))),
    (LpSpherical, (3, 1.7, GeneralizedGamma(3, 1.4))),
]
priors = pytest.mark.parametrize(("family", "args"), PRIORS, ids=[x.__name__ for x in CLASSES])


@priors
@pytest.mark.parametrize("register", ["register_buffer", "register_parameter"])
def test_a_module_may_be_a_distribution_too(family, args, register):
    prior, plain = as_module(family, register)(*args), family(*args)
    x = plain.sample((4,))
    assert set(prior.state_dict()) == set(family.arg_constraints)
    assert_close(prior.log_prob(x), plain.log_prob(x))  # rounded otherwise with a gradient
    assert torch.equal(prior.variance, plain.variance)
    with torch.no_grad():
        for tensor in prior.state_dict().values():
            tensor.mul_(1.1)  # the state is the parameters themselves
    twin = as_module(family, register)(*args)
    twin.load_state_dict(prior.state_dict())
    assert not torch.equal(prior.log_prob(x), plain.log_prob(x))
    assert torch.equal(prior.log_prob(x), twin.log_prob(x))


@priors
def test_a_module_that_is_a_distribution_learns(family, args):
    prior = as_module(family, "register_parameter")(*args)
    x = family(*args).sample((50,))
    optimiser = torch.optim.SGD(prior.parameters(), lr=1e-2)
    before = -prior.log_prob(x).mean()
    before.backward()
    assert all(parameter.grad.isfinite().all() for parameter in prior.parameters())
    optimiser.step()
    assert -prior.log_prob(x).mean() < before
