"""Names of a PTX function: nested scopes of registers, labels and variables.

A nested scope (braces in a body, as inline assembly writes them) renames what it declares, so that
a flat body has no two things of one name.
"""

import re
from collections.abc import Mapping

from samoyeds_gen.simulator.program import (
    Address,
    Immediate,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Special,
    Symbol,
    Vector,
)

_TOKEN = re.compile(
    r"\s*(0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|0[xX][0-9a-fA-F]+U?|\d+\.\d+(?:[eE][+-]?\d+)?"
    r"|\d+U?|[%$_A-Za-z][\w$]*(?:\.[a-z]\w*)?|[-+!|,{}()\[\]<>])"
)
_FLOAT = re.compile(r"\d+\.\d+")


class Scope:
    """One pair of braces; `suffix` makes the names declared in it unique."""

    def __init__(self, parent: "Scope | None", suffix: str) -> None:
        self.parent = parent
        self.suffix = suffix
        self.registers: dict[str, str] = {}
        self.families: dict[str, tuple[str, int]] = {}
        self.symbols: dict[str, str] = {}
        self._operands: dict[str, tuple[Operand, ...]] = {}

    def declare_registers(self, type_: str, names: str) -> None:
        """Take the text after `.reg .type`: comma-separated names, `%r<9>` for a family."""
        for name in (part.strip() for part in names.split(",")):
            family, open_, count = name.partition("<")
            if open_:
                self.families[family] = (type_, int(count.rstrip("> ")))
            else:
                self.registers[name] = type_

    def declare_symbol(self, name: str) -> str:
        """Record a label or variable of this scope and return its unique name."""
        return self.symbols.setdefault(name, name + self.suffix)

    def register(self, name: str) -> Register | None:
        """Find `name` here or in an enclosing scope."""
        type_ = self.registers.get(name)
        if type_ is None and self.families:
            stem = name.rstrip("0123456789")
            family = self.families.get(stem)
            if family is not None and stem != name and int(name[len(stem) :]) < family[1]:
                type_ = family[0]
        if type_ is not None:
            return Register(name + self.suffix, type_)
        return self.parent.register(name) if self.parent else None

    def symbol(self, name: str) -> str:
        """Unique name of a label or variable; names of no scope (functions) stay as they are."""
        if name in self.symbols:
            return self.symbols[name]
        return self.parent.symbol(name) if self.parent else name

    def operands(self, text: str) -> tuple[Operand, ...]:
        """Parse the comma-separated operands of an instruction; ValueError on bad syntax."""
        known = self._operands.get(text)
        if known is None:
            known = self._operands[text] = _Reader(text, self).items(end=None)
        return known


class _Reader:
    """Recursive descent over the tokens of one operand list."""

    def __init__(self, text: str, scope: Scope) -> None:
        self.tokens = _TOKEN.findall(text)
        if "".join(self.tokens) != re.sub(r"\s+", "", text):
            raise ValueError(text)
        self.scope = scope
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        if not token:
            raise ValueError("operand missing")
        self.at += 1
        return token

    def items(self, end: str | None) -> tuple[Operand, ...]:
        result: list[Operand] = []
        while (self.peek() != end) if end else self.peek():
            result.append(self.item())
            if self.peek() == ",":
                self.next()
        if end:
            self.next()
        return tuple(result)

    def item(self) -> Operand:
        token = self.next()
        if token == "[":
            return self.address()
        if token in "{(":
            return Vector(self.items("}" if token == "{" else ")"))
        if token == "!":
            register = self.scope.register(self.next())
            if register is None:
                raise ValueError("undeclared predicate")
            return Negated(register)
        operand = self.atom(token)
        if self.peek() == "|":
            self.next()
            second = self.atom(self.next())
            if isinstance(operand, Register | Sink) and isinstance(second, Register | Sink):
                return Pair(operand, second)
            raise ValueError("bad destination pair")
        if isinstance(operand, Symbol) and self.peek() == "+":
            return Symbol(operand.name, self.offset())
        return operand

    def atom(self, token: str) -> "Register | Sink | Immediate | Special | Symbol":
        if token == "_":
            return Sink()
        if token == "-":
            return Immediate(-self.number(self.next()).value)
        if token[0].isdigit():
            return self.number(token)
        register = self.scope.register(token)
        if register is not None:
            return register
        if token[0] == "%":
            return Special(token[1:])
        return Symbol(self.scope.symbol(token))

    @staticmethod
    def number(token: str) -> Immediate:
        kind = token[:2].lower()
        if kind in ("0f", "0d"):
            return Immediate(int(token[2:], 16), "f32" if kind == "0f" else "f64")
        if _FLOAT.match(token):
            raise ValueError(f"decimal float {token}")
        return Immediate(int(token.rstrip("U"), 0))

    def offset(self) -> int:
        """A possibly empty chain of `+8`, `-8`, `+-8`."""
        total = 0
        while self.peek() in ("+", "-"):
            sign = 1
            while self.peek() in ("+", "-"):
                sign = -sign if self.next() == "-" else sign
            total += sign * self.number(self.next()).value
        return total

    def address(self) -> Address:
        base = self.atom(self.next())
        if isinstance(base, Sink):
            raise ValueError("address missing")
        offset = self.offset()
        coordinates = None
        if self.peek() == ",":
            self.next()
            vector = self.item()
            if not isinstance(vector, Vector):
                raise ValueError("coordinates expected")
            coordinates = vector
        if self.next() != "]":
            raise ValueError("] expected")
        return Address(base, offset, coordinates)


def rename(operand: Operand, suffix: str, symbols: Mapping[str, str]) -> Operand:
    """The same operand with registers suffixed and symbols looked up, for inlining a call."""
    match operand:
        case Register():
            return Register(operand.name + suffix, operand.type)
        case Symbol():
            return Symbol(symbols.get(operand.name, operand.name), operand.offset)
        case Address():
            base = rename(operand.base, suffix, symbols)
            coordinates = operand.coordinates and rename(operand.coordinates, suffix, symbols)
            assert isinstance(base, Register | Symbol | Immediate | Special)
            assert coordinates is None or isinstance(coordinates, Vector)
            return Address(base, operand.offset, coordinates)
        case Negated():
            return Negated(Register(operand.register.name + suffix, operand.register.type))
        case Pair():
            first = rename(operand.first, suffix, symbols)
            second = rename(operand.second, suffix, symbols)
            assert isinstance(first, Register | Sink)
            assert isinstance(second, Register | Sink)
            return Pair(first, second)
        case Vector():
            return Vector(tuple(rename(item, suffix, symbols) for item in operand.items))
        case Immediate() | Special() | Sink():
            return operand
