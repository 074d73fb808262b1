"""A function of a Program to blocks of steps.

Decides register slots, the layout of shared, local and param memory, and where blocks end; what an
instruction does comes from its row. Done once per function and kept with the Program.
"""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.simulator import inlining
from samoyeds_gen.simulator.accumulators import Watched
from samoyeds_gen.simulator.fault import SimulationFault
from samoyeds_gen.simulator.lowered import Block, Lowered
from samoyeds_gen.simulator.memory import SHARED_ORIGIN, buffer_base
from samoyeds_gen.simulator.program import (
    Function,
    Immediate,
    Instruction,
    Label,
    Negated,
    Operand,
    Program,
    Register,
    Sink,
    Site,
    Special,
    Symbol,
    Variable,
    named_registers,
    written,
)
from samoyeds_gen.simulator.rows import Modifiers, Row, Step, Table
from samoyeds_gen.simulator.scalars import DTYPES, STORAGE, Array, DType
from samoyeds_gen.simulator.specials import SPECIALS

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

Read = Callable[[list[Array]], Array]
Write = Callable[["Machine", Array], None]
# Windows of a module's own variables; the launch's buffers come first.
MODULE_SLOT = 200


def lower(program: Program, entry: str, table: Table) -> Lowered:
    """Lower one kernel of `program`; memoised. LaunchError if it has no such kernel."""
    known = program.cache.get(entry)
    if isinstance(known, Lowered):
        return known
    function = program.functions.get(entry)
    if function is None or not function.entry:
        raise LaunchError(
            f"the PTX has no kernel {entry!r}", remedy=f"choose one of {', '.join(program.entries)}"
        )
    lowered = Lowering(program, function, table).run()
    program.cache[entry] = lowered
    return lowered


