"""One thread, one seed, torch's global state put back after every test; GPU tests skip alone."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from torch.distributions import Distribution

from backends import BACKENDS, using

torch.set_num_threads(1)

WHOLLY_SLOW = re.compile(r"^pytestmark = \[?pytest\.mark\.slow\b", re.M)

# Derandomised, so that a run can be repeated; `thorough` is for a developer's afternoon.
common = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    # What explains a failure draws anew: with a fixed seed, `find` would return the last of these.
    "phases": set(Phase) - {Phase.explain},
}
settings.register_profile("default", max_examples=150, **common)
settings.register_profile("ci", max_examples=300, **common)
settings.register_profile("thorough", max_examples=3000, **{**common, "derandomize": False})
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "default")
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files that are slow as a whole are not even imported by a run without slow tests."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return bool(WHOLLY_SLOW.search(collection_path.read_text(encoding="utf-8"))) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no GPU here"))


@pytest.fixture(autouse=True, scope="session")
def ctrl_c() -> None:
    """As in a terminal, for the tests and what they start: a job in the background ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def torch_as_found() -> Iterator[None]:
    """The same seed for every test. torch.compile of 2.13 leaves validation off: put it back."""
    validates = Distribution._validate_args
    dtype = torch.get_default_dtype()
    torch.manual_seed(0)
    yield
    Distribution._validate_args = validates
    torch.set_default_dtype(dtype)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def backend_params() -> Iterator[object]:
    """Every backend on CPUs; those that are not the default here are left to the whole run."""
    for name in ("kernels", "reference"):
        yield pytest.param(name, marks=() if name == BACKENDS[0] else pytest.mark.slow)


@pytest.fixture(params=backend_params(), scope="module")
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every backend on CPUs: ``pytestmark = pytest.mark.usefixtures("backend")`` in a file whose
    tests are laws of all of them.
    """
    if request.param not in BACKENDS:
        pytest.skip("no compiled kernels here")
    with using(request.param):
        yield request.param


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
