"""Version, address and packages: one place each, and what repeats them says the same."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

import lpnested

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CHECKS = runpy.run_path(str(ROOT / ".ci" / "check_packages.py"))
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FENCE = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)


def text(name):
    return (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("CITATION.cff", "version: {}"),
        ("conda/recipe.yaml", '  version: "{}"'),
        ("CHANGELOG.md", "## {}"),
        ("docs/release-{}.md", "# lpnested {}"),
    ],
)
def test_the_version_is_the_same_everywhere(name, line):
    lines = text(name.format(lpnested.__version__)).splitlines()
    wanted = line.format(lpnested.__version__)
    assert any(x == wanted or x.startswith(f"{wanted} (") for x in lines)


def test_the_public_address_has_one_place():
    """None, and no file has one; or one, and the two files that have to repeat it do."""
    address = PROJECT["project"].get("urls", {}).get("Source", "").rstrip("/")
    repeated = {
        "CITATION.cff": re.findall(r"^repository-code: \"?([^\s\"]+)", text("CITATION.cff"), re.M),
        "conda/recipe.yaml": re.findall(r"^  repository: (\S+)", text("conda/recipe.yaml"), re.M),
    }
    assert repeated == dict.fromkeys(repeated, [address] if address else [])
    others = [*ROOT.glob(".github/**/*.*"), *ROOT.glob("*.md"), ROOT / ".readthedocs.yaml"]
    for path in others:
        assert not re.search(r"github\.com/[\w-]+/lpnested", path.read_text("utf-8")), path


def test_the_recipe_asks_for_what_the_package_asks_for():
    recipe = text("conda/recipe.yaml")
    [torch] = PROJECT["project"]["dependencies"]
    assert f"pytorch {torch.removeprefix('torch')}" in recipe
    assert recipe.count(f"python {PROJECT['project']['requires-python']}\n") == 2
    [hatchling] = PROJECT["build-system"]["requires"]
    assert f"- {hatchling.replace('>', ' >', 1)}\n" in recipe


RELEASE = [
    "lpnested-1.2.0.tar.gz",
    "lpnested-1.2.0-py3-none-any.whl",
    "lpnested-1.2.0-py3-none-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "lpnested-1.2.0-py3-none-manylinux_2_28_aarch64.whl",
    "lpnested-1.2.0-py3-none-macosx_11_0_arm64.whl",
]


def test_a_release_has_every_package():
    assert not CHECKS["unexpected"](RELEASE, "1.2.0")
    assert not CHECKS["unexpected"](RELEASE[::-1], "1.2.0")


def test_a_wheel_may_be_for_older_systems_too():
    """As auditwheel names them, in the order of the alphabet."""
    older = "manylinux1_x86_64.manylinux_2_28_x86_64.manylinux_2_5_x86_64"
    names = [re.sub(r"manylinux_\S+_x86_64", older, name) for name in RELEASE]
    assert names != RELEASE and not CHECKS["unexpected"](names, "1.2.0")


@pytest.mark.parametrize("left_out", RELEASE)
def test_a_release_without_one_of_them_is_refused(left_out):
    [wrong] = CHECKS["unexpected"]([x for x in RELEASE if x != left_out], "1.2.0")
    assert wrong.startswith("0 of ")


@pytest.mark.parametrize(
    "name",
    [
        "lpnested-1.2.0-py3-none-linux_x86_64.whl",  # PyPI refuses it
        "lpnested-1.1.0.tar.gz",
        "lpnested-1.2.0-cp311-cp311-win_amd64.whl",
        "lpnested-1.2.0-py3-none-manylinux_2_39_x86_64.whl",  # newer than torch's own
    ],
)
def test_a_release_with_another_one_is_refused(name):
    assert CHECKS["unexpected"]([*RELEASE, name], "1.2.0") == [f"not to be published: {name}"]


def test_one_python_builds_the_wheel_of_a_platform():
    """The oldest: the library knows nothing of Python. Where there is no torch, there is none."""
    wheels = PROJECT["tool"]["cibuildwheel"]
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=").replace(".", "")
    assert wheels["build"] == f"cp{oldest}-*" and "musllinux" in wheels["skip"]
    script = re.search(r"\{project\}/(\S+)", wheels["test-command"])[1]
    assert (ROOT / script).is_file()


def test_no_pin_is_against_a_torch_for_cuda():
    """Each needs one version of Triton, and with a pin of another nothing can be installed."""
    assert not re.search(r"^(triton|nvidia-|cuda-)", text("constraints.txt"), re.M)


def test_set_up_is_two_commands_of_extras_that_exist():
    commands = FENCE.search(CONTRIBUTING)[1].splitlines()
    assert len(commands) == 2 and "venv" in commands[0]
    extras = re.search(r"-c constraints\.txt -e '\.\[([\w,]+)\]'$", commands[1])[1].split(",")
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])
    assert f"told CONTRIBUTING.md \"-e '.[{','.join(extras)}]'\"" in text(".ci/run")


def test_contributing_names_files_that_are_there():
    names = re.findall(r"`([\w./*-]+(?:/|\.\w+))`", CONTRIBUTING)
    paths = [x for x in names if "/" in x and "VERSION" not in x and not x.startswith("metrics/")]
    assert len(paths) > 25
    for name in paths:
        assert list(ROOT.glob(name.rstrip("/"))), name


def test_contributing_names_what_the_files_have():
    for file, words in {
        "tests/cases.py": ["CASES", "def each("],
        "lpnested/radial.py": ["@log_generator.register"],
        "lpnested/radial_entropy.py": ["@mean_log.register", "@radial_entropy.register"],
        "lpnested/radial_moments.py": [".register"],
        "lpnested/radial_draws.py": [".register"],
        "lpnested/gamma_radii.py": ["def radial_dispatch("],
        "examples/isa_vae/models.py": ["def make_prior(", "class Fixed("],
        "examples/isa_vae/config.py": ["    prior: Literal["],
        "lpnested/ops/calls.py": ["def register_backend("],
        "tests/conftest.py": ["def backend("],
    }.items():
        for word in words:
            assert word in text(file), (file, word)


def test_the_code_of_the_release_note_runs():
    lines = text(f"docs/release-{lpnested.__version__}.md").splitlines()
    code = [line.removeprefix("    ") for line in lines if line.startswith("    ")]
    assert len(code) == 3
    found = {}
    exec("\n".join(code), found)
    assert found["rate"].isfinite()
