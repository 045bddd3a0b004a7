"""Every client is brought by a fixture: a skip where it isn't installed, and its warnings its own.

Some change torch's global state when they are imported: what tests may see of that is put back.
"""

import importlib
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
from torch.distributions import Distribution


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture
def bring() -> Iterator[Callable[[str], ModuleType]]:
    constraints = Distribution.__dict__["arg_constraints"]

    def import_or_skip(name: str) -> ModuleType:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip(name.partition(".")[0])
            return importlib.import_module(name)

    yield import_or_skip
    Distribution.arg_constraints = constraints
