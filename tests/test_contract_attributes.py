"""torch's contract: attributes, wrappers and the import."""

import copy
import io
import math
import pickle
import subprocess
import sys

import pytest
import torch
from torch import distributions as td
from torch.distributions import constraints
from torch.testing import assert_close

from backends import once
from cases import BATCHED, Case, each
from lpnested import GeneralizedGamma, LpNested, LpNestedTree

pytestmark = pytest.mark.usefixtures("backend")

f64 = torch.float64


# Attributes -------------------------------------------------------------------------------------


@each()
def test_arg_constraints_name_attributes_that_satisfy_them(case: Case) -> None:
    dist = case.make()
    assert dist.arg_constraints
    assert {"tree", "sizes", "radial"}.isdisjoint(dist.arg_constraints)
    for name, constraint in dist.arg_constraints.items():
        if not constraints.is_dependent(constraint):
            assert constraint.check(getattr(dist, name)).all(), name


@each()
def test_samples_lie_in_the_support(case: Case) -> None:
    dist = case.make()
    value = dist.sample((50,))
    assert dist.support.event_dim == len(case.event)
    assert dist.support.check(value).shape == (50, *case.batch)
    assert dist.support.check(value).all()
    assert not dist.support.check(torch.full_like(value, math.nan)).any()


@each()
def test_repr_names_the_class_and_its_parameters(case: Case) -> None:
    dist = case.make()
    text = repr(dist)
    assert text.startswith(type(dist).__name__)
    for name in type(dist).arg_constraints:
        assert name in text


@each()
def test_pickle_and_deepcopy_keep_the_law(case: Case) -> None:
    dist = case.make()
    value = dist.sample((4,))
    expected = dist.log_prob(value)
    for twin in (pickle.loads(pickle.dumps(dist)), copy.deepcopy(dist)):
        assert type(twin) is type(dist)
        assert (twin.batch_shape, twin.event_shape) == (dist.batch_shape, dist.event_shape)
        assert torch.equal(twin.log_prob(value), expected)
        assert repr(twin) == repr(dist)


@each()
def test_torch_save_round_trip(case: Case) -> None:
    file = io.BytesIO()
    dist = case.make()
    value = dist.sample()
    torch.save(dist, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False).log_prob(value), dist.log_prob(value))


@each()
def test_same_seed_same_sample(case: Case) -> None:
    dist = case.make()
    first = torch.manual_seed(3) and dist.sample((4,))
    again = torch.manual_seed(3) and dist.sample((4,))
    assert torch.equal(first, again)


# Wrappers --------------------------------------------------------------------------------------


@each(BATCHED)
def test_independent_sums_the_batch(case: Case) -> None:
    dist = case.make()
    joint = td.Independent(dist, len(case.batch))
    value = joint.sample((3,))
    assert joint.batch_shape == () and joint.event_shape == (*case.batch, *case.event)
    axes = tuple(range(1, 1 + len(case.batch)))
    assert_close(joint.log_prob(value), dist.log_prob(value).sum(axes))
    if case.entropy:
        assert_close(joint.entropy(), dist.entropy().sum())


@each(BATCHED)
def test_mixture_same_family_is_the_log_of_the_weighted_sum(case: Case) -> None:
    dist = case.make()
    count = case.batch[-1]
    logits = torch.arange(count, dtype=f64).expand(case.batch)
    mixture = td.MixtureSameFamily(td.Categorical(logits=logits), dist)
    value = mixture.sample((4,))
    assert value.shape == (4, *case.batch[:-1], *case.event)
    parts = dist.log_prob(value.unsqueeze(-1 - len(case.event)))
    expected = torch.logsumexp(parts + logits.log_softmax(-1), -1)
    assert_close(mixture.log_prob(value), expected)
    if case.finite_moments:
        assert_close(mixture.mean.shape, torch.Size([*case.batch[:-1], *case.event]))


@each()
def test_transformed_distribution_changes_variables(case: Case) -> None:
    dist = case.make()
    affine = td.AffineTransform(0.3, 2.0, event_dim=len(case.event))
    moved = td.TransformedDistribution(dist, [affine])
    value = moved.sample((4,))
    volume = math.prod(case.event) * math.log(2.0)
    expected = dist.log_prob((value - 0.3) / 2.0) - volume
    assert_close(moved.log_prob(value), expected, rtol=1e-10, atol=1e-10)


# Import ----------------------------------------------------------------------------------------

IMPORT = """
import sys, torch
from torch.distributions import Distribution, kl
before = set(sys.modules)
state = lambda: (Distribution._validate_args, torch.get_default_dtype(), torch.get_num_threads(),
                 torch.is_grad_enabled(), torch.initial_seed(), torch.get_rng_state().sum().item(),
                 torch.are_deterministic_algorithms_enabled(),
                 torch.get_float32_matmul_precision())
old, table = state(), dict(kl._KL_REGISTRY)
import lpnested
new = {name.split(".")[0] for name in set(sys.modules) - before}
heavy = new & {"numpy", "scipy", "matplotlib", "pyro", "zuko", "mpmath", "pandas"}
assert not heavy, heavy
assert state() == old
assert all(kl._KL_REGISTRY[pair] is how for pair, how in table.items())
"""


@pytest.mark.slow
@once
def test_import_brings_nothing_but_torch_and_changes_no_state() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@once
def test_every_public_name_is_documented() -> None:
    import lpnested

    for name in lpnested.__all__:
        assert getattr(lpnested, name).__doc__, name


def test_trees_with_equal_structure_share_their_law() -> None:
    """Structure is by value: an equal tree, built anew, gives the same numbers."""
    exponents, radial = torch.tensor([1.3, 2.2], dtype=f64), GeneralizedGamma(3, 2.0)
    value = torch.tensor([0.1, -2.0, 0.7], dtype=f64)
    one = LpNested(LpNestedTree((0, (1, 2))), exponents, radial).log_prob(value)
    two = LpNested(LpNestedTree([0, [1, 2]]), exponents, radial).log_prob(value)
    assert torch.equal(one, two)
