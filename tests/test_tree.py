"""The tree: structure, errors that name the culprit, text, and layouts."""

from __future__ import annotations

import copy
import io
import pickle
import time
import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lpnested
from lpnested import LpNestedTree, layout
from lpnested.digits import parameter_repr, shortest_repr
from lpnested.functional import log_surface_area, norm
from lpnested.layout import layout_of
from problems import roots


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
    tree = LpNestedTree.flat(2)
    for name in ("root", "dim", "children", "other"):
        with pytest.raises(AttributeError):
            setattr(tree, name, (0,))
    with pytest.raises(AttributeError):
        del tree.dim
    assert tree == LpNestedTree.flat(2)


def test_a_tree_has_no_dict_that_a_walk_over_attributes_could_write_to():
    tree = lpnested.ISA([2, 3], 2.0, 2.0).tree
    assert not hasattr(tree, "__dict__")
    assert weakref.ref(tree)() is tree


@given(roots(max_dim=4), roots(max_dim=4))
def test_trees_are_equal_where_their_nested_tuples_are(one, other):
    trees = LpNestedTree(one), LpNestedTree(other)
    assert (trees[0] == trees[1]) == (one == other)
    assert len(set(trees)) == 2 - (one == other)
    assert trees[0] != one


@given(roots())
def test_rows_read_back_as_the_nested_tuples(root):
    tree = LpNestedTree(root)
    rebuilt = list(tree.children)
    for k in reversed(range(tree.num_nodes)):
        rebuilt[k] = tuple(x if x >= 0 else rebuilt[-x - 1] for x in rebuilt[k])
    assert tuple(rebuilt) == tree.nodes
    assert tree.nodes[0] == tree.root == root
    assert sum(tree.levels, ()) == tree.nodes
    assert len(tree.levels) == tree.depth


def test_trees_pickled_by_earlier_versions_load():
    assert pickle.loads(b"clpnested.tree\nLpNestedTree\n((I0\n(I1\nI2\nttt" + b"R.") == (
        LpNestedTree((0, (1, 2)))
    )


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


@pytest.mark.slow
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
        ("-1:(0, 1)", 0, "positive, finite exponent"),
        ("-0:2", 0, "positive, finite exponent"),
        ("2:(0, -.5e1:2)", 6, "positive, finite exponent"),
        ("nan:2", 0, "positive, finite exponent"),
        ("-inf:2", 0, "positive, finite exponent"),
        ("2:(0, Infinity:2)", 6, "positive, finite exponent"),
        ("1e39:2", 0, "range of torch.float32"),
        ("1e-46:2", 0, "range of torch.float32"),
        ("2:(0, -1)", 6, "whole number"),
        ("2:(0, nan)", 6, "whole number"),
        ("2:-3", 2, "whole number"),
        ("- 1:2", 0, "a number"),
        ("2:()", 3, "a coordinate or the exponent"),
        ("2:(0,\n 1 2)", 9, "','"),
    ],
)
def test_errors_of_the_parser_point_into_the_text(text, place, expected):
    with pytest.raises(ValueError, match=expected) as error:
        lpnested.parse(text)
    assert str(error.value).splitlines()[-1].index("^") - 2 == place


def test_the_parser_names_repeated_coordinates_and_the_text():
    with pytest.raises(ValueError, match=r"\[0\] are repeated.*2:\(0, 0\)"):
        lpnested.parse("2:(0, 0)")


def test_an_error_in_a_long_text_shows_what_is_around_it():
    text = "2:(" + ", ".join(map(str, range(3000))) + ", oops)"
    with pytest.raises(ValueError, match="a number") as error:
        lpnested.parse(text)
    _, shown, caret = str(error.value).splitlines()
    assert len(shown) < 120
    assert shown[caret.index("^") :].startswith("oops")


@pytest.fixture
def default_dtype():
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("default", "kept"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_parsed_exponents_keep_their_value(default, kept, default_dtype):
    default_dtype(default)
    _, exponents = lpnested.parse("2.1:2")
    assert exponents.dtype == kept
    assert exponents.item() == {torch.float32: float(np.float32(2.1)), torch.float64: 2.1}[kept]


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.complex64, torch.int64, "float32", float]
)
def test_parse_refuses_what_does_not_keep_the_exponents(dtype):
    with pytest.raises(TypeError, match="must be float32 or float64, but got"):
        lpnested.parse("2.1:2", dtype=dtype)


