"""The accuracy contract: every error within 8 eps of the condition, against 50 digits.

``conditions.py`` says what the condition of a number is, ``units.py`` what is compared, and
``docs/accuracy.md`` shows what was measured. Trees are ragged, deep, permuted and with one-child
nodes, exponents in 0.1..200, coordinates in 1e-30..1e30 within a row, zero, or subnormal.
"""

import pytest
import torch
import units
from backends import BACKENDS, using
from hypothesis import assume, given, settings
from hypothesis import strategies as st

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


@subjects
@dtypes
@settings(max_examples=settings.default.max_examples // 2)
@given(st.data())
def test_errors_are_within_the_condition(
    name: str, dtype: torch.dtype, data: st.DataObject
) -> None:
    subject = units.SUBJECTS[name]
    question = subject.about(data.draw(subject.problems()), dtype)
    assume(question is not None)
    for backend in BACKENDS:
        with using(backend):
            for quantity, found in units.worst(question, dtype).items():
                assert found <= limit(backend, dtype, quantity), f"{backend}: {quantity}"
