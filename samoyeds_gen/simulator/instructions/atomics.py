"""atom and red rows (PTX ISA, "atom", "red").

Lanes that meet at one address go in lane order, one round each. For the race detector an atomic
collides with plain writes and not with other atomics; on shared memory with plain reads too.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.access import addresses, shared_index
from samoyeds_gen.simulator.instructions.loads import element_size, elements, state_space, touch
from samoyeds_gen.simulator.memory import WINDOW_SHIFT, Memory
from samoyeds_gen.simulator.program import Instruction
from samoyeds_gen.simulator.rows import Build, Modifiers, Step, row
from samoyeds_gen.simulator.scalars import DTYPES, Array, DType, narrow, widen

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

Combine = Callable[..., Array]


def _half_add(element: str) -> Combine:
    def add(a: Array, b: Array) -> Array:
        x, y = a.view(np.uint16), b.view(np.uint16)
        return narrow(widen(x, element) + widen(y, element), element).view(a.dtype)

    return add


def _compare_and_swap(old: Array, expected: Array, new: Array) -> Array:
    return np.where(old == expected, new, old)


def _combine(modifiers: Modifiers) -> Combine:
    """New value from the old one and the operands."""
    type_ = modifiers["t"]
    if "16" in type_ and type_[0] in "fb" and type_ not in ("b16",):
        return _half_add(type_.removesuffix("x2"))
    table: dict[str, Combine] = {
        "add": np.add,
        "min": np.minimum,
        "max": np.maximum,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
        "exch": lambda old, new: new,
        "cas": _compare_and_swap,
        "inc": lambda old, top: np.where(old >= top, old.dtype.type(0), old + old.dtype.type(1)),
        "dec": lambda old, top: np.where((old == 0) | (old > top), top, old - old.dtype.type(1)),
    }
    return table[modifiers["op"]]


def _atomic(*, returns: bool) -> Build:
    def build(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
        operands = list(instruction.operands)
        target = operands.pop(0) if returns else None
        type_, space = modifiers["t"], state_space(modifiers)
        count = int(modifiers.get("vec", "v1")[1:])
        size, dtype = element_size(type_), DTYPES[type_]
        where, site = addresses(lowering, instruction, operands[0]), lowering.site(instruction)
        touch(lowering, space, size)
        reads = [[lowering.read(item, type_) for item in elements(value)] for value in operands[1:]]
        writes = [lowering.write(item, type_) for item in elements(target)] if target else []
        combine, order = _combine(modifiers), modifiers.get("sem", "relaxed")

        def run(m: "Machine") -> None:
            address, lanes = where(m), m.indices
            if order in ("release", "acq_rel"):
                m.space.order.fence(m.grid_cta_of[lanes])
            for part in range(count):
                values = [np.ascontiguousarray(m.pick(read[part](m.regs))) for read in reads]
                place = address + part * size
                old = _apply(m, space, place, size, dtype, values, combine, lanes, site)
                if writes:
                    writes[part](m, m.spread(old))
            if order in ("acquire", "acq_rel"):
                m.space.order.fence(m.grid_cta_of[lanes])

        return run

    return build


def _apply(
    m: "Machine",
    space: str,
    address: Array,
    size: int,
    dtype: DType,
    values: list[Array],
    combine: Combine,
    lanes: Array,
    site: int,
) -> Array:
    if space == "generic":
        space = "shared" if int(address[0]) >> WINDOW_SHIFT == 1 else "global"
        address = address & ((1 << WINDOW_SHIFT) - 1)
    old = np.empty(len(lanes), dtype)
    if space == "shared":
        index = shared_index(m, address, size, lanes, site)
        if m.shadow is not None:
            m.shadow.atomic(m, index, size, lanes, site)
        _rounds(m.shared, index, size, dtype, values, combine, old, None)
        return old
    m.space.order.atomic(address, m.grid_cta_of[lanes])
    for buffer, chosen, offsets in m.space.locate(
        m, address, size, m.site(site), lanes, write=True
    ):
        who = lanes if chosen is None else lanes[chosen]
        m.counters.global_("atom", offsets, who, size)
        if buffer.shadow is not None:
            buffer.shadow.read(m, offsets, size, who, site)
        _rounds(buffer.memory, offsets, size, dtype, values, combine, old, chosen)
    return old


def _rounds(
    memory: Memory,
    offsets: Array,
    size: int,
    dtype: DType,
    values: list[Array],
    combine: Combine,
    old: Array,
    chosen: Array | None,
) -> None:
    """Apply the lanes in order: each round takes the first remaining lane of every address."""
    places = np.arange(len(offsets)) if chosen is None else chosen
    remaining = np.arange(len(offsets))
    while len(remaining):
        _, first = np.unique(offsets[remaining], return_index=True)
        now = remaining[first]
        before = memory.load(offsets[now], size).view(dtype)
        after = combine(before, *[value[places[now]] for value in values])
        memory.store(offsets[now], size, after.view(f"u{size}"))
        old[places[now]] = before
        remaining = np.delete(remaining, first)


_SPACE = "[.<space:global|shared|shared::cta>]"
_ORDER = "[.<sem:relaxed|acquire|release|acq_rel>][.<scope:SCOPE>]"
_FORMS = (
    "<op:and|or|xor>.<t:b32|b64>",
    "<op:add|min|max>.<t:u32|s32|u64|s64>",
    "<op:inc|dec>.<t:u32>",
    "<op:add>[.<vec:v2|v4>].<t:f32|f64>",
    "<op:add>.noftz[.<vec:v2|v4|v8>].<t:f16|bf16|f16x2|bf16x2>",
)
ROWS = (
    *(
        row(f"atom{_ORDER}{_SPACE}.{form}", _atomic(returns=True), family="atom")
        for form in (*_FORMS, "<op:exch|cas>.<t:b32|b64>")
    ),
    *(row(f"red{_ORDER}{_SPACE}.{form}", _atomic(returns=False), family="red") for form in _FORMS),
    # sm_90 and later put the vector before the operation's type, after the operation.
    *(
        row(f"{name}{_ORDER}{_SPACE}.<vec:v2|v4>.<t:f32>.<op:add>", _atomic(returns=keep))
        for name, keep in (("atom", True), ("red", False))
    ),
)
