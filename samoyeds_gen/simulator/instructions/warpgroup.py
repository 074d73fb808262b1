"""wgmma rows: asynchronous matrix work of four warps (PTX ISA, "Asynchronous Warpgroup Level Matrix
Multiply-Accumulate Instructions").

16-bit floats to float32, A from registers or shared memory, both operands K-major. Sums are formed
in float64 and rounded once an instruction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator import agent_races
from samoyeds_gen.simulator.descriptors import operand
from samoyeds_gen.simulator.fragment import Right, Sparse, left_fragment
from samoyeds_gen.simulator.instructions.loads import elements, touch
from samoyeds_gen.simulator.instructions.matrix import invalid_metadata, selector_of
from samoyeds_gen.simulator.instructions.warp import over_lanes
from samoyeds_gen.simulator.lowering import Read
from samoyeds_gen.simulator.memory import SHARED_ORIGIN
from samoyeds_gen.simulator.program import Immediate, Instruction, Operand, Register, Vector
from samoyeds_gen.simulator.rows import Modifiers, Step, row
from samoyeds_gen.simulator.scalars import Array, widen
from samoyeds_gen.simulator.warpgroups import LANES, WARPS, Warpgroup

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

Act = Callable[["Machine"], None]
_CHUNK = 16


def _together(lowering: "Lowering", instruction: Instruction, act: Act) -> Step:
    """A step that runs when all warps of a warpgroup have come."""
    following, site = lowering.next_block, instruction.site

    def run(m: "Machine") -> None:
        if m.warpgroups.gather(m, following, site):
            act(m)
            m.go(following, m.mask)

    return run


@dataclass(frozen=True, slots=True)
class _Form:
    """One wgmma as written: `registers` and `operands` are numbers of watched registers."""

    instruction: Instruction
    site: int
    shape: str
    element: str
    n: int
    k: int
    sign: float
    registers: tuple[int, ...]
    operands: tuple[int, ...]
    lefts: tuple[Read, ...]
    right: Read
    scale: Read
    metadata: Read | None
    selector: int

    def run(self, m: "Machine") -> None:
        """Issue for the running warpgroups."""
        m.warpgroups.held.take(m, self.registers, self.operands, self.instruction.site)
        for group in m.warpgroups.running(m):
            sums = m.warpgroups.sums(m, group, self.registers, self.shape, self.instruction.site)
            for number in self.operands:
                group.operands[number] = sums.group
            product = self._product(m, group)
            if self._uniform(m, group, self.scale, "scale-d"):
                product += sums.values
            sums.values = product.astype(np.float32)

    def _uniform(self, m: "Machine", group: Warpgroup, read: Read, what: str) -> int:
        """A value that all lanes of a warpgroup must share."""
        values = read(m.regs)
        if len(values) > 1:
            values = values[group.first : group.first + LANES]
            if (values != values[0]).any():
                lane = group.first + int(np.flatnonzero(values != values[0])[0])
                sentence = f"the lanes of a warpgroup disagree about {what}"
                raise m.fault("divergent barrier", sentence, self.instruction.site, lane)
        return int(values[0])

    def _shared(self, m: "Machine", group: Warpgroup, read: Read, rows: int, chunks: int) -> Array:
        """An operand in shared memory, [rows, 8 * chunks] float64."""
        word = self._uniform(m, group, read, "a descriptor")
        try:
            place = operand(word, rows, chunks).reshape(-1)
        except ValueError as error:
            site = self.instruction.site
            raise m.fault("misaligned", str(error), site, group.first) from None
        low, high = int(place.min()), int(place.max())
        if low < SHARED_ORIGIN or high > SHARED_ORIGIN + m.shared_size - _CHUNK:
            at = low if low < SHARED_ORIGIN else high
            raise m.fault(
                "out of bounds",
                f"an operand of {rows} rows, of {m.shared_size} bytes of shared memory",
                self.instruction.site,
                group.first,
                address=at,
                buffer="shared memory",
            )
        index = place + m.shared_base[group.first]
        if m.shadow is not None:
            agent = m.warpgroups.agent(m, group, self.site)
            agent_races.read(m, m.shadow, index, _CHUNK, agent)
        m.counters.moved("wgmma", len(index) * _CHUNK)
        words = m.shared.load(index, _CHUNK).view(np.uint16).reshape(rows, chunks * 8)
        return widen(words, self.element).astype(np.float64)

    def _left(self, m: "Machine", group: Warpgroup) -> Array:
        """A as stored, [4 warps, 16, k or k/2]."""
        stored = self.k if self.metadata is None else self.k // 2
        if not self.operands:
            values = self._shared(m, group, self.lefts[0], 16 * WARPS, stored // 8)
            return values.reshape(WARPS, 16, stored)
        lanes = slice(group.first, group.first + LANES)
        return left_fragment(
            [over_lanes(m, read(m.regs))[lanes] for read in self.lefts], self.element
        )

    def _product(self, m: "Machine", group: Warpgroup) -> Array:
        """A times B, [64, n]."""
        left = self._left(m, group)
        right = self._shared(m, group, self.right, self.n, self.k // 8)
        if self.metadata is None:
            product: Array = left.reshape(64, self.k) @ right.T
            return product * self.sign
        words = over_lanes(m, self.metadata(m.regs))[group.first : group.first + LANES]
        sparse = Sparse(left, words, self.k, self.selector, True)
        if sparse.bad.any():
            site = self.instruction.site
            raise invalid_metadata(m, sparse, slice(None), self.selector, site, group.first)
        if np.isfinite(right).all():
            product = sparse.dense.reshape(64, self.k) @ right.T
        else:
            parts = [Right.of(right[j : j + 8], WARPS) for j in range(0, self.n, 8)]
            product = np.concatenate([sparse.product(p, slice(None)) for p in parts], axis=2)
        return product.reshape(64, self.n) * self.sign


def _multiply(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    target, left, right, *rest = instruction.operands
    n, k, sparse = int(modifiers["n"]), int(modifiers["k"]), "sp" in modifiers
    if n % 8 or not 8 <= n <= 256 or k != (32 if sparse else 16):
        raise lowering.refuse(instruction, "has no such shape")
    registers = lowering.watched_numbers(elements(target))
    operands = lowering.watched_numbers(elements(left)) if isinstance(left, Vector) else ()
    if len(registers) != n // 2 or len(operands) not in (0, 4):
        raise lowering.refuse(instruction, f"needs {n // 2} accumulators, and 4 registers of A")
    metadata = lowering.read(rest.pop(0), "b32") if sparse else None
    selector = selector_of(lowering, instruction, rest.pop(0), k) if sparse else 0
    scale, *constants = rest
    touch(lowering, "shared", _CHUNK)
    lowering.proxies = True
    kind = "b32" if operands else "b64"
    form = _Form(
        instruction,
        lowering.site(instruction),
        f"m64n{n}k{k}",
        modifiers["a"],
        n,
        k,
        _sign(lowering, instruction, constants, 3 if operands else 4),
        registers,
        operands,
        tuple(lowering.read(item, kind) for item in elements(left)),
        lowering.read(right, "b64"),
        lowering.read(scale, "pred" if not isinstance(scale, Immediate) else "b32"),
        metadata,
        selector,
    )
    return _together(lowering, instruction, form.run)


def _sign(
    lowering: "Lowering", instruction: Instruction, constants: list[Operand], count: int
) -> float:
    """imm-scale-a times imm-scale-b; imm-trans must be 0. `constants` are what follows scale-d."""
    values = [item.value for item in constants if isinstance(item, Immediate)]
    if len(values) != len(constants) or len(values) != count:
        raise lowering.refuse(instruction, "needs immediate scales and transpositions")
    if any(value not in (1, -1) for value in values[:2]):
        raise lowering.refuse(instruction, "has a scale that is neither 1 nor -1")
    if any(values[2:]):
        raise lowering.refuse(instruction, "transposes an operand, which is not modelled")
    return float(values[0] * values[1])


def _fence(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    return _together(lowering, instruction, lambda m: m.warpgroups.fence(m))


def _commit(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    return _together(lowering, instruction, lambda m: m.warpgroups.commit(m))


def _wait(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
    (allowed,) = instruction.operands
    if not isinstance(allowed, Immediate):
        raise lowering.refuse(instruction, "takes an immediate number of groups")
    return _together(lowering, instruction, lambda m: m.warpgroups.wait(m, allowed.value))


def _claims(instruction: Instruction) -> tuple[Register, ...]:
    """Accumulators, and the registers of A if it has any."""
    target, left = instruction.operands[:2]
    found = [*elements(target), *(elements(left) if isinstance(left, Vector) else ())]
    return tuple(item for item in found if isinstance(item, Register))


_SHAPE = "sync.aligned.m64n<n:8|16|24|32|40|48|56|64|72|80|88|96|104|112|120|128|136|144|152|160"
_SHAPE += "|168|176|184|192|200|208|216|224|232|240|248|256>k<k:16|32>.f32"
ROWS = (
    *(
        row(
            f"wgmma.mma_async{sparse}.{_SHAPE}.<a:{a}>.{a}",
            _multiply,
            family=family,
            ends=True,
            claims=_claims,
        )
        for sparse, family in (("", "wgmma"), (".<sp:sp>", "wgmma.sp"))
        for a in ("f16", "bf16")
    ),
    row("wgmma.fence.sync.aligned", _fence, family="wgmma.fence", ends=True),
    row("wgmma.commit_group.sync.aligned", _commit, family="wgmma.commit_group", ends=True),
    row("wgmma.wait_group.sync.aligned", _wait, family="wgmma.wait_group", ends=True),
)
