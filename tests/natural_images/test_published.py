"""What is published: the words and tables are those of the results file, which is of one run."""

import csv
import json
import re
from pathlib import Path

import pytest

import images_in_short
from densities.candidates import EXPECTED, TITLES
from findings.kept import rounded
from findings.published import FILES
from findings.rows_of_fits import flatten
from findings.words import table, words
from images_config import PRESETS, UsageError

FOLDER = Path(images_in_short.__file__).parent
RESULTS = FOLDER / "results"


@pytest.fixture(scope="module")
def results():
    return images_in_short.read(RESULTS)


def test_the_readme_has_the_words_and_numbers_of_the_results(results):
    """Made again by `python examples/natural_images/images_in_short.py`."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == images_in_short.with_words(readme, results)
    assert (RESULTS / "table.md").read_text(encoding="utf-8") == f"{table(results)}\n"


def test_what_is_published_is_the_whole_comparison(results):
    assert {path.name for path in RESULTS.iterdir()} == set(FILES)
    assert results["config"] == PRESETS["whole"].to_json()
    assert [line["model"] for line in results["models"]] == list(EXPECTED)


def test_the_tables_of_rows_agree_with_the_results(results):
    with (RESULTS / "models.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = [{key: str(value) for key, value in flatten(x).items()} for x in results["models"]]
    assert rows == expected
    with (RESULTS / "fits.csv").open(newline="", encoding="utf-8") as file:
        fits = {(row["model"], row["start"]): row for row in csv.DictReader(file)}
    for line in results["models"][1:]:
        chosen = fits[line["model"], line["start"]]
        assert float(chosen["train_bits"]) == line["train_bits"]
        assert float(chosen["test_bits"]) == pytest.approx(line["bits"]["mean"], abs=1e-5)


def test_the_protocol_names_the_models_in_the_expected_order():
    text = (FOLDER / "PROTOCOL.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S[^|]*?) \| [^|]* \| [^|]*\|$", text, re.M)
    assert [row for row in rows if row in TITLES.values()] == list(TITLES.values())


def test_the_words_follow_the_numbers(results):
    said = words(results)
    changed = json.loads(json.dumps(results))
    changed["models"][1]["bits"]["mean"] = 9.876
    changed["steps"][2] |= {"outcome": "the other way"}
    other = words(changed)
    assert "9.876" in other and "9.876" not in said
    assert "the step from isa to l2-spherical goes the other way" in other


def test_every_link_leads_to_a_file():
    for name in ("README.md", "PROTOCOL.md"):
        text = (FOLDER / name).read_text(encoding="utf-8")
        for path in re.findall(r"\]\(([^)\s]+)\)", text):
            assert path.startswith("http") or (FOLDER / path).exists(), path


def test_figures_are_small():
    assert max(path.stat().st_size for path in RESULTS.glob("*.png")) < 200_000


def test_a_readme_without_its_marks_is_not_written(results):
    with pytest.raises(UsageError, match="once each"):
        images_in_short.with_words("# Natural images\n", results)


def test_missing_results_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"results\.json is missing"):
        images_in_short.read(tmp_path)


def test_rounding_leaves_words_and_whole_numbers():
    assert rounded({"a": [0.12345678, 3, "x", None]}) == {"a": [0.123457, 3, "x", None]}
