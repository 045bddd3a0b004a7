"""The README where there is no checkout, and its words about what came out."""

import importlib.util
import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TARGET = re.compile(r"\]\(([^)\s]+)\)")
ADDRESS = "https://example.org/a/lpnested"


@pytest.fixture
def hook(monkeypatch):
    """hatch_build.py, which needs of hatchling no more than the names of two classes."""
    for part, name in (
        ("metadata", "MetadataHookInterface"),
        ("builders.hooks", "BuildHookInterface"),
    ):
        module = types.ModuleType(f"hatchling.{part}.plugin.interface")
        setattr(module, name, object)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_without_a_public_address_no_link_is_dead(hook):
    shown = hook.with_absolute_links(README, None)
    assert not [t for t in TARGET.findall(shown) if not t.startswith(("https:", "#"))]
    assert "![" not in shown and "<img" not in shown
    words = re.sub(r"!\[[^\]]*\]\([^)]*\)|\[|\]\([^)]*\)|\]", "", README)
    assert re.sub(r"[\[\]]", "", shown) == words  # nothing else is lost, in code neither


def test_with_one_every_link_leads_there(hook):
    shown = hook.with_absolute_links(README, ADDRESS)
    paths = [t for t in TARGET.findall(README) if not re.match(r"https?:|#", t)]
    assert len(paths) > 5
    for path in paths:
        kind = "raw" if path.endswith(".png") else "blob"
        assert (ROOT / path).exists() and f"({ADDRESS}/{kind}/main/{path})" in shown
    assert f"![A tree, a density, and samples of two distributions]({ADDRESS}/raw/main" in shown


def test_code_and_links_of_the_web_stay_as_they_are(hook):
    text = "[a](b.md) [c](https://d.org) [e](#f)\n```python\nx[0](y)\n```\n![g](h.png)\n"
    assert hook.with_absolute_links(text, None) == (
        "a [c](https://d.org) [e](#f)\n```python\nx[0](y)\n```\n\n"
    )


def test_the_address_is_taken_from_one_place(hook, tmp_path):
    (tmp_path / "README.md").write_text("[a](b.md)")
    made = hook.CustomMetadataHook()
    made.root = str(tmp_path)
    for urls, text in (({}, "a"), ({"Source": f"{ADDRESS}/"}, f"[a]({ADDRESS}/blob/main/b.md)")):
        metadata = {"urls": urls}
        made.update(metadata)
        assert metadata["readme"] == {"content-type": "text/markdown", "text": text}


def test_the_package_has_this_readme():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "readme" in project["project"]["dynamic"] and "readme" not in project["project"]
    assert "custom" in project["tool"]["hatch"]["metadata"]["hooks"]


def test_every_link_of_the_readme_leads_to_a_file():
    for path in TARGET.findall(README):
        assert re.match(r"https?:|#", path) or (ROOT / path).exists(), path
