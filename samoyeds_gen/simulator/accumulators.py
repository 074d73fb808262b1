"""Registers that asynchronous matrix work holds, per warpgroup: who may touch them, and when.

An accumulator belongs to the matrix unit from the wgmma that names it to the wait_group that covers
it; a register of A may not be written for as long. Between an access by the warps and a wgmma there
must be a wgmma.fence (PTX ISA, "wgmma.fence"). Sets of warps are bits of Python integers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.fault import Kind
from samoyeds_gen.simulator.program import Site
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine


@dataclass(frozen=True, slots=True)
class Watched:
    """The registers of a kernel that a wgmma names: their names and places in the register file."""

    names: tuple[str, ...]
    slots: tuple[int, ...]


class Held:
    """For each watched register, by its number: which warps touched, wrote or lost it.

    `touched` and `written` since the warp's last wgmma.fence; `flying` as an accumulator of work in
    flight, `reading` as an operand of it.
    """

    def __init__(self, watched: Watched) -> None:
        count = len(watched.names)
        self.watched = watched
        self.touched = [-1] * count
        self.written = [-1] * count
        self.flying = [0] * count
        self.reading = [0] * count

    def access(
        self, m: "Machine", reads: tuple[int, ...], writes: tuple[int, ...], site: Site
    ) -> None:
        """Check and record that the running lanes use registers in an ordinary instruction."""
        bits = m.warp_bits
        for number in reads:
            if self.flying[number] & bits:
                what = "is read before the wgmma.wait_group that covers it"
                raise self._fault(m, "read before arrival", number, self.flying, what, site)
            self.touched[number] |= bits
        for number in writes:
            if self.flying[number] & bits:
                what = "is written while a wgmma in flight accumulates in it"
                raise self._fault(m, "race", number, self.flying, what, site)
            if self.reading[number] & bits:
                what = "is written while a wgmma in flight reads it"
                raise self._fault(m, "race", number, self.reading, what, site)
            self.touched[number] |= bits
            self.written[number] |= bits

    def fence(self, bits: int) -> None:
        """wgmma.fence by these warps."""
        for state in (self.touched, self.written):
            for number, value in enumerate(state):
                state[number] = value & ~bits

    def take(
        self, m: "Machine", accumulators: tuple[int, ...], operands: tuple[int, ...], site: Site
    ) -> None:
        """Hand registers of the running warps to a wgmma."""
        bits = m.warp_bits
        for number in accumulators:
            if self.touched[number] & bits:
                what = "was used since the last wgmma.fence"
                raise self._fault(m, "race", number, self.touched, what, site)
            if self.reading[number] & bits:
                what = "is an operand of a wgmma in flight"
                raise self._fault(m, "race", number, self.reading, what, site)
            self.flying[number] |= bits
        for number in operands:
            if self.written[number] & bits:
                what = "was written since the last wgmma.fence"
                raise self._fault(m, "race", number, self.written, what, site)
            if self.flying[number] & bits:
                what = "is an accumulator of a wgmma in flight"
                raise self._fault(m, "race", number, self.flying, what, site)
            self.reading[number] |= bits

    def _fault(
        self, m: "Machine", kind: Kind, number: int, state: list[int], what: str, site: Site
    ) -> Exception:
        bits = state[number] & m.warp_bits
        warp = (bits & -bits).bit_length() - 1
        lanes = m.indices[m.indices >> 5 == warp]
        return m.fault(kind, f"register {self.watched.names[number]} {what}", site, int(lanes[0]))


def gathered(m: "Machine", slots: list[int], first: int) -> Array:
    """Accumulator registers of the warpgroup whose lanes begin at `first`, as [64, n] float32.

    Register i of lane 4g + q of warp w is row 16w + 8 * (i // 2 % 2) + g, column
    8 * (i // 4) + 2q + i % 2 (PTX ISA, "Register Fragments" of wgmma).
    """
    words = np.empty((len(slots), 128), np.float32)
    for number, slot in enumerate(slots):
        register = m.regs[slot].view(np.float32)
        words[number] = register[first : first + 128] if len(register) > 1 else register
    parts = words.reshape(-1, 2, 2, 4, 8, 4).transpose(3, 1, 4, 0, 5, 2)
    return np.ascontiguousarray(parts).reshape(64, -1)


def scattered(m: "Machine", slots: list[int], blocks: list[tuple[int, Array]]) -> None:
    """Put the [64, n] sums of warpgroups, given by first lane, back into their registers."""
    columns = []
    for first, values in blocks:
        parts = values.reshape(4, 2, 8, -1, 4, 2).transpose(3, 1, 5, 0, 2, 4)
        columns.append((first, np.ascontiguousarray(parts).reshape(-1, 128)))
    for number, slot in enumerate(slots):
        old = m.regs[slot]
        new = old.copy() if len(old) > 1 else np.repeat(old, m.lanes)
        view = new.view(np.float32)
        for first, values in columns:
            view[first : first + 128] = values[number]
        m.regs[slot] = new
