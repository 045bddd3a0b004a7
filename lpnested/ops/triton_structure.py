"""A tree encoded on a GPU, for the Triton kernels."""

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
    """The structure's ``[first..., child...]``, then ``[first_term..., size..., count...]``: each
    term of a node subtracts count times log Gamma(size / p) from the normaliser."""
    dim: int
    most_terms: int
    """The maximum number of terms of a node."""


_TREES: dict[tuple[str, torch.device], DeviceTree] = {}


def tree_on(device: torch.device, code: str) -> DeviceTree:
    tree = _TREES.get((code, device))
    if tree is None:
        terms = _terms(literal_eval(code))
        numbers = [*accumulate(map(len, terms), initial=0)]
        numbers += [size for row in terms for size, _ in row]
        numbers += [count for row in terms for _, count in row]
        structure = structure_of(code)
        with torch.inference_mode(False):  # cached tensors must also work in training
            both = [structure.numbers[2:], torch.tensor(numbers, dtype=torch.int32)]
            on_device = torch.cat(both).to(device)
        tree = DeviceTree(on_device, structure.dim, max(map(len, terms)))
        _TREES[code, device] = tree
    return tree


def _terms(children: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
    """Count, per node, the subtree sizes of its children, minus one for its own size."""
    sizes: list[int] = [0] * len(children)
    terms: list[list[tuple[int, int]]] = [[] for _ in children]
    for k, row in reversed([*enumerate(children)]):
        counts = Counter(1 if child >= 0 else sizes[~child] for child in row)
        sizes[k] = sum(size * count for size, count in counts.items())
        counts[sizes[k]] -= 1
        terms[k] = [(size, count) for size, count in counts.items() if count]
    return terms
