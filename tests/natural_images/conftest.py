"""The example's modules, and torch's number of threads put back after every test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "examples" / "natural_images"))


@pytest.fixture(autouse=True)
def threads_as_found() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
