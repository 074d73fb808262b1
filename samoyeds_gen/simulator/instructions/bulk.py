"""cp.async.bulk and cp.async.bulk.tensor rows (PTX ISA, "Data Movement: Bulk copy", "Tensor copy").

Each lane that gets here issues a copy of its own. Loads land on an mbarrier, stores belong to the
lane's bulk groups; both work through the async proxy.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator import agent_races
from samoyeds_gen.simulator.access import addresses, load, store
from samoyeds_gen.simulator.clusters import located
from samoyeds_gen.simulator.instructions.control import nothing
from samoyeds_gen.simulator.instructions.loads import touch
from samoyeds_gen.simulator.instructions.mbarrier import SIZE as BARRIER_BYTES
from samoyeds_gen.simulator.landings import ITEM, BulkCopy
from samoyeds_gen.simulator.lowering import Read
from samoyeds_gen.simulator.memory import BUFFER_SHIFT, WINDOW_SHIFT
from samoyeds_gen.simulator.program import Address, Immediate, Instruction, Operand
from samoyeds_gen.simulator.rows import Modifiers, Step, row
from samoyeds_gen.simulator.scalars import Array
from samoyeds_gen.simulator.tensor_maps import BYTES, BoundMap, decoded

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

Places = Callable[["Machine"], tuple[Array, Array]]
_ROW_ALIGNMENT = 128
_PARAM = 3


def _places(
    lowering: "Lowering", instruction: Instruction, operand: Operand, alignment: int
) -> Places:
    """A reader of shared addresses: CTA of the batch and local address, per running lane."""
    where, site = addresses(lowering, instruction, operand), lowering.site(instruction)

    def read(m: "Machine") -> tuple[Array, Array]:
        return located(m, where(m), alignment, m.indices, site)

    return read


class _Load:
    """What all bulk loads share: destination, mbarrier, and the CTAs that a copy goes to."""

    def __init__(
        self,
        lowering: "Lowering",
        instruction: Instruction,
        modifiers: Modifiers,
        operands: tuple[Operand, Operand],
        rest: list[Operand],
        alignment: int,
    ) -> None:
        self.site = lowering.site(instruction)
        self.to = _places(lowering, instruction, operands[0], alignment)
        self.signals = _places(lowering, instruction, operands[1], BARRIER_BYTES)
        self.mask: Read | None = None
        if "multicast" in modifiers:
            self.mask = lowering.read(rest[0], "u16")
        lowering.proxies = lowering.single_lanes = True
        touch(lowering, "shared", BARRIER_BYTES)

    def lanes(self, m: "Machine") -> Iterator[tuple[int, int, list[tuple[int, int, int]]]]:
        """Each running lane: its position, number, and targets (CTA, address, mbarrier address)."""
        ctas, local = self.to(m)
        barrier_ctas, barriers = self.signals(m)
        masks = None if self.mask is None else m.pick(self.mask(m.regs))
        for at, lane in enumerate(m.indices.tolist()):
            if masks is None:
                if ctas[at] != barrier_ctas[at]:
                    what = "the destination and its mbarrier lie in different CTAs"
                    raise m.fault("out of bounds", what, m.site(self.site), lane)
                ranks = [int(ctas[at])]
            else:
                first = int(m.cta_of[lane]) // m.cluster * m.cluster
                ranks = [first + rank for rank in range(16) if int(masks[at]) >> rank & 1]
                if not ranks or ranks[-1] >= first + m.cluster:
                    what = f"a multicast mask of {int(masks[at]):#x} in a cluster of {m.cluster}"
                    raise m.fault("out of bounds", what, m.site(self.site), lane)
            yield at, lane, [(cta, int(local[at]), int(barriers[at])) for cta in ranks]

    def start(
        self, m: "Machine", lane: int, target: tuple[int, int, int], chunks: Array, data: Array
    ) -> None:
        """Send `data` to the 16-byte chunks at local addresses `chunks` of one CTA."""
        cta, _, signal = target
        site = m.site(self.site)
        barrier = m.mbarriers.find(m, cta, signal, lane, site)
        if m.shadow is not None and not barrier.visible:
            what = (
                f"{barrier} is not visible to the async proxy: no fence.mbarrier_init or "
                "fence.proxy.async since its mbarrier.init"
            )
            raise m.fault("race", what, site, lane)
        refuse_outside(m, lane, chunks, self.site)
        m.counters.moved("cp.async.bulk", len(chunks) * ITEM)
        if not m.live[m.cta_of == cta].any():
            raise m.fault("race", "a copy to a CTA that has ended", site, lane)
        index = chunks + m.shared_start(cta)
        if m.shadow is not None:
            warps = np.array([lane >> 5])
            agent = agent_races.Agent(0, 0, warps, lane, self.site, alone=True)
            agent_races.issue(m, m.shadow, index, ITEM, agent)
        m.landings.start(m, BulkCopy(cta, lane, self.site, index, data, barrier, barrier.phase))


def refuse_outside(m: "Machine", lane: int, chunks: Array, site: int) -> None:
    """Check that 16-byte chunks at local shared addresses lie inside the CTA's memory."""
    located(m, np.array([chunks.min(), chunks.max()]), ITEM, np.array([lane, lane]), site)


