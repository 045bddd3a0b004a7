"""The core tests on every version of torch that the range in pyproject.toml is tested with.

``nox`` runs them all, ``nox -s "core(torch='2.13.0')"`` one of them, ``nox -l`` lists them and the
versions still to be tested; what follows ``--`` goes to pytest. An environment with a CUDA build
of torch takes 6 GB, and ``--envdir`` says where the environments are kept.
"""

import re
from pathlib import Path

import nox

ROOT = Path(__file__).parent
TESTED = ["2.11.0", "2.13.0", "2.14.1"]  # as pyproject.toml and docs/install.md say
NEXT = ["2.15.0"]

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = [f"core(torch='{version}')" for version in TESTED]


@nox.session
@nox.parametrize("torch", TESTED + NEXT)
def core(session: nox.Session, torch: str) -> None:
    """The tests of the library itself, and with its clients, on one version of torch."""
    pins = (ROOT / "constraints.txt").read_text()
    constraints = Path(session.create_tmp()) / "constraints.txt"
    constraints.write_text(re.sub("^torch==.*", f"torch=={torch}", pins, flags=re.MULTILINE))
    session.install("-c", str(constraints), "-e", ".[core]")
    paths = [*ROOT.glob("tests/test_*.py"), *ROOT.glob("tests/clients/test_*.py")]
    tests = sorted(str(path.relative_to(ROOT)) for path in paths)
    session.run("python", "-m", "pytest", *tests, *session.posargs, env={"OMP_NUM_THREADS": "1"})
