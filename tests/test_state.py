"""Parameters are the only state: what is written into one is seen by every answer."""

import copy
import pickle
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution
from torch.testing import assert_close

from cases import CASES, Case, each, named
from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, LpSpherical

pytestmark = pytest.mark.usefixtures("backend")

f64 = torch.float64


def each_by(ways: Iterable[str]) -> pytest.MarkDecorator:
    """Every case in the first of the ways, and one of each class in the others."""
    first, *others = ways
    classes = named("normal_batch", "radius", "isa_batch", "spherical", "ragged")
    pairs = [(case, first) for case in CASES]
    pairs += [(case, how) for case in classes for how in others]
    return pytest.mark.parametrize(("case", "how"), pairs, ids=str)


def followed(case: Case) -> list[str]:
    """The parameters that torch's own classes do not copy, as Categorical and Beta do."""
    copied = {"mixture": {"weights"}, "chi2": {"df"}, "beta": {"concentration1", "concentration0"}}
    return sorted(case.params.keys() - copied.get(case.name, set()))


def answers(case: Case, dist: Distribution, value: Tensor) -> dict[str, Tensor]:
    """Everything that a distribution says of itself, and gradients in what asks for one."""
    torch.manual_seed(0)
    found = {
        "log_prob": dist.log_prob(value),
        "mean": dist.mean,
        "variance": dist.variance,
        "stddev": dist.stddev,
        "sample": dist.sample((3,)),
    }
    if case.entropy:
        found["entropy"] = dist.entropy()
    if case.nested:
        found |= {
            "norm": dist.norm(value),
            "log_volume": dist.log_volume,
            "log_surface_area": dist.log_surface_area,
            "exponents": dist.exponents,
            "covariance_matrix": dist.covariance_matrix,
        }
    else:
        found |= {name: getattr(dist, name)(value) for name in ("cdf", "log_survival_function")}
    if isinstance(dist, ISA):
        for k, (subspace, of_subspace) in enumerate(
            zip(dist.subspaces, value.split(dist.sizes, -1), strict=True)
        ):
            found[f"subspace {k}"] = subspace.log_prob(of_subspace)
            found[f"marginal {k}"] = dist.marginal(k + 1).variance
    return {name: answer.detach().clone() for name, answer in found.items()}


def assert_follows(case: Case, dist: Distribution, tensors: dict[str, Tensor]) -> None:
    """The distribution answers as one that is made of the parameters as they are now."""
    anew = case.build(**{name: x.detach().clone() for name, x in tensors.items()})
    value = anew.sample()
    got = answers(case, dist, value)
    for name, expected in answers(case, anew, value).items():  # rounded otherwise with a gradient
        assert_close(got[name], expected, rtol=1e-13, atol=1e-13, equal_nan=True)


def _through_numpy(x: Tensor) -> None:
    x.detach().numpy()[...] *= 1.25


def _through_dlpack(x: Tensor) -> None:
    torch.from_dlpack(x.detach()).mul_(1.25)


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "in place": lambda x: x.mul_(1.25),
    "through .data": lambda x: x.data.mul_(1.25),
    "through numpy": _through_numpy,
    "through dlpack": _through_dlpack,
    "through a view": lambda x: x.reshape(-1)[:1].mul_(1.25),
}


@pytest.mark.slow
@each_by(WRITES)
def test_what_is_written_into_a_parameter_is_seen_by_every_answer(case: Case, how: str) -> None:
    tensors = case.tensors()
    dist = case.build(**tensors)
    answers(case, dist, dist.sample())  # whatever could be kept is kept now
    for name in followed(case):
        WRITES[how](tensors[name])
        assert_follows(case, dist, tensors)


@pytest.mark.slow
@each()
def test_what_is_expanded_follows_and_what_is_pickled_is_a_copy(case: Case) -> None:
    tensors = case.tensors()
    dist = case.build(**tensors)
    wide, twin = dist.expand((2, *case.batch)), pickle.loads(pickle.dumps(dist))
    value = dist.sample()
    before = dist.log_prob(value)
    for name in followed(case):
        tensors[name].mul_(1.25)
        assert_follows(case, dist, tensors)
        assert_close(wide.log_prob(value), dist.log_prob(value).expand(wide.batch_shape))
    assert torch.equal(twin.log_prob(value), before)
    assert not torch.equal(dist.log_prob(value), before)


