"""One memory access of many lanes, in any state space: check, count, order, then move the bytes.

Rows decode an instruction and call `load` or `store`; nothing else touches memory's bytes, except
the matrix rows, which use `shared_index`.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.clusters import located
from samoyeds_gen.simulator.memory import SHARED_ORIGIN, WINDOW_SHIFT, Buffer, Memory, check
from samoyeds_gen.simulator.program import Address, Immediate, Instruction, Operand, Symbol
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

Reader = Callable[["Machine"], Array]
_SPACES = {1: "shared", 2: "local", 3: "param"}
_LOW = (1 << WINDOW_SHIFT) - 1


def addresses(lowering: "Lowering", instruction: Instruction, operand: Operand) -> Reader:
    """A reader of an address operand: int64, one per lane of the group."""
    if not isinstance(operand, Address):
        raise lowering.refuse(instruction, "needs an address in brackets")
    base, offset = operand.base, operand.offset
    if isinstance(base, Symbol | Immediate):
        start = base.value if isinstance(base, Immediate) else _symbol(lowering, instruction, base)
        constant = np.array([start + offset], np.int64)
        return lambda m: np.broadcast_to(constant, m.count)
    wide = getattr(base, "type", "b32").endswith("64")
    read = lowering.read(base, "u64" if wide else "u32")
    step = np.array([offset & (2**64 - 1 if wide else 2**32 - 1)], np.uint64 if wide else np.uint32)
    if offset:
        return lambda m: m.pick(read(m.regs) + step).astype(np.int64)
    return lambda m: m.pick(read(m.regs)).astype(np.int64)


def _symbol(lowering: "Lowering", instruction: Instruction, symbol: Symbol) -> int:
    place = lowering.place(symbol.name)
    if place is None:
        raise lowering.refuse(instruction, f"names an unknown variable {symbol.name}")
    return place[1] + symbol.offset


def shared_index(m: "Machine", address: Array, size: int, lanes: Array, site: int) -> Array:
    """Check shared addresses and turn them into byte indices of the batch's memory."""
    outside = (address < SHARED_ORIGIN) | (address > m.shared_size + SHARED_ORIGIN - size)
    check(m, outside, address, size, m.site(site), lanes, "shared memory", m.shared_size)
    index: Array = address + m.shared_base[lanes]
    return index


def _cluster_index(m: "Machine", address: Array, size: int, lanes: Array, site: int) -> Array:
    """Byte indices of shared::cluster addresses, in whichever CTA of the cluster they lie."""
    ctas, local = located(m, address, size, lanes, site)
    if m.cluster > 1:
        m.departures.visit(m, lanes, ctas, m.site(site))
    index: Array = local + ctas * m.shared_stride - SHARED_ORIGIN
    return index


def load(
    m: "Machine", space: str, kind: str, address: Array, size: int, lanes: Array, site: int
) -> Array:
    """`size`-byte items (1 to 16) at `address`, one per lane of `lanes`."""
    if space == "generic":
        return _load_generic(m, kind, address, size, lanes, site)
    if space == "global":
        return _load_global(m, kind, address, size, lanes, site)
    if space in _SHARED:
        index = _SHARED[space](m, address, size, lanes, site)
        m.counters.shared(kind, address, lanes, size)
        if m.shadow is not None:
            m.shadow.read(m, index, size, lanes, site)
        return m.shared.load(index, size)
    if space == "local":
        return m.local.load(_local_index(m, address, size, lanes, site), size)
    memory = Memory(np.frombuffer(m.params, np.uint8))
    extent = len(m.params)
    outside = (address < 0) | (address > extent - size)
    check(m, outside, address, size, m.site(site), lanes, "parameters", extent)
    return memory.load(address, size)


