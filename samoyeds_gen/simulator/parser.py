"""PTX text to a Program.

Decides structure only: statements, scopes, labels, `.loc` lines. Opcodes are not looked at, except
that a statement must have one; an opcode nobody knows is found when its function is lowered.
"""

import re
from functools import lru_cache
from pathlib import PurePosixPath

from samoyeds_gen.errors import CompileError
from samoyeds_gen.simulator.program import (
    Function,
    Instruction,
    Label,
    Operand,
    Program,
    Register,
    Site,
    Variable,
    Vector,
)
from samoyeds_gen.simulator.scalars import DTYPES
from samoyeds_gen.simulator.scopes import Scope

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_HEADER = re.compile(r"\s*((?:\.(?:visible|extern|weak|common|alias)\s+)*)\.(entry|func)\b")
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)\s+\d+(?:[^\n]*inlined_at\s+(\d+)\s+(\d+))?[^\n]*")
_FILE = re.compile(r"\.file\s+(\d+)\s+\"([^\"]*)\"")
_SECTION = re.compile(r"\.section\s+[.\w]+\s*\{[^}]*\}")
_LABEL = re.compile(r"([%$_A-Za-z][\w$]*)\s*:(?!:)")
_STATEMENT = re.compile(r"(?:@(!?)\s*([%$\w]+)\s+)?([a-zA-Z_][\w.:]*(?:::[\w.:]+)*)\s*(.*)\Z", re.S)
_VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak|common)\s+)*\.(global|const|shared|local|param)\s+"
    r"(?:\.align\s+(\d+)\s+)?(?:\.attribute\([^)]*\)\s*)?\.(\w+)\s+"
    r"(?:\.ptr(?:\s*\.(?:global|shared|const|local))?(?:\s*\.align\s+\d+)?\s+)?(?:\.align\s+(\d+)\s+)?"
    r"([\w$%.]+)((?:\[\d*\])*)\s*(?:=\s*(.*))?\Z",
    re.S,
)


@lru_cache(maxsize=64)
def parse(text: str) -> Program:
    """Parse a PTX module; memoised on its text. CompileError names the line that is not PTX."""
    text = _COMMENT.sub(lambda match: "\n" * match.group().count("\n"), text)
    return _Module(text).program()


class _Module:
    def __init__(self, text: str) -> None:
        self.files = {number: PurePosixPath(path).name for number, path in _FILE.findall(text)}
        self.text = _SECTION.sub(lambda match: "\n" * match.group().count("\n"), text)
        self.functions: dict[str, Function] = {}
        self.variables: list[Variable] = []
        self.target = ""
        self.line_at = 0
        self.line_number = 1

    def refuse(self, position: int, what: str) -> CompileError:
        line = self.text.count("\n", 0, position) + 1
        return CompileError(
            f"PTX line {line}: {what}", remedy="pass PTX text as NVRTC or ptxas accepts it"
        )

    def line(self, position: int) -> int:
        """1-based line of a position; positions only grow, so each character is counted once."""
        self.line_number += self.text.count("\n", self.line_at, position)
        self.line_at = position
        return self.line_number

    def program(self) -> Program:
        position = 0
        while (position := self.skip(position)) < len(self.text):
            if _HEADER.match(self.text, position):
                position = self.function(position)
            elif self.text.startswith(".file", position):
                position = self.end_of_line(position)
            elif self.text[position] == ".":
                position = self.directive(position)
            else:
                raise self.refuse(position, "a directive or function was expected")
        return Program(self.target, self.functions, tuple(self.variables))

    def skip(self, position: int) -> int:
        match = re.compile(r"\s*").match(self.text, position)
        return match.end() if match else position

    def end_of_line(self, position: int) -> int:
        end = self.text.find("\n", position)
        return len(self.text) if end < 0 else end

    def directive(self, position: int) -> int:
        for word in (".version", ".target", ".address_size"):
            if self.text.startswith(word, position):
                end = self.end_of_line(position)
                if word == ".target":
                    self.target = self.text[position + len(word) : end].split(",")[0].strip()
                return end
        end = self.text.find(";", position)
        variable = self.variable(self.text[position:end], None)
        if end < 0 or variable is None:
            raise self.refuse(position, "unknown directive")
        self.variables.append(variable)
        return end + 1

    def variable(self, text: str, scope: Scope | None) -> Variable | None:
        match = _VARIABLE.match(text.strip())
        if match is None:
            return None
        space, before, type_, after, name, dimensions, initial = match.groups()
        item = 16 if type_ == "b128" else DTYPES[type_].itemsize if type_ in DTYPES else 1
        count = 1
        for extent in re.findall(r"\[(\d*)\]", dimensions):
            count *= int(extent or 0)
        data = _initial(initial, item, item * count) if initial else None
        align = int(before or after or item)
        unique = scope.declare_symbol(name) if scope else name
        return Variable(unique, space, item * count, align, data)

    def function(self, position: int) -> int:
        stop = re.compile(r"[{;]").search(self.text, position)
        if stop is None:
            raise self.refuse(position, "a function body was expected")
        header = self.text[position : stop.start()]
        head = re.search(r"\.(entry|func)\s*(?:\(([^)]*)\))?\s*([\w$]+)\s*(?:\(([^)]*)\))?", header)
        if head is None:
            raise self.refuse(position, "a function name was expected")
        if self.text[stop.start()] == ";":
            return stop.end()
        scope = Scope(None, "")
        body = _Body(self, scope, stop.end())
        self.functions[head[3]] = Function(
            head[3],
            head[1] == "entry",
            self.parameters(head[4], scope),
            self.parameters(head[2], scope),
            tuple(body.instructions()),
            tuple(body.variables),
            _directive(header, "reqnctapercluster"),
            _directive(header, "maxnreg"),
        )
        return body.end

    def parameters(self, text: str | None, scope: Scope) -> tuple[Variable, ...]:
        parts = [part for part in (text or "").split(",") if part.strip()]
        found = [self.variable(part, scope) for part in parts]
        return tuple(variable for variable in found if variable is not None)


