"""An instruction is a row: an opcode pattern and what it means.

A pattern is literal text with `<name:a|b>` for a choice and `[...]` for an optional part; it must
match an opcode whole, so a modifier nobody thought of is an unknown opcode, not a silent no-op.
The words of `SETS` may stand for a choice. Meanings come from the files of `instructions`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samoyeds_gen.simulator.program import Instruction, Register
from samoyeds_gen.simulator.scalars import Array, bits_of

if TYPE_CHECKING:
    from samoyeds_gen.simulator.lowering import Lowering
    from samoyeds_gen.simulator.machine import Machine

Modifiers = Mapping[str, str]
Step = Callable[["Machine"], None]
Build = Callable[["Lowering", Instruction, Modifiers], Step]
Function = Callable[..., Array]
Claims = Callable[[Instruction], tuple[Register, ...]]

SETS = {
    "INT": "[us](?:16|32|64)",
    "INT8": "[us](?:8|16|32|64)",
    "UINT": "u(?:16|32|64)",
    "SINT": "s(?:16|32|64)",
    "BITS": "b(?:16|32|64)",
    "ANY": "[bus](?:8|16|32|64)|f(?:16|32|64)|f16x2|bf16|bf16x2|b128",
    "RND": "r[nzmp]",
    "CMP": "eq|ne|lt|le|gt|ge|lo|ls|hi|hs|equ|neu|ltu|leu|gtu|geu|num|nan",
    "SCOPE": "cta|cluster|gpu|sys",
    "SEM": "weak|volatile|relaxed|acquire|release|acq_rel|mmio",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of instruction.

    `ends` marks a row that decides where lanes go next, so that its block stops there. `family` is
    the name the counters use; it may mention choices, as `ld.{space}` does. `claims` names the
    registers that it hands to asynchronous work, which other instructions must then leave alone.
    """

    pattern: str
    build: Build
    family: str
    ends: bool = False
    claims: Claims | None = None


def row(
    pattern: str,
    build: Build,
    *,
    family: str | None = None,
    ends: bool = False,
    claims: Claims | None = None,
) -> Row:
    """Make a row; the family defaults to the pattern's first word."""
    return Row(pattern, build, family or re.split(r"[.\[<]", pattern)[0], ends, claims)


def expression(pattern: str) -> re.Pattern[str]:
    """Translate a row's pattern to the regular expression of whole opcodes."""
    parts = re.split(r"(<\w+:[^>]*>|\[|\])", pattern)
    out = []
    for part in parts:
        if part.startswith("<"):
            name, choice = part[1:-1].split(":", 1)
            choice = "|".join(SETS.get(word) or re.escape(word) for word in choice.split("|"))
            out.append(f"(?P<{name}>{choice})")
        else:
            out.append({"[": "(?:", "]": ")?"}.get(part, re.escape(part)))
    return re.compile("".join(out))


class Table:
    """All rows, found by the first word of an opcode; lookups are memoised."""

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.rows = rows
        self._by_word: dict[str, list[tuple[re.Pattern[str], Row]]] = {}
        for item in rows:
            word = re.split(r"[.\[<:]", item.pattern)[0]
            self._by_word.setdefault(word, []).append((expression(item.pattern), item))
        self._found: dict[str, tuple[Row, Modifiers] | None] = {}

    def find(self, opcode: str) -> tuple[Row, Modifiers] | None:
        """The first row whose pattern is `opcode`, with its choices; None if there is none."""
        if opcode not in self._found:
            self._found[opcode] = self._search(opcode)
        return self._found[opcode]

    def _search(self, opcode: str) -> tuple[Row, Modifiers] | None:
        for pattern, item in self._by_word.get(re.split(r"[.:]", opcode)[0], ()):
            match = pattern.fullmatch(opcode)
            if match:
                return item, {k: v for k, v in match.groupdict().items() if v is not None}
        return None


def type_of(word: str, modifiers: Modifiers) -> str:
    """Resolve a word of a signature.

    `t`, or any other choice of the pattern, is that choice; `u` and `s` are the unsigned and signed
    type of the width of `t`, `w` is twice as wide as `t`; anything else is a PTX type.
    """
    if word in modifiers:
        return modifiers[word]
    if word in ("u", "s"):
        return f"{word}{bits_of(modifiers['t'])}"
    if word == "w":
        return f"{modifiers['t'][0]}{2 * bits_of(modifiers['t'])}"
    return word


def alu(pattern: str, signature: str, function: Function, *, family: str | None = None) -> Row:
    """A row that computes each lane's result from its sources alone.

    `signature` names the types of destination and sources, see `type_of`; `function` takes and
    returns arrays of those types.
    """
    return alu_by(pattern, signature, lambda _: function, family=family)


def alu_by(
    pattern: str,
    signature: str,
    choose: Callable[[Modifiers], Function],
    *,
    family: str | None = None,
) -> Row:
    """Like `alu`, with the function chosen by the opcode's modifiers."""
    words = signature.split()

    def build(lowering: "Lowering", instruction: Instruction, modifiers: Modifiers) -> Step:
        types = [type_of(word, modifiers) for word in words]
        write = lowering.write(instruction.operands[0], types[0])
        sources = instruction.operands[1:]
        if len(sources) != len(types) - 1:
            raise lowering.refuse(instruction, f"takes {len(types) - 1} sources")
        reads = [lowering.read(operand, t) for operand, t in zip(sources, types[1:], strict=True)]
        return apply(choose(modifiers), write, reads)

    return row(pattern, build, family=family)


def apply(
    function: Function,
    write: Callable[["Machine", Array], None],
    reads: list[Callable[[list[Array]], Array]],
) -> Step:
    """A step that reads, computes and writes; unrolled for one to three sources."""
    if len(reads) == 1:
        (one,) = reads
        return lambda m: write(m, function(one(m.regs)))
    if len(reads) == 2:
        one, two = reads
        return lambda m: write(m, function(one(m.regs), two(m.regs)))
    if len(reads) == 3:
        one, two, three = reads
        return lambda m: write(m, function(one(m.regs), two(m.regs), three(m.regs)))
    return lambda m: write(m, function(*[read(m.regs) for read in reads]))
