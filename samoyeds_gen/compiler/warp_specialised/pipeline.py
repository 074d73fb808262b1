"""What the producer warp and the consumer warpgroups do, in the order they do it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, product

from samoyeds_gen.compiler.ops import Op, State
from samoyeds_gen.compiler.warp_specialised.geometry import (
    METADATA_COLUMNS,
    WARPGROUP_ROWS,
    SpecialisedPlan,
)
from samoyeds_gen.compiler.warp_specialised.ops import (
    AddPrefix,
    AwaitEmpty,
    AwaitFull,
    AwaitMatrix,
    CopyTokens,
    CopyWeight,
    CopyWords,
    ExpectBytes,
    GatherTokens,
    Issue,
    LoadFragments,
    MatrixStep,
    NextStage,
    PassTurn,
    ReadPlace,
    ReadWeight,
    ReadWords,
    Release,
    SendParts,
    ShowGathered,
    StoreSlices,
    TakeTurn,
    TellPlace,
)
from samoyeds_gen.errors import ScheduleError


def add_operations(plan: SpecialisedPlan) -> SpecialisedPlan:
    """The producer's loop, the consumers' loop, and the epilogue of a tile."""
    g = plan.geometry
    rows = State("weight fragments", name="fragment_rows")
    if g.fragment_buffers:
        rows = State("weight fragments in flight", name="fragment_stream")
    return replace(
        plan,
        setup=(rows,) if g.weight_registers else (),
        producer=_producer(plan),
        loop=_consumer(plan),
        epilogue=_epilogue(plan),
    )


def _epilogue(plan: SpecialisedPlan) -> tuple[Op, ...]:
    g = plan.geometry
    paired = g.features_per_row % 2 == 0
    rest: tuple[Op, ...] = ()
    if plan.schedule.overlap.ahead:
        rest = (
            AwaitMatrix("wait until 0 groups are in flight", pending=0, part=0),
            Release("release the last stage", cluster=g.cluster, late=True, end=True),
        )
    if plan.schedule.overlap.ahead and g.fragment_buffers:
        text = "load weight fragments of the next tile for the last stage"
        rest += (LoadFragments(text, ahead=g.fragment_buffers, late=True, end=True),)
    if g.split == 1:
        return (*rest, StoreSlices("out <- slices <- acc", fold=g.fold, paired=paired))
    return (
        *rest,
        SendParts("parts of the cluster <- acc", fold=g.fold),
        StoreSlices("out <- slices <- sums of parts", fold=g.fold, paired=paired, split=g.split),
    )


def order_loop(plan: SpecialisedPlan) -> SpecialisedPlan:
    """The operations are written in order: producer and consumers meet only at barriers."""
    return plan


def verify_synchronisation(plan: SpecialisedPlan) -> SpecialisedPlan:
    """Hold the hand-overs of the ring against the operations. Raises `ScheduleError`."""
    for holds, what in chain(_filled(plan), _emptied(plan), _loaded(plan), _added(plan)):
        if not holds:
            raise ScheduleError(
                f"the pipeline of {plan.entry} breaks: {what}",
                rule="missing-wait",
                remedy="report this as a bug",
            )
    return plan


Promises = Iterator[tuple[bool, str]]


def _filled(plan: SpecialisedPlan) -> Promises:
    """What the producer owes a stage."""
    g, ops = plan.geometry, plan.producer
    brought = sum(getattr(op, "bytes", 0) for op in ops if not isinstance(op, ExpectBytes))
    announced = sum(op.bytes for op in ops if isinstance(op, ExpectBytes))
    boxed = 0 if g.gathered else g.token_bytes
    stage = g.weight_bytes + boxed + g.groups * g.word_bytes
    yield announced == brought == stage, "the bytes announced are those copied"
    yield type(ops[0]) is AwaitEmpty, "nothing is copied before it is empty"
    yield type(ops[-1]) is NextStage, "the producer goes on to the next stage"
    told = [type(op) for op in ops].index(TellPlace) if g.places_told else 1
    yield told == 1, "consumers are told the place before the stage is full"


def _emptied(plan: SpecialisedPlan) -> Promises:
    """What the consumers owe a stage; each promise may rely on those before it."""
    kinds = [type(op) for op in plan.loop]
    yield kinds[0] is AwaitFull, "nothing is read before the stage is full"
    shown = kinds.index(ShowGathered) if ShowGathered in kinds else len(kinds)
    yield not plan.geometry.gathered or shown == 1, "gathered tokens are shown before they are read"
    issued = [op for op in plan.loop if isinstance(op, Issue)]
    taken = [(op.part, step.matrix, step.index) for op in issued for step in op.steps]
    g, parts = plan.geometry, range(plan.schedule.overlap.split)
    every = product(parts, range(g.matrices), range(g.steps))
    yield sorted(taken) == list(every), "every part takes every step once"
    turns = [kind for kind in kinds if kind in (TakeTurn, PassTurn)]
    yield turns == [TakeTurn, PassTurn] * (len(turns) // 2), "every turn taken is passed on"
    yield kinds.count(Release) == 1, "the stage is released once"
    release = kinds.index(Release)
    yield Issue not in kinds[release:], "the stage is released after use"
    ended = [op for op in plan.loop[:release] if isinstance(op, Issue | AwaitMatrix)][-1]
    ahead = plan.schedule.overlap.ahead
    flying = getattr(ended, "pending", None)
    yield flying == int(ahead), "matrix work has ended before the release"
    late = [op.late for op in (*plan.loop, *plan.epilogue) if isinstance(op, Release)]
    yield late == [ahead] * (1 + ahead), "a stage whose work is in flight is released later"
    begin = [type(op) for op in plan.epilogue[:2]]
    yield not ahead or begin == [AwaitMatrix, Release], "matrix work has ended before the epilogue"
    yield kinds[-1] is NextStage, "the consumers go on to the next stage"


def _loaded(plan: SpecialisedPlan) -> Promises:
    """What the consumers owe the registers that weight is loaded into."""
    buffers = plan.geometry.fragment_buffers
    ahead = [op.ahead for op in plan.loop if isinstance(op, LoadFragments)]
    yield ahead == ([buffers] if buffers else []), "every stage's fragments are loaded once"
    late = plan.schedule.overlap.ahead
    loads = [op for op in (*plan.loop, *plan.epilogue) if isinstance(op, LoadFragments)]
    told = [(op.late, op.end) for op in loads]
    wanted = [(late, False), *([(True, True)] if late else [])] if buffers else []
    yield told == wanted, "registers whose matrix work is in flight are loaded later"
    if buffers:
        kinds = [type(op) for op in plan.loop]
        free = kinds.index(LoadFragments) > kinds.index(Release)
        yield free, "fragments are loaded when matrix work on their registers has ended"


def _added(plan: SpecialisedPlan) -> Promises:
    """Each prefix sum is added once, when its matrix work has ended and no more has begun."""
    added: list[tuple[int, int]] = []
    flying: list[Issue] = []
    for op in plan.loop:
        if isinstance(op, Issue):
            flying.append(op)
        elif isinstance(op, AwaitMatrix):
            flying = flying[len(flying) - op.pending :] if op.pending else []
        elif isinstance(op, AddPrefix):
            added.append((op.block, op.part))
            idle = all(each.part != op.part for each in flying)
            yield idle, "prefix sums are added when their matrix work has ended"
    issued = [(op.block, op.part) for op in plan.loop if isinstance(op, Issue)]
    prefix = plan.geometry.fold == "prefix"
    yield added == (issued if prefix else []), "every V-block's prefix sums are added once"


def _producer(plan: SpecialisedPlan) -> tuple[Op, ...]:
    g = plan.geometry
    words = g.groups * g.word_bytes
    boxed = 0 if g.gathered else g.token_bytes
    tokens: Op = CopyTokens("copy tokens by TMA", bytes=g.token_bytes, cluster=g.cluster)
    if g.gathered:
        tokens = GatherTokens("gather selected tokens by cp.async")
    weight = (CopyWeight("copy weight by TMA", bytes=g.weight_bytes),)
    return (
        AwaitEmpty("wait until the stage is empty"),
        *((TellPlace("say where the tile lies"),) if g.places_told else ()),
        ExpectBytes(
            f"expect {g.weight_bytes + words + boxed} bytes", bytes=g.weight_bytes + words + boxed
        ),
        *(() if g.fragment_buffers else weight),
        CopyWords("copy metadata and fold words", bytes=words),
        tokens,
        NextStage("next stage"),
    )


def _consumer(plan: SpecialisedPlan) -> tuple[Op, ...]:
    """One stage: read words, then for each V-block multiply every part and add its prefix sums."""
    g, overlap = plan.geometry, plan.schedule.overlap
    expand = g.fold == "expand"
    staged = g.weight_registers and not g.fragment_buffers
    weight = (ReadWeight("load weight fragments", expand=expand),) if staged else ()
    gathered = (ShowGathered("show gathered tokens to the matrix unit"),) if g.gathered else ()
    full = AwaitFull("wait until the stage is full")
    place = (ReadPlace("read where the tile lies"),) if g.places_told else ()
    ops: list[Op] = [full, *gathered, *place, ReadWords("read words"), *weight]
    per_block = g.steps // g.blocks_per_tile
    for block in range(g.blocks_per_tile):
        ops += _block(plan, block, tuple(range(block * per_block, (block + 1) * per_block)))
    ops.append(NextStage("next stage"))
    if overlap.turns:
        ops = _with_turns(ops)
    return tuple(ops)


def _block(plan: SpecialisedPlan, block: int, steps: tuple[int, ...]) -> list[Op]:
    """Multiply every part, then wait for one after the other; add the first while others run."""
    g, split = plan.geometry, plan.schedule.overlap.split
    ahead = plan.schedule.overlap.ahead
    ops: list[Op] = []
    for part in range(split):
        text = f"acc += weight * tokens, part {part}, steps {steps[0]}..{steps[-1]}"
        ops.append(Issue(text, part=part, block=block, steps=_matrix_steps(plan, steps)))
    for part in range(split):
        pending = split - 1 - part + int(ahead)
        ops.append(
            AwaitMatrix(f"wait until {pending} groups are in flight", pending=pending, part=part)
        )
        if part + 1 == split and block + 1 == g.blocks_per_tile:
            which = "stage before" if ahead else "stage"
            ops.append(Release(f"release the {which}", cluster=g.cluster, late=ahead))
            if g.fragment_buffers:  # before anything is added, for memory takes its time
                text = f"load weight fragments of stage + {g.fragment_buffers}"
                ops.append(LoadFragments(text, ahead=g.fragment_buffers, late=ahead))
        if g.fold == "prefix":
            begins = g.spare and block == 0
            text = f"add prefix sums, part {part}"
            ops.append(AddPrefix(text, part=part, block=block, begins=begins))
    return ops


def _matrix_steps(plan: SpecialisedPlan, steps: tuple[int, ...]) -> tuple[MatrixStep, ...]:
    """k32 steps: 32 bytes of stored weight, 64 of tokens, half the columns of a metadata word.

    Matrices take turns, so that no step waits for the sums of the one before.
    """
    words = plan.schedule.tile.k // METADATA_COLUMNS
    chunks = WARPGROUP_ROWS * plan.geometry.weight_row_bytes // 16
    return tuple(
        MatrixStep(
            index,
            matrix * words + index // 2,
            index % 2,
            index // 2,
            matrix * chunks + 2 * index,
            index % 2 * 4,
            matrix,
        )
        for index in steps
        for matrix in range(plan.geometry.matrices)
    )


def _with_turns(ops: list[Op]) -> list[Op]:
    """A turn spans what is issued together: from before its first group to behind its last."""
    result: list[Op] = []
    for position, op in enumerate(ops):
        before = ops[position - 1] if position else None
        after = ops[position + 1] if position + 1 < len(ops) else None
        if isinstance(op, Issue) and not isinstance(before, Issue):
            result.append(TakeTurn("take the turn"))
        result.append(op)
        if isinstance(op, Issue) and not isinstance(after, Issue):
            result.append(PassTurn("pass the turn"))
    return result
