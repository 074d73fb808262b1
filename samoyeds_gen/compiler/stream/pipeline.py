"""The operations of the stream: weights run ahead in registers, tokens in a ring of chunks.

One iteration of the loop is a turn: every register slot is multiplied and loaded again once. It
may span several chunks of tokens, each of which is waited for where it begins.
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
)


def add_operations(plan: StreamPlan) -> StreamPlan:
    """Setup, prologue, loop body and epilogue; the order inside the loop is the next pass's."""
    g, split = plan.geometry, plan.schedule.split.k > 1
    segments = range(g.groups // g.chunk_groups)
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
    """Hold every hazard of the token ring against waits and barriers, chunk by chunk.

    All chunks are handed over alike, so one of them stands for all.
    """
    check_synchronised(ordered(tuple(_segment(plan, 0))), plan.geometry.chunks)
    return plan


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
    return (
        LoadGroup(f"load the first {g.groups} groups of every warp", first=True),
        *((NameRows("look up token rows"), named) if plan.problem.index else ()),
        FillRing(f"copy token chunks 0..{g.chunks - 2}", count=g.chunks - 1),
    )


def _segment(plan: StreamPlan, segment: int) -> Iterator[Op]:
    """One chunk of tokens within a turn: hand it over, then the groups that use it.

    Versions count chunks, so that operations keep the order of their segment.
    """
    g = plan.geometry
    ahead, first = g.chunks - 1, segment * g.chunk_groups
    stage = Access("stage", segment, shared=False)
    published = Access("published", segment, shared=False)
    issued = Access("issued", segment + 1, shared=False)
    arrived = Access("arrived", segment, shared=False)
    reason = "This chunk is visible to every warp, and no warp still reads the one before it."
    yield Wait(
        f"wait until at most {ahead - 1} chunks are in flight",
        slot=first,
        reads=(Access("issued", segment, shared=False), stage),
        writes=(arrived,),
        pending=ahead - 1,
    )
    yield Barrier("barrier", slot=first, reads=(arrived,), writes=(published,), reason=reason)
    yield CopyTile(
        f"copy token chunk + {ahead}",
        slot=first,
        reads=(published,),
        writes=(Access("token_ring", ahead, late=True), issued),
        ahead=ahead,
    )
    for part in range(g.chunk_groups):
        slot = first + part
        words = f"weight {slot}"
        yield MultiplyGroup(
            f"acc += weight * tokens of group {slot} by four {plan.atom.name}",
            slot=slot,
            reads=(Access("token_ring"), published, issued, stage, Access(words, shared=False)),
            writes=(Access("acc", slot, shared=False),),
            buffer=slot,
            part=part,
        )
        yield LoadGroup(
            f"load weights of group {slot} of turn + 1",
            slot=slot,
            reads=(Access("acc", slot, shared=False),),
            writes=(Access(words, 1, shared=False),),
            buffer=slot,
        )
    yield AdvanceStage(
        "advance to the next chunk",
        slot=first + g.chunk_groups - 1,
        reads=(Access("acc", first + g.chunk_groups - 1, shared=False),),
        writes=(Access("stage", segment + 1, shared=False),),
    )
