"""From rows to verdicts, tables and a picture."""

import pytest

import tables
from peers import FORWARD, IN_VALUE, MODES, NORMAL, OURS, RECURSION
from targets import CASES, column, targets


def timed(mode, ours, errors=()):
    ratios = {OURS: ours, NORMAL: 1.0, RECURSION: 5.0}
    times = {
        name: {"seconds": [1e-4 * r, 1e-4 * r, 2e-4 * r], "ratio": [r, r, 2 * r]}
        for name, r in ratios.items()
    }
    row = {"group": "log_prob", "case": "5 x 4, N = 2048", "mode": mode, "rounds": 5}
    return row | {"reference": NORMAL, "times": times, "errors": dict(errors)}


def results(backend="kernel (avx2)", capability="AVX2"):
    machine = {"cpu": "a CPU", "cores": 2, "capability": capability, "load": "0.1"}
    machine |= {"backends": {"cpu": backend}, "versions": {"torch": "2.13"}}
    rows = [timed(FORWARD, 1.1), timed(IN_VALUE, 2.2, {"lpnested, compiled": "a reason"})]
    rows.append({"group": "import", "unit": "ms", "values": {OURS: [40.0, 39.0, 41.0]}})
    found = {"date": "2026-01-01", "quick": True, "complete": False, "minutes": 1.0}
    return found | {"machine": machine, "failed": ["Failed: sample: `x`"], "rows": rows}


def test_what_was_met_leads_and_what_was_missed_says_by_how_much():
    text = tables.markdown(results())
    assert text.index("## Met") < text.index("## Missed") < text.index("## log_prob")
    case = "5 x 4, N = 2048"
    assert f"| {case}: forward | 1.1 [1.1, 2.2] | <= 1.15 x {NORMAL} |" in text
    assert f"| {case}: + backward in value | 2.2 [2.2, 4.4] | <= 1.1 x {NORMAL} | 100% |" in text
    assert f"recursion | 2.27 ({case}, + backward in value) | >= 4 | 76% |" in text
    assert "| import, after torch | 40 [39, 41] | <= 30 ms | 33% |" in text
    assert f"| {case} | forward | 1.1 [1.1, 2.2] | 100 µs | 5 [5, 10] |" in text
    for words in (
        "Quick run",
        "Stopped before its end",
        "kernel (avx2)",
        "`a reason`",
        "sample: `x`",
    ):
        assert words in text


def test_every_table_is_rectangular():
    blocks = [b for b in tables.markdown(results()).split("\n\n") if b.startswith("|")]
    assert len(blocks) == 4
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


@pytest.mark.parametrize(
    ("backend", "capability", "expected"),
    [
        ("kernel (avx512)", "AVX512", 1),
        ("kernel (avx2)", "AVX512", 0),
        ("reference", "AVX512", 1),
        ("kernel (neon)", "DEFAULT", None),
    ],
)
def test_limits_are_those_of_the_instructions(backend, capability, expected):
    found = results(backend, capability)
    assert column(found["machine"]) == expected
    assert ("no targets in units of the normal" in tables.heading(found)) == (expected is None)


def test_there_is_a_target_for_every_limit():
    promised = sum(len(limits) > 0 for _, limits in CASES.values())
    assert len(list(targets(0))) - len(list(targets(None))) == promised * len(MODES)


def test_the_summary_says_what_was_missed():
    lines = tables.summary(results()).splitlines()
    assert "log_prob ran on the kernel (avx2)" in lines[0]
    assert sum(line.startswith("  MISSED") for line in lines) == 4


@pytest.mark.slow
def test_picture(tmp_path):
    rows = [timed(mode, 1.1) for mode in MODES]
    tables.draw(rows, tmp_path / "log_prob.png")
    assert (tmp_path / "log_prob.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1.234, "1.23"), (2e-5, "2.0e-05"), (12_345.6, "12,346")]
)
def test_number(value, text):
    assert tables.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (0.0025, "2.5 ms"), (2.5e-6, "2.5 µs")]
)
def test_duration(seconds, text):
    assert tables.duration(seconds) == text
