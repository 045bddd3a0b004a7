"""The models to compare, the starts of their fits, and the fit itself."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from densities.source_models import Independent, Nested, Subspaces
from densities.source_trees import deep_tree, grouped_tree, groups, size_correlations
from densities.unmixing import Effort, Unmixing, maximise
from lpnested import LpNestedTree

MATRICES = ("whitening", "rotation", "fastica")  # starts that need no other model
# Every fit, in order: a model and its start, which is one of these or a model's best fit so far.
# The last fits continue from the model's own best: otherwise the nested models, which begin where
# the spherical one ends, could win simply by having more steps.
FITS = (
    ("l2-spherical", "whitening"),
    *(("lp-spherical", start) for start in MATRICES),
    *(("ica", start) for start in (*MATRICES, "lp-spherical")),
    *(("isa", start) for start in ("rotation", "ica", "lp-spherical")),
    *(("nested-pairs", start) for start in ("ica", "lp-spherical")),
    *(("nested-quadruples", start) for start in ("ica", "lp-spherical")),
    *(("nested-deep", start) for start in ("ica", "lp-spherical")),
    *((name, name) for name in ("l2-spherical", "lp-spherical", "ica")),
)
TITLES = {
    "gaussian": "Gaussian",
    "ica": "ICA",
    "isa": "ISA, quadruples",
    "l2-spherical": "L2-spherical",
    "lp-spherical": "Lp-spherical",
    "nested-pairs": "Lp-nested, pairs",
    "nested-quadruples": "Lp-nested, quadruples",
    "nested-deep": "Lp-nested, deep tree",
}
EXPECTED = tuple(TITLES)  # the order in PROTOCOL.md, from worst to best

DOUBLINGS = {"isa": 2, "nested-pairs": 1, "nested-quadruples": 2}
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A model fitted from one start."""

    model: Unmixing
    structure: Any  # the groups or the tree of its sources
    train: float  # mean log density of the training patches
    effort: Effort


def initial_matrix(start: str, x: Array, seed: int) -> Array:
    """An initial matrix that needs no other model."""
    dim = x.shape[1]
    if start == "whitening":
        return np.eye(dim)
    if start == "rotation":
        normal = np.random.default_rng([seed, dim]).standard_normal((dim, dim))
        return np.linalg.qr(normal)[0]
    with warnings.catch_warnings():  # a start need not have converged
        warnings.simplefilter("ignore", ConvergenceWarning)
        fast = FastICA(whiten=False, fun="logcosh", max_iter=200, tol=1e-3, random_state=seed)
        return np.asarray(fast.fit(x).components_, float)


def find_structure(name: str, z: Array) -> Any:
    """The groups or the tree of a model, as nested tuples, found from its initial sources."""
    if name in ("ica", "gaussian"):
        return z.shape[1]
    if name in ("l2-spherical", "lp-spherical"):
        return LpNestedTree.flat(z.shape[1]).root
    correlations = size_correlations(z)
    if name == "nested-deep":
        return deep_tree(correlations).root
    found = groups(correlations, DOUBLINGS[name])
    return tuple(found) if name == "isa" else grouped_tree(found).root


def make_sources(name: str, structure: Any, components: int) -> nn.Module:
    """The density of the sources, before fitting."""
    if name == "ica":
        return Independent(structure, components)
    if name == "isa":
        return Subspaces(structure, components)
    return Nested(LpNestedTree(structure), components, 2.0 if name == "l2-spherical" else None)


def build_model(name: str, structure: Any, weight: Array, x: Tensor, components: int) -> Unmixing:
    """The model before fitting, with its sources scaled to suit its radii."""
    sources = make_sources(name, structure, components).to(x)
    rows = torch.as_tensor(weight).to(x)
    return Unmixing(sources.start(x @ rows.T).unsqueeze(-1) * rows, sources)  # type: ignore[operator]


def fit(
    name: str,
    weight: Array,
    x: Array,
    components: int,
    iterations: int,
    tick: Callable[[int], object] = lambda _: None,
) -> Fit:
    """Fit a model in single precision."""
    structure, rows = find_structure(name, x @ weight.T), torch.as_tensor(x).float()
    model = build_model(name, structure, weight, rows, components)
    effort = maximise(model, rows, iterations, tick)
    return Fit(model, structure, float(scores(model, x).mean()), effort)


def scores(model: Unmixing, x: Array) -> Array:
    """The log density of each row, in double precision."""
    model.double()
    with torch.no_grad():
        return model(torch.as_tensor(x)).numpy()


def gaussian_scores(z: Array) -> Array:
    """The log density of each whitened row under the Gaussian, here a standard normal."""
    return -0.5 * (z**2 + np.log(2 * np.pi)).sum(1)
