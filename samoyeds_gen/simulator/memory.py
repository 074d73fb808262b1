"""State spaces: flat bytes with typed views, and the address map.

A generic address is 64 bits: windows for shared, local and param memory, and one window per global
buffer with the buffer in its middle, so that a stray address falls in a gap and not in a neighbour.
Bounds and alignment are checked here; ordering is `races`' concern.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.fault import Kind
from samoyeds_gen.simulator.ordering import CtaOrder
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.global_races import GlobalShadow
    from samoyeds_gen.simulator.machine import Machine


SHARED_WINDOW = 1 << 48
LOCAL_WINDOW = 2 << 48
PARAM_WINDOW = 3 << 48
WINDOW_SHIFT = 48
BUFFER_SHIFT = 40
# Shared memory starts here, as on devices that reserve the first KiB: a null pointer is a fault.
SHARED_ORIGIN = 1024

_ITEMS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}


class Memory:
    """Bytes that can be gathered and scattered in items of 1, 2, 4, 8 or 16 bytes."""

    __slots__ = ("_views", "bytes")

    def __init__(self, data: Array) -> None:
        self.bytes = data
        self._views: dict[int, Array] = {}

    def items(self, size: int) -> Array:
        """The bytes as one array of `size`-byte items; a ragged end is left out."""
        view = self._views.get(size)
        if view is None:
            whole = len(self.bytes) // size * size
            view = self._views[size] = self.bytes[:whole].view(_ITEMS[size])
        return view

    def load(self, offsets: Array, size: int) -> Array:
        """Items at byte offsets that are multiples of `size` and in bounds."""
        return self.items(size).take(offsets >> (size.bit_length() - 1))

    def store(self, offsets: Array, size: int, values: Array) -> None:
        """Write items; of several lanes that write one place the last wins."""
        self.items(size)[offsets >> (size.bit_length() - 1)] = values


class Buffer:
    """One global allocation: `name` for messages, `base` its first address.

    `written` marks initialised bytes and is None when all of them are.
    """

    __slots__ = ("base", "memory", "name", "shadow", "size", "writable", "written")

    def __init__(
        self, name: str, slot: int, data: Array, *, writable: bool, initialised: bool
    ) -> None:
        self.name = name
        self.base = buffer_base(slot)
        self.size = len(data)
        self.memory = Memory(data)
        self.writable = writable
        self.written = None if initialised else Memory(np.zeros(len(data), np.uint8))
        self.shadow: GlobalShadow | None = None


def buffer_base(slot: int) -> int:
    """First address of the global buffer in window `slot` (1 to 255)."""
    return (slot << BUFFER_SHIFT) + (1 << (BUFFER_SHIFT - 1))


class GlobalSpace:
    """All global buffers of a launch, by window."""

    def __init__(self) -> None:
        self.buffers: dict[int, Buffer] = {}
        self.order = CtaOrder()

    def locate(
        self, m: "Machine", addresses: Array, size: int, site: Site, lanes: Array, *, write: bool
    ) -> Iterator[tuple[Buffer, Array | None, Array]]:
        """Split `addresses` (one per lane of `lanes`) by buffer, and check them.

        Addresses are int64. Yields buffer, the positions that lie in it (None for all), and byte
        offsets (int64).
        """
        m.refuse_early(lanes, site)
        slots = addresses >> BUFFER_SHIFT
        first = int(slots[0])
        if (slots == slots[0]).all():
            yield self._checked(m, first, addresses, size, site, lanes, None, write)
            return
        for slot in np.unique(slots):
            chosen = np.flatnonzero(slots == slot)
            yield self._checked(m, int(slot), addresses, size, site, lanes, chosen, write)

    def _checked(
        self,
        m: "Machine",
        slot: int,
        addresses: Array,
        size: int,
        site: Site,
        lanes: Array,
        chosen: Array | None,
        write: bool,
    ) -> tuple[Buffer, Array | None, Array]:
        mine = addresses if chosen is None else addresses[chosen]
        who = lanes if chosen is None else lanes[chosen]
        buffer = self.buffers.get(slot)
        if buffer is None:
            raise m.fault(
                "out of bounds",
                f"{size} bytes at {_place(int(mine[0]))}",
                site,
                int(who[0]),
                address=int(mine[0]),
                buffer="global memory",
            )
        offsets = mine - buffer.base
        outside = (offsets < 0) | (offsets > buffer.size - size)
        check(m, outside, offsets, size, site, who, buffer.name, buffer.size)
        if write and not buffer.writable:
            raise m.fault(
                "out of bounds",
                "a write to a buffer that the launch passed as read-only",
                site,
                int(who[0]),
                address=int(offsets[0]),
                buffer=buffer.name,
            )
        return buffer, chosen, offsets


def check(
    m: "Machine",
    outside: Array,
    offsets: Array,
    size: int,
    site: Site,
    lanes: Array,
    name: str,
    extent: int,
) -> None:
    """Fault on the first lane that is out of bounds or not aligned to `size`."""
    crooked = (offsets & (size - 1)) != 0
    if not (outside | crooked).any():
        return
    kind: Kind = "out of bounds" if outside.any() else "misaligned"
    at = int(np.flatnonzero(outside if outside.any() else crooked)[0])
    what = f"of {extent} bytes" if outside.any() else f"needs a multiple of {size}"
    sentence = f"{size} bytes at offset {int(offsets[at])}, {what}"
    raise m.fault(kind, sentence, site, int(lanes[at]), address=int(offsets[at]), buffer=name)


def _place(address: int) -> str:
    window = address >> WINDOW_SHIFT
    names = {1: "shared memory", 2: "local memory", 3: "param memory"}
    if window in names:
        return f"{address:#x}, which is in the window of {names[window]}"
    return f"{address:#x}, which is in no buffer"
