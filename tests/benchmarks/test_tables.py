"""From results to tables, verdicts and pictures."""

import json

import curves
import pytest
import tables
from measure_scaling import CURVES
from targets import TARGETS


def timed(**seconds):
    reference = seconds["Independent(Normal)"]
    return {
        name: {
            "seconds": {"median": t, "q1": t, "q3": 2 * t},
            "ratio": {"median": t / reference, "q1": t / reference, "q3": 2 * t / reference},
        }
        for name, t in seconds.items()
    }


@pytest.fixture
def results():
    setting = {"threads": 1, "malloc": "tuned", "device": "cpu"}
    case = {"group": "log_prob", "layout": "5 x 4", "N": 2048} | setting
    times = {"lpnested": 150e-6, "Independent(Normal)": 100e-6, "recursion in torch": 200e-6}
    common = {"reference": "Independent(Normal)", "rounds": 3}
    slow = times | {"lpnested": 350e-6}
    place = {"seconds": {"median": 1e-3}, "ratio": {"median": 1.0, "q1": 1.0, "q3": 1.0}}
    rows = [
        case | common | {"mode": "forward", "contenders": timed(**times)},
        case | common | {"mode": "backward in z", "contenders": timed(**slow)},
        case | {"group": "compile", "mode": "forward", "error": "Unsupported: a reason"},
        setting
        | {
            **{"group": "memory", "quantity": "kernels", "layout": "5 x 4", "N": 2048},
            **{"mode": "forward", "unit": "kernels", "contenders": {"lpnested": {"value": 12}}},
        },
        setting
        | {"group": "scaling", "curve": "N", "fixed": "5 x 4", "mode": "forward", "rounds": 3}
        | {"contenders": {f"lpnested @ {n}": place for n in CURVES[0].places}},
    ]
    machine = {
        **{"cpu": "a CPU", "instructions": "AVX2", "cores": 2, "memory_gib": 8.0, "gpu": None},
        **{"system": "Linux 6.1", "libc": "glibc 2.36", "versions": {"torch": "2.13"}},
    }
    return {
        **{"date": "2026-01-01", "quick": True, "complete": False, "minutes": 1.0},
        **{"machine": machine, "load": [[0.1], [0.2]], "omitted": ["Not measured: x."]},
        **{"failed": [], "rows": rows},
    }


def test_verdicts_are_honest(results):
    lines = tables.targets(results).splitlines()
    small = next(k for k, line in enumerate(lines) if "N = 2048, in units of" in line)
    assert "1.5 [1.5, 3]" in lines[small]
    assert lines[small].endswith("met |")
    assert "3.5 [3.5, 7]" in lines[small + 1]
    assert lines[small + 1].endswith("**missed** |")
    assert lines[small + 2].endswith("not measured |")
    lead = next(line for line in lines if "lead over the plain recursion in torch" in line)
    assert "0.571" in lead
    assert lead.endswith("**missed** |")
    assert len(lines) == 4 + len(TARGETS)


def test_the_file_says_what_it_is(results):
    text = tables.markdown(results)
    for words in (
        "Quick run",
        "Stopped before its end",
        "a CPU",
        "torch 2.13",
        "Not measured: x.",
    ):
        assert words in text
    assert "Unsupported: a reason" in text
    assert "| 5 x 4 | 2,048 | forward | 1 | 1.5 [1.5, 3] | 100 µs | 2 [2, 4] |" in text
    assert "| N (5 x 4) | forward | lpnested | 262,144 | 1 ms | 1 [1, 1] |" in text


def test_every_table_is_rectangular(results):
    blocks = [b for b in tables.markdown(results).split("\n\n") if b.startswith("|")]
    assert len(blocks) >= 4
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_pictures(results, tmp_path):
    written = curves.draw(json.loads(json.dumps(results)), tmp_path)
    assert [path.name for path in written] == ["log_prob.png", "scaling.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_no_pictures_without_rows(results, tmp_path):
    assert curves.draw(results | {"rows": []}, tmp_path) == []


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
