"""The rounds and their statistics."""

import pytest
import torch

from timing import LEAST, interleave, peak, spread


def test_every_round_has_every_contender_and_a_ratio_within_it():
    x, calls = torch.randn(2000), []

    def call(name, times):
        calls.append(name)
        for _ in range(times):
            x.exp()

    contenders = {"one": lambda: call("one", 40), "four": lambda: call("four", 160)}
    row = interleave(contenders, "one", seconds=0.05)
    assert row["rounds"] >= LEAST and row["errors"] == {}
    assert row["times"]["one"]["ratio"] == [1.0, 1.0, 1.0]
    assert 2 < row["times"]["four"]["ratio"][0] < 8
    order = [name for k, name in enumerate(calls) if k == 0 or name != calls[k - 1]]
    assert len(order) < 2 * row["rounds"] + 2  # where the order is drawn, neighbours are alike


def test_a_contender_that_fails_is_named_and_left_out():
    contenders = {"a": lambda: None, "b": lambda: 1 / 0}
    row = interleave(contenders, "a", seconds=0)
    assert row["errors"] == {"b": "ZeroDivisionError: division by zero"}
    assert list(row["times"]) == ["a"]
    row = interleave(contenders, "b", seconds=0)  # without its reference nothing is timed
    assert row["rounds"] == 0 and row["times"] == {}


def test_contenders_have_their_own_threads():
    found = {}

    def call(name):
        found[name] = torch.get_num_threads()

    calls = {"one": lambda: call("one"), "two": lambda: call("two")}
    interleave(calls, "one", 0, threads={"two": 2})
    assert found == {"one": 1, "two": 2}


def test_spread():
    assert spread([4.0, 1.0, 2.0, 3.0, 5.0]) == [3.0, 2.0, 4.0]


@pytest.mark.slow
def test_peak_memory_counts_what_was_alive_at_once():
    z = torch.zeros(1000)

    def call():
        a = z + 1
        del a
        return z + 1, z + 2

    assert peak(call) == pytest.approx(2 * 4000, abs=100)