def store(
    m: "Machine",
    space: str,
    kind: str,
    address: Array,
    size: int,
    values: Array,
    lanes: Array,
    site: int,
) -> None:
    """Write `size`-byte items at `address`, one per lane of `lanes`."""
    if space == "generic":
        for inner, mine, place in _windows(address):
            store(m, inner, kind, place, size, values[mine], lanes[mine], site)
    elif space == "global":
        _store_global(m, kind, address, size, values, lanes, site)
    elif space in _SHARED:
        index = _SHARED[space](m, address, size, lanes, site)
        m.counters.shared(kind, address, lanes, size)
        if m.shadow is not None:
            m.shadow.write(m, index, size, lanes, site)
        m.shared.store(index, size, values)
    else:
        m.local.store(_local_index(m, address, size, lanes, site), size, values)


_SHARED = {"shared": shared_index, "shared::cluster": _cluster_index}


def _local_index(m: "Machine", address: Array, size: int, lanes: Array, site: int) -> Array:
    extent = m.kernel.local_size
    outside = (address < 0) | (address > extent - size)
    check(m, outside, address, size, m.site(site), lanes, "local memory", extent)
    index: Array = address + lanes * extent
    return index


def _windows(address: Array) -> Iterator[tuple[str, Array | slice, Array]]:
    """Split generic addresses by state space: space, positions, addresses inside the space."""
    window = address >> WINDOW_SHIFT
    everyone = bool((window == window[0]).all())
    for which in sorted(set(window[:1].tolist() if everyone else window.tolist())):
        mine = slice(None) if everyone else np.flatnonzero(window == which)
        space = _SPACES.get(which, "global")
        yield space, mine, address[mine] if space == "global" else address[mine] & _LOW


def _load_generic(
    m: "Machine", kind: str, address: Array, size: int, lanes: Array, site: int
) -> Array:
    result: Array | None = None
    for inner, mine, place in _windows(address):
        values = load(m, inner, kind, place, size, lanes[mine], site)
        if isinstance(mine, slice):
            return values
        if result is None:
            result = np.empty(len(address), values.dtype)
        result[mine] = values
    assert result is not None
    return result


def _load_global(
    m: "Machine", kind: str, address: Array, size: int, lanes: Array, site: int
) -> Array:
    where = m.site(site)
    result: Array | None = None
    for buffer, chosen, offsets in m.space.locate(m, address, size, where, lanes, write=False):
        who = lanes if chosen is None else lanes[chosen]
        m.counters.global_(kind, offsets, who, size)
        if buffer.written is not None:
            _check_written(m, buffer, offsets, size, who, site)
        if buffer.shadow is not None:
            buffer.shadow.read(m, offsets, size, who, site)
        values = buffer.memory.load(offsets, size)
        if chosen is None:
            return values
        if result is None:
            result = np.empty(len(address), values.dtype)
        result[chosen] = values
    assert result is not None
    return result


def _store_global(
    m: "Machine", kind: str, address: Array, size: int, values: Array, lanes: Array, site: int
) -> None:
    where = m.site(site)
    for buffer, chosen, offsets in m.space.locate(m, address, size, where, lanes, write=True):
        who = lanes if chosen is None else lanes[chosen]
        m.counters.global_(kind, offsets, who, size)
        if buffer.shadow is not None:
            buffer.shadow.write(m, offsets, size, who, site)
        buffer.memory.store(offsets, size, values if chosen is None else values[chosen])
        if buffer.written is not None:
            mark = np.frombuffer(b"\1" * size, values.dtype)
            buffer.written.store(offsets, size, mark)


def _check_written(
    m: "Machine", buffer: Buffer, offsets: Array, size: int, lanes: Array, site: int
) -> None:
    assert buffer.written is not None
    present = buffer.written.bytes[offsets[:, None] + np.arange(size)].all(axis=1)
    if not present.all():
        at = int(np.flatnonzero(~present)[0])
        raise m.fault(
            "uninitialised read",
            f"{size} bytes at offset {int(offsets[at])} that nothing wrote",
            m.site(site),
            int(lanes[at]),
            address=int(offsets[at]),
            buffer=buffer.name,
        )
