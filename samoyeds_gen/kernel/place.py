"""Where a call runs: the simulator, or a GPU and which target its kernels are compiled for."""

from typing import Literal

from samoyeds_gen.errors import LaunchError, ScheduleError
from samoyeds_gen.language import Target, target_named
from samoyeds_gen.runtime import ArrayView, device_target, driver_present, require_driver

Device = Literal["auto", "cpu", "gpu"]
DEVICES = ("auto", "cpu", "gpu")
WITHOUT_GPU = target_named("sm_80")


def present_target() -> Target:
    """The present GPU's target, or the oldest one without a GPU or for one that has no row."""
    try:
        present = device_target()
        return WITHOUT_GPU if present is None else target_named(present)
    except ScheduleError:
        return WITHOUT_GPU


def runs_on_gpu(device: Device, view: ArrayView) -> bool:
    """Whether a call on this array runs on a GPU. Raises LaunchError where it cannot."""
    if device not in DEVICES:
        raise LaunchError(
            f"device {device!r} is not one of {', '.join(DEVICES)}",
            remedy="use 'auto', 'cpu' or 'gpu'",
        )
    if view.kind == "device":
        if device == "cpu":
            raise LaunchError(
                f"device='cpu' was asked for, an array is on device {view.device}",
                remedy="move the arrays to the host",
            )
        return True
    if device == "gpu":
        require_driver()
    return device == "gpu" or (device == "auto" and driver_present())
