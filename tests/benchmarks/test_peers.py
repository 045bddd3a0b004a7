"""A peer that computes something else would be no peer."""

import numpy as np
import pytest
import scipy.stats
import torch
from densities import MODES, OURS, RECURSIVE, Problem, contenders, joined
from layouts import BY_NAME, LAYOUTS, P0, caterpillar
from measure_memory import count_kernels, peak_on_cpu
from peers import DirichletCascade

SMALL = [layout for layout in LAYOUTS if layout.tree.dim < 1000] + [caterpillar(12, 4)]
every_layout = pytest.mark.parametrize("layout", SMALL, ids=lambda layout: layout.name)


def test_the_layouts_are_those_of_the_targets():
    shapes = {name: (lay.tree.dim, lay.tree.num_nodes) for name, lay in BY_NAME.items()}
    assert shapes == {
        "5 x 4": (20, 6),
        "16 x 16": (256, 17),
        "ragged, 30 leaves": (30, 12),
        "500 x 4": (2000, 501),
    }
    assert BY_NAME["ragged, 30 leaves"].tree.depth == 4
    assert caterpillar(96, 32).tree.depth == 32


@every_layout
@pytest.mark.parametrize("mode", MODES)
def test_recursion_in_torch_agrees(layout, mode):
    calls = contenders(Problem(layout, 50, mode))
    ours, peer = calls[OURS](), calls[RECURSIVE]()
    # The peer computes in float32, and a sum of 50 rows is what is differentiated.
    torch.testing.assert_close(ours, peer, rtol=1e-4, atol=1e-4 * layout.tree.dim)


@every_layout
def test_values_of_both_recursions_agree(layout):
    calls = contenders(Problem(layout, 50, MODES[0]))
    ours = calls[OURS]()
    for name in (RECURSIVE, "recursion in numpy"):
        peer = torch.as_tensor(np.asarray(calls[name]()))
        torch.testing.assert_close(ours, peer.to(ours.dtype), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["5 x 4", "ragged, 30 leaves"])
def test_the_radius_of_the_cascade(name):
    layout = BY_NAME[name]
    p0, p = layout.exponents()
    z = DirichletCascade(layout.tree, joined(p0, p)).sample(4000)
    r = layout.distribution(p0, p).norm(z).double().numpy()
    law = scipy.stats.gengamma(layout.tree.dim / P0, P0)
    assert scipy.stats.kstest(r, law.cdf).pvalue > 1e-3


def test_a_coordinate_of_the_cascade():
    layout = BY_NAME["5 x 4"]
    p0, p = layout.exponents()
    z = DirichletCascade(layout.tree, joined(p0, p)).sample(4000)
    draws = layout.distribution(p0, p).sample((4000,))
    for k in (0, 19):
        assert scipy.stats.ks_2samp(z[:, k].numpy(), draws[:, k].numpy()).pvalue > 1e-3


def test_kernels_are_counted_without_views():
    z = torch.ones(3, 4)
    assert count_kernels(lambda: z.T.unsqueeze(0).exp().sum()) == 2


def test_peak_memory_counts_what_was_alive_at_once():
    z = torch.zeros(1000)

    def call():
        a = z + 1
        del a
        return z + 1, z + 2

    assert peak_on_cpu(call) == pytest.approx(2 * 4000, abs=100)
