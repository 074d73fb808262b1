"""One NVRTC compile: CUDA source in; PTX, cubin and the ptxas log out, with no driver.

Decides how a compile failure is quoted. Caching is cache.py's, what a caller imports is build.py's,
and reading numbers out of the log is report.py's.
"""

import re
import time
from dataclasses import dataclass
from functools import cache

from cuda.bindings import nvrtc

from samoyeds_gen.errors import CompileError, Where

_SOURCE_ERROR = re.compile(
    r"^(?P<file>[^\n(]+)\((?P<line>\d+)\): (?:catastrophic |internal )?error(?: #[\w-]+)?: "
    r"(?P<text>.+)$",
    re.MULTILINE,
)
_PTX_ERROR = re.compile(
    r"^ ?ptxas [^\n]*?line (?P<line>\d+); error\s*: (?P<text>.+)$", re.MULTILINE
)
_OTHER_ERROR = re.compile(
    r"^ ?(?:ptxas|nvrtc:?|[\w.]+:)\s*(?:error|fatal)\s*: (?P<text>.+)$", re.MULTILINE
)
_TARGET = re.compile(r"sm_(?P<number>\d{2,3})[af]?")


@dataclass(frozen=True, slots=True)
class Translation:
    """What one compile produced: PTX text, cubin bytes, the log and the seconds it took."""

    ptx: str
    cubin: bytes
    log: str
    seconds: float


@cache
def nvrtc_version() -> str:
    """The version of the NVRTC in use, such as "13.5".

    Raises CompileError when the NVRTC library cannot be loaded.
    """
    try:
        status, major, minor = nvrtc.nvrtcVersion()
    except RuntimeError as error:
        raise CompileError(
            f"the NVRTC library cannot be loaded ({str(error).splitlines()[0]})",
            remedy="pip install 'nvidia-cuda-nvrtc>=13.0,<14'",
        ) from error
    _require_success(status, "nvrtcVersion")
    return f"{major}.{minor}"


def translate(source: str, *, name: str, target: str, options: tuple[str, ...] = ()) -> Translation:
    """Compile `source` for `target` ("sm_80", "sm_90a", ...) as a file called `name`.

    `name` has no directory: errors and line tables cite it. `options` are further NVRTC options.
    NVRTC writes PTX, cubin and, through `--ptxas-options=-v`, the resource log in one compile.
    Raises CompileError quoting the first error line of the log, with `where` set to the emitted
    file's line (or the line a `#line` directive names), and the whole log as a note.
    """
    _require_target(target)
    arguments = [f"--gpu-architecture={target}", "--ptxas-options=-v", "--no-cache", *options]
    status, program = nvrtc.nvrtcCreateProgram(source.encode(), name.encode(), 0, [], [])
    _require_success(status, "nvrtcCreateProgram")
    try:
        began = time.perf_counter()
        (status,) = nvrtc.nvrtcCompileProgram(
            program, len(arguments), [argument.encode() for argument in arguments]
        )
        seconds = time.perf_counter() - began
        log = _read(program, "ProgramLog").decode(errors="replace").replace("\0", "\n").strip()
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise _failure(status, log, _read(program, "PTX").decode(), name, target)
        ptx = _read(program, "PTX").decode()
        return Translation(ptx, _read(program, "CUBIN"), log, seconds)
    finally:
        _require_success(nvrtc.nvrtcDestroyProgram(program)[0], "nvrtcDestroyProgram")


def _require_target(target: str) -> None:
    match = _TARGET.fullmatch(target)
    if match is None:
        raise CompileError(
            f"target {target!r} is not the name of a GPU architecture",
            remedy="write it as NVRTC does, for example 'sm_80', 'sm_90a' or 'sm_120a'",
        )
    version = nvrtc_version()
    status, numbers = nvrtc.nvrtcGetSupportedArchs()
    _require_success(status, "nvrtcGetSupportedArchs")
    if int(match["number"]) not in numbers:
        known = ", ".join(f"sm_{number}" for number in numbers)
        raise CompileError(
            f"target {target!r} is not an architecture of NVRTC {version}, which has {known}",
            remedy="choose one of these or install another nvidia-cuda-nvrtc",
        )


def _read(program: nvrtc.nvrtcProgram, what: str) -> bytes:
    """The log, PTX or cubin of a program; the text ones lose their closing NUL."""
    status, size = getattr(nvrtc, f"nvrtcGet{what}Size")(program)
    _require_success(status, f"nvrtcGet{what}Size")
    content = bytearray(size)  # never bytes: NVRTC would write into an object that Python shares
    (status,) = getattr(nvrtc, f"nvrtcGet{what}")(program, content)
    _require_success(status, f"nvrtcGet{what}")
    return bytes(content) if what == "CUBIN" else bytes(content).rstrip(b"\0")


def _require_success(status: nvrtc.nvrtcResult, call: str) -> None:
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CompileError(
            f"{call} failed with {_status_name(status)}",
            remedy="reinstall nvidia-cuda-nvrtc and cuda-bindings so that their versions match",
        )


def _status_name(status: nvrtc.nvrtcResult) -> str:
    _, text = nvrtc.nvrtcGetErrorString(status)
    return text.decode() if text else str(status)


def _failure(status: nvrtc.nvrtcResult, log: str, ptx: str, name: str, target: str) -> CompileError:
    """The refusal of one failed compile, built from the first error line of its log."""
    where: Where | None = None
    if match := _SOURCE_ERROR.search(log):
        where = Where(match["file"], int(match["line"]))
        text = match["text"] + _quote(log[match.end() :].lstrip("\n"), 1)
        remedy = "correct the source at that line"
    elif match := _PTX_ERROR.search(log):
        text = f"{match['text']} (PTX line {match['line']}{_quote(ptx, int(match['line']))})"
        remedy = "use an instruction that the target has, or another target"
    elif match := _OTHER_ERROR.search(log):
        text = match["text"]
        remedy = "change the option, the target or the resource that the message names"
    else:
        text = f"{_status_name(status)}, {log.splitlines()[0] if log else 'its log is empty'}"
        remedy = "read the log below"
    error = CompileError(
        f"NVRTC {nvrtc_version()} for {target} refuses {'the source' if where else name}: {text}",
        remedy=remedy,
        where=where,
    )
    error.add_note(log)
    return error


def _quote(text: str, line: int) -> str:
    """One line of a text as ", in `...`", or nothing when the text is shorter."""
    lines = text.splitlines()
    quoted = lines[line - 1].strip() if line <= len(lines) else ""
    return f", in `{quoted}`" if quoted else ""
