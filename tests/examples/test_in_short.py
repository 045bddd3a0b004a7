"""What came out, in words: those that are published are those of the published tables."""

import json
import re
import shutil

import pytest

import in_short
from claims.typical_scores import typical_scores
from claims.verdicts import write_verdicts
from config import UsageError
from in_short import BEGIN, END, PAGE, README, RESULTS
from running.typical import TYPICAL
from sweeps.experiments import PRIMARY, experiments
from sweeps.rows import as_csv, read_rows


@pytest.mark.slow
def test_the_published_words_are_those_of_the_published_tables():
    """Made again by `python examples/isa_vae/in_short.py`."""
    assert (RESULTS / PAGE).read_text(encoding="utf-8") == in_short.page(RESULTS)
    readme = README.read_text(encoding="utf-8")
    assert readme == in_short.with_words(readme, RESULTS)
    assert json.loads(TYPICAL.read_text(encoding="utf-8")) == typical_scores(RESULTS)


def test_scores_of_the_papers_size_are_not_typical_before_they_are_looked_at(tmp_path):
    rows = read_rows(RESULTS / "fig5a.csv")
    rows = [row | {"seed": 1, "experiment": "paper", "planned": 18} for row in rows]
    (tmp_path / "paper.csv").write_text(as_csv(rows), encoding="utf-8")
    assert typical_scores(tmp_path) == []


def test_the_pages_of_the_site_have_the_same_words():
    docs = README.parent / "docs"
    for name in ("index.md", "paper.md"):
        text = (docs / name).read_text(encoding="utf-8")
        assert "```{include} ../examples/isa_vae/results/in-short.md" in text
        for mark, place in ((BEGIN, "start-after"), (END, "end-before")):
            assert f':{place}: "{mark}"' in text
    assert "in_short.own_size(results)" in (docs / "isa_vae.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_words_name_every_claim_and_number():
    words = in_short.words(RESULTS)
    for rung, c in in_short.small(RESULTS):
        if (c.arm, c.against) in in_short.QUESTIONS:
            assert f"rung `{rung}`, {c.n} pairs: {in_short.interval(c)}" in words
    assert words.startswith("**At the paper's own size") and "4.1" in words and "4.2" in words


@pytest.mark.slow
def test_every_picture_and_link_of_the_page_is_there():
    for path in re.findall(r"\]\(([^)]+)\)", in_short.page(RESULTS)):
        assert (RESULTS / path).exists(), path


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [0, 16, 18])
def test_the_words_follow_the_runs_of_the_papers_size(tmp_path, pairs):
    results = shutil.copytree(RESULTS, tmp_path / "results")
    for path in results.glob("paper*"):
        path.unlink()
    made = read_rows(RESULTS / "fig5a-medium.csv")[0]
    rows = [
        made | {"experiment": "paper", "rung": "paper", "arm": run.arm, "planned": 18}
        | {"seed": run.config.seed, "mig": 0.1 + 0.01 * run.config.seed + (run.arm != "normal")}
        for run in experiments()["paper"]
        if run.config.seed <= pairs and run.arm in PRIMARY
    ]  # fmt: skip
    if rows:
        (results / "paper.csv").write_text(as_csv(rows), encoding="utf-8")
        write_verdicts(rows, results)
    words, (primary, curve, *_) = in_short.words(results), in_short.claim_lines(results)
    if pairs < 18:
        told = "there is only one pair of runs" if not pairs else "16 of 18 pairs are complete"
        assert f"both claims are undecided: {told}" in words
        assert primary[2:] == ["", "", str(pairs or 1), "**undecided**"]
    else:
        assert "18 pairs, the verdict on claim 4.1 is: reproduced.**" in words
        assert primary[2].startswith("+1.000") and primary[-1] == "**reproduced**"
    assert curve[-1] == "**undecided**"


def test_a_readme_without_its_marks_is_not_written():
    with pytest.raises(UsageError, match="once each"):
        in_short.with_words("# lpnested\n", RESULTS)
