"""The dependence graph on small made-up loops: orders, cycles, missing waits and barriers."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.compiler.dependence import (
    check_synchronised,
    dependence_graph,
    least_stages,
    mermaid,
    ordered,
    shares_allowed,
)
from samoyeds_gen.compiler.ops import Access, Barrier, Op, Wait
from samoyeds_gen.errors import ScheduleError


@dataclass(frozen=True, slots=True)
class Work(Op):
    """Any operation."""

    kind: ClassVar[str] = "work"


def value(name, version=0):
    return Access(name, version, shared=False)


def loop(stages, *, ahead=None, pending=None):
    """wait, barrier, copy `ahead` tiles, read: the classic multistage loop."""
    ahead = stages - 1 if ahead is None else ahead
    return (
        Wait("wait", pending=stages - 2 if pending is None else pending),
        Barrier("barrier"),
        Work("copy", writes=(Access("ring", ahead, late=True),)),
        Work("read", reads=(Access("ring"),)),
    )


@pytest.mark.parametrize("stages", [2, 3, 4, 8])
def test_the_classic_loop_is_ordered(stages):
    check_synchronised(loop(stages), stages)
    assert least_stages(loop(stages)) == stages


@pytest.mark.parametrize("stages", [2, 3, 4, 8])
def test_edges_carry_distances(stages):
    edges = {
        (data["kind"], source, target): data["distance"]
        for source, target, data in dependence_graph(loop(stages), stages).edges(data=True)
    }
    assert edges == {("arrival", 2, 3): stages - 1, ("reuse", 3, 2): 1}


REFUSED = [
    (loop(3)[1:], 3, "missing-wait: 'copy' and 'read' are not ordered; add a wait before the read"),
    (
        loop(3, pending=2),
        3,
        "missing-wait: 'copy' and 'read' are not ordered; add a wait before the read",
    ),
    (
        (loop(3)[0], *loop(3)[2:]),
        3,
        "missing-barrier: 'copy' and 'read' are not ordered; add a barrier after the wait",
    ),
    (
        (loop(3)[1], loop(3)[0], *loop(3)[2:]),
        3,
        "missing-barrier: 'copy' and 'read' are not ordered; add a barrier after the wait",
    ),
    (
        loop(3, ahead=3, pending=2),
        3,
        "missing-barrier: 'read' and 'copy' are not ordered; "
        "add a barrier before the copy, or a stage to the ring",
    ),
    (
        (loop(3)[0], loop(3)[2], loop(3)[1], loop(3)[3]),
        3,
        "missing-barrier: 'read' and 'copy' are not ordered; "
        "add a barrier before the copy, or a stage to the ring",
    ),
]


@pytest.mark.parametrize(("ops", "stages", "message"), REFUSED)
def test_hazards_are_refused(ops, stages, message):
    with pytest.raises(ScheduleError) as caught:
        check_synchronised(ops, stages)
    assert str(caught.value) == message


def test_values_order_operations_and_overwrites_wait_for_readers():
    write = Work("a", writes=(value("x", 0),))
    read = Work("b", reads=(value("x", 0),))
    again = Work("c", writes=(value("x", 1),))
    last = Work("d", reads=(value("x", 1),))
    for ops in ((last, again, read, write), (write, read, again, last), (again, last, write, read)):
        assert [op.text for op in ordered(ops)] == ["a", "b", "c", "d"]


def test_a_cycle_is_refused_with_its_path():
    one = Work("one", reads=(value("x"),), writes=(value("y"),))
    two = Work("two", reads=(value("y"),), writes=(value("x"),))
    with pytest.raises(ScheduleError) as caught:
        ordered((one, two))
    assert str(caught.value) == (
        "dependence-cycle: no order satisfies 'one' -> 'two' -> 'one'; "
        "drop one of these dependences"
    )


@given(st.permutations(range(6)), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_free_choices_follow_slots(order, slots):
    ops = tuple(Work(f"op{i}", slot=slots[i]) for i in order)
    made = ordered(ops)
    assert [op.slot for op in made] == sorted(slots)
    assert sorted(op.text for op in made) == sorted(op.text for op in ops)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)).map(sorted), max_size=6))
def test_buffers_interfere_exactly_when_their_lives_meet(lives):
    graph = shares_allowed([tuple(life) for life in lives])
    for i, (first, last) in enumerate(lives):
        for j in range(i):
            meet = bool(set(range(first, last + 1)) & set(range(lives[j][0], lives[j][1] + 1)))
            assert graph.has_edge(i, j) == meet


def test_mermaid_shows_every_operation_and_hazard():
    text = mermaid(loop(3), 3)
    assert text.startswith("flowchart TD\n")
    for word in ("wait", "barrier", "copy", "read", "|arrival +2|", "|reuse +1|"):
        assert word in text
