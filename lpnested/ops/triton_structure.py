"""A tree on a GPU, as the Triton kernels read it."""

from __future__ import annotations

from ast import literal_eval
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from lpnested.ops.structure import structure_of

__all__ = ["DeviceTree", "tree_on"]


class DeviceTree(NamedTuple):
    """A tree on a device."""

    numbers: Tensor
    """The structure's ``[first..., child...]``, then ``[first_term..., size..., count...]``: for
    each of its terms, the normaliser of a node has log Gamma(size / p) so often less."""
    dim: int
    most_terms: int
    """Of a node."""


_TREES: dict[tuple[str, torch.device], DeviceTree] = {}


def tree_on(device: torch.device, code: str) -> DeviceTree:
    tree = _TREES.get((code, device))
    if tree is None:
        terms = _terms(literal_eval(code))
        numbers = [*accumulate(map(len, terms), initial=0)]
        numbers += [size for row in terms for size, _ in row]
        numbers += [count for row in terms for _, count in row]
        structure = structure_of(code)
        with torch.inference_mode(False):  # what is kept must serve training too
            both = [structure.numbers[2:], torch.tensor(numbers, dtype=torch.int32)]
            on_device = torch.cat(both).to(device)
        tree = DeviceTree(on_device, structure.dim, max(map(len, terms)))
        _TREES[code, device] = tree
    return tree


def _terms(children: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
    """Of each node: the numbers of leaves of its children, and less its own, with their counts."""
    sizes: list[int] = [0] * len(children)
    terms: list[list[tuple[int, int]]] = [[] for _ in children]
    for k, row in reversed([*enumerate(children)]):
        counts = Counter(1 if child >= 0 else sizes[~child] for child in row)
        sizes[k] = sum(size * count for size, count in counts.items())
        counts[sizes[k]] -= 1
        terms[k] = [(size, count) for size, count in counts.items() if count]
    return terms