def test_draw_writes_exponents():
    tree, exponents = lpnested.parse("2.5:(0, 3:2)")
    assert tree.draw(exponents.tolist()).splitlines()[0] == "p = 2.5"
    with pytest.raises(ValueError, match="expected 2 exponents, but got 1"):
        tree.draw([1.0])
    for numbers in (torch.tensor([2.1, 3.0]), [torch.tensor(2.1), torch.tensor(3.0)], ["2.1", 3]):
        assert tree.draw(numbers).splitlines()[::2] == ["p = 2.1", "└─ p = 3", "   └─ x2"]


# Numbers as text --------------------------------------------------------------------------------


def significant(text):
    """The digits of a number, without leading and trailing zeros."""
    return text.lower().split("e")[0].replace(".", "").lstrip("-0").rstrip("0")


@given(
    st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.decimals(0, 200, places=2).map(float),
    ),
    st.sampled_from([np.float32, np.float64]),
)
def test_a_number_is_written_with_the_fewest_digits(number, dtype):
    number = dtype(number)
    text = shortest_repr(torch.tensor(float(number), dtype=getattr(torch, np.dtype(dtype).name)))
    assert dtype(text) == number
    best = np.format_float_scientific(number, unique=True, trim="-")
    assert len(significant(text)) == len(significant(best))


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (torch.tensor(2.1), "2.1"),
        (torch.tensor(2.1, requires_grad=True), "2.1"),
        (torch.tensor(2.1, dtype=torch.float64), "2.1"),
        (torch.tensor(2.1, dtype=torch.bfloat16), "2.1"),
        (torch.tensor(65504, dtype=torch.float16), "65500"),
        (torch.tensor(torch.finfo(torch.float32).max), "3.4028235e+38"),
        (torch.tensor(100.0), "100"),
        (torch.tensor(1e-45), "1e-45"),
        (torch.tensor(torch.nan), "nan"),
        (torch.tensor(-torch.inf), "-inf"),
        (torch.tensor(3), "3"),
        (torch.tensor([2.1]), "[2.1]"),
        (torch.tensor([0.1, 2.0, 1 / 3]), "[0.1, 2, 0.33333334]"),
        (torch.arange(8), "[0, 1, 2, 3, 4, 5, 6, 7]"),
        (torch.arange(9), "(9,)"),
        (torch.ones(2, 1), "(2, 1)"),
        (torch.ones(0), "[]"),
        (torch.ones(2, device="meta"), "(2,)"),
        (torch.ones((), device="meta"), "()"),
    ],
)
def test_parameters_are_shown_by_their_numbers_or_their_shape(tensor, text):
    assert parameter_repr(tensor) == text


@pytest.mark.slow
def test_tensors_without_numbers_are_shown_by_their_shape():
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    with FakeTensorMode(shape_env=ShapeEnv()):
        assert parameter_repr(torch.ones(2)) == "(2,)"
    assert shortest_repr(torch.ones((), device="meta")) == "..."
    seen = []
    torch.vmap(lambda x: (seen.append(parameter_repr(x)), x)[1])(torch.ones(3, 2))
    assert seen == ["(2,)"]


# Deep and large trees ---------------------------------------------------------------------------


def chain(depth, kind=tuple):
    """A caterpillar: every node has one coordinate and the next node."""
    root = kind([depth - 1])
    for k in reversed(range(depth - 1)):
        root = kind([k, root])
    return root


def within(frames, function):
    return function() if frames == 0 else within(frames - 1, function)


def pure_python_pickle(tree):
    """As joblib.hash and cloudpickle pickle: by Python code that recurses."""
    file = io.BytesIO()
    pickle._Pickler(file).dump(tree)
    return pickle._Unpickler(io.BytesIO(file.getvalue())).load()


