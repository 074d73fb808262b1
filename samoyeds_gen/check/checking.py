"""Checking a schedule: which kernels, on which devices, in how many processes.

The command line, the test suite and notebooks call `check_schedule`; all else follows from it.
"""

from time import perf_counter
from typing import Literal

from samoyeds_gen.check.processes import Progress, run_all
from samoyeds_gen.check.profiles import Profile, examples_checked, profile_named
from samoyeds_gen.check.report import CheckReport, KernelReport
from samoyeds_gen.check.strategies import DTYPES, SHIPPED
from samoyeds_gen.check.subjects import legal_formats, subjects_of
from samoyeds_gen.check.tally import Tally
from samoyeds_gen.check.trial import Device
from samoyeds_gen.check.work import Drawn, Listed, Work
from samoyeds_gen.errors import CheckError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import Schedule, ScheduleSource, ScheduleTemplate
from samoyeds_gen.runtime import (
    current_device,
    device_info,
    device_target,
    driver_present,
    driver_problem,
    require_driver,
)

Asked = Literal["auto", "cpu", "gpu"]
KERNELS_AT_ONCE = 3
DRAWN_AT_ONCE = 10


def check_schedule(
    source: ScheduleSource,
    *,
    format: Format | None = None,
    dtype: str | None = None,
    target: str | None = None,
    device: Asked = "auto",
    examples: int | None = None,
    profile: str = "default",
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
) -> CheckReport:
    """Run a schedule's kernels on drawn problems and compare them with the numpy reference.

    `source` is a .py or .json file, the name of a shipped schedule, or a Schedule. Without `format`
    and `dtype` every format it is legal for is checked, in a covering set of kernels. `device`
    "auto" uses the simulator and, where there is one, the GPU; "cpu" and "gpu" one of them.
    `examples` is the number of problems on each device, by default the profile's ("quick",
    "default", "thorough"; "nightly" draws schedules too). The same `seed` draws the same problems.
    `jobs` processes run the simulator; the caller's script must then be importable (a main guard).
    `progress(done, total)` counts examples.

    Raises ScheduleError for a source that is none or is legal for no format, CheckError for an
    unknown profile or number or when there is nothing to check, LaunchError for device="gpu"
    without one. Failures are reported, not raised.
    """
    start = perf_counter()
    chosen = profile_named(profile)
    count = examples_checked(examples, chosen)
    devices = _devices(device)
    work = [
        piece
        for each in devices
        for piece in _cut(source, format, dtype, target, each, chosen, count, seed)
    ]
    tally = Tally()
    kernels: list[KernelReport] = []
    for result in run_all(work, jobs, progress):
        tally.merge(result.counters)
        kernels += result.kernels
    if not kernels:
        raise CheckError(
            f"no legal kernel was found for {_name_of(source)}",
            remedy="check a format that the schedule takes",
        )
    seconds = perf_counter() - start
    return CheckReport(
        _name_of(source), chosen.name, _named(device, devices), tuple(kernels), tally, seconds
    )


def _devices(asked: str) -> tuple[Device, ...]:
    match asked:
        case "auto":
            return ("cpu", "gpu") if driver_present() else ("cpu",)
        case "cpu":
            return ("cpu",)
        case "gpu":
            require_driver()
            return ("gpu",)
    raise CheckError(
        f"device {asked!r} is not one of auto, cpu, gpu", remedy="use 'auto', 'cpu' or 'gpu'"
    )


def _named(asked: str, used: tuple[Device, ...]) -> dict[str, str]:
    """What each device is; why there is no GPU if one could have been used."""
    names = {}
    if "cpu" in used:
        names["cpu"] = "simulator"
    if "gpu" in used:
        names["gpu"] = str(device_info(current_device()))
    elif asked == "auto":
        names["gpu"] = f"not used, {driver_problem()}"
    return names


def _cut(
    source: ScheduleSource,
    format: Format | None,
    dtype: str | None,
    target: str | None,
    device: Device,
    profile: Profile,
    examples: int,
    seed: int,
) -> list[Work]:
    """Pieces of about equal size; the same ones for any number of processes."""
    if profile.drawn:
        # A file that is none, or takes nothing, is refused here and not drawn in vain.
        legal_formats(source, [format] if format else SHIPPED, dtype or DTYPES[0], target)
        aim = device_target() if device == "gpu" and target is None else target
        kernels = min(profile.drawn, examples)
        return [
            Drawn(
                source,
                min(DRAWN_AT_ONCE, kernels - first),
                examples // kernels,
                device,
                seed + first,
                format,
                dtype,
                aim,
            )
            for first in range(0, kernels, DRAWN_AT_ONCE)
        ]
    subjects = subjects_of(source, format=format, dtype=dtype, target=target)[:examples]
    counts = [len(range(each, examples, len(subjects))) for each in range(len(subjects))]
    return [
        Listed(tuple(subjects[part]), tuple(counts[part]), device, seed)
        for first in range(0, len(subjects), KERNELS_AT_ONCE)
        for part in [slice(first, first + KERNELS_AT_ONCE)]
    ]


def _name_of(source: ScheduleSource) -> str:
    return source.name if isinstance(source, Schedule | ScheduleTemplate) else str(source)
