"""Warp rows: shuffles, votes, masks, reductions (PTX ISA, "shfl.sync", "vote.sync", "redux")."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.instructions.barrier import refuse_absent
from samoyeds_gen.simulator.program import Instruction, Pair, Sink
from samoyeds_gen.simulator.rows import Modifiers, Step, row
from samoyeds_gen.simulator.scalars import DTYPES, Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

_BIT = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
_FIVE = 31


def over_lanes(m: "Machine", values: Array) -> Array:
    """A register with one entry per lane of the batch."""
    return np.broadcast_to(values, (m.lanes,)) if len(values) == 1 else values


def _members(m: "Machine", mask: Array) -> Array:
    """[warps, 32]: lanes that are both running and named by the member mask."""
    named = (over_lanes(m, mask).reshape(-1, 32) & _BIT) != 0
    running: Array = named & m.mask.reshape(-1, 32)
    return running


def _shuffle(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, *sources = instruction.operands
    first = target.first if isinstance(target, Pair) else target
    write = lowering.write(first, "b32")
    second = target.second if isinstance(target, Pair) else Sink()
    write_valid = lowering.write(second, "pred")
    value, shift, clamp, members = (lowering.read(operand, "u32") for operand in sources)
    mode, site = modifiers["mode"], instruction.site

    def run(m: "Machine") -> None:
        refuse_absent(m, members(m.regs), site)
        lane = np.arange(m.lanes, dtype=np.int64) & _FIVE
        by = shift(m.regs).astype(np.int64) & _FIVE
        bounds = clamp(m.regs).astype(np.int64)
        segment, limit = (bounds >> 8) & _FIVE, bounds & _FIVE
        last = (lane & segment) | (limit & ~segment & _FIVE)
        source, valid = _source(mode, lane, by, segment, last)
        source = np.where(valid, source, lane)
        base = np.arange(m.lanes) & ~_FIVE
        write(m, over_lanes(m, value(m.regs))[base + source])
        write_valid(m, valid)

    return run


def _source(mode: str, lane: Array, by: Array, segment: Array, last: Array) -> tuple[Array, Array]:
    """Source lane and whether it is in bounds, as the ISA's pseudocode has it."""
    match mode:
        case "up":
            source = lane - by
            return source, source >= last
        case "down":
            source = lane + by
        case "bfly":
            source = lane ^ by
        case _:
            source = (lane & segment) | (by & ~segment & _FIVE)
    return source, source <= last


def _vote(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, predicate_operand, member_operand = instruction.operands
    mode, site = modifiers["mode"], instruction.site
    write = lowering.write(target, "b32" if mode == "ballot" else "pred")
    predicate = lowering.read(predicate_operand, "pred")
    members = lowering.read(member_operand, "u32")

    def run(m: "Machine") -> None:
        refuse_absent(m, members(m.regs), site)
        named = _members(m, members(m.regs))
        yes = over_lanes(m, predicate(m.regs)).reshape(-1, 32) & named
        if mode == "ballot":
            result = (yes * _BIT).sum(axis=1, dtype=np.uint32)
        elif mode == "any":
            result = yes.any(axis=1)
        elif mode == "all":
            result = (yes == named).all(axis=1)
        else:
            result = (yes == named).all(axis=1) | ~yes.any(axis=1)
        write(m, np.repeat(result, 32))

    return run


def _active(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    write = lowering.write(instruction.operands[0], "b32")

    def run(m: "Machine") -> None:
        bits = (m.mask.reshape(-1, 32) * _BIT).sum(axis=1, dtype=np.uint32)
        write(m, np.repeat(bits, 32))

    return run


_REDUCE: dict[str, Callable[..., Array]] = {
    "add": np.add.reduce,
    "min": np.minimum.reduce,
    "max": np.maximum.reduce,
    "and": np.bitwise_and.reduce,
    "or": np.bitwise_or.reduce,
    "xor": np.bitwise_xor.reduce,
}


def _redux(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, source, member_operand = instruction.operands
    type_, operation = modifiers["t"], modifiers["op"]
    write, read = lowering.write(target, type_), lowering.read(source, type_)
    members, site = lowering.read(member_operand, "u32"), instruction.site
    limits = np.iinfo(DTYPES[type_])
    neutral = {"min": limits.max, "max": limits.min, "and": limits.max}.get(operation, 0)
    if operation == "and" and DTYPES[type_].kind == "i":
        neutral = -1

    def run(m: "Machine") -> None:
        refuse_absent(m, members(m.regs), site)
        values = over_lanes(m, read(m.regs)).reshape(-1, 32)
        named = np.where(_members(m, members(m.regs)), values, values.dtype.type(neutral))
        result = _REDUCE[operation](named, axis=1, dtype=values.dtype)
        write(m, np.repeat(result, 32))

    return run


def _match(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    """match.any: the member lanes that hold the same value."""
    target, source, member_operand = instruction.operands
    write, read = lowering.write(target, "b32"), lowering.read(source, modifiers["t"])
    members = lowering.read(member_operand, "u32")

    def run(m: "Machine") -> None:
        values = over_lanes(m, read(m.regs)).reshape(-1, 32)
        named = _members(m, members(m.regs))
        same = (values[:, :, None] == values[:, None, :]) & named[:, None, :]
        write(m, (same * _BIT).sum(axis=2, dtype=np.uint32).reshape(-1))

    return run


def _elect(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, member_operand = instruction.operands
    assert isinstance(target, Pair)
    write, write_chosen = lowering.write(target.first, "b32"), lowering.write(target.second, "pred")
    members, site = lowering.read(member_operand, "u32"), instruction.site

    def run(m: "Machine") -> None:
        refuse_absent(m, members(m.regs), site)
        leader = _members(m, members(m.regs)).argmax(axis=1).astype(np.uint32)
        write(m, np.repeat(leader, 32))
        write_chosen(m, (np.arange(m.lanes) & _FIVE) == np.repeat(leader, 32))

    return run


ROWS = (
    row("shfl.sync.<mode:up|down|bfly|idx>.b32", _shuffle, family="shfl.sync"),
    row("vote.sync.<mode:all|any|uni>.pred", _vote, family="vote.sync"),
    row("vote.sync.<mode:ballot>.b32", _vote, family="vote.sync"),
    row("activemask.b32", _active),
    row("redux.sync.<op:add|min|max>.<t:u32|s32>", _redux, family="redux.sync"),
    row("redux.sync.<op:and|or|xor>.<t:b32>", _redux, family="redux.sync"),
    row("match.any.sync.<t:b32|b64>", _match, family="match.sync"),
    row("elect.sync", _elect, family="elect.sync"),
)
