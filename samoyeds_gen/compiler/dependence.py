"""The dependence graph of one loop iteration: what must come before what, and how far apart.

The only module that knows networkx. A MultiDiGraph is derived from the operations, asked, and
thrown away. Edges carry `distance` (iterations) and `kind`.
"""

from collections.abc import Iterator, Sequence

import networkx as nx

from samoyeds_gen.compiler.ops import Barrier, Op, Wait
from samoyeds_gen.errors import ScheduleError


def dependence_graph(ops: Sequence[Op], stages: int) -> nx.MultiDiGraph:
    """Nodes are positions in `ops`; edges are the hazards between their accesses.

    arrival: a copy and the operation that reads its tile, `distance` iterations later.
    reuse:   a read and the copy that overwrites its ring slot.
    value, overwrite: the order of private values within one iteration.
    """
    graph = nx.MultiDiGraph()
    for position, op in enumerate(ops):
        graph.add_node(position, label=op.text, kind=op.kind)
    for source, target, kind, distance in (*_ring_hazards(ops, stages), *_private_hazards(ops)):
        graph.add_edge(source, target, kind=kind, distance=distance)
    return graph


def _ring_hazards(ops: Sequence[Op], stages: int) -> Iterator[tuple[int, int, str, int]]:
    for i, writer in enumerate(ops):
        for write in writer.writes:
            for j, reader in enumerate(ops):
                for read in reader.reads:
                    if write.shared and read.buffer == write.buffer:
                        yield i, j, "arrival", write.ahead - read.ahead
                        yield j, i, "reuse", stages + read.ahead - write.ahead


def _private_hazards(ops: Sequence[Op]) -> Iterator[tuple[int, int, str, int]]:
    """Reads follow the write of their version; writes follow all touches of earlier versions."""
    for i, writer in enumerate(ops):
        for write in writer.writes:
            if write.shared:
                continue
            for j, other in enumerate(ops):
                for access in (*other.reads, *other.writes):
                    if i == j or access.buffer != write.buffer or access.shared:
                        continue
                    if access in other.reads and access.ahead == write.ahead:
                        yield i, j, "value", 0
                    elif access.ahead < write.ahead:
                        yield j, i, "overwrite", 0


def ordered(ops: Sequence[Op]) -> tuple[Op, ...]:
    """The loop body in dependence order, by slot and rank where dependences leave a choice.

    The topological order is lexicographic, so that emitted text and cache keys repeat. Raises
    `ScheduleError` quoting the cycle when no order exists.
    """
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(range(len(ops)))
    graph.add_edges_from((source, target) for source, target, _, _ in _private_hazards(ops))
    try:
        cycle = nx.find_cycle(graph)
    except nx.NetworkXNoCycle:
        order = nx.lexicographical_topological_sort(
            graph, key=lambda position: (ops[position].slot, ops[position].rank, position)
        )
        return tuple(ops[position] for position in order)
    path = " -> ".join(f"'{ops[edge[0]].text}'" for edge in cycle)
    raise ScheduleError(
        f"no order satisfies {path} -> '{ops[cycle[0][0]].text}'",
        rule="dependence-cycle",
        remedy="drop one of these dependences",
    )


def least_stages(ops: Sequence[Op]) -> int:
    """The ring depth below which a copy would overwrite a stage that is still read."""
    return next(depth for depth in range(1, 64) if _safe(ops, depth))


def _safe(ops: Sequence[Op], stages: int) -> bool:
    try:
        check_synchronised(ops, stages)
    except ScheduleError:
        return False
    return True


def check_synchronised(ops: Sequence[Op], stages: int) -> None:
    """Raise `ScheduleError` where a wait or a barrier is missing or the ring is too shallow.

    Positions are unrolled: iteration i of operation p is at i * len(ops) + p. An arrival needs
    a wait that covers the copy's commit group, then a barrier, then the read. A reuse needs a
    barrier after the read and before the copy.
    """
    graph = dependence_graph(ops, stages)
    count = len(ops)
    for source, target, data in graph.edges(data=True):
        kind, start, end = data["kind"], source, data["distance"] * count + target
        if kind == "arrival":
            waits = [p for p in _between(ops, Wait, start, end) if _covers(ops, p, source)]
            if not waits:
                raise _hazard("missing-wait", ops, source, target, "add a wait before the read")
            if not _between(ops, Barrier, waits[0], end):
                raise _hazard(
                    "missing-barrier", ops, source, target, "add a barrier after the wait"
                )
        elif kind == "reuse" and not _between(ops, Barrier, start, end):
            raise _hazard(
                "missing-barrier",
                ops,
                source,
                target,
                "add a barrier before the copy, or a stage to the ring",
            )


def _between(ops: Sequence[Op], kind: type[Op], start: int, end: int) -> list[int]:
    """Unrolled positions strictly between the two that hold an operation of this kind."""
    return [p for p in range(start + 1, end) if isinstance(ops[p % len(ops)], kind)]


def _covers(ops: Sequence[Op], wait_at: int, copy: int) -> bool:
    """Whether the wait at this unrolled position completes the group `copy` issued at iteration 0.

    One group is committed an iteration: those issued after the copy and before the wait may stay
    in flight, so `pending` must not exceed their number.
    """
    wait = ops[wait_at % len(ops)]
    assert isinstance(wait, Wait)
    later = [p for p in range(copy + 1, wait_at) if p % len(ops) == copy]
    return wait.pending <= len(later)


def _hazard(rule: str, ops: Sequence[Op], source: int, target: int, remedy: str) -> ScheduleError:
    return ScheduleError(
        f"'{ops[source].text}' and '{ops[target].text}' are not ordered", rule=rule, remedy=remedy
    )


def shares_allowed(lives: Sequence[tuple[int, int]]) -> nx.Graph:
    """Interference of buffers by life (first, last section): an edge means bytes must differ."""
    graph = nx.Graph()
    graph.add_nodes_from(range(len(lives)))
    for i, (first, last) in enumerate(lives):
        for j in range(i):
            if first <= lives[j][1] and lives[j][0] <= last:
                graph.add_edge(i, j)
    return graph


def mermaid(ops: Sequence[Op], stages: int) -> str:
    """The graph as a mermaid flowchart, for `explain` and the docs."""
    graph = dependence_graph(ops, stages)
    lines = ["flowchart TD"]
    for node, data in graph.nodes(data=True):
        lines.append(f'    op{node}["{data["label"]}"]')
    edges = graph.edges(data=True)
    arrows = {(s, t, data["kind"], data["distance"]): None for s, t, data in edges}
    for source, target, kind, distance in arrows:
        label = kind + (f" +{distance}" if distance else "")
        lines.append(f"    op{source} -->|{label}| op{target}")
    for position in range(len(ops) - 1):
        lines.append(f"    op{position} -.-> op{position + 1}")
    return "\n".join(lines)
