"""The plan as text a person can review; checked in beside the emitted kernel."""

from collections.abc import Iterator

from samoyeds_gen.compiler.ops import Op
from samoyeds_gen.compiler.plan import Buffer, Plan


def print_plan(plan: Plan) -> str:
    """One line a buffer and operation, numbers as the kernel uses them."""
    m, n, k = plan.tile
    head = [
        f"kernel {plan.entry}",
        f"schedule {plan.schedule.name} {plan.schedule.digest}  written for {plan.schedule.target}",
        f"format ({plan.problem.format})  {plan.problem.dtype.name} -> "
        f"{plan.problem.out_dtype.name}  fold {plan.geometry.fold}",
        f"tile {m} x {n} x {k}  threads {plan.threads}  shared {plan.shared_bytes} B"
        f"  registers about {plan.geometry.registers}",
        *_experts(plan),
    ]
    parameters = [f"parameter {each.name:<13} {each.note}" for each in plan.parameters]
    sections = [
        ("setup", plan.setup),
        ("prologue", plan.prologue),
        ("producer, tile in K / " + str(k), plan.producer),
        ("loop tile in K / " + str(k), plan.loop),
        ("epilogue", plan.epilogue),
    ]
    body = [line for title, ops in sections if ops for line in (title, *_lines(ops, 1))]
    buffers = [_buffer(each) for each in plan.buffers]
    return "\n".join([*head, *parameters, *buffers, *body]) + "\n"


def _experts(plan: Plan) -> list[str]:
    """Whose weights they are, if they are experts'."""
    if not plan.problem.grouped:
        return []
    gates = f"; {8 * plan.geometry.features_per_row} rows of gate, then of up, and so on"
    return ["experts: tiles counted on the device" + (gates if plan.problem.gated else "")]


def _buffer(each: Buffer) -> str:
    shape = ",".join(map(str, each.shape))
    swizzle = each.swizzle.name if each.swizzle else ""
    place = f"@{each.offset}" if each.space == "shared" else ""
    return (
        f"buffer {each.name:<12} {each.space:<9}{each.element}[{shape}] {swizzle} "
        f"{each.bytes} B {place}"
    ).rstrip() + f"  # {each.note}"


def _lines(ops: tuple[Op, ...], depth: int) -> Iterator[str]:
    for op in ops:
        yield f"{'  ' * depth}{op.text}"
        yield from _lines(getattr(op, "body", ()), depth + 1)
