"""mma.sync and mma.sp rows for 16-bit floats (PTX ISA, "Matrix multiply-accumulate operation using
mma instruction" and "... using mma.sp instruction with sparse matrix A").

Lane 4g + q holds rows g and g + 8 of A, C, D and column g of B. Products are exact; an instruction
sums them with C in float64 and rounds once. A zero that is not stored multiplies nothing.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.fault import SimulationFault
from samoyeds_gen.simulator.fragment import Right, Sparse, left_fragment
from samoyeds_gen.simulator.instructions.loads import elements
from samoyeds_gen.simulator.instructions.warp import over_lanes
from samoyeds_gen.simulator.lowering import Read, Write
from samoyeds_gen.simulator.program import Immediate, Instruction, Operand, Site
from samoyeds_gen.simulator.rows import Modifiers, Step, row
from samoyeds_gen.simulator.scalars import Array, narrow, widen

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

Warps = Array | slice
Product = Callable[["Machine", Warps], Array]


def _registers(lowering: "Lowering", operand: Operand, type_: str) -> list[Read]:
    return [lowering.read(item, type_) for item in elements(operand)]


def _gather(m: "Machine", reads: Sequence[Read]) -> list[Array]:
    return [over_lanes(m, read(m.regs)) for read in reads]


def _multiply(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, left, right, add = instruction.operands[:4]
    k, element, result = int(modifiers["k"]), modifiers["a"], modifiers["d"]
    sparse = "sp" in modifiers
    lefts, rights = _registers(lowering, left, "b32"), _registers(lowering, right, "b32")
    type_ = "f32" if result == "f32" else "b32"
    adds = _registers(lowering, add, type_)
    writes = [lowering.write(item, type_) for item in elements(target)]
    expected = (k // (8 if sparse else 4), k // 8, 4 if result == "f32" else 2)
    if (len(lefts), len(rights), len(adds)) != expected:
        raise lowering.refuse(instruction, f"needs {expected} registers of A, B and C")
    if sparse:
        product = _sparse(lowering, instruction, modifiers, lefts, rights)
    else:
        product = _dense(element, lefts, rights)

    def run(m: "Machine") -> None:
        warps = m.whole_warps(instruction.site, full=True)
        values = product(m, warps)
        _finish(m, values, warps, [read(m.regs) for read in adds], writes, result)

    return run


def _dense(element: str, lefts: list[Read], rights: list[Read]) -> Product:
    def product(m: "Machine", warps: Warps) -> Array:
        a_registers, b_registers = _gather(m, lefts), _gather(m, rights)
        a = m.operands.get(("A", element), a_registers, lambda: left_fragment(a_registers, element))
        b = m.operands.get(("B", element), b_registers, lambda: Right(b_registers, element))
        result: Array = np.matmul(a[warps], b.values[warps].swapaxes(1, 2))
        return result

    return product


def _sparse(
    lowering: "Lowering",
    instruction: Instruction,
    modifiers: Modifiers,
    lefts: list[Read],
    rights: list[Read],
) -> Product:
    k, element = int(modifiers["k"]), modifiers["a"]
    ordered = "ordered" in modifiers
    selector = selector_of(lowering, instruction, instruction.operands[5], k)
    codes = lowering.read(instruction.operands[4], "b32")

    def product(m: "Machine", warps: Warps) -> Array:
        a_registers, b_registers = _gather(m, lefts), _gather(m, rights)
        metadata = over_lanes(m, codes(m.regs))
        a = m.operands.get(
            ("S", element, k, selector, ordered),
            [*a_registers, metadata],
            lambda: Sparse(left_fragment(a_registers, element), metadata, k, selector, ordered),
        )
        if a.bad[warps].any():
            raise invalid_metadata(m, a, warps, selector, instruction.site)
        b = m.operands.get(("B", element), b_registers, lambda: Right(b_registers, element))
        return a.product(b, warps)

    return product


def selector_of(lowering: "Lowering", instruction: Instruction, operand: Operand, k: int) -> int:
    """The immediate sparsity selector of an instruction with that k."""
    if not isinstance(operand, Immediate):
        raise lowering.refuse(instruction, "takes an immediate selector")
    allowed = 4 * 16 // k
    if not 0 <= operand.value < allowed:
        raise SimulationFault(
            "invalid metadata",
            f"selector {operand.value} for k{k}, which has 0 to {allowed - 1}",
            site=instruction.site,
        )
    return operand.value


def invalid_metadata(
    m: "Machine", left: Sparse, warps: Warps, selector: int, site: Site, first: int = 0
) -> SimulationFault:
    """The fault of the first code of some warps that is not allowed.

    `left` begins with the warp of lane `first`.
    """
    warp = int(np.arange(len(left.bad))[warps][left.bad[warps]][0])
    stored_row, group, pair = left.first_bad(warp)
    return m.fault(
        "invalid metadata",
        f"positions {pair} in group {group} of row {stored_row}, selector {selector}: "
        f"{'they must increase' if pair[0] != pair[1] else 'they must differ'}",
        site,
        first + warp * 32 + left.holder(stored_row, group),
    )


def _finish(
    m: "Machine",
    product: Array,
    warps: Warps,
    adds: list[Array],
    writes: list[Write],
    result: str,
) -> None:
    """Add C, round once, and hand the sums back to the lanes."""
    parts = product.reshape(-1, 2, 8, 4, 2)
    for number, (add, write) in enumerate(zip(adds, writes, strict=True)):
        lanes = over_lanes(m, add).reshape(-1, 32)[warps].reshape(-1)
        if result == "f32":
            total = parts[:, number >> 1, :, :, number & 1].reshape(-1) + lanes
            values = total.astype(np.float32)
        else:
            halves = widen(np.ascontiguousarray(lanes).view(np.uint16), "f16")
            total = parts[:, number].reshape(-1) + halves
            values = narrow(total, "f16").view(np.uint32)
        write(m, m.spread_warps(values, warps))


_DENSE = "mma.sync.aligned.m16n8k<k:8|16>.row.col"
_SPARSE = "mma.<sp:sp>[::<ordered:ordered_metadata>].sync.aligned.m16n8k<k:16|32>.row.col"
ROWS = tuple(
    row(f"{head}.{types}", _multiply, family=family)
    for head, family in ((_DENSE, "mma.sync"), (_SPARSE, "mma.sp"))
    for types in ("<d:f32>.<a:f16>.f16.f32", "<d:f32>.<a:bf16>.bf16.f32", "<d:f16>.<a:f16>.f16.f16")
)
