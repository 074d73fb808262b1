"""Calls of device functions, expanded in place before lowering.

NVRTC leaves a call only for functions it was told not to inline; expanding them keeps one register
file and one block list per kernel. Recursion is refused.
"""

from samoyeds_gen.simulator.fault import SimulationFault
from samoyeds_gen.simulator.program import (
    Function,
    Instruction,
    Label,
    Program,
    Register,
    Symbol,
    Variable,
    Vector,
)
from samoyeds_gen.simulator.scopes import rename

Body = list[Instruction | Label]


def inline(program: Program, entry: Function) -> tuple[Body, list[Variable]]:
    """The entry's body with every call expanded, and the variables of all functions involved."""
    variables = list(entry.variables)
    body: Body = []
    _expand(program, list(entry.body), body, variables, (entry.name,))
    return body, variables


def _expand(
    program: Program, source: Body, body: Body, variables: list[Variable], chain: tuple[str, ...]
) -> None:
    for item in source:
        if isinstance(item, Label) or not item.opcode.startswith("call"):
            body.append(item)
            continue
        name, results, arguments = _callee(item)
        function = program.functions.get(name)
        if function is None or name in chain or item.guard is not None:
            raise SimulationFault(
                "unknown opcode", f"a call of {name!r} cannot be expanded", site=item.site
            )
        suffix = f"#{len(body)}"
        own = _own_symbols(function, suffix)
        actual = zip(function.parameters, arguments, strict=True)
        returned = zip(function.results, results, strict=True)
        own.update({formal.name: symbol.name for formal, symbol in (*actual, *returned)})
        variables.extend(
            Variable(own[v.name], v.space, v.size, v.align, v.data) for v in function.variables
        )
        inner: Body = []
        _expand(program, list(function.body), inner, variables, (*chain, name))
        end = f"{name}{suffix}.end"
        body.extend(_renamed(part, suffix, own, end) for part in inner)
        body.append(Label(end))


def _callee(call: Instruction) -> tuple[str, list[Symbol], list[Symbol]]:
    names = [operand for operand in call.operands if isinstance(operand, Symbol)]
    lists = [operand for operand in call.operands if isinstance(operand, Vector)]
    results = lists.pop(0) if call.operands and isinstance(call.operands[0], Vector) else Vector(())
    arguments = lists.pop(0) if lists else Vector(())
    symbols = [*results.items, *arguments.items]
    if not names or not all(isinstance(item, Symbol) for item in symbols):
        what = f"a call of {names[0].name!r}" if names else "an indirect call"
        raise SimulationFault("unknown opcode", f"{what} cannot be expanded", site=call.site)
    count = len(results.items)
    params = [item for item in symbols if isinstance(item, Symbol)]
    return names[0].name, params[:count], params[count:]


def _own_symbols(function: Function, suffix: str) -> dict[str, str]:
    names = [v.name for v in function.variables]
    names += [item.name for item in function.body if isinstance(item, Label)]
    return {name: name + suffix for name in names}


def _renamed(
    part: Instruction | Label, suffix: str, own: dict[str, str], end: str
) -> Instruction | Label:
    if isinstance(part, Label):
        targets = part.targets and tuple(own[name] for name in part.targets)
        return Label(own.get(part.name, part.name + suffix), targets)
    guard = part.guard
    if guard is not None:
        guard = Register(guard[0].name + suffix, guard[0].type), guard[1]
    if part.opcode.startswith("ret"):
        return Instruction("bra", (Symbol(end),), part.site, guard)
    operands = tuple(rename(operand, suffix, own) for operand in part.operands)
    return Instruction(part.opcode, operands, part.site, guard)
