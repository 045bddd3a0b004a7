"""What the build of the site can't see: that all code on it runs, and that no number is typed."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
FENCE = re.compile(r"^```(?P<info>[^\n]+)\n(?P<body>.*?)^```$", re.M | re.S)

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))


def blocks(page: Path, info: str) -> list[str]:
    return [
        match["body"]
        for match in FENCE.finditer(page.read_text())
        if match["info"].startswith(info)
    ]


def test_there_are_pages() -> None:
    assert len(PAGES) > 20


@page_by_page
def test_every_code_block_is_a_cell_or_a_command(page: Path) -> None:
    """Cells run when the site is built; commands are checked below; docstrings are doctests."""
    text = page.read_text()
    assert text.count("```") == 2 * len(FENCE.findall(text)), "a fence is not closed"
    known = ("{code-cell} python", "{math}", "{toctree}", "{eval-rst}", "{include}", "bash")
    known += ("{bibliography}", "{literalinclude}")
    unknown = [m["info"] for m in FENCE.finditer(text) if not m["info"].startswith(known)]
    assert not unknown
    if blocks(page, "{code-cell}"):
        assert text.startswith("---\nfile_format: mystnb\nkernelspec: {name: python3}\n---\n")


@page_by_page
def test_cells_compile_and_fit_the_page(page: Path) -> None:
    for cell in blocks(page, "{code-cell}"):
        code = re.sub(r"^:\w+:.*\n", "", cell, flags=re.M)
        compile(code, str(page), "exec")
        assert max(map(len, code.splitlines())) <= 88, code


@page_by_page
def test_commands_name_what_is_there(page: Path) -> None:
    """Scripts, presets, extras and the commands of CI and the README."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    config = (ROOT / "examples" / "isa_vae" / "config.py").read_text()
    for command in blocks(page, "bash"):
        for script in re.findall(r"python (\S+\.py)", command):
            assert (ROOT / script).is_file(), script
        for preset in re.findall(r"--preset (\S+)", command):
            assert f'"{preset}"' in config, preset
        for names in re.findall(r"\.\[([\w,]+)\]", command):
            assert set(names.split(",")) <= set(extras["optional-dependencies"]), names


@pytest.mark.parametrize("name", ["paper.md", "benchmarks.md"])
def test_no_result_is_typed_by_hand(name: str) -> None:
    """Measured numbers come from cells that read or compute them: the prose has no decimals."""
    prose = FENCE.sub("", (DOCS / name).read_text())
    prose = re.sub(r"`[^`]*`|\$[^$]*\$", "", prose)
    assert not re.findall(r"\d+\.\d+|\d+ ?%", prose)


def test_every_reference_is_cited() -> None:
    text = "".join(page.read_text() for page in PAGES)
    keys = re.findall(r"^@\w+\{(\w+),", (DOCS / "references.bib").read_text(), re.M)
    cited = {
        key for group in re.findall(r"\{cite:\w\}`([\w,]+)`", text) for key in group.split(",")
    }
    assert cited == set(keys)
