"""Triton as the backend of the one operation, whatever the device: on a CPU in its interpreter."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from lpnested.ops import gamma, norm, triton_calls
from lpnested.tracing import is_transformed


@contextmanager
def serving() -> Iterator[None]:
    """Within it Triton serves all tensors, but under transforms."""
    served = {"calls": triton_calls, "served_by_kernels": lambda *x: not is_transformed(*x)}
    with patch.multiple(gamma, **served), patch.multiple(norm, **served):
        yield
