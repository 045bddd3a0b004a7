"""The accuracy contract: every error within 8 eps of the condition, against 50 digits.

``conditions.py`` says what the condition of a number is, ``units.py`` what is compared, and
``docs/accuracy.md`` shows what was measured. Trees are ragged, deep, permuted and with one-child
nodes, exponents in 0.1..200, coordinates in 1e-30..1e30 within a row, zero, or subnormal.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import units
from backends import BACKENDS, using
from problems import Conditioned

LIMIT = 8
# In float64 the plain way has logarithms of the norm, up to 70, in float64 and no further digits.
LIMIT_OF_REFERENCE_IN_FLOAT64 = 256

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
subjects = pytest.mark.parametrize("name", units.SUBJECTS)


def limit(backend: str, dtype: torch.dtype, quantity: str) -> float:
    """The derivative of a share next to 1 is held to its smallness on the kernel alone."""
    if backend == "reference" and quantity.endswith("strictly"):
        return float("inf")
    plain = backend == "reference" and dtype == torch.float64
    return LIMIT_OF_REFERENCE_IN_FLOAT64 if plain else LIMIT


def check(name: str, problem: Conditioned, dtype: torch.dtype) -> None:
    """Every quantity of a subject, on every backend, where it has a density at the rows."""
    question = units.SUBJECTS[name].about(problem, dtype)
    for backend in BACKENDS if question else ():
        with using(backend):
            for quantity, found in units.worst(question, dtype).items():
                assert found <= limit(backend, dtype, quantity), f"{backend}: {quantity}"


@pytest.mark.slow
@subjects
@dtypes
@settings(max_examples=settings.default.max_examples // 2)
@given(st.data())
def test_errors_are_within_the_condition(
    name: str, dtype: torch.dtype, data: st.DataObject
) -> None:
    check(name, data.draw(units.SUBJECTS[name].problems()), dtype)


# What broke other implementations: overflow of powers, underflow of shares, -inf padding, log 0.
HARD = {
    "overflow": ((0, (1, 2)), [2.2, 2.2], [[1e30, 1e30, 1e-30]], 1e30),
    "small exponents": (((0, 1), (2,), 3), [0.1, 0.3, 50.0], [[1e-30, 1e30, 0.0, 1.0]], 1.0),
    "all scales": ((0, ((1, 2), 3)), [200.0, 0.1, 0.2], [[1e30, 1e-30, 1e-30, -1e30]], 1e30),
    "zeros": (
        (((0, 1), (2, 3, 4)),),
        [200.0, 0.5, 0.1, 200.0],
        [[0.0] * 5, [0.0, 0.0, 1, 1, 1]],
        1.0,
    ),
    "a line": ((0,), [0.1], [[1e-30], [0.0], [-1e30]], 1.0),
    "next to a tie": ((0, 1), [200.0], [[1.0, 1.0], [1.0, 0.9999999]], 1.0),
    "terms of 115 leave 2.9": (
        tuple(range(24)),
        [1.0],
        [[1.0] * 19 + [1.7, 0.36, 2.7, 1.7, 3.0]],
        1.0,
    ),
    "parts in the hundreds leave -11.9": (
        (
            (0, (1, 2, 10), (4, 6, 7, 14, 8)),
            (9, (3, 11, 25, 26), (5, 15)),
            (16, (17, 18, 19), (20, 21, 22, 23, 24)),
            (12, (13, 27)),
        ),
        [0.1] * 12,
        [
            [1.0] * 3
            + [5.2e8, 1.0, 5.1e23]
            + [1.0] * 3
            + [1.2e-23]
            + [1.0] * 15
            + [1.2e-23, 5.6e9, 1.0]
        ],
        1.0,
    ),
}


@pytest.mark.parametrize("hard", HARD)
@pytest.mark.parametrize("name", [name for name in units.SUBJECTS if name != "ISA"])
@dtypes
def test_errors_of_hard_problems(dtype: torch.dtype, name: str, hard: str) -> None:
    root, exponents, rows, scale = HARD[hard]
    for p in (exponents[0], 2.0):
        check(name, Conditioned(root, exponents, rows, scale, p, 2.5), dtype)
