"""A cell that fails ends every build of the site, and not only the first one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the site is built with the extra docs")
pytest.importorskip("myst_nb", reason="the site is built with the extra docs")

DOCS = Path(__file__).parents[2] / "docs"
PAGE = """---
file_format: mystnb
kernelspec: {name: python3}
---

# A page

```{code-cell} python
from pathlib import Path
print(2 * int(Path("table.txt").read_text()))
```
"""


@pytest.fixture
def site(tmp_path):
    """A site of one page, which reads a table, with the settings of ours."""
    for name in ("conf.py", "matplotlibrc", "references.bib"):
        (tmp_path / name).write_bytes((DOCS / name).read_bytes())
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "custom.css").write_text("")
    (tmp_path / "index.md").write_text(PAGE)
    return tmp_path


def build(site, *flags):
    command = [sys.executable, "-m", "sphinx", *flags, "-q", "-b", "html", ".", "_build/html"]
    done = subprocess.run(command, cwd=site, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["-W", "--keep-going"]])
def test_a_failed_cell_fails_every_build_until_it_runs(site, flags):
    page = site / "_build" / "html" / "index.html"
    for _ in range(2):  # the second has what the first has kept
        status, said = build(site, *flags)
        assert status != 0 and not page.exists()
        assert "cells failed on index" in said and "FileNotFoundError" in said
    (site / "table.txt").write_text("21")
    status, said = build(site, *flags)
    assert status == 0, said
    assert ">42\n" in page.read_text()


@pytest.mark.slow
def test_a_page_follows_the_tables_that_it_reads(site):
    """Sphinx knows nothing of them, so that every build runs every cell."""
    for number in (21, 1050):
        (site / "table.txt").write_text(str(number))
        status, said = build(site)
        assert status == 0, said
        assert f">{2 * number}\n" in (site / "_build" / "html" / "index.html").read_text()
    (site / "table.txt").unlink()
    assert build(site)[0] != 0