@each()
def test_a_parameter_that_is_replaced_where_it_is_kept_is_seen(case: Case) -> None:
    """As in torch's Normal, by its attribute: another tensor there, or another memory in it."""
    for replace in (setattr, lambda dist, name, x: setattr(getattr(dist, name), "data", x)):
        dist = case.make()
        value = dist.sample()
        for name in dist.arg_constraints:
            before = dist.log_prob(value)
            replace(dist, name, 1.25 * getattr(dist, name) + 0.125)
            after = dist.log_prob(value)
            assert not torch.equal(before, after), name
            twin = pickle.loads(pickle.dumps(dist))
            assert_close(twin.log_prob(value), after, rtol=0, atol=0)
            assert_close(twin.variance, dist.variance, rtol=0, atol=0, equal_nan=True)


@each()
def test_a_tensor_that_is_passed_is_kept_itself_where_its_shape_fits(case: Case) -> None:
    """So that `nn.Module.double`, which replaces what is in it, is followed, as by Normal."""
    tensors = case.tensors(torch.float32)
    example = case.make()
    whole = {
        name: x.expand(getattr(example, name).shape).clone()
        for name, x in tensors.items()
        if name in example.arg_constraints
    }
    dist = case.build(**(tensors | whole))
    for name, x in whole.items():
        x.data = x.data.double() * 1.25
        assert getattr(dist, name) is x
    module = nn.Module()
    module.kept = nn.ParameterDict(whole)
    module.dist = case.build(**(tensors | dict(module.kept.items())))
    twin = copy.deepcopy(module)
    assert all(getattr(twin.dist, name) is twin.kept[name] for name in whole)


class Scaled(ISA):
    """A user's class, which has a parameter of its own, as torch's documentation extends them."""

    arg_constraints: ClassVar = ISA.arg_constraints | {"q": td.constraints.positive}

    def __init__(self, sizes: list[int], p0: Tensor, p: Tensor, q: Tensor) -> None:
        self.q = q
        super().__init__(sizes, p0, p)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Scaled":
        new = self._get_checked_instance(Scaled, _instance)
        new.q = self.q.expand(batch_shape)
        return super().expand(batch_shape, _instance=new)


def test_a_subclass_may_have_parameters_of_its_own() -> None:
    dist = Scaled([2, 2], torch.tensor(2.0), torch.tensor([1.0, 3.0]), torch.tensor(1.0))
    wide = dist.expand((3,))
    assert type(wide) is Scaled and wide.q.shape == wide.p0.shape == (3,)
    assert wide.log_prob(torch.zeros(4)).shape == (3,)


OPTIMISERS = {
    "sgd": lambda x: torch.optim.SGD(x, lr=0.05),
    "adam": lambda x: torch.optim.Adam(x, lr=0.05, foreach=False),
    "adam_foreach": lambda x: torch.optim.Adam(x, lr=0.05, foreach=True),
    "adam_fused": lambda x: torch.optim.Adam(x, lr=0.05, fused=True),
    "sgd_fused": lambda x: torch.optim.SGD(x, lr=0.05, fused=True),
}


@pytest.mark.slow
@each_by(OPTIMISERS)
def test_a_distribution_built_once_trains_as_one_built_every_time(case: Case, how: str) -> None:
    value = case.make().sample((16,))
    trained = []
    for once in (True, False):
        tensors = {
            name: nn.Parameter(x, requires_grad=name in followed(case))
            for name, x in case.tensors().items()
        }
        optimiser = OPTIMISERS[how]([x for x in tensors.values() if x.requires_grad])
        dist = case.build(**tensors)
        for _ in range(4):
            dist = dist if once else case.build(**tensors)
            optimiser.zero_grad()
            (-dist.log_prob(value).mean()).backward()
            optimiser.step()
        trained.append({name: x.detach() for name, x in tensors.items()})
        assert_follows(case, dist, tensors)
    for name, x in trained[0].items():
        assert_close(x, trained[1][name], rtol=1e-12, atol=1e-12)
        assert name not in followed(case) or not torch.equal(x, case.tensors()[name])


def test_a_prior_built_outside_the_loop_trains_to_the_right_exponent() -> None:
    """It trained to 1.11: its exponents were a copy, its radius was not."""
    torch.manual_seed(1)
    data = ISA([2, 2], torch.tensor(1.0, dtype=f64), 2.0).sample((4000,))
    p0 = nn.Parameter(torch.tensor(2.0, dtype=f64))
    prior = ISA([2, 2], p0, 2.0)
    optimiser = torch.optim.LBFGS([p0], lr=0.5, max_iter=40)

    def loss() -> Tensor:
        optimiser.zero_grad()
        result: Tensor = -prior.log_prob(data).mean()
        result.backward()
        return result

    optimiser.step(loss)
    assert abs(p0.item() - 1.0) < 0.03


