"""The schedule language: algorithms (what) apart from schedules (how), both as plain values."""

from samoyeds_gen.language import atoms, layouts
from samoyeds_gen.language.directives import Directives
from samoyeds_gen.language.dtypes import DType, dtype_named
from samoyeds_gen.language.kernels import ACTIVATIONS, Ssmm, make_ssmm, ssmm
from samoyeds_gen.language.load import ScheduleSource, load_schedule, load_template
from samoyeds_gen.language.routing import Routed, Routing
from samoyeds_gen.language.schedule import FOLDS, Schedule
from samoyeds_gen.language.targets import TARGETS, Target, target_named
from samoyeds_gen.language.template import ScheduleTemplate, schedule

__all__ = [
    "ACTIVATIONS",
    "FOLDS",
    "TARGETS",
    "DType",
    "Directives",
    "Routed",
    "Routing",
    "Schedule",
    "ScheduleSource",
    "ScheduleTemplate",
    "Ssmm",
    "Target",
    "atoms",
    "dtype_named",
    "layouts",
    "load_schedule",
    "load_template",
    "make_ssmm",
    "schedule",
    "ssmm",
    "target_named",
]