def saved_and_loaded(tree):
    file = io.BytesIO()
    torch.save(tree, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


DEEP = LpNestedTree(chain(500))

SAME = {
    "tuples": lambda: LpNestedTree(chain(500)),
    "lists": lambda: LpNestedTree(chain(500, list)),
    "root": lambda: LpNestedTree(DEEP.root),
    "pickle": lambda: pickle.loads(pickle.dumps(DEEP)),
    "first protocol": lambda: pickle.loads(pickle.dumps(DEEP, 0)),
    "pickle in Python": lambda: pure_python_pickle(DEEP),
    "torch.save": lambda: saved_and_loaded(DEEP),
    "copy": lambda: copy.copy(DEEP),
    "deepcopy": lambda: copy.deepcopy(DEEP),
    "subtree": lambda: DEEP.subtree(0)[0],
    "subtree of tuples": lambda: DEEP.subtree(DEEP.root)[0],
    "format": lambda: lpnested.parse(lpnested.format(DEEP, torch.full((500,), 2.5)))[0],
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_a_tree_of_depth_500_works_deep_in_a_program(make):
    tree = within(300, make)
    assert within(300, lambda: tree == DEEP and hash(tree) == hash(DEEP))
    assert tree.depth == tree.dim == tree.num_nodes == 500


def test_a_tree_of_depth_500_is_written_and_searched():
    def look():
        assert repr(DEEP).startswith("LpNestedTree((0, (1, (2,")
        assert repr(DEEP).endswith("(499," + 501 * ")")
        assert str(DEEP).splitlines()[-1] == 499 * 3 * " " + "└─ x499"
        assert len(str(DEEP).splitlines()) == len(DEEP.draw(torch.ones(500)).splitlines()) == 1000
        assert DEEP.ancestors(499) == DEEP.ancestors(DEEP.nodes[499]) == list(range(499))
        assert DEEP.subtree(200) == (LpNestedTree(chain(300)), list(range(200, 500)))
        assert len(layout_of(DEEP, torch.device("cpu")).levels) == 500

    within(300, look)


def test_the_norm_of_a_tree_of_depth_500():
    """With one exponent for all, the norm is the ordinary one."""
    value = torch.linspace(-1, 2, 500, dtype=torch.float64)
    result = norm(value, torch.full((500,), 3.0, dtype=torch.float64), DEEP)
    torch.testing.assert_close(result, value.norm(3), rtol=1e-12, atol=0.0)


def lines_of(root, depth):
    for _ in range(depth):
        root = [root]
    return root


ENDLESS = [0]
ENDLESS.append(ENDLESS)
TWICE_ENDLESS = []
TWICE_ENDLESS += [TWICE_ENDLESS, TWICE_ENDLESS]
TOO_DEEP = {
    "501": chain(501),
    "900": chain(900, list),
    "100000": lines_of(0, 100_000),
    "only the last branch": [0, [1, 2], lines_of(3, 500)],
    "contains itself": ENDLESS,
    "contains itself twice": TWICE_ENDLESS,
}


@pytest.mark.parametrize("root", TOO_DEEP.values(), ids=TOO_DEEP)
def test_a_tree_that_is_too_deep_is_refused(root):
    with pytest.raises(ValueError, match=r"up to 500 levels.*one child"):
        LpNestedTree(root)
    with pytest.raises(ValueError, match="up to 500 levels"):
        DEEP.place(root)


def test_too_deep_a_tree_is_refused_by_balanced_and_parse():
    assert LpNestedTree.balanced([1] * 500).depth == 500
    with pytest.raises(ValueError, match="up to 500 levels.*has 501"):
        LpNestedTree.balanced([2] + [1] * 500)
    assert lpnested.parse("2:(" * 499 + "2:3" + ")" * 499)[0].depth == 500
    for inner in ("2:3", "2:(0)", "2:(" * 10_000):
        with pytest.raises(ValueError, match="up to 500 levels") as error:
            lpnested.parse("2:(" * 500 + inner)
        _, shown, caret = str(error.value).splitlines()
        assert shown[caret.index("^") :].startswith(inner[:3])


def test_a_list_that_is_part_of_several_is_refused_and_not_unfolded():
    root = [0, 1]
    for _ in range(60):
        root = [root, root]  # 2 ** 61 leaves, were it unfolded
    with pytest.raises(ValueError, match=r"\[0, 1\] are repeated"):
        LpNestedTree(root)


def look_at_the_structure(tree):
    tree = LpNestedTree(tree.root)
    layout._LAYOUTS.pop((tree.code, torch.device("cpu")), None)
    layout_of(tree, torch.device("cpu"))
    last = tree.num_nodes - 1
    assert tree.place(tree.nodes[last]) == last
    _ = tree.subtree(0), tree.ancestors(last), tree.depth, tree.subspaces, hash(tree)


def write_and_read(tree):
    exponents = torch.linspace(0.5, 3, tree.num_nodes)
    assert lpnested.parse(lpnested.format(tree, exponents))[0] == tree
    assert pickle.loads(pickle.dumps(tree)) == tree
    _ = repr(tree), tree.draw(exponents)


@pytest.mark.slow
@pytest.mark.parametrize("work", [look_at_the_structure, write_and_read])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: LpNestedTree.isa([4] * n),
        lambda n: LpNestedTree.flat(4 * n),
        lambda n: LpNestedTree(tuple((k, (n + k, (2 * n + k,))) for k in range(n))),
        lambda n: LpNestedTree((tuple((k,) for k in range(n)), tuple(range(n, 4 * n)))),
    ],
    ids=["isa", "flat", "ragged", "lopsided"],
)
def test_the_work_grows_linearly(make, work):
    """Eight times the tree takes about eight times as long, where quadratic work takes 64."""

    def seconds(n):
        tree = make(n)
        start = time.process_time()
        work(tree)
        return time.process_time() - start

    small = min(seconds(500) for _ in range(5))
    assert min(seconds(4000) for _ in range(3)) < 25 * small


