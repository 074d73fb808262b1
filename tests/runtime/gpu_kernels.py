"""What the tests on a real GPU share: loaded kernels, and programs of their own."""

import os
import subprocess
import sys

import pytest
from cuda_sources import SAXPY

from samoyeds_gen.runtime import (
    LoadedKernel,
    compile_source,
    describe,
    device_target,
    load,
    stream_for,
)


def kernel(source: str, entry: str, **options) -> LoadedKernel:
    build = compile_source(source, name="k.cu", target=device_target(), cache=None)
    return load(build, entry, **options)


def torch_cuda():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA")
    return torch


def saxpy(y, x, a: float, stream=None) -> None:
    """y += a * x on device arrays of any library."""
    y, x = describe(y), describe(x)
    stream = stream_for(y) if stream is None else stream
    n = x.shape[0]
    kernel(SAXPY, "saxpy").launch(-(-n // 128), 128, (y, x, a, n), stream)


def run_program(program: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=_environment(),
    )
    assert done.returncode == 0, done.stderr
    return done


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
