"""Property tests of kernels on the simulator and the GPU, for the command line and the test suite.

`check_schedule` is the whole job; `Case` and `make_inputs` are what pasted failures use.
"""

from samoyeds_gen.check.cases import Case, Inputs, make_inputs
from samoyeds_gen.check.checking import check_schedule
from samoyeds_gen.check.failure import Failure
from samoyeds_gen.check.profiles import PROFILES, Profile
from samoyeds_gen.check.report import CheckReport, KernelReport
from samoyeds_gen.check.subjects import Subject, subjects_of
from samoyeds_gen.check.trial import Finding, Origin, try_case

__all__ = [
    "PROFILES",
    "Case",
    "CheckReport",
    "Failure",
    "Finding",
    "Inputs",
    "KernelReport",
    "Origin",
    "Profile",
    "Subject",
    "check_schedule",
    "make_inputs",
    "subjects_of",
    "try_case",
]
