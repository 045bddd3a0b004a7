"""The one table of distributions: a new one adds a row, and every law runs on it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution
from torch.distributions.utils import broadcast_all

from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, LpSpherical

CUBE = LpNestedTree((0, (1, 2)))  # eq. 6
RAGGED = LpNestedTree(((3, (0, 5)), 1, (2, 4)))
ONE_CHILD = LpNestedTree((((2,),), (0, (1, 3))))


@dataclass(frozen=True)
class Case:
    """How to build a distribution from named tensors, and what its law is known to have."""

    name: str
    build: Callable[..., Distribution]
    params: dict[str, Any]
    batch: tuple[int, ...] = ()
    event: tuple[int, ...] = ()
    entropy: bool = True  # a closed form exists
    finite_moments: bool = True  # four, so that a Monte Carlo estimate of the variance settles
    smooth: bool = True  # no jump of the density inside the support

    def tensors(self, dtype: torch.dtype = torch.float64, **how: Any) -> dict[str, Tensor]:
        return {name: torch.tensor(v, dtype=dtype, **how) for name, v in self.params.items()}

    def make(self, dtype: torch.dtype = torch.float64, **how: Any) -> Distribution:
        return self.build(**self.tensors(dtype, **how))

    def draw(self, *lead: int) -> Tensor:
        """Typical values, float64."""
        return self.make().sample(lead)

    @property
    def nested(self) -> bool:
        return self.event != ()

    def __repr__(self) -> str:
        return self.name


def _isa(*sizes: int) -> Callable[..., Distribution]:
    return lambda p0, p, scale: ISA(list(sizes), p0, p, scale)


def _nested(
    tree: LpNestedTree, family: Callable[..., Distribution]
) -> Callable[..., Distribution]:
    return lambda exponents, **radial: LpNested(tree, exponents, family(**radial))


def _spherical(dim: int, family: Callable[..., Distribution]) -> Callable[..., Distribution]:
    return lambda p, **radial: LpSpherical(dim, p, family(**radial))


def _generalized_gamma(dim: int) -> Callable[..., Distribution]:
    return lambda p, scale: GeneralizedGamma(dim, p, scale)


def _radius(dim: int) -> Callable[..., Distribution]:
    """The generalised gamma under names that do not clash with the nested distribution's."""
    return lambda power, scale: GeneralizedGamma(dim, power, scale)


def _gammas(weights: Tensor, concentration: Tensor, rate: Tensor) -> Distribution:
    return td.MixtureSameFamily(td.Categorical(weights), td.Gamma(concentration, rate))


def _draws_gammas_without_memory() -> bool:
    try:
        return torch._standard_gamma(torch.ones(1, device="meta")).is_meta
    except NotImplementedError:
        return False


needs_gammas_without_memory = pytest.mark.skipif(
    not _draws_gammas_without_memory(),
    reason="torch's own Gamma has no sample on the meta device in this version, nor an export",
)


class Unregistered(Distribution):
    """An inverse gamma variable, of which the library knows what it knows of any distribution."""

    arg_constraints = td.InverseGamma.arg_constraints
    support = td.InverseGamma.support

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    base = property(lambda self: td.InverseGamma(self.concentration, self.rate, False))
    mean = property(lambda self: self.base.mean)
    variance = property(lambda self: self.base.variance)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Unregistered":
        shape = torch.Size(batch_shape)
        return Unregistered(self.concentration.expand(shape), self.rate.expand(shape), False)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob(value)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.base.sample(sample_shape)


