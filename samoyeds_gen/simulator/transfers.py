"""Copies in flight: what cp.async has issued and no wait has delivered.

The destination holds poison from issue to wait, which is the latest moment the hardware allows.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine


@dataclass(slots=True)
class Copy:
    """One cp.async of many lanes; arrays run over `lanes`.

    `index` is the destination byte in the batch's shared memory, `group` the number of the lane's
    commit group, `site` the number of the instruction, `ticket` that of the arrival at an mbarrier
    that follows it, 0 for none.
    """

    lanes: Array
    index: Array
    data: Array
    size: int
    group: Array
    site: int
    ticket: int = 0


class Transfers:
    """The copies of a batch and, per lane, how many groups it has committed."""

    def __init__(self, lanes: int) -> None:
        self.committed = np.zeros(lanes, np.int64)
        self.copies: list[Copy] = []
        self.tickets = 0

    def issue(
        self, m: "Machine", lanes: Array, index: Array, data: Array, size: int, site: int
    ) -> None:
        """Start copies of `size`-byte items `data` to byte `index`; poisons the destination."""
        if m.shadow is not None:
            m.shadow.issue(m, index, size, lanes, site)
        m.shared.store(index, size, np.frombuffer(b"\xff" * size, data.dtype))
        self.copies.append(Copy(lanes, index, data, size, self.committed[lanes], site))

    def commit(self, m: "Machine") -> None:
        """Close the present group of the running lanes."""
        self.committed = self.committed + m.mask

    def wait(self, m: "Machine", allowed: int) -> None:
        """Deliver, for the running lanes, all but the newest `allowed` committed groups.

        -1 delivers the copies not yet committed too.
        """
        newest = int(self.committed.max())
        keep = []
        for copy in self.copies:
            if int(copy.group.min()) >= newest - allowed:
                keep.append(copy)
                continue
            done = m.mask[copy.lanes] & (copy.group < self.committed[copy.lanes] - allowed)
            if done.all():
                self._deliver(m, copy)
            elif done.any():
                self._deliver(m, _part(copy, done))
                keep.append(_part(copy, ~done))
            else:
                keep.append(copy)
        self.copies = keep

    def mark(self, lanes: Array) -> int:
        """A new ticket, put on the copies of these lanes that have none."""
        self.tickets += 1
        keep = []
        for copy in self.copies:
            chosen = np.isin(copy.lanes, lanes)
            if copy.ticket or not chosen.any():
                keep.append(copy)
                continue
            if not chosen.all():
                keep.append(_part(copy, ~chosen))
                copy = _part(copy, chosen)
            copy.ticket = self.tickets
            keep.append(copy)
        self.copies = keep
        return self.tickets

    def land(self, m: "Machine", ticket: int, column: int, clock: int) -> None:
        """Deliver what is left of a ticket's copies; the agent of `column` has done so."""
        mine = [copy for copy in self.copies if copy.ticket == ticket]
        self.copies = [copy for copy in self.copies if copy.ticket != ticket]
        for copy in mine:
            m.shared.store(copy.index, copy.size, copy.data)
            if m.shadow is not None:
                m.shadow.land(copy.index, copy.size, column, clock, copy.site, generic=True)

    def _deliver(self, m: "Machine", copy: Copy) -> None:
        m.shared.store(copy.index, copy.size, copy.data)
        if m.shadow is not None:
            m.shadow.arrive(m, copy.index, copy.size, copy.lanes, copy.site)


def _part(copy: Copy, chosen: Array) -> Copy:
    return Copy(
        copy.lanes[chosen],
        copy.index[chosen],
        copy.data[chosen],
        copy.size,
        copy.group[chosen],
        copy.site,
        copy.ticket,
    )
