"""Settings that all tests share.

Hypothesis draws the same examples in every run, so that a red test is red for everyone; pass
`--hypothesis-profile=explore` to draw new ones. Deadlines measure the machine, not the code.
"""

from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")
