"""Source in, Build out: NVRTC behind the persistent cache and an in-process memo.

Decides which options are allowed and when a compile is reused. How NVRTC is called is nvrtc.py's,
what lies on disk cache.py's.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from samoyeds_gen.errors import CompileError
from samoyeds_gen.runtime.cache import Cache, cache_key, default_directory
from samoyeds_gen.runtime.memo import MEMO
from samoyeds_gen.runtime.nvrtc import Translation, nvrtc_version, translate
from samoyeds_gen.runtime.report import ResourceReport, parse_log

SOURCE_FILE, PTX_FILE, CUBIN_FILE = "kernel.cu", "kernel.ptx", "kernel.cubin"
_REFUSED_OPTIONS: Final = {
    "--gpu-architecture": "the target decides the architecture",
    "-arch": "the target decides the architecture",
    "--include-path": "files outside the source are not part of the cache key",
    "-I": "files outside the source are not part of the cache key",
    "--pre-include": "files outside the source are not part of the cache key",
    "-include": "files outside the source are not part of the cache key",
    "--device-link-time-optimization": "no cubin is made",
    "-dlto": "no cubin is made",
    "--create-pch": "it writes a file beside the source",
    "--time": "it writes a file beside the source",
}


class _Default(Enum):
    CACHE = "default cache"


DEFAULT: Final = _Default.CACHE
"""The cache in `default_directory()`, looked up at each call."""


@dataclass(frozen=True, slots=True)
class Build:
    """One compiled source: everything that later rooms use, with no driver needed.

    `reports` has one ResourceReport per kernel, sorted by entry. `seconds` is NVRTC's time when
    this source was really compiled; `cached` tells whether that was before this process.
    `directory` holds kernel.cu, kernel.ptx, kernel.cubin and report.json (None without a cache).
    """

    name: str
    target: str
    source: str
    options: tuple[str, ...]
    ptx: str
    cubin: bytes
    log: str
    reports: tuple[ResourceReport, ...]
    key: str
    directory: Path | None
    seconds: float
    cached: bool

    @property
    def report(self) -> ResourceReport:
        """The report of the only kernel. CompileError when the source has none or several."""
        if len(self.reports) != 1:
            raise CompileError(
                f"{self.name} has {len(self.reports)} kernels ({_listed(self.reports)}), not one",
                remedy="name the kernel: build.report_of(entry)",
            )
        return self.reports[0]

    def report_of(self, entry: str) -> ResourceReport:
        """The report of the kernel `entry`. CompileError when the source has no such kernel."""
        for report in self.reports:
            if report.entry == entry:
                return report
        raise CompileError(
            f"{self.name} has no kernel {entry!r}, it has {_listed(self.reports)}",
            remedy='declare the kernel as extern "C" __global__ under that name',
        )

    def __repr__(self) -> str:
        sizes = f"ptx {len(self.ptx)} B, cubin {len(self.cubin)} B"
        return f"Build({self.name} for {self.target}, {sizes}, key {self.key[:12]})"


@dataclass(frozen=True, slots=True)
class Source:
    """What `compile_many` compiles: the arguments of `compile_source`."""

    text: str
    name: str
    target: str
    options: tuple[str, ...] = ()


def compile_source(
    source: str,
    *,
    name: str,
    target: str,
    options: Sequence[str] = (),
    cache: Cache | _Default | None = DEFAULT,
) -> Build:
    """Compile CUDA C++ `source` for `target`, or return what an earlier compile of it left.

    `name` is the file name that errors and line tables cite ("ssmm_sm80.cu", no directory);
    `target` is "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a" or another architecture
    that NVRTC knows; `options` are further NVRTC options, such as "-lineinfo".
    With `cache=None` NVRTC always runs and nothing is stored.
    Raises CompileError quoting NVRTC's first error line, or refusing an option or name.
    """
    options = tuple(options)
    _require_name(name)
    _require_options(options)
    if cache is None:
        return _compile(Source(source, name, target, options), None)
    if isinstance(cache, _Default):
        cache = Cache(default_directory())
    wanted = Source(source, name, target, options)
    build: Build | None = MEMO.builds.get((cache, wanted))
    if build is not None:
        return build
    build = _compile(wanted, cache)
    MEMO.builds.put((cache, wanted), build)
    return build


def compile_many(
    sources: Iterable[Source],
    *,
    cache: Cache | _Default | None = DEFAULT,
    threads: int | None = None,
    progress: Callable[[int, int, Build], None] | None = None,
) -> list[Build]:
    """Compile several sources in a pool of threads (NVRTC works outside the interpreter lock).

    Returns builds in the order given; equal sources are compiled once. `progress(done, total,
    build)` is called in this thread after each different source. The first CompileError stops the
    compiles that have not begun and is raised.
    """
    wanted = list(sources)
    different = list(dict.fromkeys(wanted))
    builds: dict[Source, Build] = {}
    with ThreadPoolExecutor(threads, thread_name_prefix="nvrtc") as pool:
        futures = {
            pool.submit(
                compile_source,
                each.text,
                name=each.name,
                target=each.target,
                options=each.options,
                cache=cache,
            ): each
            for each in different
        }
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                builds[futures[future]] = future.result()
                if progress is not None:
                    progress(done, len(different), future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [builds[each] for each in wanted]


def forget_builds() -> None:
    """Empty the in-process memo; the persistent cache stays."""
    MEMO.builds.clear()


def _compile(wanted: Source, cache: Cache | None) -> Build:
    version = nvrtc_version()
    key = cache_key(
        wanted.text,
        name=wanted.name,
        target=wanted.target,
        options=wanted.options,
        nvrtc=version,
    )
    if cache is not None and (stored := _stored(wanted, cache, key)) is not None:
        return stored
    made = translate(wanted.text, name=wanted.name, target=wanted.target, options=wanted.options)
    directory = None
    if cache is not None:
        files = {
            SOURCE_FILE: wanted.text.encode(),
            PTX_FILE: made.ptx.encode(),
            CUBIN_FILE: made.cubin,
        }
        fields = {
            "name": wanted.name,
            "target": wanted.target,
            "options": list(wanted.options),
            "nvrtc": version,
            "seconds": round(made.seconds, 6),
            "log": made.log,
            "reports": [report.to_json() for report in parse_log(made.log)],
        }
        directory = cache.write(key, files, fields)
    return _build(wanted, made, key, directory, cached=False)


def _stored(wanted: Source, cache: Cache, key: str) -> Build | None:
    """The build that the cache holds under `key`, or None when it must be compiled (again)."""
    content = cache.read(key)
    if content is None:
        return None
    files, fields = content["files"], content["fields"]
    made = Translation(
        ptx=files[PTX_FILE].decode(),
        cubin=files[CUBIN_FILE],
        log=fields["log"],
        seconds=fields["seconds"],
    )
    return _build(wanted, made, key, cache.directory(key), cached=True)


def _build(
    wanted: Source, made: Translation, key: str, directory: Path | None, *, cached: bool
) -> Build:
    return Build(
        name=wanted.name,
        target=wanted.target,
        source=wanted.text,
        options=wanted.options,
        ptx=made.ptx,
        cubin=made.cubin,
        log=made.log,
        reports=parse_log(made.log),
        key=key,
        directory=directory,
        seconds=made.seconds,
        cached=cached,
    )


def _require_name(name: str) -> None:
    if not name or "/" in name or "\\" in name or "\0" in name:
        raise CompileError(
            f"source name {name!r} is not a plain file name",
            remedy="pass the last part of the path only, for example 'ssmm_sm80.cu'",
        )


def _require_options(options: tuple[str, ...]) -> None:
    for option in options:
        for refused, reason in _REFUSED_OPTIONS.items():
            glued = refused == "-I" and option.startswith("-I")
            if glued or option.split("=")[0] == refused:
                raise CompileError(
                    f"NVRTC option {option!r} is not allowed, {reason}",
                    remedy="leave it out of options",
                )


def _listed(reports: tuple[ResourceReport, ...]) -> str:
    return ", ".join(report.entry for report in reports) or "none"
