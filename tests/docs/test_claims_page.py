"""The page of the claims runs on the published tables, and on those that are still to come."""

import ast
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from claims.verdicts import write_verdicts
from sweeps.experiments import PRIMARY, SECONDARY, WEIGHTED, experiments, second_look
from sweeps.rows import Row, as_csv, read_rows

display = pytest.importorskip("IPython.display", reason="the cells of the page need IPython")

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "isa_vae.md", ROOT / "examples" / "isa_vae" / "results"
CELL = re.compile(r"^```\{code-cell\} python\n(.*?)^```$", re.M | re.S)
PAIRS = 18


def made_up(pairs: int, arms: Sequence[str]) -> list[Row]:
    """Rows of `paper`, with the scores of `medium` moved to where such models are."""
    medium = [row for row in read_rows(RESULTS / "fig5a-medium.csv") if row["arm"] == "normal"]
    generator, rows = np.random.default_rng(0), []
    for run in experiments()["paper"]:
        seed, beta = run.config.seed, run.config.beta
        if seed <= pairs and run.arm in arms:
            row = medium[seed % len(medium)] | {"rung": "paper", "arm": run.arm, "seed": seed}
            row |= {"experiment": "paper", "beta": beta, "planned": PAIRS, "card": "made up"}
            row |= {"mig": 0.2 + 0.1 * generator.random(), "precision": "tf32"}
            rows.append(row | {"log_px": -40 - 9 * beta + generator.random()})
    return rows


def publish(rows: list[Row], results: Path) -> None:
    """As `sweep.py collect` and `figures.py verdicts` do."""
    (results / f"{rows[0]['experiment']}.csv").write_text(as_csv(rows), encoding="utf-8")
    write_verdicts(rows, results)


def run_page(results: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the cells show as text, with the results of that folder."""
    shown, names = [], {}
    monkeypatch.chdir(PAGE.parent)
    monkeypatch.setattr(display, "display", lambda *many: None)
    for k, cell in enumerate(CELL.findall(PAGE.read_text(encoding="utf-8"))):
        code = re.sub(r"^:tags:.*\n", "", cell)
        tree = ast.parse(code.replace('example / "results"', f"Path({str(results)!r})"))
        last = (
            ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
        )
        exec(compile(tree, f"<cell {k}>", "exec"), names)
        value = last and eval(compile(last, f"<cell {k}>", "eval"), names)
        shown.append(value.data if isinstance(value, display.Markdown) else "")
    return "\n".join(shown)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of the published results."""
    return Path(shutil.copytree(RESULTS, tmp_path / "results"))


@pytest.mark.slow
def test_the_page_without_runs_of_the_papers_own_size(results, monkeypatch):
    for path in results.glob("paper*"):
        path.unlink()
    text = run_page(results, monkeypatch)
    assert "both claims are undecided: there is only one pair of runs" in text
    assert "| 4.1, Figure 5a: a higher gap | direction only |  |  | 1 | **undecided** |" in text
    assert text.count("(secondary) |") == 11


@pytest.mark.slow
def test_the_page_before_the_first_look_shows_no_score(results, monkeypatch):
    publish(made_up(PAIRS - 2, PRIMARY), results)
    text = run_page(results, monkeypatch)
    assert f"both claims are undecided: {PAIRS - 2} of {PAIRS} pairs are complete" in text
    line = "| 4.1 (primary) | isa-released − normal | mig | 1 | 16 (look 0) |  |  |  | **undecided"
    assert line in text
    assert "| normal | 1 |" not in text  # no line of scores


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [PAIRS, second_look(PAIRS)])
def test_the_page_at_a_look(results, monkeypatch, pairs):
    rows = made_up(pairs, PRIMARY + SECONDARY + WEIGHTED)
    publish(rows, results)
    check = [row | {"experiment": "paper-float32", "mig": row["mig"] + 0.01} for row in rows]
    check = [row for row in check if row["arm"] in PRIMARY and row["seed"] <= 2]
    (results / "paper-float32.csv").write_text(as_csv(check), encoding="utf-8")
    text = run_page(results, monkeypatch)
    look = 1 if pairs == PAIRS else 2
    assert f"At the paper's own size, with {pairs} pairs, the verdict on claim 4.1 is:" in text
    assert f"look {look} of 2" in text and "(seed 0) | 1 | 1 |" in text
    assert f"| normal | 1 | {pairs} |" in text and f"| isa-beta-tcvae | 4 | {pairs} |" in text
    assert re.search(r"4.2, Figure 5b: the trade-off \| direction only \| [+−]0", text)
    assert text.count("| mig | +0.010 |") == 4
