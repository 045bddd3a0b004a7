"""What is in the packages: ``python .ci/check_packages.py DIST PURE``.

DIST holds the sources and a wheel with kernels for this machine, PURE a wheel that was made
without a compiler. ``--release`` says that DIST holds what is to be published instead: the
sources, the wheel without kernels, and one for each platform that has them.
"""

import argparse
import re
import sys
import tarfile
import zipfile
from pathlib import Path

LIBRARY = "lpnested/ops/_kernels.so"
SOURCES = (
    "lpnested/isa.py", "lpnested/ops/native/density.h", "tests/oracle.py",
    "examples/isa_vae/train.py", "CITATION.cff", "CONTRIBUTING.md", "hatch_build.py",
)  # fmt: skip
# PyPI refuses linux_x86_64: which Linux a library runs on is said by manylinux tags. That of torch
# is among them, and those of older ones may be.
PUBLISHED = (
    r"\.tar\.gz",
    r"-py3-none-any\.whl",
    r"-py3-none-(?=[\w.]*manylinux_2_28_)(manylinux\w+_x86_64\.)+whl",
    r"-py3-none-(?=[\w.]*manylinux_2_28_)(manylinux\w+_aarch64\.)+whl",
    r"-py3-none-macosx_\w+_arm64\.whl",
)


def check_sources(path: Path) -> None:
    """Whole, and without what a build adds."""
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert not any(name.endswith("_kernels.so") for name in names), "a library is in the sources"
    for part in SOURCES:
        assert any(name.endswith("/" + part) for name in names), part


def check_wheel(path: Path, kernels: bool) -> None:
    """The package and no more, with a library and a platform's tag, or with neither."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        text = wheel.read(metadata).decode()
    assert (LIBRARY in names) is kernels, f"{path.name}: {LIBRARY}"
    assert path.name.endswith("-py3-none-any.whl") is not kernels, path.name
    assert "-py3-none-" in path.name, path.name
    assert "lpnested/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith("lpnested")], names
    check_description(text)


def check_description(text: str) -> None:
    """The README is shown, and none of its links leads into a checkout."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    dead = [target for target in targets if not target.startswith(("https:", "#"))]
    assert "# lpnested" in text
    assert not dead, dead


def unexpected(names: list[str], version: str) -> list[str]:
    """What a release has too much or too little of, in words; empty if it is as it should be."""
    patterns = [re.compile(re.escape(f"lpnested-{version}") + ending) for ending in PUBLISHED]
    found = [sum(bool(x.fullmatch(name)) for name in names) for x in patterns]
    extra = [name for name in names if not any(x.fullmatch(name) for x in patterns)]
    wrong = [f"not to be published: {name}" for name in sorted(extra)]
    pairs = zip(found, PUBLISHED, strict=True)
    return wrong + [f"{count} of {ending}" for count, ending in pairs if count != 1]


def main() -> None:
    """Check the folders of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dist", type=Path)
    parser.add_argument("pure", type=Path, nargs="?")
    parser.add_argument("--release", metavar="VERSION", help="the packages of this version")
    given = parser.parse_args()
    if given.release:
        wrong = unexpected([path.name for path in given.dist.iterdir()], given.release)
        sys.exit("\n".join(wrong) or None)
    [sources], [wheel], [pure] = (
        sorted(folder.glob(ending))
        for folder, ending in (
            (given.dist, "*.tar.gz"), (given.dist, "*.whl"), (given.pure, "*.whl"),
        )
    )  # fmt: skip
    check_sources(sources)
    check_wheel(wheel, kernels=True)
    check_wheel(pure, kernels=False)
    print(f"{sources.name}, {wheel.name}, {pure.name}: as they should be")


if __name__ == "__main__":
    main()