# Layouts ----------------------------------------------------------------------------------------


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
    assert tree.ancestors(3) == [0, 2]
    assert tree.subtree(0) == (tree, [0, 1, 2, 3])


@given(roots().map(LpNestedTree), st.data())
def test_a_node_is_found_by_its_tuples_and_by_its_place(tree, data):
    k = data.draw(st.integers(0, tree.num_nodes - 1))
    assert tree.place(tree.nodes[k]) == tree.place(np.int64(k)) == tree.place(k) == k
    for outer, inner in pairwise([*tree.ancestors(k), k]):
        assert tree.nodes[inner] in tree.nodes[outer]
    assert tree.subtree(k)[1] == [tree.nodes.index(n) for n in tree.nodes if n in below(tree, k)]


def below(tree, k):
    found = [tree.nodes[k]]
    for node in found:
        found += [child for child in node if isinstance(child, tuple)]
    return found


@pytest.mark.parametrize(
    ("node", "error", "message"),
    [
        (
            4,
            ValueError,
            r"index into tree.nodes \(0..2, where 0 is the root\), but got 4: coordinate "
            "4 is a leaf, a child of the node at index 2",
        ),
        ((0,), ValueError, r"got \(0,\): coordinate 0 is a leaf, a child of the node at index 1"),
        (5, ValueError, "but got 5$"),
        (-1, ValueError, "but got -1$"),
        ((7,), ValueError, r"but got \(7,\)$"),
        ((1, 0), ValueError, r"but got \(1, 0\)$"),
        (((0, 1),), ValueError, r"but got \(\(0, 1\),\)$"),
        ((2, 3, 4, 5), ValueError, r"but got \(2, 3, 4, 5\)$"),
        ((), ValueError, "no children"),
        (True, TypeError, "integer, but got True"),
        (1.0, TypeError, "integer, but got 1.0"),
        ("1", TypeError, "integer, but got '1'"),
        (None, TypeError, "integer, but got None"),
        ((0, 1.0), TypeError, "1.0"),
    ],
)
def test_what_is_no_inner_node_is_named(node, error, message):
    tree = LpNestedTree.isa([2, 3])
    for look_up in (tree.place, tree.subtree, tree.ancestors):
        with pytest.raises(error, match=message):
            look_up(node)


# Compiling --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tree_is_built_looked_up_and_returned_in_compiled_code():
    def build(value):
        tree = LpNestedTree((0, [1, 2]))
        width = layout_of(tree, value.device).arities.sum() + LpNestedTree.isa([2, 2]).dim
        return value + width + (tree == LpNestedTree((0, (1, 2)))), tree

    value, tree = torch.compile(build, fullgraph=True, backend="eager")(torch.zeros(2))
    assert value.tolist() == [9.0, 9.0]
    assert tree == LpNestedTree((0, (1, 2)))


def test_the_layout_of_another_tree_makes_nothing_compile_anew():
    from torch._dynamo.testing import CompileCounter

    counter, cpu = CompileCounter(), torch.device("cpu")
    tree = LpNestedTree.isa([5, 3])
    layout_of(tree, cpu)
    compiled = torch.compile(lambda x: x + layout_of(tree, cpu).arities, backend=counter)
    compiled(torch.zeros(3))
    layout_of(LpNestedTree.isa([3, 5]), cpu)
    compiled(torch.zeros(3))
    assert counter.frame_count == 1
