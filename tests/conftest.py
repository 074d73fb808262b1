"""Settings that all tests share.

Hypothesis draws the same examples in every run, so that a red test is red for everyone; pass
`--hypothesis-profile=explore` to draw new ones. Deadlines measure the machine, not the code.
"""

import os
import time

import pytest
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")

SHARED = pytest.mark.skip(reason="times the host, which other workers share: run it without -n")


def pytest_collection_modifyitems(items):
    """What times the host says nothing beside other workers."""
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        for item in items:
            if item.get_closest_marker("host_time"):
                item.add_marker(SHARED)


REFERENCE_SECONDS = 1.8e-6
"""Of `Words.all` on the host whose times are in docs/measurements, with Python 3.12."""


class Words:
    """What a launch does on the host, in small: look up, take apart, compare."""

    def __init__(self):
        self.known = {number: str(number) for number in range(50)}
        self.place = (1, 2, 3)

    def look_up(self, number):
        return self.known.get(number), self.place[1], isinstance(number, int)

    def all(self):
        found = 0
        for number in range(20):
            found += len(self.look_up(number))
        return found


@pytest.fixture
def slowness():
    """How many times as long as on the reference host Python takes here, at least 1.

    Limits on the host's time are multiplied by it: they are about the package, not the machine.
    """
    words, least = Words(), 1.0
    for _ in range(200):
        began = time.perf_counter()
        for _ in range(100):
            words.all()
        least = min(least, (time.perf_counter() - began) / 100)
    slower = max(1.0, least / REFERENCE_SECONDS)
    print(f"this host takes {slower:.2f} times as long as the reference")
    return slower
