"""What CTAs that split k exchange on a GPU: parts of sums, and tickets that are zero in between.

One set serves all kernels of one stream, whose launches follow one another. A graph keeps using the
set of the stream it was captured on: do not replay it beside other work of that stream.
"""

from functools import cache
from typing import Any

from samoyeds_gen.runtime import DeviceBuffer, capturing, stream_handle, zeroed

FLOAT_BYTES = 4
TICKET_BYTES = 4
LEAST_TICKETS = 4096
LEAST_FLOATS = 2**20


class PartSet:
    """Room for `floats` float32 sums and `tickets` 32-bit counters on GPU `device`."""

    __slots__ = ("_parts", "_tickets", "floats", "tickets")

    def __init__(self, floats: int, tickets: int, device: int) -> None:
        self.floats, self.tickets = max(floats, LEAST_FLOATS), max(tickets, LEAST_TICKETS)
        self._parts = DeviceBuffer(FLOAT_BYTES * self.floats, device)
        self._tickets = zeroed(TICKET_BYTES * self.tickets, device)

    def fits(self, floats: int, tickets: int) -> bool:
        """Whether it is large enough."""
        return floats <= self.floats and tickets <= self.tickets

    @property
    def values(self) -> dict[str, int]:
        """Addresses by what the kernel's parameters call them."""
        return {"split.parts": self._parts.pointer, "split.tickets": self._tickets.pointer}


class PartStorage:
    """The sets of one GPU: one a stream, and a spare one for a stream that is being captured."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._sets: dict[int, PartSet] = {}
        self._spare: PartSet | None = None
        self._outgrown: list[PartSet] = []  # graphs that were captured with them may still run

    def values(self, floats: int, tickets: int, stream: Any) -> dict[str, int]:
        """Addresses of a set that is large enough, for work queued on `stream`.

        Raises LaunchError when memory does not suffice, or during a capture when no call of this
        size was made before it.
        """
        handle = stream_handle(stream)
        held = self._sets.get(handle)
        if held is None or not held.fits(floats, tickets):
            self._outgrown += [] if held is None else [held]
            held = self._sets[handle] = self._take(floats, tickets)
            if self._spare is None and not capturing(handle, self._device):
                self._spare = PartSet(held.floats, held.tickets, self._device)
        return held.values

    def _take(self, floats: int, tickets: int) -> PartSet:
        spare = self._spare
        self._spare = None
        if spare is not None and spare.fits(floats, tickets):
            return spare
        return PartSet(floats, tickets, self._device)


@cache
def part_storage(device: int) -> PartStorage:
    """The one storage of a GPU."""
    return PartStorage(device)
