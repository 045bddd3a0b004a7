"""The table of speeds in the README: that of the published results, number by number."""

import json

import pytest

import readme
from peers import MODES, OURS

RESULTS = json.loads(readme.RESULTS.read_text(encoding="utf-8"))


def test_the_readme_has_the_published_numbers():
    """Made again by `python benchmarks/readme.py`."""
    text = readme.README.read_text(encoding="utf-8")
    assert text == readme.with_speeds(text, RESULTS)


def test_every_case_has_its_line():
    lines = readme.speeds(RESULTS).splitlines()
    for case in readme.CASES:
        (line,) = [line for line in lines if line.startswith(f"| {case} |")]
        cells = [float(cell) for cell in line.strip("| ").split(" | ")[1:]]
        found = {row["mode"]: row for row in RESULTS["rows"] if row.get("case") == case}
        ratios = [found[mode]["times"][OURS]["ratio"][0] for mode in MODES]
        assert cells[:3] == pytest.approx(ratios, rel=0.01)
        others = found[MODES[0]]["times"]
        peers = [others[k]["ratio"][0] for k in ("recursion", "naive ISA") if k in others]
        assert cells[3] == pytest.approx(min(peers), rel=0.01)


def test_a_quick_run_is_called_one():
    assert "quick run" in readme.speeds(RESULTS | {"quick": True})
    assert "quick run" not in readme.speeds(RESULTS | {"quick": False})


def test_a_readme_without_its_marks_is_not_written():
    with pytest.raises(SystemExit, match="once each"):
        readme.with_speeds("# lpnested\n", RESULTS)
