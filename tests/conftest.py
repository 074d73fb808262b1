"""Settings that all tests share.

Hypothesis draws the same examples in every run, so that a red test is red for everyone; pass
`--hypothesis-profile=explore` to draw new ones. Deadlines measure the machine, not the code.
"""

import os

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
