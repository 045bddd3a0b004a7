"""A tree encoded as integers, for the kernels."""

from __future__ import annotations

from ast import literal_eval
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Structure", "structure_of"]


class Structure(NamedTuple):
    """The encoded tree, with the properties that Python needs."""

    numbers: Tensor
    """``[dim, num_nodes, first..., child...]``, int32, on the CPU: the children of node k, breadth
    first, are ``child[first[k]:first[k + 1]]``, a leaf as itself and a node j as ``dim + j``."""
    dim: int
    num_nodes: int
    address: int


_STRUCTURES: dict[str, Structure] = {}


def structure_of(code: str) -> Structure:
    """Return the cached structure of a tree, given its :attr:`LpNestedTree.code`."""
    structure = _STRUCTURES.get(code)
    if structure is None:
        with torch.inference_mode(False):  # cached tensors must also work in training
            made = _make_structure(literal_eval(code))
        structure = _STRUCTURES.setdefault(code, made)  # another thread may have been first
    return structure


def _make_structure(children: tuple[tuple[int, ...], ...]) -> Structure:
    nodes = len(children)
    dim = sum(len(row) for row in children) - nodes + 1
    first = accumulate((len(row) for row in children), initial=0)
    child = (dim + ~place if place < 0 else place for row in children for place in row)
    numbers = torch.tensor([dim, nodes, *first, *child], dtype=torch.int32, device="cpu")
    return Structure(numbers, dim, nodes, numbers.data_ptr())