def _aligned(offset: int, align: int) -> int:
    return -(-offset // align) * align


class Lowering:
    """What rows may ask while a kernel is lowered: readers, writers, addresses, sites."""

    def __init__(self, program: Program, function: Function, table: Table) -> None:
        self.table = table
        self.body, variables = inlining.inline(program, function)
        self.program = program
        self.sites: list[Site] = []
        self.slots: dict[str, int] = {}
        self.storage: list[DType] = []
        self.specials: list[tuple[int, str]] = []
        self.granule = self.global_granule = 16
        self.proxies = self.single_lanes = self.dependent = False
        self.watched: dict[str, int] = {}
        self.function = function
        self.places: dict[str, tuple[str, int]] = {}
        self.parameters = self._lay_out_parameters(function)
        self.dynamic_start, self.local_size = self._lay_out([*program.variables, *variables])
        self.labels: dict[str, int] = {}
        self.target_lists: dict[str, tuple[str, ...]] = {}
        self.next_block = 0
        self.current = Instruction("", (), Site("", 0))

    def _lay_out_parameters(self, function: Function) -> tuple[tuple[int, int], ...]:
        offset, result = 0, []
        for variable in function.parameters:
            offset = _aligned(offset, variable.align)
            self.places[variable.name] = "param", offset
            result.append((offset, variable.size))
            offset += variable.size
        return tuple(result)

    def _lay_out(self, variables: list[Variable]) -> tuple[int, int]:
        ends = {"shared": SHARED_ORIGIN, "local": 0}
        dynamic = [v for v in variables if v.space == "shared" and not v.size]
        module = 0
        for variable in variables:
            if variable.space in ("global", "const"):
                self.places[variable.name] = "global", buffer_base(MODULE_SLOT + module)
                module += 1
            elif variable not in dynamic:
                space = "shared" if variable.space == "shared" else "local"
                start = _aligned(ends[space], variable.align)
                self.places[variable.name] = space, start
                ends[space] = start + variable.size
        start = _aligned(ends["shared"], max((v.align for v in dynamic), default=16))
        self.places.update({v.name: ("shared", start) for v in dynamic})
        return start, _aligned(ends["local"], 16)

    def run(self) -> Lowered:
        """Cut the body into blocks and build every step."""
        found: list[tuple[Instruction, Row, Modifiers]] = []
        starts: list[int] = [0]
        for item in self.body:
            if isinstance(item, Label):
                if item.targets is not None:
                    self.target_lists[item.name] = item.targets
                    continue
                if starts[-1] != len(found):
                    starts.append(len(found))
                self.labels[item.name] = len(starts) - 1
                continue
            match = self.table.find(item.opcode)
            if match is None:
                raise SimulationFault(
                    "unknown opcode", f"no row matches {item.opcode!r}", site=item.site
                )
            found.append((item, *match))
            if match[0].ends:
                starts.append(len(found))
        self._watch(found)
        bounds = [*starts, len(found)]
        blocks = [
            self._block(number, found[first:last])
            for number, (first, last) in enumerate(pairwise(bounds))
        ]
        return self._lowered(tuple(blocks))

    def _lowered(self, blocks: tuple[Block, ...]) -> Lowered:
        slots = tuple(self.slots[name] for name in self.watched)
        return Lowered(
            blocks,
            tuple(self.sites),
            tuple(self.storage),
            tuple(self.specials),
            self.parameters,
            tuple(v for v in self.program.variables if v.space in ("global", "const")),
            self.dynamic_start,
            self.local_size,
            self.granule,
            self.global_granule,
            Watched(tuple(self.watched), slots),
            self.proxies,
            self.single_lanes,
            self.dependent,
            self.function.cluster,
            self.function.register_limit,
        )

    def _watch(self, found: list[tuple[Instruction, Row, Modifiers]]) -> None:
        """Number the registers that some instruction hands to asynchronous work."""
        for instruction, row, _ in found:
            for register in row.claims(instruction) if row.claims else ():
                self.slot(register.name, STORAGE[register.type])
                self.watched.setdefault(register.name, len(self.watched))

    def watched_numbers(self, items: tuple[Operand, ...]) -> tuple[int, ...]:
        """Numbers of the watched registers among operands."""
        names = [item.name for item in items if isinstance(item, Register)]
        return tuple(self.watched[name] for name in names if name in self.watched)

    def _block(self, number: int, found: list[tuple[Instruction, Row, Modifiers]]) -> Block:
        self.next_block = number + 1
        steps: list[Step] = []
        families: Counter[str] = Counter()
        end: Step | None = None
        for instruction, row, modifiers in found:
            self.current = instruction
            families[row.family.format_map({"space": "generic", **modifiers})] += 1
            step = row.build(self, instruction, modifiers)
            if row.ends:
                end = self._guarded_end(instruction, step)
            else:
                steps.append(self._guarded(instruction, self._checked(instruction, step)))
        if end is None:
            end = _fall_through(number + 1)
        site = found[-1][0].site if found else None
        return Block(tuple(steps), end, families, site)

    def _checked(self, instruction: Instruction, step: Step) -> Step:
        """The step, after a check that no asynchronous work holds its registers."""
        if not self.watched:
            return step
        target = written(instruction)
        rest = instruction.operands[1 if target else 0 :]
        reads, writes = map(self.watched_numbers, (named_registers(rest), target))
        if not reads and not writes:
            return step
        site = instruction.site

        def run(m: "Machine") -> None:
            m.warpgroups.held.access(m, reads, writes, site)
            step(m)

        return run

    def _guarded(self, instruction: Instruction, step: Step) -> Step:
        if instruction.guard is None:
            return step
        read, negated = self.read(instruction.guard[0], "pred"), instruction.guard[1]

        def run(m: "Machine") -> None:
            predicate = read(m.regs)
            if len(predicate) == 1:
                if bool(predicate[0]) != negated:
                    step(m)
                return
            chosen = m.mask & (~predicate if negated else predicate)
            count = int(np.count_nonzero(chosen))
            if count == m.count:
                step(m)
            elif count:
                m.within(chosen, step)

        return run

    def _guarded_end(self, instruction: Instruction, end: Step) -> Step:
        if instruction.guard is None:
            return end
        read, negated = self.read(instruction.guard[0], "pred"), instruction.guard[1]
        following = self.next_block

        def run(m: "Machine") -> None:
            predicate = read(m.regs)
            if len(predicate) == 1:
                if bool(predicate[0]) != negated:
                    end(m)
                else:
                    m.go(following, m.mask)
                return
            chosen = m.mask & (~predicate if negated else predicate)
            count = int(np.count_nonzero(chosen))
            if count == m.count:
                end(m)
                return
            m.go(following, m.mask & ~chosen if count else m.mask)
            if count:
                m.enter(chosen)
                end(m)

        return run

    def refuse(self, instruction: Instruction, why: str) -> SimulationFault:
        """An instruction whose opcode is known but whose form is not."""
        return SimulationFault(
            "unknown opcode", f"{instruction.opcode!r} {why}", site=instruction.site
        )

    def site(self, instruction: Instruction) -> int:
        """Number under which shadows remember this instruction."""
        self.sites.append(instruction.site)
        return len(self.sites) - 1

    def slot(self, name: str, dtype: DType) -> int:
        """Index of a register in the register file."""
        found = self.slots.get(name)
        if found is None:
            found = self.slots[name] = len(self.storage)
            self.storage.append(dtype)
        return found

    def place(self, name: str) -> tuple[str, int] | None:
        """State space and address of a variable; None for other symbols."""
        return self.places.get(name)

    def read(self, operand: Operand, type_: str) -> Read:
        """A reader of `operand` as an array of `type_`; wider registers are truncated."""
        dtype = DTYPES.get(type_) or STORAGE[type_]
        match operand:
            case Register(name, declared):
                return _view(self.slot(name, STORAGE[declared]), STORAGE[declared], dtype)
            case Negated(Register(name, declared)):
                slot = self.slot(name, STORAGE[declared])
                return lambda regs: ~regs[slot]
            case Special(name):
                return self._special(name, dtype)
            case Immediate():
                constant = _constant(operand, dtype)
                return lambda regs: constant
            case Symbol(name, offset) if (place := self.places.get(name)) is not None:
                constant = _constant(Immediate(place[1] + offset), dtype)
                return lambda regs: constant
        raise self.refuse(self.current, f"cannot read {operand} as {type_}")

    def _special(self, name: str, dtype: DType) -> Read:
        if name not in SPECIALS:
            raise self.refuse(self.current, f"reads %{name}, which is not modelled")
        wide = name in ("clock64", "globaltimer", "gridid")
        known = f"%{name}" in self.slots
        slot = self.slot(f"%{name}", np.dtype(np.uint64 if wide else np.uint32))
        if not known:
            self.specials.append((slot, name))
        return _view(slot, self.storage[slot], dtype)

    def write(self, operand: Operand, type_: str) -> Write:
        """A writer of an array of `type_` to `operand`; a wider register is extended."""
        if isinstance(operand, Sink):
            return lambda m, values: None
        if not isinstance(operand, Register):
            raise self.refuse(self.current, f"cannot write to {operand}")
        dtype = DTYPES.get(type_) or STORAGE[type_]
        storage = STORAGE[operand.type]
        slot = self.slot(operand.name, storage)
        signed = np.dtype(f"i{storage.itemsize}") if dtype.kind == "i" else storage

        def write(m: "Machine", values: Array) -> None:
            if values.dtype is not storage:
                if values.dtype.itemsize != storage.itemsize:
                    values = values.astype(signed)
                values = values.view(storage)
            if m.everyone:
                m.regs[slot] = values
            else:
                m.regs[slot] = np.where(m.mask, values, m.regs[slot])

        return write


def _fall_through(following: int) -> Step:
    return lambda m: m.go(following, m.mask)


def _view(slot: int, storage: DType, dtype: DType) -> Read:
    if storage == dtype:
        return itemgetter(slot)
    if storage.itemsize == dtype.itemsize:
        return lambda regs: regs[slot].view(dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    if storage.itemsize > dtype.itemsize:
        return lambda regs: regs[slot].astype(unsigned).view(dtype)
    whole = np.dtype(f"u{storage.itemsize}")
    return lambda regs: regs[slot].view(whole).astype(unsigned).view(dtype)


def _constant(operand: Immediate, dtype: DType) -> Array:
    if dtype == np.bool_:
        return np.array([operand.value != 0])
    if dtype.kind == "f" and operand.type is None:
        return np.array([operand.value], dtype)
    if operand.type == "f64" and dtype == np.float32:
        return np.array([operand.value], np.uint64).view(np.float64).astype(np.float32)
    bits = operand.value & ((1 << 8 * dtype.itemsize) - 1)
    return np.array([bits], f"u{dtype.itemsize}").view(dtype)