def test_the_example_of_the_report() -> None:
    p0 = torch.tensor(2.0)
    dist = ISA([2, 2], p0, 2.0)
    dist.log_prob(torch.zeros(4))
    p0.fill_(1.0)
    fresh = ISA([2, 2], 1.0, 2.0)
    value = torch.tensor([0.3, -1.0, 0.2, 2.0])
    assert_close(dist.log_prob(value), fresh.log_prob(value))
    assert_close(dist.variance, torch.full((4,), 3.0))  # of exp(-|x|) in two dimensions
    assert_close(dist.subspaces[0].variance, torch.full((2,), 3.0))


def test_the_radius_of_isa_is_a_view_of_its_parameters() -> None:
    dist = ISA([2, 3], torch.tensor(2.0), torch.tensor([1.0, 3.0]))
    value = torch.randn(5)
    dist.radial.scale.fill_(2.0)
    expected = ISA([2, 3], 2.0, [1.0, 3.0], 2.0).log_prob(value)
    for twin in (copy.deepcopy(dist), pickle.loads(pickle.dumps(dist)), dist.expand((2,)), dist):
        assert_close(twin.log_prob(value), expected.expand(twin.batch_shape))
    with pytest.raises(AttributeError):
        dist.exponents = torch.tensor([2.0, 1.0, 3.0])


@pytest.mark.parametrize(
    "make",
    [
        lambda x: GeneralizedNormal(0.0, 1.0, x),
        lambda x: GeneralizedGamma(3, x),
        lambda x: ISA([2, 2], x, 2.0),
        lambda x: ISA([2, 2], 2.0, x),
        lambda x: LpSpherical(3, x, td.Gamma(3.0, 1.0)),
        lambda x: LpNested(LpNestedTree.flat(3), x.reshape(1), td.Gamma(3.0, 1.0)),
    ],
)
def test_arrays_and_integers_keep_their_memory(make: Callable[[Any], Distribution]) -> None:
    array = np.array(2.0)
    integer = torch.tensor(2)
    for parameter, change in (
        (array, lambda: np.copyto(array, 3.0)),
        (integer, lambda: integer.fill_(3)),
    ):
        dist = make(parameter)
        value = torch.full(dist.event_shape, 0.7)
        before = dist.log_prob(value)
        change()
        after = dist.log_prob(value)
        assert not torch.equal(before, after)
        assert_close(after, make(parameter).log_prob(value), rtol=0, atol=0)


@each()
def test_nothing_but_parameters_is_kept(case: Case) -> None:
    """What an object holds is the same before and after it is asked, byte by byte."""
    dist = case.make(torch.float32)
    before = {name: id(x) for name, x in vars(dist).items()}
    pickled = pickle.dumps(dist)
    answers(case, dist, dist.sample())
    assert {name: id(x) for name, x in vars(dist).items()} == before
    assert pickle.dumps(dist) == pickled


def test_promotion_is_left_to_the_answers() -> None:
    """As torch's own classes: each parameter keeps its dtype, the result has the common one."""
    single, double = torch.tensor(1.3), torch.tensor(1.7, dtype=f64)
    for dist in (GeneralizedNormal(0.0, single, double), ISA([2, 2], single, double)):
        assert dist.scale.dtype == (torch.float32 if "loc" in vars(dist) else f64)
        assert dist.p.dtype == f64
        value = dist.sample()
        assert value.dtype == dist.variance.dtype == dist.log_prob(value.float()).dtype == f64
        assert dist.mean.dtype == dist.stddev.dtype == dist.entropy().dtype == f64


def test_the_gradient_reaches_what_was_passed() -> None:
    case = named("isa_batch")[0]
    tensors = case.tensors(requires_grad=True)
    dist = case.build(**tensors)
    for _ in range(2):  # nothing of the first graph is needed by the second
        total = dist.log_prob(dist.sample()).sum() + dist.entropy().sum() + dist.variance.sum()
        grads = torch.autograd.grad(total, list(tensors.values()))
        assert all(grad.isfinite().all() for grad in grads)
