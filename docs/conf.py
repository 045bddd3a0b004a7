"""Sphinx settings: ``python -m sphinx -W --keep-going -n -b html docs docs/_build/html``."""

import os
import tomllib
from importlib.metadata import files
from pathlib import Path

from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.errors import ExtensionError

import lpnested

project = "lpnested"
author = "The lpnested authors"
copyright = f"2026, {author}"
release = version = lpnested.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build"]
suppress_warnings = ["misc.highlighting_failure"]

# Every page runs while the site is built, in one thread and with figures of one style.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MATPLOTLIBRC"] = str(Path(__file__).with_name("matplotlibrc"))
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm, in a notebook without widgets
nb_execution_mode = "force"
nb_execution_timeout = 300  # a cell takes seconds, more where the machine is shared
nb_execution_show_tb = True  # _no_failed_cell ends the build
nb_output_stderr = "error"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables of results

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

# The reference comes from the docstrings. Torch's own names are not resolved: no network.
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
nitpick_ignore_regex = [
    ("py:.*", r"(torch|hypothesis|matplotlib|pyro|collections|typing)\b.*"),
    ("py:.*", r"(Tensor|Distribution|Size|_size|Axes|Any|Callable|Sequence|Iterable|NoReturn)"),
    ("py:.*", r"(Constraint|nn\.Module|Nested|Self|optional|SupportsIndex|dtype)"),
]

html_theme = "furo"
html_title = "lpnested"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = html_show_sourcelink = False

# Where a page can be edited: at the public address, if there is one, which pyproject.toml has.
_project = Path(lpnested.__file__).parents[1] / "pyproject.toml"
_text = _project.read_text("utf-8") if _project.exists() else "[project]"
_urls = tomllib.loads(_text)["project"].get("urls", {})
if "Source" in _urls:
    html_theme_options = {
        "source_repository": _urls["Source"],
        "source_branch": "main",
        "source_directory": "docs/",
    }

# MathJax is served by the site itself, out of a package that holds its files. The bundle with SVG
# output has its font within; without its menu it asks for nothing else.
mathjax_path = "mathjax-tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}


def _copy_mathjax(app, error):
    """Put the bundle beside the other static files of the finished site."""
    if error is None and app.builder.format == "html":
        bundle = next(f for f in files("django-static-mathjax") if f.match("es5/tex-svg.js"))
        target = Path(app.outdir) / "_static" / mathjax_path
        target.write_bytes(bundle.locate().read_bytes())


def _with_cells(app, env, added, changed, removed):
    """Every page with cells is made anew by every build: Sphinx knows nothing of the tables that
    the cells read, and would take a page of before, whatever had become of it.
    """
    paths = {name: Path(env.doc2path(name)) for name in env.found_docs}
    return [name for name, path in paths.items() if "{code-cell}" in path.read_text("utf-8")]


def _no_failed_cell(app, env):
    """Without -W too, and after a build whose failure was kept, no traceback is published."""
    found = {name: NbMetadataCollector.get_exec_data(env, name) for name in env.found_docs}
    failed = sorted(name for name, data in found.items() if data and not data["succeeded"])
    if failed:
        raise ExtensionError(f"cells failed on {', '.join(failed)}: see the tracebacks above")


def setup(app):
    app.connect("env-check-consistency", _no_failed_cell)
    app.connect("env-get-outdated", _with_cells)
    app.connect("build-finished", _copy_mathjax)
