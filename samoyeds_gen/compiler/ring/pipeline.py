"""The operations of the cp.async ring pipeline, and the order of its loop.

Each operation names what it reads and writes; the order follows from that. No text, no bytes.
"""

from dataclasses import replace

from samoyeds_gen.compiler.dependence import check_synchronised, ordered
from samoyeds_gen.compiler.ops import (
    Access,
    AdvanceStage,
    Barrier,
    CopyTile,
    FillRing,
    FinishFold,
    FoldStep,
    LoadFoldWords,
    LoadMetadata,
    LoadTokens,
    LoadWeight,
    Multiply,
    NameRows,
    Op,
    RotateMetadata,
    State,
    StoreTile,
    Wait,
    ZeroFill,
)
from samoyeds_gen.compiler.ring.geometry import RingPlan

FRAGMENT_RINGS = ("weight_ring", "token_ring")


def add_operations(plan: RingPlan) -> RingPlan:
    """Setup, prologue, loop body and epilogue; the order inside the loop is the next pass's."""
    g = plan.geometry
    return replace(
        plan,
        setup=_setup(plan),
        prologue=_prologue(plan),
        loop=_loop(plan),
        epilogue=(
            Wait("wait until no copy is in flight", pending=0),
            Barrier("barrier", reason="Staging reuses the bytes of the ring."),
            *((FinishFold("add the last prefix sums"),) if g.fold == "prefix" else ()),
            StoreTile("out <- staging <- acc", fold=g.fold, paired=g.features_per_row % 2 == 0),
        ),
    )


def order_loop(plan: RingPlan) -> RingPlan:
    """Put the loop body in an order that its dependences allow."""
    return replace(plan, loop=ordered(plan.loop))


def verify_synchronisation(plan: RingPlan) -> RingPlan:
    """Hold every hazard of the loop against its waits, barriers and ring depth."""
    check_synchronised(plan.loop, plan.schedule.pipeline.stages)
    return plan


def _setup(plan: RingPlan) -> tuple[Op, ...]:
    fold = plan.geometry.fold
    gathered = "gathered" if plan.problem.index else "contiguous"
    ahead = _ahead(plan)
    single = ahead and plan.geometry.metadata_words == 1
    rows = (State("fold rows", name="fold_rows"),) if fold in ("exchange", "prefix") else ()
    return (
        State("deal weight chunks to threads", name="weight_sources"),
        State(f"deal {gathered} token chunks to threads", name=f"{gathered}_token_sources"),
        State("deal metadata to threads", name="metadata_words"),
        State("metadata words", name="metadata_ahead" if single else "metadata_in_place"),
        *((State(f"{fold} words", name=f"{fold}_words", body=rows),) if fold != "direct" else ()),
        State(
            "shared-memory addresses of fragments",
            name="expand_fragments" if fold == "expand" else "stored_fragments",
        ),
        State("token fragments", name="token_fragments"),
        State("matrix work of one token fragment", name="matrix_step"),
        State("matrix work of a step", name="multiply_ahead" if ahead else "multiply_in_place"),
        *((State(f"{fold} fold", name=f"{fold}_fold"),) if fold in ("exchange", "prefix") else ()),
    )


def _prologue(plan: RingPlan) -> tuple[Op, ...]:
    ahead = plan.schedule.pipeline.stages - 1
    fold, words = plan.geometry.fold, plan.geometry.metadata_words
    named = Barrier("barrier", reason="The token rows are visible to every warp.")
    first: tuple[Op, ...] = ()
    if _ahead(plan):
        first = (
            *(LoadMetadata("load metadata", word=word) for word in range(words - 1)),
            *((LoadMetadata("load metadata", ahead=True),) if words == 1 else ()),
            *((LoadFoldWords(f"load {fold} words"),) if fold != "direct" else ()),
            LoadWeight("load weight fragments of step 0", tile="0"),
            LoadTokens("load token fragments of step 0"),
        )
    return (
        *((ZeroFill("write zeros"),) if fold == "expand" else ()),
        *((NameRows("look up token rows"), named) if plan.problem.index else ()),
        FillRing(f"copy tiles 0..{ahead - 1} into the ring", count=ahead),
        _wait(plan),
        Barrier("barrier", reason="Every warp's copies of the first tile are visible."),
        *first,
    )


def _ahead(plan: RingPlan) -> bool:
    """Whether fragments are loaded one step ahead of the matrix work."""
    return plan.schedule.pipeline.fragments == 2


def _wait(plan: RingPlan) -> Wait:
    pending = plan.schedule.pipeline.stages - 2
    return Wait(f"wait until at most {pending} copies are in flight", pending=pending)


def _loop(plan: RingPlan) -> tuple[Op, ...]:
    """What one tile of k needs, in no particular order; each operation names its dependences.

    With two weight buffers, fragments are loaded one step ahead of the matrix work, those of
    the next tile during the last step, behind the barrier that publishes it.
    """
    steps, ahead = plan.geometry.steps, plan.schedule.pipeline.stages - 1
    rings = (*FRAGMENT_RINGS, "metadata_ring", *_fold_ring(plan))
    copies = tuple(Access(name, ahead, late=True) for name in rings)
    return (
        CopyTile(
            f"copy tile + {ahead} into the ring",
            writes=(*copies, _value("issued", 1)),
            ahead=ahead,
        ),
        *_load_words(plan),
        *(op for step in range(steps) for op in _load(plan, step)),
        *(_multiply(plan, step) for step in range(steps)),
        *(op for step in range(steps) for op in _fold_step(plan, step)),
        *_hand_over(plan),
    )


def _fold_ring(plan: RingPlan) -> tuple[str, ...]:
    return () if plan.geometry.fold == "direct" else ("fold_ring",)


