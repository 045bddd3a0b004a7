"""The tree: structure, errors that name the culprit, text, and layouts."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import roots

import lpnested
from lpnested import LpNestedTree
from lpnested.functional import log_surface_area, norm
from lpnested.layout import layout_of


@pytest.mark.parametrize(
    ("tree", "root"),
    [
        (LpNestedTree.isa([2, 1, 3]), ((0, 1), (2,), (3, 4, 5))),
        (LpNestedTree.flat(3), (0, 1, 2)),
        (LpNestedTree.balanced((2, 3)), ((0, 1, 2), (3, 4, 5))),
        (LpNestedTree([[2, 0], np.int64(1)]), ((2, 0), 1)),
    ],
)
def test_constructors_make_the_nested_tuples_they_say(tree, root):
    assert tree.root == root
    assert tree == LpNestedTree(root)
    assert hash(tree) == hash(LpNestedTree(root))


def test_nodes_are_breadth_first_root_first():
    tree = LpNestedTree((((0, 1), 2), 3, (4, (5,))))
    assert tree.nodes == (tree.root, ((0, 1), 2), (4, (5,)), (0, 1), (5,))
    assert (tree.dim, tree.num_nodes, tree.depth) == (6, 5, 3)
    assert tree.subspaces == ((0, 1, 2), (3,), (4, 5))


@given(roots().map(LpNestedTree))
def test_a_tree_survives_pickle_deepcopy_and_repr(tree):
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert copy.deepcopy(tree) == tree
    assert eval(repr(tree), {"LpNestedTree": LpNestedTree}) == tree
    assert len(str(tree).splitlines()) == tree.num_nodes + tree.dim


def test_a_tree_is_immutable():
    with pytest.raises(AttributeError):
        LpNestedTree.flat(2).root = (0,)


@pytest.mark.parametrize(
    ("root", "error", "message"),
    [
        (3, TypeError, "root"),
        ("01", TypeError, "root"),
        ((), ValueError, "no children"),
        ((0, ()), ValueError, "no children"),
        ((0, True), TypeError, "True"),
        ((0, 1.0), TypeError, "1.0"),
        ((0, None), TypeError, "None"),
        ((0, 0), ValueError, r"\[0\] are repeated"),
        ((0, 2), ValueError, r"\[1\] are missing"),
        ((0, -1), ValueError, r"\[-1\] are negative"),
    ],
)
def test_a_bad_tree_is_refused_with_the_culprit(root, error, message):
    with pytest.raises(error, match=message):
        LpNestedTree(root)


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_must_be_positive(size):
    with pytest.raises(ValueError, match=r"sizes\[1\] must be a positive integer"):
        LpNestedTree.isa([2, size])
    with pytest.raises(TypeError, match="dim must be a positive integer"):
        LpNestedTree.flat(2.0)


@given(roots().map(LpNestedTree), st.data())
def test_format_is_the_inverse_of_parse(tree, data):
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    exponents = data.draw(
        st.lists(st.floats(0.1, 200), min_size=tree.num_nodes, max_size=tree.num_nodes)
    )
    exponents = torch.tensor(exponents, dtype=dtype)
    parsed, parsed_exponents = lpnested.parse(lpnested.format(tree, exponents), dtype=dtype)
    assert parsed == tree
    assert torch.equal(parsed_exponents, exponents)


def test_format_is_short_where_coordinates_are_consecutive():
    text = "2.1:(2.2:4, 0.5:(4, 3:2), 7)"
    assert lpnested.format(*lpnested.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", 0, "exponent"),
        ("2.1(2.2:4)", 3, "':'"),
        ("2.1:(2.2:4,", 11, "a coordinate or the exponent"),
        ("2.1:(2.2:4 3)", 11, "','"),
        ("2:(0.5, 1)", 3, "whole number"),
        ("2:4 5", 4, "end of the text"),
        ("2:0", 2, "at least one"),
        ("0:2", 0, "positive"),
        ("1e999:2", 0, "finite"),
        ("  x:2", 2, "a number"),
        ("-1:2", 0, "a number"),
    ],
)
def test_errors_of_the_parser_point_into_the_text(text, place, expected):
    with pytest.raises(ValueError, match=expected) as error:
        lpnested.parse(text)
    assert str(error.value).splitlines()[-1].index("^") - 2 == place


def test_the_parser_names_repeated_coordinates_and_the_text():
    with pytest.raises(ValueError, match=r"\[0\] are repeated.*2:\(0, 0\)"):
        lpnested.parse("2:(0, 0)")


def test_draw_writes_exponents():
    tree, exponents = lpnested.parse("2.5:(0, 3:2)")
    assert tree.draw(exponents.tolist()).splitlines()[0] == "p = 2.5"
    with pytest.raises(ValueError, match="expected 2 exponents, but got 1"):
        tree.draw([1.0])


WASTEFUL = LpNestedTree(
    (*((k,) for k in range(20)), tuple(range(20, 60)), (60, tuple(range(61, 64))), 64)
)


def test_padding_at_most_doubles_the_work_of_a_lopsided_tree():
    for level in layout_of(WASTEFUL, torch.device("cpu")).levels:
        slots = sum(block.num_nodes * block.width for block in level.blocks)
        assert slots <= 2 * level.num_edges


def test_a_lopsided_tree_agrees_with_the_oracle():
    generator = torch.Generator().manual_seed(0)
    exponents = 0.3 + 3 * torch.rand(WASTEFUL.num_nodes, generator=generator, dtype=torch.float64)
    value = torch.randn(WASTEFUL.dim, generator=generator, dtype=torch.float64)
    p = dict(zip(WASTEFUL.nodes, exponents.tolist(), strict=True))

    def recursive(node):
        if isinstance(node, int):
            return abs(value[node].item())
        return sum(recursive(child) ** p[node] for child in node) ** (1 / p[node])

    assert norm(value, exponents, WASTEFUL).item() == pytest.approx(
        recursive(WASTEFUL.root), 1e-13
    )
    assert torch.isfinite(log_surface_area(exponents, WASTEFUL))


def test_layouts_are_made_once_per_tree_and_device():
    cpu = torch.device("cpu")
    assert layout_of(LpNestedTree.isa([3, 2]), cpu) is layout_of(LpNestedTree.isa([3, 2]), cpu)


def test_subtree_numbers_coordinates_anew_in_ascending_order():
    tree = LpNestedTree(((5, 1), (0, (4, 2), 3)))
    subtree, places = tree.subtree(tree.nodes[2])
    assert subtree == LpNestedTree((0, (3, 1), 2))
    assert places == [2, 3]
    assert tree.ancestors((4, 2)) == [0, 2]
