"""The report of a sweep, as text and as a browser without a network shows it."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from figures import main, pictures_of
from plots import page
from sweeps.rows import as_csv

pytestmark = pytest.mark.slow

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARMS = {"normal": 0.0, "normal-0.495": 0.0, "isa-released": 0.1, "isa-unit": 0.02}
FACTS = """() => ({
    broken: [...document.images].filter(e => !e.naturalWidth).length,
    images: document.images.length,
    lines: document.querySelectorAll('tbody tr').length,
    scripts: document.scripts.length,
    headings: [...document.querySelectorAll('h2')].map(e => e.textContent),
})"""
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def make_rows(seeds=12, data="faces (stand-in: drawn)", beta=1.0):
    """Runs of four arms, one of them diverged and one missing, with a short history."""
    rows = []
    for arm, shift in ARMS.items():
        for seed in range(seeds):
            mig = 0.2 + shift + 0.03 * np.random.default_rng([seed, len(arm)]).normal()
            scores = {
                "mig": mig,
                "mig_posX": mig + 0.1,
                "mig_posY": mig - 0.1,
                "log_px": -60 + mig,
            }
            line = {"step": 50, "objective": -80.0, "log_px": -60.0, "kl": 20.0}
            rows.append(
                {
                    **{"experiment": "fig5a-made", "rung": "quick", "arm": arm, "seed": seed},
                    **{"beta": beta, "status": "done", "data": data, "steps": 100, **scores},
                    "history": [line, line | {"step": 100, "objective": -70.0}],
                    "config": {"prior": arm, "seed": seed, "hidden": 128, "note": "<b>&"},
                    "versions": {"torch": "2.13", "python": "3.11"},
                }
            )
    del rows[1]["history"]
    nothing = dict.fromkeys(("mig", "mig_posX", "mig_posY", "log_px"))
    rows[1] |= {"status": "diverged", **nothing}
    del rows[-1]
    return rows


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "new" / "page.html"
    rows = make_rows()
    page.write_page(rows, pictures_of(rows), path)
    return path


@pytest.mark.slow
def test_the_page_says_what_was_run(report):
    text = report.read_text()
    assert "<title>STAND-IN: ISA-VAE, fig5a-made</title>" in text
    assert "46 done,\n1 diverged, 1 missing" in text and "diverged and have no scores: 1." in text
    assert "INTERIM: 1 runs are missing" in text
    assert "The quick rung: smaller than" in text
    assert "2 reproduced, 1 undecided" in text
    assert "hidden</dt><dd>128</dd>" in text and "seed (differs)" in text
    assert "torch 2.13, python 3.11" in text and "&lt;b&gt;&amp;" in text
    assert [path.name for path in report.parent.iterdir()] == ["page.html"]


def test_the_page_needs_nothing_else(report):
    text = report.read_text()
    outside = re.findall(r'(?:src|href)="(?!data:)[^"]*"|url\(|<script|<link rel="style', text)
    assert not outside


@pytest.mark.slow
def test_a_published_table_makes_a_page_too(tmp_path, capsys):
    table, out = tmp_path / "fig5a-made.csv", tmp_path / "page.html"
    table.write_text(as_csv(make_rows(seeds=3, data="dsprites (drawn)")))
    assert main(["report", str(table), "--out", str(out)]) == 0
    text = out.read_text()
    assert str(out) in capsys.readouterr().out and text.count("<img") == 1
    assert "omit settings" in text and "STAND-IN" not in text


@pytest.mark.skipif(sync_playwright is None, reason="playwright is not installed")
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_browser_shows_it_without_a_network(report, tmp_path):
    problems, folder = [], Path(os.environ.get("LPNESTED_SCREENSHOTS", tmp_path))
    wanted = (report.as_uri(), "data:")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            shown = browser.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 900})
            shown.on("console", lambda message: problems.append(message.text))
            shown.on("pageerror", lambda error: problems.append(str(error)))
            shown.on("request", lambda r: r.url.startswith(wanted) or problems.append(r.url))
            shown.goto(report.as_uri(), wait_until="load")
            facts = shown.evaluate(FACTS)
            assert (facts["broken"], facts["images"], facts["scripts"]) == (0, 2, 0)
            verdicts_and_control, post_hoc, summaries, counts, runs = 4, 4, 4, 4, 47
            lines = verdicts_and_control + post_hoc + summaries + counts + runs
            assert facts["lines"] == lines
            assert {"Verdicts", "Figures", "Settings", "Versions"} <= set(facts["headings"])
            for width in (400, 1200):
                shown.set_viewport_size({"width": width, "height": 900})
                assert shown.evaluate(WIDER) <= 0
                shown.evaluate("() => document.querySelector('details').open = true")
                assert shown.evaluate(WIDER) <= 0
                shown.screenshot(path=folder / f"page-{scheme}-{width}.png", full_page=True)
        browser.close()
    assert not problems
