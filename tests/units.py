"""The errors of the library as multiples of eps times the condition: the C of the contract.

A question is what is asked of the library about a problem, with all that is known of the answer.
It may be put to one backend after another.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from hypothesis.strategies import SearchStrategy
from torch import Tensor
from torch.distributions import LogNormal

import problems
from conditions import Density, Known, Norm, Sphere, gamma, log_normal, total
from lpnested import ISA, GeneralizedGamma, LpNested, LpNestedTree
from lpnested import functional as F
from oracle import Real, mpf
from problems import Conditioned

# Of (f / s)^p: beyond, log_prob is the lowest number and has no slope. Of f: below, a row counts
# as the origin.
LARGEST_POWER = {torch.float32: mpf(2) ** 128, torch.float64: mpf(2) ** 860}
SMALLEST = torch.finfo(torch.float64).tiny
SHARES_LOST = 1000  # least normal numbers: what some shares times their logarithms come to

Unknown = Known | None


class Question(NamedTuple):
    """``gradients`` are those of the sum of the answers, by the name of an input; what follows a
    comma in a name says how they are known.
    """

    ask: Callable[[], Tensor]
    inputs: dict[str, Tensor]
    values: Sequence[Unknown]
    gradients: dict[str, Sequence[Unknown]]


def units(got: float, known: Known, dtype: torch.dtype, is_sum: bool = False) -> float:
    """The error over eps times the condition.

    What is larger than the dtype's numbers is its largest, with the same relative error; what is
    less than its least normal number may be 0. A sum of terms that are larger need be finite only.
    """
    info = torch.finfo(dtype)
    if not math.isfinite(got):
        return math.inf
    exact, condition = known.exact, known.condition
    if is_sum and condition > info.max:
        return 0.0
    if abs(exact) > info.max:
        shrink = mpf(info.max) / abs(exact)
        exact, condition = exact * shrink, condition * shrink
    lost = SHARES_LOST if is_sum else 1  # a share below the least normal number may be 0
    error = abs(mpf(got) - exact) - lost * mpf(info.tiny)
    if error <= 0:
        return 0.0
    return float(error / (mpf(info.eps) * condition)) if condition else math.inf


def worst(question: Question, dtype: torch.dtype) -> dict[str, float]:
    """The largest number of units by quantity, on the backend in use."""
    answers = question.ask()
    gradients = torch.autograd.grad(answers.sum(), list(question.inputs.values()))
    got = dict(zip(question.inputs, gradients, strict=True))
    found = {"value": _largest(answers, question.values, dtype)}
    for name, known in question.gradients.items():
        in_parameter = name != "value"
        gradient = got[name.split(",")[0]]
        found[f"gradient in {name}"] = _largest(gradient, known, dtype, in_parameter)
    return found


def _largest(
    got: Tensor, known: Sequence[Unknown], dtype: torch.dtype, are_sums: bool = False
) -> float:
    pairs = zip(got.flatten().tolist(), known, strict=True)
    return max((units(x, y, dtype, are_sums) for x, y in pairs if y is not None), default=0.0)


class Setting:
    """A problem as tensors of one dtype, and the values that these hold."""

    def __init__(self, problem: Conditioned, dtype: torch.dtype) -> None:
        self.root, self.tree = problem.root, LpNestedTree(problem.root)
        self.exponents, self.scale, self.p, self.dim = (
            torch.tensor(x, dtype=dtype, requires_grad=True)
            for x in (problem.exponents, problem.scale, problem.p, problem.dim)
        )
        self.sphere = Sphere(self.root, self.exponents.tolist())
        rows = torch.tensor(problem.rows, dtype=dtype).tolist()
        norms = [Norm(self.root, self.exponents.tolist(), row) for row in rows]
        self.rows = [row for row in norms if not 0 < row.value < SMALLEST]
        kept = [[float(x) for x in row.row] for row in self.rows]
        self.value = torch.tensor(kept, dtype=dtype).reshape(-1, self.tree.dim).requires_grad_()

    def has_origin(self) -> bool:
        return not all(row.value for row in self.rows)

    def is_flat(self, p: float) -> bool:
        """Whether the density of a row is too low for a slope."""
        powers = [(row.value / mpf(self.scale.item())) ** mpf(p) for row in self.rows]
        return any(power > LARGEST_POWER[self.value.dtype] for power in powers)


def of_rows(rows: Sequence[Sequence[Known]]) -> list[Known]:
    return [total(column) for column in zip(*rows, strict=True)]


def of_densities(densities: Sequence[Density]) -> dict[str, list[Unknown]]:
    """The gradients of the sum."""
    gradients: dict[str, list[list[Unknown]]] = defaultdict(list)
    for density in densities:
        for name, known in density.gradients.items():
            gradients[name].append(known)
    in_value = [known for row in gradients.pop("value", []) for known in row]
    return {"value": in_value, **{name: of_rows(rows) for name, rows in gradients.items()}}


def norm(s: Setting) -> Question:
    gradients: dict[str, Sequence[Unknown]] = {
        "value": [known for row in s.rows for known in row.in_value],
        "exponents": of_rows([row.in_exponents for row in s.rows]),
        "exponents, strictly": of_rows([row.strictly_in_exponents for row in s.rows]),
    }
    values = [row.log if row.value else None for row in s.rows]
    inputs = {"value": s.value, "exponents": s.exponents}
    return Question(lambda: F.log_norm(s.value, s.exponents, s.tree), inputs, values, gradients)


def isa(s: Setting) -> Question | None:
    p0, p = (x.detach().requires_grad_() for x in (s.exponents[0], s.exponents[1:]))
    if s.is_flat(p0.item()):
        return None
    densities = [gamma(r, s.sphere, s.tree.dim, p0.item(), s.scale.item()) for r in s.rows]
    known = of_densities(densities)
    gradients = {"value": known["value"], "scale": known["scale"]}
    for how in ("", ", strictly"):
        root, *subspaces = known[f"exponents{how}"]
        gradients |= {f"p0{how}": [root + known["p"][0]], f"p{how}": subspaces}

    def ask() -> Tensor:
        return ISA([len(node) for node in s.root], p0, p, s.scale).log_prob(s.value)

    inputs = {"value": s.value, "p0": p0, "p": p, "scale": s.scale}
    return Question(ask, inputs, [density.value for density in densities], gradients)


def gamma_radius(s: Setting) -> Question | None:
    return _gamma(s, torch.tensor(s.tree.dim, dtype=s.value.dtype))


def gamma_radius_of_another_dimension(s: Setting) -> Question | None:
    """Its density at the origin is 0 or infinite."""
    return None if s.has_origin() else _gamma(s, s.dim)


def _gamma(s: Setting, dim: Tensor) -> Question | None:
    if s.is_flat(s.p.item()):
        return None
    numbers = dim.item(), s.p.item(), s.scale.item()
    densities = [gamma(row, s.sphere, *numbers) for row in s.rows]
    gradients = of_densities(densities)
    inputs = {"value": s.value, "exponents": s.exponents, "p": s.p, "scale": s.scale}
    if dim.requires_grad:
        inputs["dim"] = dim
    else:
        del gradients["dim"]

    def ask() -> Tensor:
        radial = GeneralizedGamma(dim, s.p, s.scale)
        return LpNested(s.tree, s.exponents, radial).log_prob(s.value)

    return Question(ask, inputs, [density.value for density in densities], gradients)


def log_normal_radius(s: Setting) -> Question | None:
    if s.has_origin():
        return None
    loc = s.scale.detach().log().requires_grad_()
    scale = s.dim.detach().div(10).requires_grad_()
    densities = [log_normal(row, s.sphere, loc.item(), scale.item()) for row in s.rows]
    inputs = {"value": s.value, "exponents": s.exponents, "loc": loc, "scale": scale}

    def ask() -> Tensor:
        return LpNested(s.tree, s.exponents, LogNormal(loc, scale)).log_prob(s.value)

    values = [density.value for density in densities]
    return Question(ask, inputs, values, of_densities(densities))


class Subject(NamedTuple):
    trees: SearchStrategy[Real]
    question: Callable[[Setting], Question | None]

    def problems(self) -> SearchStrategy[Conditioned]:
        return problems.conditioned(self.trees)

    def about(self, problem: Conditioned, dtype: torch.dtype) -> Question | None:
        setting = Setting(problem, dtype)
        return self.question(setting) if setting.rows else None


SUBJECTS = {
    "log_norm": Subject(problems.roots(), norm),
    "ISA": Subject(problems.isa_roots, isa),
    "gamma radius": Subject(problems.roots(), gamma_radius),
    "gamma radius of another dimension": Subject(
        problems.roots(), gamma_radius_of_another_dimension
    ),
    "log-normal radius": Subject(problems.roots(), log_normal_radius),
}
