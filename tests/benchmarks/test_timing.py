"""The statistics of the harness, on a clock that only moves when a contender says so."""

import pytest
from timing import Budget, interleave, spread


class FakeClock:
    """Contenders are functions that let it run on."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def contender(self, name, times):
        times = iter(times)

        def call():
            self.calls.append(name)
            self.now += next(times)

        return call


def forever(seconds):
    while True:
        yield seconds


@pytest.fixture
def clock():
    return FakeClock()


def test_ratios_are_taken_within_rounds(clock):
    # The machine slows down from round to round, for both alike; two calls before are warm-up.
    slow = [0.5, 0.5, 0.1, 0.2, 0.3, 0.4]
    contenders = {
        "half": clock.contender("half", [t / 2 for t in slow]),
        "whole": clock.contender("whole", slow),
    }
    budget = Budget(seconds=0, sample=0.1, min_rounds=4, max_rounds=9)
    found = interleave(contenders, "whole", budget, clock)
    assert found["rounds"] == 4
    assert found["contenders"]["half"]["ratio"] == pytest.approx(
        {"median": 0.5, "q1": 0.5, "q3": 0.5}
    )
    assert found["contenders"]["whole"]["ratio"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}
    assert found["contenders"]["whole"]["seconds"]["median"] == pytest.approx(0.25)


def test_every_round_has_every_contender_in_random_order(clock):
    names = ["a", "b", "c"]
    contenders = {name: clock.contender(name, forever(1.0)) for name in names}
    found = interleave(contenders, "a", Budget(0, 0.1, min_rounds=20, max_rounds=20), clock)
    timed = clock.calls[len(clock.calls) - 3 * found["rounds"] :]
    rounds = [timed[k : k + 3] for k in range(0, len(timed), 3)]
    assert all(sorted(each) == names for each in rounds)
    assert len({tuple(each) for each in rounds}) == 6


def test_short_calls_are_repeated(clock):
    contenders = {name: clock.contender(name, forever(t)) for name, t in (("a", 1e-3), ("b", 0.5))}
    found = interleave(contenders, "b", Budget(0, 0.01, min_rounds=3, max_rounds=3), clock)
    assert clock.calls.count("a") == 2 + 3 * 10
    assert clock.calls.count("b") == 2 + 3
    assert found["contenders"]["a"]["seconds"]["median"] == pytest.approx(1e-3)


def test_rounds_end_with_the_budget(clock):
    contenders = {"a": clock.contender("a", forever(1.0))}
    assert interleave(contenders, "a", Budget(7.0, 0.1, 3, 100), clock)["rounds"] == 7


def test_waits_for_the_device_around_every_sample(clock):
    contenders = {"a": clock.contender("a", forever(1.0))}
    waits = []
    interleave(contenders, "a", Budget(0, 0.1, 3, 3), clock, sync=lambda: waits.append(clock.now))
    assert len(waits) == 2 * (1 + 3)


def test_a_contender_that_fails_is_named_and_left_out(clock):
    contenders = {"a": clock.contender("a", forever(1.0)), "b": lambda: 1 / 0}
    found = interleave(contenders, "a", Budget(0, 0.1, 3, 3), clock)["contenders"]
    assert found["b"] == {"error": "ZeroDivisionError: division by zero"}
    assert found["a"]["ratio"]["median"] == 1.0


def test_without_its_reference_nothing_is_timed(clock):
    contenders = {"a": clock.contender("a", forever(1.0)), "b": lambda: 1 / 0}
    found = interleave(contenders, "b", Budget(0, 0.1, 3, 3), clock)
    assert found["rounds"] == 0
    assert list(found["contenders"]) == ["b"]


def test_spread():
    assert spread([4.0, 1.0, 2.0, 3.0, 5.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0}
    assert spread([2.0]) == {"median": 2.0, "q1": 2.0, "q3": 2.0}
