"""What is checked, each in an environment of its own; CI's workflows call these sessions.

``nox`` runs the core tests on every version of torch that the range in pyproject.toml is tested
with, ``nox -s "core(torch='2.13.0')"`` one of them, ``nox -l`` lists all sessions and the versions
still to be tested; what follows ``--`` goes to pytest. An environment with a CUDA build of torch
takes 6 GB, and ``--envdir`` says where the environments are kept. With ``--no-venv`` a session
installs nothing and runs in the environment that is active.
"""

import re
import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).parent
TESTED = ["2.11.0", "2.13.0", "2.14.1"]  # as pyproject.toml and docs/install.md say
NEXT = ["2.15.0"]

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = [f"core(torch='{version}')" for version in TESTED]

SITE = "-W --keep-going -n -b html docs docs/_build/html"
# What other services read, each by the schema that check-jsonschema has of it.
SCHEMAS = {
    "github-workflows": "workflows/*.yml",
    "github-issue-forms": "ISSUE_TEMPLATE/[!c]*.yml",
    "github-issue-config": "ISSUE_TEMPLATE/config.yml",
    "dependabot": "dependabot.yml",
    "readthedocs": "../.readthedocs.yaml",
    "citation-file-format": "../CITATION.cff",
}


def install(session: nox.Session, extra: str, constraints: str = "constraints.txt") -> None:
    """The package with an extra, unless the environment is the one that is active."""
    if session.virtualenv.is_sandboxed:
        session.install("-c", constraints, "-e", f".[{extra}]")


def constraints_with(session: nox.Session, torch: str) -> str:
    """The versions that CI has, but for that of torch."""
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    changed = Path(session.create_tmp()) / "constraints.txt"
    changed.write_text(re.sub("^torch==.*", f"torch=={torch}", pins, flags=re.MULTILINE), "utf-8")
    return str(changed)


@nox.session
@nox.parametrize("torch", TESTED + NEXT)
def core(session: nox.Session, torch: str) -> None:
    """The tests of the library itself, and with its clients, on one version of torch."""
    install(session, "core", constraints_with(session, torch))
    paths = [*ROOT.glob("tests/test_*.py"), *ROOT.glob("tests/clients/test_*.py")]
    tests = sorted(str(path.relative_to(ROOT)) for path in paths)
    session.run("python", "-m", "pytest", *tests, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, as the README says, with the versions of constraints.txt."""
    install(session, "test")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, types, the direction of imports, and the files that other services read."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "--strict", "lpnested")
    session.run("lint-imports")
    session.run("validate-pyproject", "pyproject.toml")
    for schema, pattern in SCHEMAS.items():
        files = sorted(str(path) for path in (ROOT / ".github").glob(pattern))
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


@nox.session
def docs(session: nox.Session) -> None:
    """The site, whose cells run while it is built."""
    install(session, "docs")
    session.run("python", "-m", "sphinx", *SITE.split(), *session.posargs)


@nox.session
def packages(session: nox.Session) -> None:
    """Sources, a wheel with kernels and one without, in a folder: build, or the one that is named.

    They come to its subfolders ``dist`` and ``pure``.
    """
    if session.virtualenv.is_sandboxed:
        session.install("-c", "constraints.txt", "build", "twine")
    folder = Path(*session.posargs[:1] or ["build"])
    dist, pure = str(folder / "dist"), str(folder / "pure")
    for made in (dist, pure):
        shutil.rmtree(made, ignore_errors=True)
    build = ["python", "-m", "build", "--outdir"]
    session.run(*build, dist, silent=True)
    session.run(*build, pure, "--wheel", env={"CXX": "false"}, silent=True)
    session.run("python", ".ci/check_packages.py", dist, pure)
    session.run("python", "-m", "twine", "check", "--strict", f"{dist}/*", f"{pure}/*")


@nox.session
@nox.parametrize("backend", ["kernels", "reference"])
def installed(session: nox.Session, backend: str) -> None:
    """A wheel that the session packages made, away from the sources."""
    part = "dist" if backend == "kernels" else "pure"
    [wheel] = Path(*session.posargs[:1] or ["build"]).glob(f"{part}/*.whl")
    script = str(ROOT / ".ci" / "check_install.py")
    session.install("-c", "constraints.txt", str(wheel))
    session.chdir(session.create_tmp())
    session.run("python", "-I", script, backend)
    session.run("python", "-I", "-m", "lpnested")