EQ6 = [1.3, 2.2]
CASES = [
    Case("normal", GeneralizedNormal, {"loc": 0.5, "scale": 1.3, "p": 1.7}),
    Case(
        "normal_batch",
        GeneralizedNormal,
        {"loc": [0.5, -2.0, 0.0], "scale": [[1.3], [0.4]], "p": [0.7, 1.0, 9.0]},
        batch=(2, 3),
    ),
    Case("radius", _generalized_gamma(3), {"p": 1.4, "scale": 0.7}),
    Case(
        "radius_batch",
        _generalized_gamma(4),
        {"p": [2.1, 0.8], "scale": [[1.0], [2.0], [0.3]]},
        batch=(3, 2),
    ),
    Case("isa", _isa(2, 3), {"p0": 2.1, "p": [2.2, 1.4], "scale": 1.3}, event=(5,)),
    Case("isa_ragged", _isa(2, 1, 3), {"p0": 1.5, "p": [2.2, 0.7, 1.0], "scale": 1.0}, event=(6,)),
    Case(
        "isa_batch",
        _isa(2, 2),
        {"p0": [[1.2], [3.0]], "p": [[2.2], [0.9], [4.0]], "scale": [1.0, 0.5, 2.0]},
        batch=(2, 3),
        event=(4,),
    ),
    Case(
        "spherical",
        _spherical(3, td.LogNormal),
        {"p": [1.3, 3.0], "loc": 0.2, "scale": 0.4},
        batch=(2,),
        event=(3,),
    ),
    Case(
        "cube",
        _nested(CUBE, _radius(3)),
        {"exponents": EQ6, "power": 1.9, "scale": 0.8},
        event=(3,),
    ),
    Case(
        "ragged",
        _nested(RAGGED, _radius(6)),
        {"exponents": [1.3, 2.2, 0.8, 3.0], "power": [1.3, 2.5], "scale": 0.8},
        batch=(2,),
        event=(6,),
    ),
    Case(
        "one_child",
        _nested(ONE_CHILD, td.Gamma),
        {"exponents": [1.6, 2.5, 0.7, 5.0, 3.0], "concentration": 5.0, "rate": [1.5, 2.0]},
        batch=(2,),
        event=(4,),
    ),
    Case(
        "weibull",
        _nested(CUBE, td.Weibull),
        {"exponents": EQ6, "scale": 1.2, "concentration": 2.5},
        event=(3,),
    ),
    Case("chi2", _nested(CUBE, td.Chi2), {"exponents": EQ6, "df": 5.0}, event=(3,)),
    Case(
        "half_normal", _nested(CUBE, td.HalfNormal), {"exponents": EQ6, "scale": 1.2}, event=(3,)
    ),
    Case(
        "half_cauchy",
        _nested(CUBE, td.HalfCauchy),
        {"exponents": EQ6, "scale": 1.2},
        event=(3,),
        finite_moments=False,
    ),
    Case(
        "exponential", _nested(CUBE, td.Exponential), {"exponents": EQ6, "rate": 1.2}, event=(3,)
    ),
    Case(
        "pareto",
        _nested(CUBE, td.Pareto),
        {"exponents": EQ6, "scale": 0.5, "alpha": 7.0},
        event=(3,),
        smooth=False,
    ),
    Case(
        "mixture",
        _nested(CUBE, _gammas),
        {"exponents": EQ6, "weights": [0.3, 0.7], "concentration": [3.0, 9.0], "rate": [2.0, 1.5]},
        event=(3,),
        entropy=False,
    ),
    Case(
        "inverse_gamma",
        _nested(CUBE, td.InverseGamma),
        {"exponents": EQ6, "concentration": 8.0, "rate": 6.0},
        event=(3,),
    ),
    Case(
        "fisher_snedecor",
        _nested(CUBE, td.FisherSnedecor),
        {"exponents": EQ6, "df1": 7.0, "df2": 20.0},
        event=(3,),
    ),
    Case(
        "beta",
        _nested(CUBE, td.Beta),
        {"exponents": EQ6, "concentration1": 5.0, "concentration0": 2.5},
        event=(3,),
        smooth=False,
    ),
    Case(
        "kumaraswamy",
        _nested(CUBE, td.Kumaraswamy),
        {"exponents": EQ6, "concentration1": 5.0, "concentration0": 2.5},
        event=(3,),
        smooth=False,
    ),
    Case(
        "uniform",
        _nested(CUBE, td.Uniform),
        {"exponents": EQ6, "low": 0.5, "high": 2.0},
        event=(3,),
        smooth=False,
    ),
    Case(
        "unregistered",  # served by the generic fallback
        _nested(CUBE, Unregistered),
        {"exponents": EQ6, "concentration": 8.0, "rate": 6.0},
        event=(3,),
        entropy=False,
    ),
]
NESTED = [case for case in CASES if case.nested]
UNIVARIATE = [case for case in CASES if not case.nested]
BATCHED = [case for case in CASES if case.batch]


def each(cases: list[Case] = CASES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=repr)


def named(*names: str) -> list[Case]:
    return [case for case in CASES if case.name in names]
