"""NVRTC and small hand-written PTX kernels for the simulator's tests; needs no driver."""

from functools import cache
from pathlib import Path

import numpy as np
from cuda.bindings import nvrtc

from samoyeds_gen.simulator import Pointer, Report, parse, run

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


def launch(source: str, entry: str, *arguments, target="sm_80", grid=1, threads=32, **options):
    """Compile CUDA C++ and run one kernel of it on the simulator."""
    return launch_ptx(ptx(source, target), entry, *arguments, grid=grid, threads=threads, **options)


def launch_ptx(text: str, entry: str, *arguments, grid=1, threads=32, **options) -> Report:
    """Run one kernel of a PTX module; plain arrays are read-only pointers, lists writable ones."""
    grid = (grid, 1, 1) if isinstance(grid, int) else grid
    return run(
        parse(text),
        entry,
        grid=grid,
        block=(threads, 1, 1),
        arguments=[_argument(value) for value in arguments],
        **options,
    )


def _argument(value):
    if isinstance(value, np.ndarray):
        return Pointer(value, "input")
    return value


def written(array, name="out", **options):
    """A writable pointer."""
    return Pointer(array, name, writable=True, **options)


HEADER = ".version 9.0\n.target {target}\n.address_size 64\n"
WIDTHS = {"pred": 1, "f16": 2, "bf16": 2, "f16x2": 4, "bf16x2": 4, "b128": 16}


def width(type_: str) -> int:
    """Bytes of a PTX type in memory."""
    return WIDTHS.get(type_) or int(type_.lstrip("busft")) // 8


@cache
def one_instruction(line: str, types: tuple[str, ...], floats: bool) -> str:
    """PTX of a kernel that loads %a, %b, %c per thread, runs `line`, stores %d.

    `types` are those of d, a, b, c. `floats` declares f32 registers as .f32, otherwise as .b32, the
    two habits of NVRTC.
    """
    names = "dabc"[: len(types)]
    body = []
    for number, (name, type_) in enumerate(zip(names, types, strict=True)):
        size = width(type_)
        kind = "pred" if type_ == "pred" else f"b{8 * size}" if size > 1 else "b16"
        if floats and type_ in ("f32", "f64"):
            kind = type_
        body.append(f".reg .{kind} %{name};")
        body.append(f"ld.param.u64 %p{number}, [k_{number}];")
        body.append(f"mad.wide.u32 %p{number}, %i, {size}, %p{number};")
        if name != "d" and type_ == "pred":
            body.append(f"ld.global.u8 %s, [%p{number}]; setp.ne.u16 %{name}, %s, 0;")
        elif name != "d":
            body.append(f"ld.global.b{8 * size} %{name}, [%p{number}];")
    store = f"st.global.b{8 * width(types[0])} [%p0], %d;"
    if types[0] == "pred":
        store = "selp.u16 %s, 1, 0, %d; st.global.u8 [%p0], %s;"
    params = ", ".join(f".param .u64 k_{number}" for number in range(len(types)))
    return (
        HEADER.format(target="sm_90a")
        + f".visible .entry k({params})\n{{\n.reg .b32 %i; .reg .b16 %s; .reg .b64 %p<4>;\n"
        + "mov.u32 %i, %tid.x;\n"
        + "\n".join(body)
        + f"\n{line}\n{store}\nret;\n}}\n"
    )


def evaluate(line: str, types: str, *sources: np.ndarray, floats: bool = True) -> np.ndarray:
    """Result words of one instruction over lanes; sources are arrays of raw words."""
    names = tuple(types.split())
    words = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
    out = np.zeros(len(sources[0]), words[width(names[0])])
    text = one_instruction(line, names, floats)
    launch_ptx(text, "k", written(out), *sources, threads=len(out))
    return out
