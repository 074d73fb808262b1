"""Contenders take turns in every round and are settled before each sample; medians are taken."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.tune.timing import Effort, Timed, runs_in, time_interleaved


class Clock:
    """A device whose contenders take the times a script gives them, and a log of what ran."""

    def __init__(self, us):
        self.us = us
        self.log = []

    def sample(self, run, settle, timed):
        name = run(0)
        self.log.append((name, settle, timed))
        return next(self.us[name])


def constant(value):
    while True:
        yield value


def timed(name, launches=1):
    return Timed(lambda turn: name, launches)


names = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True)


@given(names, st.integers(1, 7))
def test_every_round_times_every_contender_once_in_the_same_order(contenders, rounds):
    clock = Clock({name: constant(50.0) for name in contenders})
    effort = Effort(rounds=rounds, sample_ms=1.0, settle_ms=2.0, warmup_s=0.01)
    time_interleaved({name: timed(name) for name in contenders}, effort, clock.sample)
    ran = [name for name, _, _ in clock.log]
    # Once for an estimate, once to warm up, then round by round.
    assert ran == contenders * (2 + rounds)
    for name, settle, samples in clock.log[2 * len(contenders) :]:
        assert (settle, samples) == (runs_in(2.0, 50.0), runs_in(1.0, 50.0)), name


@given(st.lists(st.floats(1, 1e4), min_size=1, max_size=9), st.integers(1, 64))
def test_medians_and_extremes_are_per_launch(values, launches):
    clock = Clock({"a": iter([10.0, 10.0, *values])})
    effort = Effort(rounds=len(values))
    timing = time_interleaved({"a": timed("a", launches)}, effort, clock.sample)["a"]
    each = [value / launches for value in values]
    assert timing.median_us == statistics.median(each)
    assert (timing.least_us, timing.most_us, timing.rounds) == (min(each), max(each), len(values))


@given(st.floats(0.01, 1000), st.floats(0.1, 1e6))
def test_runs_fill_the_time_and_are_at_least_three(ms, us):
    count = runs_in(ms, us)
    assert count >= 3
    assert count * us >= 1000 * ms * (1 - 1e-9)
    assert count == 3 or (count - 1) * us <= 1000 * ms * (1 + 1e-9)


def test_a_contender_is_settled_with_launches_of_its_own():
    clock = Clock({"slow": constant(1000.0), "fast": constant(10.0)})
    effort = Effort(rounds=2, sample_ms=10.0, settle_ms=30.0, warmup_s=0.02)
    time_interleaved({name: timed(name) for name in ("slow", "fast")}, effort, clock.sample)
    assert clock.log[4:] == [("slow", 31, 11), ("fast", 3001, 1001)] * 2
