"""What a fit refuses, and what it notes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Categorical,
    Exponential,
    Gamma,
    HalfNormal,
    Laplace,
    LogNormal,
    MixtureSameFamily,
    Normal,
    Pareto,
    Poisson,
    Uniform,
)

from lpnested import (
    ISA,
    GeneralizedGamma,
    GeneralizedNormal,
    LpNested,
    LpNestedTree,
    fit,
)
from lpnested.nn import Learnable

TREE = LpNestedTree((0, (1, 2)))


def drawn(num: int = 300, exponents: tuple[float, float] = (0.8, 3.0)) -> Tensor:
    radial = LogNormal(torch.tensor(0.0, dtype=torch.float64), 0.5)
    return LpNested(TREE, torch.tensor(exponents, dtype=torch.float64), radial).sample((num,))


def with_value(value: float) -> Tensor:
    x = drawn(50)
    x[7, 1] = value
    return x


def notes(*args: Any, **options: Any) -> str:
    return " | ".join(fit(*args, **options).notes)


def mixture_of_one() -> MixtureSameFamily:
    ones = torch.ones(2)
    return MixtureSameFamily(Categorical(ones), Normal(ones, ones))


def mixture_by_probs() -> Learnable:
    return Learnable(
        MixtureSameFamily,
        mixture_distribution=Learnable(Categorical, probs=torch.ones(2) / 2, learn="probs"),
        component_distribution=Learnable(LogNormal, loc=torch.zeros(2), scale=1.0, learn="loc"),
    )


def single_child() -> Learnable:
    radial = Learnable(Gamma, concentration=2.0, rate=1.0, learn=())
    return Learnable(
        LpNested, LpNestedTree.flat(1), exponents=torch.ones(1), radial=radial, learn="exponents"
    )


# Refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(TREE, with_value(math.nan)), r"1 observations have NaN .* at row 7"),
        (lambda: fit(TREE, with_value(math.inf)), r"1 observations have infinite .* at row 7"),
        (lambda: fit(GeneralizedNormal, torch.tensor([1.0, math.nan])), "NaN .* at row 1"),
        (lambda: fit(TREE, torch.randn(10, 4)), r"shape \(N, \*batch, 3\), but got \(10, 4\)"),
        (lambda: fit(TREE, torch.randn(3)), r"shape \(N, \*batch, 3\), but got \(3,\)"),
        (lambda: fit(GeneralizedGamma, torch.tensor(1.0)), r"such tensors .* got tensor\(1"),
        (lambda: fit(TREE, [torch.randn(5, 3), torch.randn(5, 2, 3)]), "all of one shape"),
        (lambda: fit(TREE, []), "must have observations"),
        (lambda: fit(TREE, torch.randn(0, 3)), "two different observations"),
        (lambda: fit(TREE, torch.ones(20, 3)), "two different observations .* all 20"),
        (lambda: fit(TREE, drawn(), weights=torch.eye(300)[7]), "different observations .* all 1"),
        (lambda: fit(TREE, (x for x in drawn().split(9))), "iterator such as a generator"),
        (lambda: fit(TREE, ["text"]), "chunks that are such tensors"),
        (lambda: fit(TREE, [drawn()], weights=torch.ones(300)), "weights come with them"),
        (lambda: fit(TREE, drawn(), weights=torch.ones(7)), r"shape \(300,\).* got \(7,\)"),
        (lambda: fit(TREE, drawn(), weights=-torch.ones(300)), "finite and not negative"),
        (lambda: fit(TREE, drawn(), weights=torch.zeros(300)), "positive for one observation"),
        (lambda: fit(TREE, drawn(), covariance="robust"), "observed.*sandwich.*'robust'"),
        (lambda: fit(TREE, drawn(), Uniform(0.0, 1.0)), "Uniform ends at a bound"),
        (lambda: fit(TREE, drawn(), Pareto), "Pareto ends at a bound"),
        (lambda: fit(TREE, drawn(), Beta(1.0, 1.0)), "Beta ends at a bound"),
        (lambda: fit(TREE, drawn(), Normal(0.0, 1.0)), "continuous distribution on the positive"),
        (lambda: fit(TREE, drawn(), Normal), "continuous distribution on the positive"),
        (lambda: fit(TREE, drawn(), Poisson(1.0)), "continuous distribution on the positive"),
        (lambda: fit(TREE, drawn(), MixtureSameFamily), "pass an instance in place of the class"),
        (lambda: fit(TREE, drawn(), mixture_of_one()), "continuous distribution on the positive"),
        (lambda: fit(GeneralizedGamma, torch.randn(50)), "outside of the support"),
        (lambda: fit(GeneralizedGamma(3.0, 1.0), torch.arange(5.0)), "first of them 0, are out"),
        (lambda: fit(TREE, drawn(), mixture_by_probs()), "estimate logits instead"),
        (
            lambda: fit(HalfNormal, drawn()[:, 0].abs() * 1e200),
            "likelihood of these data is not finite",
        ),
        (lambda: fit(Beta, torch.arange(5.0)), "outside of the support of Beta"),
        (lambda: fit(Learnable(ISA, [3], p0=2.0, p=2.0), drawn()), "no parameter to estimate"),
        (lambda: fit(single_child(), drawn()[:, :1]), "density depends on none of those"),
        (
            lambda: fit(Learnable(ISA, [3], p0=2.0, p=2.0, learn="p"), drawn(), Gamma),
            "radial goes",
        ),
        (
            lambda: fit(TREE, drawn(), LogNormal(torch.zeros(2), 1.0)),
            r"batch shape or \(\).*\(2,\)",
        ),
    ],
)
def test_what_can_not_be_fitted_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(ISA, drawn()), "an LpNestedTree, a Learnable .* or a univariate"),
        (lambda: fit((0, (1, 2)), drawn()), "an LpNestedTree, a Learnable"),
        (lambda: fit(TREE, 3.0), "data must be a tensor"),
        (lambda: fit(TREE, drawn() + 0j), "data must be real"),
        (lambda: fit(TREE, drawn(), "LogNormal"), "radial must be a distribution"),
    ],
)
def test_what_is_none_of_these_has_the_wrong_type(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("radial", [LogNormal, Gamma, Exponential, HalfNormal])
def test_an_observation_of_zeros_alone_needs_a_density_there(radial):
    x = drawn(100)
    x[3] = 0
    with pytest.raises(ValueError, match="1 observations are 0 in all coordinates"):
        fit(TREE, x, radial)
    result = fit(TREE, x, GeneralizedGamma)
    assert result.converged and "3 coordinates are exactly 0" in " ".join(result.notes)


# Noted ------------------------------------------------------------------------------------------


def test_there_is_nothing_to_note_about_ordinary_data():
    assert fit(TREE, drawn()).notes == ()


def test_exact_zeros_are_noted_and_the_optimum_is_in_the_interior():
    x = drawn(1000)
    x[torch.rand_like(x) < 0.01] = 0
    result = fit(TREE, x)
    assert result.converged and (result.values[:2] > 0.5).all()
    (note,) = result.notes
    assert note.startswith(f"{int((x == 0).sum())} coordinates are exactly 0")
    assert "no upper bound" in note


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("radial", [LogNormal, GeneralizedGamma])
def test_many_zeros_leave_no_optimum_and_the_fit_says_so(batch, radial):
    x = drawn(500)
    x[torch.rand_like(x) < 0.3] = 0
    x = x[(x != 0).any(-1)]
    result = fit(TREE, torch.stack([x, x], 1) if batch else x, radial)
    assert not torch.as_tensor(result.converged).any()
    assert (result.values[..., :2] > 1e-4).all() and result.values.isfinite().all()
    text = " ".join(result.notes)
    assert "no largest likelihood inside" in text and "optimum in the interior" not in text


def test_an_exponent_as_good_as_infinite_is_noted_and_has_no_error():
    torch.manual_seed(4)  # one whose likelihood has no largest value at a smaller exponent
    x = drawn(2000, (300.0, 1.5))
    result = fit(TREE, x)
    assert result.values[0] > 50 and result.converged
    assert "exponents[0] is above 50, at the boundary" in " ".join(result.notes)
    assert result.standard_errors.isnan().tolist() == [True, False, False, False]
    assert result.exponent_errors.isnan().tolist() == [True, False]
    assert result.merge_z[0, 1].isnan() and "nan" in str(result)


def test_data_on_a_cube_put_the_exponent_of_the_radius_at_the_boundary_and_its_scale():
    result = fit(TREE, torch.rand(500, 3) * 2 - 1, GeneralizedGamma)
    unknown = result.standard_errors.isnan()
    assert unknown[result.parameters.index("radial.p")]
    assert unknown[result.parameters.index("radial.scale")]


def test_few_observations_are_noted():
    assert "39 observations for 4 parameters" in notes(TREE, drawn(39))
    assert "observations for" not in notes(TREE, drawn(40))


def test_nodes_with_one_child_are_fixed_and_not_counted():
    tree = LpNestedTree((((0,),), (1, 2)))
    result, plain = fit(tree, drawn()), fit(TREE, drawn())
    assert "nodes 1, 3 with one child" in " ".join(result.notes)
    assert len(result.parameters) == len(plain.parameters)
    assert result.exponent_errors[1] == result.exponent_errors[3] == 0
    torch.manual_seed(5)
    x = drawn()
    torch.testing.assert_close(fit(tree, x).values, fit(TREE, x).values)


def test_a_subspace_of_one_coordinate_has_no_exponent_to_estimate():
    module = Learnable(ISA, [1, 2], p0=2.0, p=[2.0, 2.0], scale=1.0, learn=("p0", "p", "scale"))
    result = fit(module, drawn())
    assert result.parameters == ("p0", "p[1]", "scale")
    module = Learnable(ISA, [1, 2], p0=2.0, p=[2.0], scale=1.0, learn=("p0", "p", "scale"))
    assert fit(module, drawn()).parameters == ("p0", "p", "scale")


def test_levels_that_could_be_one_are_noted_with_their_z():
    result = fit(TREE, drawn(500, (1.5, 1.5)))
    (note,) = result.notes
    assert f"node 1 and parent 0 (z = {result.merge_z[0, 1].item():+.2f})" in note
    assert not fit(TREE, drawn(500, (0.8, 3.0))).notes


def test_levels_are_compared_across_a_node_with_one_child():
    tree = LpNestedTree((0, ((1, 2),)))
    assert set(fit(tree, drawn()).merge_z) == {(0, 2)}


def test_tied_exponents_are_one_comparison():
    module = Learnable(ISA, [2, 2], p0=2.0, p=[2.0], scale=1.0, learn=("p0", "p", "scale"))
    text = notes(module, ISA([2, 2], 2.0, 2.0).sample((300,)))
    assert "nodes 1, 2 and parent 0 (z = " in text
    everywhere = Learnable(ISA, [2, 2], p0=2.0, p=2.0, scale=1.0, learn="scale")
    assert fit(everywhere, ISA([2, 2], 2.0, 2.0).sample((300,))).merge_z == {}


def test_duplicates_are_noted():
    x = drawn()
    x[9] = x[8]
    assert "1 observations are duplicates" in notes(TREE, x)
    assert "duplicates" not in notes(TREE, drawn())
    normal = torch.randn(1000)
    assert "duplicates" in notes(GeneralizedNormal, torch.cat([normal, normal[:50]]))
    assert "duplicates" not in notes(GeneralizedNormal, torch.cat([normal, normal[:5]]))


@pytest.mark.parametrize("large", [1e17, 1e20])
def test_a_large_coordinate_makes_no_duplicates(large):
    x = drawn().double()
    x[:, 2] = large
    assert "duplicates" not in notes(TREE, x, max_iter=0)
    x[9] = x[8]
    assert "1 observations are duplicates" in notes(TREE, x, max_iter=0)


def test_rows_of_signs_are_told_apart():
    signs = torch.tensor([[1.0 - 2 * (k >> j & 1) for j in range(8)] for k in range(256)])
    tree = LpNestedTree.isa([4, 4])
    assert "duplicates" not in notes(tree, signs, max_iter=0)
    assert "1 observations are duplicates" in notes(
        tree, torch.cat([signs, signs[:1]]), max_iter=0
    )


def test_a_scale_that_single_precision_has_not_is_its_smallest():
    x = (3 * drawn()).round() * (torch.rand(300, 1) < 0.7)
    result = fit(TREE, x.long(), GeneralizedGamma)
    assert not result.converged and result.values[-1] < 1e-38
    assert result.distribution.radial.scale == torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("batch", [False, True])
def test_too_few_iterations_are_no_convergence(batch):
    x = torch.stack([drawn(), drawn()], 1) if batch else drawn()
    result = fit(TREE, x, max_iter=2)
    assert not torch.as_tensor(result.converged).any()
    assert result.gradient.abs().max() > 1e-6
    assert "not converged" in " ".join(result.notes)
    if not batch:
        assert "NOT converged after 2" in str(result)


def test_parameters_that_data_do_not_tell_apart_have_no_errors():
    parts = LogNormal(torch.zeros(2).double(), torch.ones(2).double())
    start = MixtureSameFamily(Categorical(torch.ones(2).double()), parts)  # twice the same
    result = fit(TREE, drawn(), start)
    assert "not positive definite" in " ".join(result.notes)
    assert result.standard_errors.isnan().all()


def test_the_kink_of_a_peaked_density_is_noted():
    x = GeneralizedNormal(0.0, 1.0, 0.7).sample((500,))
    assert "p is below 1.25: the likelihood bends sharply in loc" in notes(GeneralizedNormal, x)
    assert "bends sharply in loc" in notes(Laplace, x)
    assert "bends sharply in loc" not in notes(Normal, x)
    module = Learnable(GeneralizedNormal, loc=0.0, scale=1.0, p=2.0, learn=("scale", "p"))
    result = fit(module, x)
    assert result.converged and not result.notes


def test_notes_on_many_data_sets_say_in_how_many():
    x = torch.stack([drawn(), drawn(300, (1.5, 1.5)), drawn()], 1)
    x[0, 2, 0] = 0
    x[5, 0] = x[6, 0]
    text = notes(TREE, x, weights=torch.ones(300, 3))
    assert "1 coordinates are exactly 0 in 1 of 3 data sets" in text
    assert "duplicates of others in 1 of 3 data sets" in text
    assert "node 1 and parent 0 (in 1 of 3 data sets)" in text
