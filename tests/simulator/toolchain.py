"""NVRTC for the simulator's tests: CUDA C++ text to PTX, memoised; needs no driver."""

from functools import cache
from pathlib import Path

from cuda.bindings import nvrtc

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")
RING = Path(__file__).with_name("ring.cu").read_text()


@cache
def ptx(source: str, target: str = "sm_80", *options: str) -> str:
    """PTX text of `source` for `target`; a compile error is an AssertionError with the log."""
    _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], [])
    arguments = [f"--gpu-architecture={target}".encode(), *(option.encode() for option in options)]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(arguments), arguments)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    _, size = nvrtc.nvrtcGetPTXSize(program)
    text = bytearray(size)
    nvrtc.nvrtcGetPTX(program, text)
    nvrtc.nvrtcDestroyProgram(program)
    return text.decode().rstrip("\0")
