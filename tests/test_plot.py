"""Pictures, by what is in them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from torch.distributions import Independent, Normal

from lpnested import ISA, LpNestedTree, plot
from lpnested.functional import norm

mpl.use("agg")

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture
def ax():
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_a_tree_shows_every_node_and_leaf(ax):
    tree = LpNestedTree(((0, 1), (2, 3, 4)))
    plot.tree(tree, torch.tensor([2.1, 2.2, 0.7]), ax)
    texts = [text.get_text() for text in ax.texts]
    assert sorted(texts) == sorted(["2.1", "2.2", "0.7", *(f"$x_{{{k}}}$" for k in range(5))])
    assert len(ax.lines) == 7
    with pytest.raises(ValueError, match=r"\(3,\)"):
        plot.tree(tree, torch.ones(2), ax)


def test_exponents_may_be_a_list(ax):
    plot.tree(LpNestedTree.flat(2), [2.125], ax)
    assert "2.12" in [text.get_text() for text in ax.texts]
    tree = LpNestedTree((0, (1, 2)))
    plot.contours(tree, [0.8, 3.0], ax, levels=[1.0], coordinates=(1, 2))
    plot.contours(tree, torch.tensor([0.8, 3.0], requires_grad=True), ax, levels=[1.0])
    for draw in (plot.tree, plot.contours):
        with pytest.raises(TypeError, match="float32 or float64"):
            draw(tree, torch.ones(2, dtype=torch.bfloat16), ax)


@pytest.mark.slow
def test_a_deep_tree_is_drawn(ax):
    root = (499,)
    for k in reversed(range(499)):
        root = (k, root)
    plot.tree(LpNestedTree(root), ax=ax)
    x, y = zip(*(text.get_position() for text in ax.texts), strict=True)
    assert len(x) == len(ax.lines) + 1 == 1000
    assert min(y) == -500
    assert sorted(x)[0] == 0 and sorted(x)[-1] == 499


@pytest.mark.slow
def test_without_matplotlib_the_extra_is_named(monkeypatch):
    code = "import sys, lpnested.plot; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    prior = ISA([1, 1], 2.0, 2.0)
    for draw in (
        lambda: plot.tree(prior.tree),
        lambda: plot.contours(prior.tree, [2.0, 2.0, 2.0]),
        lambda: plot.density(prior),
        lambda: plot.samples(prior),
    ):
        with pytest.raises(ImportError, match=r"pip install 'lpnested\[plot\]'"):
            draw()


def test_contours_lie_where_the_norm_has_their_value(ax):
    tree, exponents = LpNestedTree((0, (1, 2))), torch.tensor([0.8, 3.0])
    plot.contours(tree, exponents, ax, levels=[1.0], limit=1.5, coordinates=(1, 2))
    (path,) = ax.collections[0].get_paths()
    points = torch.zeros(len(path.vertices), 3)
    points[:, 1:] = torch.tensor(path.vertices)
    torch.testing.assert_close(
        norm(points, exponents, tree), torch.ones(len(points)), atol=5e-3, rtol=0
    )


def test_a_density_is_largest_at_the_mode(ax):
    plot.density(Independent(Normal(torch.tensor([1.0, -2.0]), torch.ones(2)), 1), ax)
    image = ax.collections[0].get_array().reshape(301, 301)
    row, column = divmod(int(image.argmax()), 301)
    assert (column / 50 - 3, row / 50 - 3) == pytest.approx((1.0, -2.0), abs=0.02)


def test_samples_are_drawn_in_the_coordinates_asked_for(ax):
    plot.samples(ISA([1, 1], 2.0, 2.0), ax, num=37, coordinates=(1, 0))
    assert ax.collections[0].get_offsets().shape == (37, 2)
    assert ax.get_xlabel() == "$x_{1}$"


def test_what_is_no_single_distribution_of_vectors_is_refused(ax):
    with pytest.raises(ValueError, match="batch shape"):
        plot.density(Normal(torch.zeros(2), 1.0), ax)
    with pytest.raises(ValueError, match="coordinates"):
        plot.contours(LpNestedTree.flat(2), torch.ones(1), ax, coordinates=(0, 5))


@pytest.mark.slow
def test_the_code_of_the_readme_runs_and_makes_its_picture(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 2  # the second goes on with what the first has made
    program = [sys.executable, "-W", "error", "-c", "\n".join(blocks)]
    done = subprocess.run(program, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "±" in done.stdout
    assert (tmp_path / "lpnested.png").stat().st_size > 10_000
