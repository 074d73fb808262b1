"""What a kernel uses of the chip, read from the log of `ptxas -v`.

Decides what counts as a clean build. Which builds must be clean is the schedule's choice.
"""

import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from samoyeds_gen.errors import CompileError

_ENTRY = re.compile(r"Compiling entry function '(?P<entry>[^']+)'")
_FRAME = re.compile(
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads"
)
_USED = re.compile(r"Used (?P<registers>\d+) registers")
_BARRIERS = re.compile(r"used (?P<barriers>\d+) barriers")
_SHARED = re.compile(r"(?P<bytes>\d+) bytes smem")
_ADVICE = re.compile(r"\(C7\d{3}\).*")
_NAMED = re.compile(r"(?:function|entry)\s+'(?P<entry>[^']+)'")


@dataclass(frozen=True, slots=True)
class ResourceReport:
    """The resources of one kernel, as ptxas reports them.

    `registers` per thread; `stack`, `spill_stores` and `spill_loads` in bytes per thread, summed
    over the kernel and the device functions it calls; `static_shared` in bytes per block (dynamic
    shared memory is a launch argument and not in the log); `barriers` named barriers used;
    `advice` the performance lines that ptxas numbers C75xx, such as serialised wgmma.
    """

    entry: str
    registers: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    static_shared: int = 0
    barriers: int = 0
    advice: tuple[str, ...] = field(default=())

    @property
    def spills(self) -> bool:
        """Whether any register of the kernel lives in local memory."""
        return self.spill_stores > 0 or self.spill_loads > 0

    def to_json(self) -> dict[str, Any]:
        """The report as values that the json module writes; `from_json` reads them back."""
        return asdict(self) | {"advice": list(self.advice)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ResourceReport":
        """The report that `to_json` wrote. TypeError or KeyError when fields are missing."""
        return cls(**(value | {"advice": tuple(value["advice"])}))

    def __str__(self) -> str:
        spilled = f"{self.spill_stores} B stored, {self.spill_loads} B loaded"
        return (
            f"{self.entry}: {self.registers} registers, {self.static_shared} B static shared "
            f"memory, {self.barriers} barriers, {self.stack} B stack, "
            f"spills {spilled if self.spills else 'none'}"
            + "".join(f"\n  advice {line}" for line in self.advice)
        )


def parse_log(log: str) -> tuple[ResourceReport, ...]:
    """The reports of every kernel in an NVRTC log, sorted by entry name; empty without kernels.

    Sections start at "Compiling entry function"; device functions that were not inlined follow
    their kernel and add to its stack and spills. Advice belongs to the kernel that it names, or
    to every kernel when it names none of them.
    """
    reports: dict[str, ResourceReport] = {}
    advice: list[str] = []
    entry: str | None = None
    for line in log.splitlines():
        if match := _ADVICE.search(line):
            advice.append(match[0].strip())
        elif match := _ENTRY.search(line):
            entry = match["entry"]
            reports[entry] = ResourceReport(entry)
        elif entry is not None:
            reports[entry] = _with_line(reports[entry], line)
    return tuple(_with_advice(reports[name], advice, set(reports)) for name in sorted(reports))


def require_clean(
    report: ResourceReport, allow_spills: bool = False, *, allow_advice: bool = False
) -> None:
    """Refuse a kernel that spills registers, keeps arrays in local memory or drew C75xx advice.

    `allow_spills` allows a stack frame too, of which spills are a part. Raises CompileError naming
    the kernel, the bytes or the advice, and the remedy.
    """
    if report.spills and not allow_spills:
        raise CompileError(
            f"kernel {report.entry} spills registers: {report.spill_stores} bytes of stores and "
            f"{report.spill_loads} bytes of loads per thread at {report.registers} registers",
            rule="no-spills",
            remedy="use a smaller output tile or more warps, or let the schedule allow spills",
        )
    if report.stack and not allow_spills:
        raise CompileError(
            f"kernel {report.entry} keeps {report.stack} bytes a thread in local memory, where "
            "accumulators are as slow as spilled ones",
            rule="no-stack",
            remedy="unroll the loops that index arrays, or let the schedule allow spills",
        )
    if report.advice and not allow_advice:
        gravest = min(report.advice, key=lambda line: "Performance Loss" not in line)
        raise CompileError(
            f"ptxas advises against kernel {report.entry}: {gravest.rstrip('.')}",
            rule="no-advice",
            remedy="change the schedule so that the cause is gone, or let it allow advice",
        )


def _with_line(report: ResourceReport, line: str) -> ResourceReport:
    if match := _FRAME.search(line):
        return replace(
            report,
            stack=report.stack + int(match["stack"]),
            spill_stores=report.spill_stores + int(match["stores"]),
            spill_loads=report.spill_loads + int(match["loads"]),
        )
    if match := _USED.search(line):
        barriers, shared = _BARRIERS.search(line), _SHARED.search(line)
        return replace(
            report,
            registers=int(match["registers"]),
            barriers=int(barriers["barriers"]) if barriers else 0,
            static_shared=int(shared["bytes"]) if shared else 0,
        )
    return report


def _with_advice(report: ResourceReport, advice: list[str], entries: set[str]) -> ResourceReport:
    mine = []
    for line in advice:
        named = {match["entry"] for match in _NAMED.finditer(line)} & entries
        if not named or report.entry in named:
            mine.append(line)
    return replace(report, advice=tuple(dict.fromkeys(mine)))
