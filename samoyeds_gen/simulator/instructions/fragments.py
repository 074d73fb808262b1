"""8 x 8 matrices of 16-bit elements between shared memory and lanes (PTX ISA, "ldmatrix",
"stmatrix", "movmatrix").

Lane 8j + i holds the address of row i of matrix j; element pair (row r, columns 2c, 2c+1) lives in
lane 4r + c, or transposed.
"""

from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.access import addresses, shared_index
from samoyeds_gen.simulator.instructions.loads import elements, touch
from samoyeds_gen.simulator.instructions.warp import over_lanes
from samoyeds_gen.simulator.program import Instruction
from samoyeds_gen.simulator.rows import Modifiers, Step, row
from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

_ROW = 16


def _load_matrices(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, source = instruction.operands
    count, transposed = int(modifiers["n"]), "trans" in modifiers
    writes = [lowering.write(item, "b32") for item in elements(target)]
    if len(writes) != count:
        raise lowering.refuse(instruction, f"needs {count} destinations")
    where, site = addresses(lowering, instruction, source), lowering.site(instruction)
    touch(lowering, "shared", _ROW)

    def run(m: "Machine") -> None:
        address, lanes, index = _rows(m, where(m), instruction, count, site)
        m.counters.shared("ldmatrix", address, lanes, _ROW)
        if m.shadow is not None:
            m.shadow.read(m, index, _ROW, lanes, site, warp=True)
        rows = m.shared.load(index, _ROW)
        if transposed:
            square = rows.view(np.uint16).reshape(-1, count, 8, 8).swapaxes(2, 3)
            words = np.ascontiguousarray(square).view(np.uint32)
        else:
            words = rows.view(np.uint32)
        words = words.reshape(-1, count, 32)
        for number, write in enumerate(writes):
            write(m, m.spread(words[:, number].reshape(-1)))

    return run


def _rows(
    m: "Machine", address: Array, instruction: Instruction, count: int, site: int
) -> tuple[Array, Array, Array]:
    """Row addresses of the first 8 * count lanes of each warp, those lanes, and byte indices."""
    m.whole_warps(instruction.site, full=True)
    lanes = m.indices
    if count < 4:
        lanes = lanes.reshape(-1, 32)[:, : 8 * count].reshape(-1)
        address = address.reshape(-1, 32)[:, : 8 * count].reshape(-1)
    return address, lanes, shared_index(m, address, _ROW, lanes, site)


def _store_matrices(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, source = instruction.operands
    count, transposed = int(modifiers["n"]), "trans" in modifiers
    reads = [lowering.read(item, "b32") for item in elements(source)]
    where, site = addresses(lowering, instruction, target), lowering.site(instruction)
    touch(lowering, "shared", _ROW)

    def run(m: "Machine") -> None:
        address, lanes, index = _rows(m, where(m), instruction, count, site)
        m.counters.shared("stmatrix", address, lanes, _ROW)
        if m.shadow is not None:
            m.shadow.write(m, index, _ROW, lanes, site)
        columns = [m.pick(read(m.regs)).reshape(-1, 32) for read in reads]
        words = np.stack(columns, axis=1)
        if transposed:
            square = words.view(np.uint16).reshape(-1, count, 8, 8).swapaxes(2, 3)
            words = np.ascontiguousarray(square).view(np.uint32)
        m.shared.store(index, _ROW, words.reshape(-1).view(np.complex128))

    return run


def _transpose(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    write = lowering.write(instruction.operands[0], "b32")
    read = lowering.read(instruction.operands[1], "b32")

    def run(m: "Machine") -> None:
        m.whole_warps(instruction.site, full=True)
        values = np.ascontiguousarray(over_lanes(m, read(m.regs)))
        square = values.view(np.uint16).reshape(-1, 8, 8).swapaxes(1, 2)
        write(m, np.ascontiguousarray(square).reshape(-1).view(np.uint32))

    return run


ROWS = (
    row(
        "ldmatrix.sync.aligned.m8n8.x<n:1|2|4>[.<trans:trans>].shared[::cta].b16",
        _load_matrices,
        family="ldmatrix",
    ),
    row(
        "stmatrix.sync.aligned.m8n8.x<n:1|2|4>[.<trans:trans>].shared[::cta].b16",
        _store_matrices,
        family="stmatrix",
    ),
    row("movmatrix.sync.aligned.m8n8.trans.b16", _transpose, family="movmatrix"),
)
