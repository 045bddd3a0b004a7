"""Trees of sources, built from the correlations of their log sizes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lpnested import LpNestedTree

Array = NDArray[np.float64]
Node = int | tuple["Node", ...]

TINY = 1e-6  # relative to a source's typical size; keeps the logarithm finite


def size_correlations(z: Array) -> Array:
    """The correlations of log |z_i| and log |z_j|, ``(N, n) -> (n, n)``.

    They vanish under independence and, unlike the correlations of z_i and z_j, reveal that two
    sources tend to be large together.
    """
    sizes = np.abs(z)
    typical = np.median(sizes, axis=0)
    return np.corrcoef(np.log(sizes + TINY * typical).T)


def leaves(node: Node) -> tuple[int, ...]:
    """The sources under a node, from left to right."""
    if isinstance(node, int):
        return (node,)
    return tuple(leaf for child in node for leaf in leaves(child))


def merge_pairs(nodes: Sequence[Node], correlations: Array) -> list[Node]:
    """Join nodes in pairs, the highest mean correlation first; one node may be left over."""
    under = [list(leaves(node)) for node in nodes]
    means = np.array([[correlations[np.ix_(a, b)].mean() for b in under] for a in under])
    rows, columns = np.triu_indices(len(nodes), 1)
    best = np.argsort(-means[rows, columns], kind="stable")
    free, joined = set(range(len(nodes))), list[Node]()
    for k in best:
        a, b = int(rows[k]), int(columns[k])
        if a in free and b in free:
            free -= {a, b}
            joined.append((nodes[a], nodes[b]))
    return joined + [nodes[k] for k in sorted(free)]


def groups(correlations: Array, doublings: int) -> list[tuple[int, ...]]:
    """Pairs after one doubling, quadruples after two; leftover sources form smaller groups."""
    nodes: list[Node] = list(range(len(correlations)))
    for _ in range(doublings):
        nodes = merge_pairs(nodes, correlations)
    return [leaves(node) for node in nodes]


def grouped_tree(found: Sequence[tuple[int, ...]]) -> LpNestedTree:
    """A root whose children are groups of sources."""
    return LpNestedTree(tuple(group if len(group) > 1 else group[0] for group in found))


def deep_tree(correlations: Array) -> LpNestedTree:
    """Pairs of pairs of pairs, up to the root."""
    nodes: list[Node] = list(range(len(correlations)))
    while len(nodes) > 1:
        nodes = merge_pairs(nodes, correlations)
    (root,) = nodes
    return LpNestedTree(root)
