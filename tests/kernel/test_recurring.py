"""When graphs of repeated calls are made, kept and dropped."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.kernel.recurring import KEPT, MADE, NOTED, Recurring

PLACES = st.integers(0, 2 * NOTED).map(lambda place: (place, place + 1))


class Made:
    def __init__(self, places):
        self.places = places

    def __call__(self, stream):
        raise AssertionError("nothing is launched here")


def run(calls):
    """Call after call as PreparedCall does: the graphs met, None where launches were queued."""
    recurring, made, met = Recurring(), [], []

    def make(places):
        made.append(Made(places))
        return made[-1]

    for places in calls:
        graph = recurring[places]
        met.append(graph)
        if graph is None:
            recurring.note(places, partial(make, places))
    return met, made


@given(st.lists(PLACES, max_size=200))
def test_a_graph_is_met_where_its_arrays_lie(calls):
    met, made = run(calls)
    assert len(made) <= MADE
    for position, (places, graph) in enumerate(zip(calls, met, strict=True)):
        assert graph is None or graph.places == places
        if graph is not None:
            assert calls[:position].count(places) >= 2


def test_the_third_call_alike_meets_a_graph():
    met, made = run([(1, 2)] * 5)
    assert met == [None, None, *made * 3]
    assert len(made) == 1


def test_a_few_places_in_turn_each_have_their_graph():
    calls = [(place,) for place in range(KEPT)] * 10
    met, made = run(calls)
    assert len(made) == KEPT
    assert None not in met[2 * KEPT :]


def test_many_places_in_turn_do_not_make_graphs_for_ever():
    met, made = run([(place,) for place in range(KEPT + 1)] * 100)
    assert len(made) == MADE
    assert met[-1] is None or met[-1] in made


def test_places_that_never_return_make_none():
    met, made = run([(place,) for place in range(1000)])
    assert set(met) == {None}
    assert not made


def test_what_cannot_be_made_now_is_made_later():
    recurring, graph = Recurring(), Made((1,))
    recurring.note((1,), lambda: None)
    recurring.note((1,), lambda: None)  # as while torch captures
    assert recurring[(1,)] is None
    recurring.note((1,), lambda: graph)
    assert recurring[(1,)] is graph
