"""Load, store, prefetch and fence rows (PTX ISA, "Data Movement", "Memory Fence")."""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.access import addresses, load, store
from samoyeds_gen.simulator.instructions.control import nothing
from samoyeds_gen.simulator.lowering import Write
from samoyeds_gen.simulator.program import Address, Instruction, Operand, Symbol, Vector
from samoyeds_gen.simulator.rows import Modifiers, Step, row
from samoyeds_gen.simulator.scalars import DTYPES, STORAGE, Array, DType, bits_of

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

# The largest item that is moved at once; wider vectors take several.
_LARGEST = 16


def element_size(type_: str) -> int:
    """Bytes of one element of a load or store type."""
    return 16 if type_ == "b128" else bits_of(type_) // 8


def elements(operand: Operand) -> tuple[Operand, ...]:
    """The operands in braces, or the one operand there is."""
    return operand.items if isinstance(operand, Vector) else (operand,)


def state_space(modifiers: Modifiers) -> str:
    """The state space an opcode names, `generic` if none; constants live in global buffers."""
    space = modifiers.get("space", "generic")
    if space == "shared::cluster":
        return space
    space = space.split("::")[0]
    return "global" if space == "const" else space


def touch(lowering: "Lowering", space: str, size: int) -> None:
    """Tell the race detector how small the accesses of this kernel are."""
    if space in ("shared", "shared::cluster", "generic"):
        lowering.granule = min(lowering.granule, size)
    if space in ("global", "generic"):
        lowering.global_granule = min(lowering.global_granule, size)


def _load(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, source = instruction.operands[:2]
    type_, count = modifiers["t"], int(modifiers.get("vec", "v1")[1:])
    space = state_space(modifiers)
    items = elements(target)
    if len(items) != count:
        raise lowering.refuse(instruction, f"needs {count} destinations")
    dtype = DTYPES.get(type_) or STORAGE[type_]
    size = element_size(type_) * count
    writes = [lowering.write(item, type_) for item in items]
    if space == "param" and (offset := _parameter(lowering, source)) is not None:
        return _load_parameter(offset, dtype, writes)
    space = _parameter_space(source) if space == "param" else space
    where, site = addresses(lowering, instruction, source), lowering.site(instruction)
    touch(lowering, space, min(size, _LARGEST))
    kind = f"ld.{space}"

    def run(m: "Machine") -> None:
        address, lanes = where(m), m.indices
        parts = [
            load(m, space, kind, address + start, min(size, _LARGEST), lanes, site)
            for start in range(0, size, _LARGEST)
        ]
        raw = parts[0] if len(parts) == 1 else np.stack(parts, axis=1)
        columns = raw.view(dtype).reshape(-1, count)
        for number, write in enumerate(writes):
            write(m, m.spread(columns[:, number].copy()))

    return run


def _parameter(lowering: "Lowering", source: Operand) -> int | None:
    """Byte offset of a kernel parameter read by name; None for anything else."""
    if isinstance(source, Address) and isinstance(source.base, Symbol):
        place = lowering.place(source.base.name)
        if place is not None and place[0] == "param":
            return place[1] + source.base.offset + source.offset
    return None


def _parameter_space(operand: Operand) -> str:
    """A named parameter of a call lives with its lane; a computed address is a kernel's own."""
    named = isinstance(operand, Address) and isinstance(operand.base, Symbol)
    return "local" if named else "param"


def _load_parameter(offset: int, dtype: DType, writes: list[Write]) -> Step:
    def run(m: "Machine") -> None:
        values = np.frombuffer(m.params, dtype, len(writes), offset)
        for number, write in enumerate(writes):
            write(m, values[number : number + 1])

    return run


def _store(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, source = instruction.operands[:2]
    type_, count = modifiers["t"], int(modifiers.get("vec", "v1")[1:])
    space = state_space(modifiers)
    space = "local" if space == "param" else space
    items = elements(source)
    if len(items) != count:
        raise lowering.refuse(instruction, f"needs {count} sources")
    size = element_size(type_) * count
    unit = min(size, _LARGEST)
    reads = [lowering.read(item, type_) for item in items]
    where, site = addresses(lowering, instruction, target), lowering.site(instruction)
    touch(lowering, space, unit)
    kind = f"st.{space}"

    def run(m: "Machine") -> None:
        address, lanes = where(m), m.indices
        columns = [m.pick(read(m.regs)) for read in reads]
        values = np.stack(columns, axis=1) if count > 1 else np.ascontiguousarray(columns[0])
        raw = values.reshape(-1).view(_raw(unit)).reshape(len(lanes), -1)
        for number in range(size // unit):
            part = raw[:, number]
            store(m, space, kind, address + number * unit, unit, part, lanes, site)

    return run


def _raw(size: int) -> DType:
    return np.dtype(np.complex128) if size == 16 else np.dtype(f"u{size}")


def _fence(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """A fence wider than the CTA orders CTAs, together with an atomic."""
    if modifiers.get("level") == "cta":
        return nothing(lowering, instruction, modifiers)
    return lambda m: m.space.order.fence(m.grid_cta_of[m.indices])


def _policy(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    write = lowering.write(instruction.operands[0], "b64")
    zero: Array = np.zeros(1, np.uint64)
    return lambda m: write(m, zero)


_SPACE = (
    "[.<space:global|shared|shared::cta|shared::cluster|local"
    "|param|param::entry|param::func|const>]"
)
_SEM = "[.<sem:SEM>][.<scope:SCOPE>]"
_HINTS = (
    "[.<c:ca|cg|cs|lu|cv|wb|wt>]"
    "[.L1::<l1:evict_normal|evict_unchanged|evict_first|evict_last|no_allocate>]"
    "[.L2::<le:evict_normal|evict_first|evict_last>]"
    "[.L2::<l2:cache_hint>][.L2::<pf:64B|128B|256B>]"
)
ROWS = (
    row(f"ld{_SEM}{_SPACE}[.nc]{_HINTS}[.<vec:v2|v4|v8>].<t:ANY>", _load, family="ld.{space}"),
    row(f"ldu{_SPACE}[.<vec:v2|v4>].<t:ANY>", _load, family="ld.{space}"),
    row(f"st{_SEM}{_SPACE}{_HINTS}[.<vec:v2|v4|v8>].<t:ANY>", _store, family="st.{space}"),
    row("prefetch[.<space:global|local>].<c:L1|L2>", nothing),
    row("prefetch.global.L2::<e:evict_last|evict_normal>", nothing),
    row("prefetchu.L1", nothing),
    row("membar.<level:cta|gl|sys>", _fence),
    row("fence[.<sem:sc|acq_rel|acquire|release>].<level:SCOPE>", _fence),
    row(
        "createpolicy.<kind:fractional|range>[.L2::<p:evict_last|evict_normal|evict_first"
        "|evict_unchanged>][.L2::<s:evict_first|evict_unchanged>].b64",
        _policy,
    ),
)
