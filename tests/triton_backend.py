"""Triton as the backend of the one operation: on a CPU in its interpreter."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from torch import Tensor

from lpnested.ops import gamma, norm, triton_calls
from lpnested.tracing import is_transformed


@contextmanager
def serving() -> Iterator[None]:
    """Within it Triton serves a GPU, or where there is its interpreter every device."""
    anywhere = os.environ.get("TRITON_INTERPRET") == "1"

    def served(value: Tensor, *parameters: Tensor) -> bool:
        return (anywhere or value.is_cuda) and not is_transformed(value, *parameters)

    changes = {"calls": triton_calls, "uses_kernels": served}
    with patch.multiple(gamma, **changes), patch.multiple(norm, **changes):
        yield
