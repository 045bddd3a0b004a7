"""The search over trees: it finds the tree that made the data, and says how sure that is."""

import math

import pytest
import torch
from torch.distributions import Gamma, LogNormal

from lpnested import ISA, LpNested, LpNestedTree, fit_tree

TREES = {
    "pairs": (((0, 1), (2, 3)), [0.8, 2.0, 2.0]),
    "both signs": (
        (0, (1, 2, (3, 4)), 5, (6, 7)),
        [0.8, 2.0, 0.5, 4.0],
    ),
    "permuted": (((3, 1, (0, 5)), (2, 4)), [3.0, 1.0, 0.5, 1.5]),
    "deep": ((0, (1, (2, (3, 4)))), [0.6, 1.2, 2.4, 4.8]),
    "flat": ((0, 1, 2, 3, 4), [1.0]),
}


def sampled(name, num=5000, radial=None):
    root, exponents = TREES[name]
    tree = LpNestedTree(root)
    torch.manual_seed(1)
    dist = LpNested(tree, torch.tensor(exponents), radial or LogNormal(0.0, 0.5))
    return tree, dist.sample((num,))


def groups(tree):
    """The coordinates under each inner node; trees are equal up to order if these are."""
    return {frozenset(leaves(node)) for node in tree.nodes}


def leaves(node):
    return [node] if isinstance(node, int) else [x for child in node for x in leaves(child)]


@pytest.mark.parametrize("name", TREES)
def test_the_tree_that_made_the_data_is_found(name):
    tree, data = sampled(name)
    found = fit_tree(data, resamples=0)
    assert groups(found.tree) == groups(tree)
    assert found.support == {} and found.result.converged
    joined = data.shape[-1] - 1  # inner nodes of a binary tree
    assert len(found.merged) == joined - tree.num_nodes


def test_the_radius_is_that_asked_for():
    tree, data = sampled("pairs", radial=Gamma(3.0, 1.0))
    found = fit_tree(data, radial=Gamma, resamples=0)
    assert isinstance(found.result.distribution.radial, Gamma) and groups(found.tree) == groups(
        tree
    )


@pytest.mark.slow
def test_the_scale_of_the_data_does_not_matter():
    _, data = sampled("permuted")
    trees = {fit_tree(data.double() * scale, resamples=0).tree for scale in (1e-30, 1.0, 1e30)}
    assert len(trees) == 1


@pytest.mark.slow
def test_what_was_merged_could_be_equal_and_the_rest_could_not():
    _, data = sampled("both signs")
    found = fit_tree(data, level=0.01, resamples=0)
    assert all(abs(z) < 3.5 for _, z in found.merged)
    assert all(abs(float(z)) > 2.5 for z in found.result.merge_z.values())


@pytest.mark.slow
def test_a_clear_node_is_found_in_every_resample_and_an_unclear_one_is_not():
    torch.manual_seed(0)
    dist = ISA([2, 2, 2], p0=0.8, p=[3.0, 3.0, 0.9])  # the last one is nearly its parent
    seen = []
    found = fit_tree(
        dist.sample((1500,)),
        resamples=8,
        level=0.5,
        generator=torch.Generator().manual_seed(0),
        callback=lambda k, tree: seen.append((k, tree)),
    )
    assert [k for k, _ in seen] == list(range(9)) and seen[0][1] == found.tree
    assert found.support[0, 1] == found.support[2, 3] == 1.0
    assert all(group in ((0, 1), (2, 3)) or share < 1 for group, share in found.support.items())
    assert str((0, 1)) in str(found) and "100%" in str(found)


@pytest.mark.slow
def test_resamples_follow_their_generator():
    _, data = sampled("flat", num=300)
    runs = [
        fit_tree(data, level=0.9, resamples=3, generator=torch.Generator().manual_seed(k)).support
        for k in (5, 5)
    ]
    assert runs[0] == runs[1]


def test_zeros_are_the_least_numbers():
    tree, data = sampled("pairs")
    data[:40, 0] = 0.0
    found = fit_tree(data, resamples=0)
    assert groups(found.tree) == groups(tree)
    assert any("exactly 0" in note for note in found.result.notes)


def test_two_coordinates_are_one_node():
    torch.manual_seed(0)
    found = fit_tree(ISA([2], 1.0, 3.0).sample((2000,)), resamples=0)
    assert found.tree == LpNestedTree.flat(2) and found.merged == ()


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 2, 2)])
def test_a_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"\(N, dim\)"):
        fit_tree(torch.ones(shape))


@pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
def test_a_level_is_between_0_and_1(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_tree(torch.randn(9, 2), level=level)


def test_other_arguments_are_checked():
    with pytest.raises(TypeError, match="must be a tensor"):
        fit_tree([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="not be negative"):
        fit_tree(torch.randn(9, 2), resamples=-1)


def test_a_resample_has_two_different_rows():
    found = fit_tree(torch.randn(2, 3), resamples=8, max_iter=2)
    assert all(0 <= share <= 1 for share in found.support.values())


def test_the_search_runs_in_inference_mode():
    _, data = sampled("flat", num=200)
    with torch.inference_mode():
        found = fit_tree(data, resamples=1)
    assert found.tree == fit_tree(data, resamples=0).tree