def _seen(next_tile: bool) -> tuple[Access, ...]:
    """What a read of the ring relies on: that the tile is published, and the current stage."""
    return _value("published", int(next_tile)), _value("stage", int(next_tile))


def _load_words(plan: RingPlan) -> tuple[Op, ...]:
    """Metadata and fold words: with the fragments one step ahead, else when the tile starts.

    A tile's last metadata word is still in use when the next tile is published; it is loaded at
    the start of that tile, or, if it is the only one, into spare registers.
    """
    words, last, early = plan.geometry.metadata_words, plan.geometry.steps - 1, _ahead(plan)
    ops: list[Op] = []
    for word in range(words):
        single = early and words == 1
        next_tile = early and (single or word + 1 < words)
        name = "spare metadata" if single else f"metadata {word}"
        ops.append(
            LoadMetadata(
                f"load metadata word {word}" + (" of tile + 1" if next_tile else ""),
                slot=last if next_tile else 0,
                reads=(Access("metadata_ring", int(next_tile)), *_seen(next_tile)),
                writes=(_value(name, int(next_tile)),),
                word=word,
                ahead=single,
            )
        )
        if single:
            spare = (_value("spare metadata", 0),)
            text = "rotate metadata words"
            ops.append(RotateMetadata(text, reads=spare, writes=(_value("metadata 0", 0),)))
    if plan.geometry.fold != "direct":
        ops.append(
            LoadFoldWords(
                f"load {plan.geometry.fold} words" + (" of tile + 1" if early else ""),
                slot=last if early else 0,
                reads=(Access("fold_ring", int(early)), *_seen(early)),
                writes=(_value("fold words", int(early)),),
            )
        )
    return tuple(ops)


def _value(name: str, version: int) -> Access:
    """The `version`-th value of something private to the thread in one iteration."""
    return Access(name, version, shared=False)


def _load(plan: RingPlan, step: int) -> tuple[Op, ...]:
    """Load the fragments of one step, or the weight of the next tile's step 0 ahead of time."""
    early = _ahead(plan)
    next_tile = early and step == 0
    slot = (step - 1) % plan.geometry.steps if early else step
    buffer = step % plan.schedule.pipeline.fragments
    version = plan.geometry.steps if next_tile else step
    seen = _seen(next_tile)
    slots: tuple[Access, ...] = ()
    if plan.geometry.fold == "expand":
        slots = (_value("fold words", int(next_tile)),)
    weight = LoadWeight(
        f"load weight fragments of step {step}" + (" of tile + 1" if next_tile else ""),
        slot=slot,
        reads=(Access("weight_ring", int(next_tile)), *seen, *slots),
        writes=(_value(f"weight {buffer}", version),),
        buffer=buffer,
        step=step,
        tile="tile + 1" if next_tile else "tile",
    )
    if early:
        return (weight,)
    tokens = LoadTokens(
        f"load token fragments of step {step}",
        slot=step,
        reads=(Access("token_ring"), *seen),
        writes=(_value("tokens", step),),
        step=step,
    )
    return weight, tokens


def _multiply(plan: RingPlan, step: int) -> Multiply:
    """The matrix work of one step; ahead of time it also loads the next step's tokens."""
    early, steps = _ahead(plan), plan.geometry.steps
    last = step + 1 == steps
    buffer = step % plan.schedule.pipeline.fragments
    text = f"acc += weight * tokens of step {step} by {plan.atom.name}"
    reads = [
        _value(f"weight {buffer}", step),
        _value("tokens", step),
        _value(f"metadata {step // plan.atom.selectors}", 0),
    ]
    writes = [_value("acc", 2 * step + 1)]
    if early:
        text += f", then load tokens of step {(step + 1) % steps}" + (" of tile + 1" * last)
        reads += [Access("token_ring", int(last)), *_seen(last)]
        writes.append(_value("tokens", step + 1))
    return Multiply(
        text,
        slot=step,
        reads=tuple(reads),
        writes=tuple(writes),
        buffer=buffer,
        step=step,
        next=(step + 1) % steps if early else None,
    )


def _hand_over(plan: RingPlan) -> tuple[Op, ...]:
    """From this tile to the next: its copies have arrived, and nobody reads this one any more."""
    reason = "The next tile is visible to every warp, and no warp still reads this one's stage."
    slot = plan.geometry.steps - (1 if _ahead(plan) else 0)
    wait = replace(
        _wait(plan), slot=slot, reads=(_value("issued", 1),), writes=(_value("arrived", 1),)
    )
    arrived, published = (_value("arrived", 1),), (_value("published", 1),)
    stage = (_value("stage", 1),)
    return (
        wait,
        Barrier("barrier", slot=slot, reads=arrived, writes=published, reason=reason),
        AdvanceStage("advance to the next stage", slot=slot, reads=published, writes=stage),
    )


def _fold_step(plan: RingPlan, step: int) -> tuple[Op, ...]:
    """The fold's work before this step, where a V-block starts with it."""
    g = plan.geometry
    if g.fold not in ("exchange", "prefix") or step % g.steps_per_block:
        return ()
    block = step // g.steps_per_block
    entry, guard = "tile % kTilesPerWord", ""
    if g.blocks_per_tile > 1:
        entry = f"{entry} * kBlocksPerTile + {block}"
    elif g.tiles_per_block > 1:
        entry, guard = f"{entry} / kTilesPerBlock", "if (tile % kTilesPerBlock == 0) "
    return (
        FoldStep(
            "exchange acc sets" if g.fold == "exchange" else "add weighted prefix sums",
            slot=step,
            reads=(_value("fold words", 0),),
            writes=(_value("acc", 2 * step),),
            fold=g.fold,
            entry=entry,
            guard=guard,
        ),
    )
