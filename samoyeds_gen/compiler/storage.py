"""Where shared buffers lie: byte offsets, with buffers of disjoint lives sharing bytes."""

from dataclasses import replace

from samoyeds_gen.compiler.dependence import shares_allowed
from samoyeds_gen.compiler.plan import Buffer, Plan
from samoyeds_gen.errors import ScheduleError

SECTIONS = ("prologue", "loop", "epilogue")


def place_buffers(plan: Plan) -> Plan:
    """Give every shared buffer its offset, first fit among those alive at the same time.

    Buffers are placed as listed or, where that takes fewer bytes, with those that live longest
    first: one of them behind the loop's buffers would split what the epilogue may use again.
    Raises `ScheduleError` when the sum exceeds what the target gives one CTA.
    """
    shared = [each for each in plan.buffers if each.space == "shared"]
    lives = [(SECTIONS.index(each.first), SECTIONS.index(each.last)) for each in shared]
    listed = list(range(len(shared)))
    longest = sorted(listed, key=lambda position: lives[position][0] - lives[position][1])
    orders = (_placed(shared, lives, order) for order in (listed, longest))
    placed = min(orders, key=lambda buffers: max(each.end for each in buffers))
    total = max(each.end for each in placed)
    _require_fit(plan, total)
    registers = tuple(each for each in plan.buffers if each.space == "register")
    return replace(plan, buffers=(*placed, *registers), shared_bytes=total)


def _placed(
    shared: list[Buffer], lives: list[tuple[int, int]], order: list[int]
) -> tuple[Buffer, ...]:
    """The buffers, as listed, at the offsets they get if they are placed in this order."""
    conflicts = shares_allowed(lives)
    placed: dict[int, Buffer] = {}
    for position in order:
        rivals = sorted(
            (placed[other] for other in conflicts.neighbors(position) if other in placed),
            key=lambda each: each.offset,
        )
        placed[position] = replace(shared[position], offset=_first_fit(shared[position], rivals))
    return tuple(placed[position] for position in range(len(shared)))


def _first_fit(buffer: Buffer, rivals: list[Buffer]) -> int:
    offset = 0
    for rival in rivals:
        if offset + buffer.bytes <= rival.offset:
            break
        offset = -(-max(offset, rival.end) // buffer.align) * buffer.align
    return offset


def _require_fit(plan: Plan, total: int) -> None:
    limit = plan.target.shared_per_cta
    if total > limit:
        raise ScheduleError(
            f"the kernel needs {total} bytes of shared memory, {plan.target.name} has {limit}",
            rule="shared-limit",
            remedy="use a smaller tile or fewer stages",
            where=plan.schedule.place_of("tile"),
        )
