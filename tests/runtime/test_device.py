"""Devices, streams and driver errors, as far as they can be asked without a GPU."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from cuda.bindings import driver
from cuda_sources import SAXPY

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime import (
    current_device,
    current_stream,
    device_count,
    device_info,
    device_target,
    driver_present,
    driver_problem,
    load,
    runs_on,
    stream_handle,
    synchronise,
)
from samoyeds_gen.runtime.build import compile_source
from samoyeds_gen.runtime.device import target_of
from samoyeds_gen.runtime.driver import call, error_name, refusal

without_driver = pytest.mark.skipif(driver_present(), reason="there is a GPU")


@without_driver
def test_questions_have_answers_without_a_driver():
    assert driver_problem() is not None
    assert device_target() is None
    assert device_count() == 0
    assert current_stream(0) == 0


@without_driver
@pytest.mark.parametrize(
    "use",
    [
        current_device,
        device_info,
        synchronise,
        lambda: load(compile_source(SAXPY, name="k.cu", target="sm_80", cache=None), "saxpy"),
    ],
    ids=["current_device", "device_info", "synchronise", "load"],
)
def test_uses_of_a_gpu_are_refused_without_a_driver(use):
    for _ in range(2):  # the second call is the one that can hang
        with pytest.raises(LaunchError) as caught:
            use()
        assert str(caught.value) == (
            f'there is no GPU to run on: {driver_problem()}; use device="cpu", which runs the '
            "kernel on the simulator"
        )


@without_driver
def test_a_fresh_process_neither_hangs_nor_fails():
    program = (
        "from samoyeds_gen.runtime import *\n"
        "assert not driver_present() and device_target() is None\n"
        "build = compile_source('extern \"C\" __global__ void k() {}', name='k.cu',"
        " target='sm_80', cache=None)\n"
        "for _ in range(3):\n"
        "    try: load(build, 'k')\n"
        "    except Exception as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["LaunchError"] * 3


@pytest.mark.parametrize(
    ("capability", "target"),
    [
        ((8, 0), "sm_80"),
        ((8, 6), "sm_86"),
        ((8, 9), "sm_89"),
        ((9, 0), "sm_90a"),
        ((10, 0), "sm_100a"),
        ((10, 3), "sm_103a"),
        ((12, 0), "sm_120a"),
    ],
)
def test_targets_of_capabilities(capability, target):
    assert target_of(capability) == target
    assert runs_on(target, capability)


@pytest.mark.parametrize(
    ("target", "capability", "runs"),
    [
        ("sm_80", (8, 6), True),
        ("sm_80", (8, 9), True),
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("sm_90", (9, 0), True),
        ("sm_90a", (10, 0), False),
        ("sm_100a", (10, 3), False),
        ("sm_100f", (10, 3), True),
        ("sm_120a", (12, 1), False),
    ],
)
def test_which_cubins_run_where(target, capability, runs):
    assert runs_on(target, capability) == runs


class NewStream:
    def __cuda_stream__(self):
        return (0, 77)


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (None, 0),
        (0, 0),
        (2**40, 2**40),
        (NewStream(), 77),
        (SimpleNamespace(__cuda_stream__=(0, 78)), 78),
        (SimpleNamespace(cuda_stream=79), 79),
        (SimpleNamespace(ptr=80), 80),
        (driver.CUstream(81), 81),
    ],
    ids=["none", "zero", "int", "method", "property", "torch", "cupy", "driver"],
)
def test_stream_handles(stream, handle):
    assert stream_handle(stream) == handle


def test_what_is_no_stream():
    with pytest.raises(LaunchError) as caught:
        stream_handle("main")
    assert str(caught.value) == (
        "a value of type str is not a CUDA stream; pass an int handle, a torch stream or an "
        "object with __cuda_stream__"
    )


def test_results_of_driver_calls():
    success = driver.CUresult.CUDA_SUCCESS
    assert call(lambda: (success,), doing="x") is None
    assert call(lambda value: (success, value), 3, doing="x") == 3
    assert call(lambda: (success, 1, 2), doing="x") == (1, 2)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (
            driver.CUresult.CUDA_ERROR_INVALID_VALUE,
            "launching k failed with CUDA_ERROR_INVALID_VALUE: an argument of the call is outside "
            "the range that the device allows; compare grid, threads and shared memory with the "
            "limits of the device",
        ),
        (
            driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS,
            "launching k failed with CUDA_ERROR_ILLEGAL_ADDRESS: a kernel that ran earlier broke "
            "this process's CUDA context, every later call fails; find that kernel with "
            "compute-sanitizer, then start a new process",
        ),
    ],
)
def test_driver_errors_have_a_name_and_a_sentence(status, sentence):
    with pytest.raises(LaunchError) as caught:
        call(lambda: (status,), doing="launching k")
    assert str(caught.value) == sentence
    assert str(refusal(status, "launching k")) == sentence
    assert error_name(int(status)) == status.name