def _plain_load(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """Global to shared memory, a run of bytes."""
    to, source, size_operand, signal, *rest = instruction.operands
    common = _Load(lowering, instruction, modifiers, (to, signal), rest, ITEM)
    where, size = addresses(lowering, instruction, source), lowering.read(size_operand, "u32")
    touch(lowering, "global", ITEM)

    def run(m: "Machine") -> None:
        starts, sizes = where(m), m.pick(size(m.regs))
        for at, lane, targets in common.lanes(m):
            steps = _steps(m, int(sizes[at]), lane, common.site)
            who = np.full(len(steps), lane)
            data = load(m, "global", "cp.async.bulk", steps + starts[at], ITEM, who, common.site)
            for target in targets:
                common.start(m, lane, target, steps + target[1], data)

    return run


def _steps(m: "Machine", size: int, lane: int, site: int) -> Array:
    if size % ITEM or not size:
        what = f"a size of {size} bytes, which must be a positive multiple of {ITEM}"
        raise m.fault("misaligned", what, m.site(site), lane)
    return np.arange(0, size, ITEM)


def _plain_store(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """Shared to global memory, a run of bytes."""
    to, source, size_operand = instruction.operands[:3]
    where, size = addresses(lowering, instruction, to), lowering.read(size_operand, "u32")
    start, site = _places(lowering, instruction, source, ITEM), lowering.site(instruction)
    lowering.proxies = True
    touch(lowering, "shared", ITEM)
    touch(lowering, "global", ITEM)

    def run(m: "Machine") -> None:
        targets, sizes, (ctas, local) = where(m), m.pick(size(m.regs)), start(m)
        for at, lane in enumerate(m.indices.tolist()):
            steps = _steps(m, int(sizes[at]), lane, site)
            data = _from_shared(m, lane, int(ctas[at]), steps + local[at], site)
            who = np.full(len(steps), lane)
            store(m, "global", "cp.async.bulk", steps + targets[at], ITEM, data, who, site)

    return run


def _from_shared(m: "Machine", lane: int, cta: int, chunks: Array, site: int) -> Array:
    """The 16-byte chunks that a bulk store of `lane` reads."""
    refuse_outside(m, lane, chunks, site)
    index = chunks + m.shared_start(cta)
    m.counters.moved("cp.async.bulk", len(chunks) * ITEM)
    m.bulk_stores.read(m, lane, index, ITEM, site)
    return m.shared.load(index, ITEM)


class _Box:
    """The tensor map and coordinates of a tensor copy, `[map, {x, y}]`."""

    def __init__(
        self, lowering: "Lowering", instruction: Instruction, operand: Operand, rank: int
    ) -> None:
        if not isinstance(operand, Address) or operand.coordinates is None:
            raise lowering.refuse(instruction, "needs a tensor map and coordinates")
        items = operand.coordinates.items
        if len(items) != rank:
            raise lowering.refuse(instruction, f"needs {rank} coordinates")
        self.where = addresses(lowering, instruction, operand)
        self.site, self.rank = lowering.site(instruction), rank
        self.axes = [lowering.read(item, "s32") for item in items]

    def lanes(self, m: "Machine") -> list[tuple[BoundMap, tuple[int, ...]]]:
        """Map and coordinates of each running lane."""
        columns = [m.pick(axis(m.regs)).tolist() for axis in self.axes]
        maps = [
            self._map(m, address, lane)
            for address, lane in zip(self.where(m).tolist(), m.indices.tolist(), strict=True)
        ]
        return list(zip(maps, zip(*columns, strict=True), strict=True))

    def _map(self, m: "Machine", address: int, lane: int) -> BoundMap:
        data = _bytes_at(m, address)
        number = decoded(data)
        if number is None:
            what = "the address of a tensor copy is not that of a tensor map"
            raise m.fault("out of bounds", what, m.site(self.site), lane, address=address)
        found = m.launch.maps[number]
        if len(found.map.dims) != self.rank:
            what = f"a copy of rank {self.rank} with a tensor map of rank {len(found.map.dims)}"
            raise m.fault("out of bounds", what, m.site(self.site), lane)
        return found


def _bytes_at(m: "Machine", address: int) -> bytes:
    """Up to 128 bytes of parameter or global memory."""
    if address >> WINDOW_SHIFT == _PARAM:
        offset = address & ((1 << WINDOW_SHIFT) - 1)
        return m.params[offset : offset + BYTES]
    buffer = m.space.buffers.get(address >> BUFFER_SHIFT)
    if buffer is None or not 0 <= address - buffer.base <= buffer.size - BYTES:
        return b""
    return buffer.memory.bytes[address - buffer.base :][:BYTES].tobytes()


def _tensor_load(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """A box of a tensor to shared memory; every byte of the box counts, inside or not."""
    to, source, signal, *rest = instruction.operands
    common = _Load(lowering, instruction, modifiers, (to, signal), rest, _ROW_ALIGNMENT)
    box = _Box(lowering, instruction, source, int(modifiers["rank"]))

    def run(m: "Machine") -> None:
        boxes = box.lanes(m)
        for at, lane, targets in common.lanes(m):
            found, place = boxes[at]
            _read_global(m, found, place, lane, common.site)
            data = found.load(place)
            for target in targets:
                common.start(m, lane, target, found.map.shared_index(target[1]), data)

    return run


def _read_global(
    m: "Machine", found: BoundMap, place: tuple[int, ...], lane: int, site: int
) -> None:
    """Count a box's sectors, and check that its bytes were written and by whom."""
    m.refuse_early(np.array([lane]), m.site(site))
    starts, width = found.rows(place)
    m.counters.rows("cp.async.bulk.tensor", starts, width)
    if len(starts) and (found.buffer.written is not None or found.buffer.shadow is not None):
        size = found.map.element
        offsets = (starts[:, None] + np.arange(0, width, size)).reshape(-1)
        who = np.full(len(offsets), lane)
        load(m, "global", "check", offsets + found.buffer.base, size, who, site)


def _tensor_store(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """A box of shared memory to a tensor; what lies outside the tensor is dropped."""
    to, source = instruction.operands[:2]
    box = _Box(lowering, instruction, to, int(modifiers["rank"]))
    start = _places(lowering, instruction, source, _ROW_ALIGNMENT)
    site = lowering.site(instruction)
    lowering.proxies = True
    touch(lowering, "shared", ITEM)

    def run(m: "Machine") -> None:
        ctas, local = start(m)
        for at, (found, place) in enumerate(box.lanes(m)):
            lane = int(m.indices[at])
            chunks = found.map.shared_index(int(local[at]))
            data = _from_shared(m, lane, int(ctas[at]), chunks, site)
            _write_global(m, found, place, data, lane, site)

    return run


def _write_global(
    m: "Machine", found: BoundMap, place: tuple[int, ...], data: Array, lane: int, site: int
) -> None:
    buffer, size = found.buffer, found.map.element
    if not buffer.writable:
        what = "a write to a buffer that the launch passed as read-only"
        raise m.fault("out of bounds", what, m.site(site), lane, buffer=buffer.name)
    starts, width = found.rows(place)
    if not len(starts):
        return
    m.counters.rows("cp.async.bulk.tensor", starts, width)
    offsets = (starts[:, None] + np.arange(0, width, size)).reshape(-1)
    if buffer.shadow is not None:
        buffer.shadow.write(m, offsets, size, np.full(len(offsets), lane), site)
    found.store(place, data)
    if buffer.written is not None:
        mark = np.frombuffer(b"\1" * size, f"u{size}")
        buffer.written.store(offsets, size, mark)


def _commit(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    return lambda m: m.bulk_stores.commit(m)


def _wait(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    (allowed,) = instruction.operands
    if not isinstance(allowed, Immediate):
        raise lowering.refuse(instruction, "takes an immediate number of groups")
    return lambda m: m.bulk_stores.wait(m, allowed.value)


_LANDS = "mbarrier::complete_tx::bytes[.<multicast:multicast::cluster>][.L2::cache_hint]"
_TO = "shared::<where:cluster|cta>.global"
_RANK = "<rank:1|2|3|4|5>d"
ROWS = (
    row(f"cp.async.bulk.{_TO}.{_LANDS}", _plain_load, family="cp.async.bulk"),
    row(
        "cp.async.bulk.global.shared::cta.bulk_group[.L2::cache_hint]",
        _plain_store,
        family="cp.async.bulk",
    ),
    row(
        f"cp.async.bulk.tensor.{_RANK}.{_TO}[.tile].{_LANDS}",
        _tensor_load,
        family="cp.async.bulk.tensor",
    ),
    row(
        f"cp.async.bulk.tensor.{_RANK}.global.shared::cta[.tile].bulk_group[.L2::cache_hint]",
        _tensor_store,
        family="cp.async.bulk.tensor",
    ),
    row("cp.async.bulk.commit_group", _commit, family="cp.async.bulk.commit_group"),
    row("cp.async.bulk.wait_group[.read]", _wait, family="cp.async.bulk.wait_group"),
    row("cp.async.bulk.prefetch.L2.global[.L2::cache_hint]", nothing),
    row(f"cp.async.bulk.prefetch.tensor.{_RANK}.L2.global[.tile][.L2::cache_hint]", nothing),
    row("prefetch[.<space:param|const>].tensormap", nothing),
)
