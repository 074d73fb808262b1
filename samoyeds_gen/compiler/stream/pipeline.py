"""The operations of the stream: weights run ahead in registers, tokens in a ring of chunks.

A turn multiplies and reloads every register slot once. It spans several chunks of tokens, or a
chunk several turns; a chunk is waited for where it begins.
"""

from collections.abc import Iterator
from dataclasses import replace

from samoyeds_gen.compiler.dependence import check_synchronised, ordered
from samoyeds_gen.compiler.ops import (
    Access,
    AdvanceStage,
    Barrier,
    CopyTile,
    FillRing,
    FinishFold,
    NameRows,
    Op,
    State,
    Wait,
)
from samoyeds_gen.compiler.stream.geometry import StreamPlan
from samoyeds_gen.compiler.stream.ops import (
    AddParts,
    FinishSlices,
    LoadGroup,
    MultiplyGroup,
    TakeTicket,
    Turns,
)


def add_operations(plan: StreamPlan) -> StreamPlan:
    """Setup, prologue, loop body and epilogue; the order inside the loop is the next pass's."""
    g, split = plan.geometry, plan.schedule.split.k > 1
    segments = range(max(1, g.groups // g.chunk_groups))
    return replace(
        plan,
        setup=_setup(plan),
        prologue=_prologue(plan),
        loop=tuple(op for segment in segments for op in _segment(plan, segment)),
        epilogue=(
            *((FinishFold("add the last prefix sums"),) if g.fold == "prefix" else ()),
            Wait("wait until no copy is in flight", pending=0),
            State("finish and store four outputs", name="output_quads"),
            *((State("parts of the tile", name="split_parts"),) if split else ()),
            FinishSlices(
                ("parts" if split else "out") + " <- sums over warps <- acc, 8 tokens at a time",
                fold=g.fold,
                split=split,
            ),
            *((TakeTicket("take a ticket; only the last CTA goes on"),) if split else ()),
            *((AddParts("out <- sums over parts"),) if split else ()),
        ),
    )


def order_loop(plan: StreamPlan) -> StreamPlan:
    """Put the loop body in an order that its dependences allow."""
    return replace(plan, loop=ordered(plan.loop))


def verify_synchronisation(plan: StreamPlan) -> StreamPlan:
    """Hold every hazard of the token ring against waits and barriers, chunk by chunk."""
    check_synchronised(chunk_loop(plan), plan.geometry.chunks)
    return plan


def chunk_loop(plan: StreamPlan) -> tuple[Op, ...]:
    """What happens for one chunk of tokens, in order: an iteration may span several, all alike."""
    return ordered(tuple(_segment(plan, 0)))


def _setup(plan: StreamPlan) -> tuple[Op, ...]:
    fold = plan.geometry.fold
    gathered = "gathered" if plan.problem.index else "contiguous"
    folded = fold != "direct"
    words = (State("offset words", name="offset_words"),) if folded else ()
    shifted = (State("offsets of the group", name="shifted_offsets"),) if folded else ()
    return (
        State("weights and metadata in flight", name="weight_stream", body=words),
        State(f"deal {gathered} token pieces to threads", name=f"{gathered}_tokens"),
        State("token fragments", name="resident_tokens"),
        *((State("prefix sums", name="prefix_sums"),) if fold == "prefix" else ()),
        State(
            "matrix work of a group",
            name="group_steps",
            body=(State(f"{fold} steps", name=f"{fold}_steps", body=shifted),),
        ),
    )


def _prologue(plan: StreamPlan) -> tuple[Op, ...]:
    g = plan.geometry
    named = Barrier("barrier", reason="The token rows are visible to every warp.")
    early = State("begin early, wait for the launch before", name="begin_early")
    return (
        *((early,) if plan.schedule.launch.dependent else ()),
        LoadGroup(f"load the first {g.groups} groups of every warp", first=True),
        *((NameRows("look up token rows"), named) if plan.problem.index else ()),
        *(
            (FillRing(f"copy token chunks 0..{g.chunks - 2}", count=g.chunks - 1),)
            if g.chunks > 1
            else ()
        ),
    )


def _segment(plan: StreamPlan, segment: int) -> Iterator[Op]:
    """One chunk of tokens within an iteration: hand it over, then the groups that use it.

    Versions count the chunks of an iteration, so that operations keep the order of their segment.
    """
    g = plan.geometry
    held = min(g.chunk_groups, g.groups)
    first = segment * held
    yield from _hand_over(plan, segment, first)
    if g.chunk_groups > g.groups:
        text = f"{g.chunk_groups // g.groups} turns over all slots"
        slots = range(g.groups)
        yield Turns(
            text,
            reads=(Access("token_ring"), _value("published", 0), _value("issued", 1)),
            writes=(_value("acc", g.groups - 1),),
            body=tuple(
                op for slot in slots for op in _group(plan, slot, 0, f"turn * kGroups + {slot}")
            ),
        )
    else:
        for part in range(held):
            yield from _group(plan, first + part, segment, str(part))
    yield AdvanceStage(
        "advance to the next chunk",
        slot=first + held - 1,
        reads=(_value("acc", first + held - 1),),
        writes=(_value("stage", segment + 1),),
    )


def _value(name: str, version: int) -> Access:
    """The `version`-th value of something private to the thread in one iteration."""
    return Access(name, version, shared=False)


def _hand_over(plan: StreamPlan, segment: int, slot: int) -> Iterator[Op]:
    """Wait for a chunk and let every warp see it; copy another over the one before it.

    With a single chunk in shared memory, it is copied where it is needed.
    """
    ahead = plan.geometry.chunks - 1
    stage, issued = _value("stage", segment), _value("issued", segment + 1)
    arrived, published = _value("arrived", segment), _value("published", segment)
    free = _value("free", segment)
    reason = "This chunk is visible to every warp"
    arriving, copying = (_value("issued", segment), stage), published
    if ahead:
        reason += ", and no warp still reads the one before it"
    else:
        nobody = "No warp still reads the chunk before this one."
        yield Barrier("barrier", slot=slot, reads=(stage,), writes=(free,), reason=nobody)
        arriving, copying = (issued, stage), free
    yield Wait(
        f"wait until at most {max(ahead - 1, 0)} chunks are in flight",
        slot=slot,
        reads=arriving,
        writes=(arrived,),
        pending=max(ahead - 1, 0),
    )
    yield Barrier("barrier", slot=slot, reads=(arrived,), writes=(published,), reason=reason + ".")
    yield CopyTile(
        f"copy token chunk + {ahead}",
        slot=slot,
        reads=(copying,),
        writes=(Access("token_ring", ahead, late=True), issued),
        ahead=ahead,
    )


def _group(plan: StreamPlan, slot: int, segment: int, part: str) -> Iterator[Op]:
    """Multiply the group in a register slot, and load the one a turn later in its place."""
    words = f"weight {slot}"
    yield MultiplyGroup(
        f"acc += weight * tokens of group {slot} by four {plan.atom.name}",
        slot=slot,
        reads=(
            Access("token_ring"),
            _value("published", segment),
            _value("issued", segment + 1),
            _value("stage", segment),
            _value(words, 0),
        ),
        writes=(_value("acc", slot),),
        buffer=slot,
        part=part,
    )
    yield LoadGroup(
        f"load weights of group {slot} of turn + 1",
        slot=slot,
        reads=(_value("acc", slot),),
        writes=(_value(words, 1),),
        buffer=slot,
    )
