"""A peer that computes something else would be no peer."""

from dataclasses import replace

import pytest
import torch

from peers import IN_BOTH, MODES, NAIVE, NORMAL, OURS, RECURSION, Problem, contenders
from targets import CASES

pytestmark = pytest.mark.slow

SMALL = {name: problem for name, (problem, _) in CASES.items() if problem.tree.dim < 100}
FEW = {(8, 256): (8, 3), (256, 8): (3, 8)}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SMALL)
def test_peers_agree(name, mode):
    problem = SMALL[name]
    few = replace(problem, shape=FEW.get(problem.shape, (20,)), mode=mode)
    calls = contenders(few)
    ours = calls[OURS]()
    for peer in [RECURSION] if problem.sizes is None else [RECURSION, NAIVE]:
        torch.testing.assert_close(ours, calls[peer](), rtol=1e-4, atol=1e-4)


def test_the_cases_are_those_of_the_targets():
    shapes = [(p.tree.dim, p.tree.num_nodes, p.tree.depth) for p, _ in CASES.values()]
    assert shapes[:5] == [(20, 6, 2), (20, 6, 2), (30, 12, 4), (256, 17, 2), (2000, 501, 2)]


def test_exponents_are_learned_by_all_but_the_normal():
    calls = contenders(Problem((2, 3), (5,), IN_BOTH))
    assert [x.shape for x in calls[OURS]()] == [(5, 5), (), (2,)]
    assert len(calls[NORMAL]()) == 1