class _Body:
    """Statements of one function: first split with their scopes, then resolved."""

    def __init__(self, module: _Module, scope: Scope, start: int) -> None:
        self.module = module
        self.scope = scope
        self.variables: list[Variable] = []
        self.statements: list[tuple[str, int, str | None, Scope]] = []
        self.source: str | None = None
        self.scopes = 0
        self.end = self.split(start)

    def split(self, position: int) -> int:
        text, scope, depth = self.module.text, self.scope, 1
        while depth:
            position = self.module.skip(position)
            if position >= len(text):
                raise self.module.refuse(position, "a closing brace is missing")
            if text[position] == "{":
                self.scopes += 1
                scope, depth = Scope(scope, f"@{self.scopes}"), depth + 1
                position += 1
            elif text[position] == "}":
                scope, depth = scope.parent or scope, depth - 1
                position += 1
            else:
                position = self.statement(position, scope)
        return position

    def statement(self, position: int, scope: Scope) -> int:
        text = self.module.text
        if match := _LOC.match(text, position):
            self.source = self.place(match[1], match[2])
            if match[3]:
                self.source += f" inlined at {self.place(match[3], match[4])}"
            return match.end()
        line = self.module.line(position)
        if match := _LABEL.match(text, position):
            scope.declare_symbol(match[1])
            self.statements.append((match[1] + ":", line, None, scope))
            return match.end()
        end = text.find(";", position)
        if end < 0:
            raise self.module.refuse(position, "a semicolon is missing")
        statement = text[position:end].strip()
        if statement.startswith(".branchtargets"):
            self.statements.append((statement, line, None, scope))
        elif statement.startswith("."):
            self.declare(statement, scope, position)
        elif statement:
            self.statements.append((statement, line, self.source, scope))
        return end + 1

    def place(self, file: str, line: str) -> str:
        return f"{self.module.files.get(file, 'source')}:{line}"

    def declare(self, statement: str, scope: Scope, position: int) -> None:
        words = statement.split(None, 2)
        if words[0] == ".reg":
            scope.declare_registers(words[1].lstrip("."), words[2])
        elif words[0] not in (".pragma", ".callprototype"):
            variable = self.module.variable(statement, scope)
            if variable is None:
                raise self.module.refuse(position, f"unknown directive {words[0]}")
            self.variables.append(variable)

    def instructions(self) -> list[Instruction | Label]:
        result: list[Instruction | Label] = []
        for text, line, source, scope in self.statements:
            if text.endswith(":"):
                result.append(Label(scope.symbol(text[:-1])))
            elif text.startswith("."):
                targets = text.removeprefix(".branchtargets").split(",")
                names = tuple(scope.symbol(name.strip()) for name in targets)
                previous = result.pop()
                assert isinstance(previous, Label)
                result.append(Label(previous.name, names))
            else:
                result.append(self.instruction(text, line, source, scope))
        return result

    def instruction(self, text: str, line: int, source: str | None, scope: Scope) -> Instruction:
        match = _STATEMENT.match(text)
        if match is None:
            raise CompileError(f"PTX line {line}: not an instruction: {text.split(chr(10))[0]!r}")
        negated, guard, opcode, rest = match.groups()
        try:
            operands = scope.operands(rest)
        except ValueError as error:
            raise CompileError(f"PTX line {line}: bad operands of {opcode}: {error}") from None
        predicate: Register | None = scope.register(guard) if guard else None
        if guard and predicate is None:
            raise CompileError(f"PTX line {line}: undeclared predicate {guard}")
        site = Site(opcode, line, source)
        return Instruction(
            opcode, operands, site, (predicate, bool(negated)) if predicate else None
        )


def _directive(header: str, name: str) -> int | None:
    """The first number of a performance directive."""
    found = re.search(rf"\.{name}\s+(\d+)", header)
    return int(found[1]) if found else None


def _initial(text: str, item: int, size: int) -> bytes:
    values = [int(word, 0) for word in re.findall(r"-?(?:0[xX][0-9a-fA-F]+|\d+)", text)]
    data = b"".join((value % (1 << 8 * item)).to_bytes(item, "little") for value in values)
    return data.ljust(size, b"\0")


def flatten(operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
    """Operands with vectors opened, in order."""
    result: list[Operand] = []
    for operand in operands:
        result.extend(operand.items if isinstance(operand, Vector) else (operand,))
    return tuple(result)
