"""The search: only legal schedules, each measured once, and the quickest right one wins."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tune_cases import database, record, shipped, task, true_us

from samoyeds_gen.check.strategies import SHIPPED
from samoyeds_gen.compiler import first_violation
from samoyeds_gen.errors import CompileError, TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.tune.candidates import (
    ALIKE,
    Candidate,
    candidates,
    legal_variants,
    neighbours,
    prune,
    recommended,
)
from samoyeds_gen.tune.choice import legal, shipped_schedules
from samoyeds_gen.tune.machines import machine_named
from samoyeds_gen.tune.naming import named
from samoyeds_gen.tune.record import FINAL
from samoyeds_gen.tune.search import NEIGHBOURS, Outcome, Rung, search
from samoyeds_gen.tune.shapes import SHAPES, ring, stream, warp_specialised
from samoyeds_gen.tune.timing import Effort

RUNGS = (Rung(1, 12, Effort(1)), Rung(2, 6, Effort(2)), Rung(FINAL, 3, Effort(3)))


class World:
    """Compiles and measures by invention; counts what it is asked for."""

    def __init__(self, at, *, wrong=(), spilling=(), end_after=None):
        self.at = at
        self.wrong, self.spilling = set(wrong), set(spilling)
        self.end_after = end_after
        self.calls = []
        self.salt = ""

    def build(self, schedules):
        for each in schedules:
            if each.name in self.spilling:
                yield each, CompileError("it spills", remedy="use a smaller tile", rule="no-spills")
            else:
                yield each, f"{each.digest}{self.salt}"

    def measure(self, schedules, effort):
        if self.end_after is not None and len(self.calls) >= self.end_after:
            raise KeyboardInterrupt
        self.calls.append((tuple(each.digest for each in schedules), effort.rounds))
        return {
            each: Outcome(None, "wrong", "3 wrong elements")
            if each.name in self.wrong
            else Outcome(true_us(each, self.at))
            for each in schedules
        }

    def run(self, opened, **options):
        given = {"rungs": RUNGS, "refinements": 0} | options
        return search(self.at, opened, self.build, self.measure, **given)


FEW = {
    ring: {
        "TILE_M": (128, 256), "TILE_N": (32, 56), "WARPS": ((4, 1), (2, 2)), "STAGES": (2, 3),
        "RESIDENT": (1, 2), "GROUPS": (8,),
    },
    stream: {
        "ROWS": (1,), "WARPS_K": (2, 4), "TOKENS": (8, 16), "PARTS": (1,), "SPLITS": (1, 2),
        "RESIDENT": (1,),
    },
    warp_specialised: {
        "WARPGROUPS": (2, 3), "TILE_N": (96, 192), "STAGES": (3, 4), "SPLITS": (1,),
        "CLUSTERS": ((1, 1), (1, 2)), "GROUPS": (16,),
    },
}  # fmt: skip
"""Smaller grids, so that a test takes a tenth of a second."""


@pytest.fixture(autouse=True, scope="module")
def _few():
    legal_variants.cache_clear()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module, lists in FEW.items():
            for name, values in lists.items():
                monkeypatch.setattr(module, name, values)
        yield
    legal_variants.cache_clear()


formats = st.sampled_from((*SHIPPED, Format(3, 7, 48), Format(1, 3, 64)))
machines = st.sampled_from([machine_named(name) for name in ("H200", "A100", "3090", "5090")])


@settings(max_examples=15)
@given(formats, machines, st.booleans())
def test_candidates_are_legal_different_and_named_apart(format, machine, selected):
    at = task((4096, 4096, 512), format, machine, index="int64" if selected else None)
    bases = shipped_schedules(format, at.problem.dtype)
    found = [each.under_its_name().schedule for each in candidates(at, bases)]
    assert all(first_violation(each, at.problem, at.target) is None for each in found)
    assert len({replace(each, name="") for each in found}) == len(found)
    assert len({(each.name, each.digest) for each in found}) == len(found)
    assert {each for each in bases if legal(each, at.problem, at.target)} <= {
        *found,
        *(replace(each, name=base.name) for each in found for base in bases),
    }
    again = [each.under_its_name().schedule for each in candidates(at, bases)]
    assert again == found


def test_a_variant_has_a_name_of_its_own_and_a_base_keeps_its():
    base = shipped()
    variant = replace(base, pipeline=replace(base.pipeline, stages=4))
    other = replace(base, pipeline=replace(base.pipeline, stages=5))
    assert Candidate(base, 1.0, base=base).under_its_name().schedule is base
    made = Candidate(variant, 1.0, base=base).under_its_name().schedule
    assert made.name.startswith("ssmm_sm80_prefix_m256n56k128_")
    assert made.name != named(other, base.name).name
    assert made.name.isidentifier()
    assert named(other, made.name) == named(other, base.name), "names do not grow"


def test_what_measurements_nearby_recommend_takes_part_whatever_the_model_says_of_it():
    at = task((4096, 4096, 512))
    slow = replace(shipped(), name="slow", pipeline=replace(shipped().pipeline, stages=2))
    stored = database(record(slow, 50.0, (4096, 4096, 1024)))
    assert [each.schedule for each in recommended(at, stored, 1)] == [slow]
    world = World(at)
    world.run(stored, rungs=(Rung(1, 16, Effort(1)), *RUNGS[1:]))
    assert slow.digest in {digest for digests, _ in world.calls for digest in digests}


def test_only_recommended_schedules_are_timed_if_that_is_asked_for():
    at = task((4096, 4096, 512))
    bases = [shipped(), shipped("ssmm_sm80_exchange"), shipped("ssmm_sm80_expand")]
    stored = database(*(record(each, 50.0, (4096, 4096, 1024)) for each in bases))
    world = World(at)
    found = world.run(stored, only_recommended=True, rungs=(Rung(1, 2, Effort(1)), *RUNGS[1:]))
    measured = {digest for digests, _ in world.calls for digest in digests}
    assert measured == {each.schedule.digest for each in recommended(at, stored, 2)}
    assert found.generated == 0
    assert found.compiled == 2
    with pytest.raises(TuneError, match="no measurement recommends a schedule"):
        World(at).run(database(), only_recommended=True)


def test_recommendations_do_not_change_while_a_shape_is_tuned():
    at = task((4096, 4096, 512))
    stored = database(record(shipped(), 50.0, (4096, 4096, 1024)))
    before = recommended(at, stored, 6)
    stored.store([record(shipped("ssmm_sm80_expand"), 1.0, at.shape)])
    assert recommended(at, stored, 6) == before
    shipped_row = record(shipped("ssmm_sm80_expand"), 1.0, at.shape, origin="h200.json")
    assert recommended(at, database(shipped_row), 1)[0].schedule == shipped("ssmm_sm80_expand")


@given(st.lists(st.floats(1, 100), min_size=1, max_size=60), st.integers(1, 20))
def test_pruning_keeps_the_quickest_few_of_a_tile_and_what_it_is_told(times, number):
    base = shipped()
    everything = [
        Candidate(
            replace(base, name=f"c{place}", tile=replace(base.tile, m=64 * (place % 7 + 1))), us
        )
        for place, us in enumerate(times)
    ]
    slowest = max(everything, key=lambda each: each.modelled_us)
    kept = prune(everything, number, keep={slowest.schedule})
    assert slowest in kept
    assert len(kept) <= number
    rest = [each for each in kept if each is not slowest]
    for tile in {each.schedule.tile for each in rest}:
        assert sum(each.schedule.tile == tile for each in rest) <= ALIKE
    if number > 1:
        assert min(everything, key=lambda each: each.modelled_us).modelled_us in [
            each.modelled_us for each in kept
        ]


@pytest.mark.parametrize("shape", [(4096, 4096, 4096), (14336, 4096, 16), (1408, 2048, 4096)])
def test_the_winner_is_legal_and_the_quickest_of_those_timed_last(shape):
    at = task(shape)
    world, opened = World(at), database()
    found = world.run(opened)
    assert legal(found.winner.schedule, at.problem, at.target)
    assert found.winner.us == min(true_us(each.schedule, at) for each in found.final)
    assert [each.us for each in found.final] == sorted(each.us for each in found.final)
    last, rounds = world.calls[-1]
    assert (set(last), rounds) == ({each.digest for each in found.final}, 3)
    assert found.measured == len(world.calls) - 1 + len(last)
    stored = opened.final(format="1,2,128", dtype="bfloat16")
    assert [each.digest for each in stored] == [each.digest for each in found.final]


def test_each_rung_times_the_best_of_the_rung_before():
    at = task()
    world = World(at)
    world.run(database())
    by_rung = {
        rounds: [d for ds, r in world.calls if r == rounds for d in ds] for rounds in (1, 2, 3)
    }
    assert [len(by_rung[rounds]) for rounds in (1, 2, 3)] == [12, 6, 3]
    assert set(by_rung[3]) < set(by_rung[2]) < set(by_rung[1])


@pytest.mark.parametrize("end_after", [0, 1, 5, 12, 17, 18])
def test_an_ended_search_goes_on_where_it_stopped(end_after):
    at = task()
    whole = World(at)
    expected = whole.run(database())
    opened = database()
    first = World(at, end_after=end_after)
    with pytest.raises(KeyboardInterrupt):
        first.run(opened)
    second = World(at)
    found = second.run(opened)
    assert found.winner == expected.winner
    assert found.final == expected.final
    assert first.calls + second.calls == whole.calls
    assert found.reused + found.measured == expected.measured


def test_a_finished_search_measures_nothing_again():
    at = task()
    opened = database()
    expected = World(at).run(opened)
    again = World(at)
    found = again.run(opened)
    assert again.calls == []
    assert (found.winner, found.measured, found.reused) == (expected.winner, 0, expected.measured)


def test_changed_code_is_measured_again():
    at = task()
    opened = database()
    World(at).run(opened)
    changed = World(at)
    changed.salt = "x"
    assert changed.run(opened).reused == 0
    assert len(changed.calls) > 0
    digests = [each.digest for each in opened.final(format="1,2,128", dtype="bfloat16")]
    assert len(digests) == len(set(digests)), "only the newest of a schedule counts"


def test_wrong_and_spilling_candidates_never_win_and_say_why():
    at = task()
    plain = World(at).run(database()).winner.schedule.name
    world = World(at, wrong={plain}, spilling={"ssmm_sm80_prefix"})
    opened = database()
    found = world.run(opened)
    assert plain not in {each.schedule.name for each in found.final}
    reasons = {schedule.name: note for schedule, note in found.refused}
    assert reasons[plain] == "3 wrong elements"
    assert "it spills" in reasons["ssmm_sm80_prefix"]
    names = {each.schedule.name for each in opened.final(format="1,2,128", dtype="bfloat16")}
    assert plain not in names


def test_a_wrong_candidate_is_not_tried_again():
    at = task()
    opened = database()
    wrong = World(at).run(database()).winner.schedule.name
    World(at, wrong={wrong}).run(opened)
    again = World(at)
    again.run(opened)
    assert again.calls == []


@pytest.mark.parametrize("refinements", [0, 2])
def test_progress_counts_up_to_its_total(refinements):
    seen = []
    World(task()).run(database(), refinements=refinements, progress=lambda *step: seen.append(step))
    for place in (0, 1):
        assert [each[place] for each in seen] == sorted(each[place] for each in seen)
    assert all(done <= total for done, total, _ in seen)
    assert seen[0][2].endswith("after the model")


def test_given_bases_are_what_is_varied():
    at = task()
    found = World(at).run(database(), bases=[shipped("ssmm_sm80_exchange")])
    assert {each.schedule.stationary.fold for each in found.final} == {"exchange"}


def test_nothing_legal_is_refused():
    at = task(format=Format(2, 4, 64))
    with pytest.raises(TuneError, match="no schedule is legal for m=4096, k=4096, n=4096, "):
        World(at).run(database(), bases=[shipped("ssmm_sm80_exchange")])


def test_nothing_right_is_refused_with_the_first_reason():
    at = task()
    world = World(at)
    world.measure = lambda schedules, effort: {
        each: Outcome(None, "failed", "no kernel image") for each in schedules
    }
    with pytest.raises(TuneError, match="could be measured, the first said: no kernel image"):
        world.run(database())


def test_measurements_of_another_shape_or_gpu_are_not_reused():
    at = task()
    opened = database()
    World(at).run(opened)
    for other in (task((4096, 4096, 8192)), task(machine=machine_named("H100"))):
        assert World(other).run(opened).reused == 0


def test_a_recorded_winner_of_someone_else_does_not_enter():
    at = task()
    opened = database(record(shipped(), 0.001, kernel="other code"))
    found = World(at).run(opened)
    assert found.winner.us > 1


@pytest.mark.parametrize("shape", [(4096, 4096, 4096), (14336, 4096, 16)])
def test_neighbours_differ_in_one_choice_and_may_win(shape):
    at = task(shape)
    plain = World(at).run(database())
    world, opened = World(at), database()
    found = world.run(opened, refinements=3)
    assert found.winner.us <= plain.winner.us
    assert found.winner.us == min(each.us for each in found.final)
    again = World(at)
    assert again.run(opened, refinements=3).winner == found.winner
    assert again.calls == []


def test_an_ended_refinement_goes_on_where_it_stopped():
    at = task()
    whole = World(at)
    expected = whole.run(database(), refinements=2)
    opened = database()
    first = World(at, end_after=len(whole.calls) - 2)
    with pytest.raises(KeyboardInterrupt):
        first.run(opened, refinements=2)
    second = World(at)
    assert second.run(opened, refinements=2).final == expected.final
    assert first.calls + second.calls == whole.calls


@settings(max_examples=12)
@given(st.data())
def test_a_neighbour_has_its_rows_or_its_columns_or_one_other_value_changed(data):
    at = task()
    everything = list(candidates(at, shipped_schedules(at.problem.format, at.problem.dtype)))
    winner = data.draw(st.sampled_from(everything)).schedule
    near = [each.schedule for each in neighbours(winner, everything)]
    assert winner not in near
    for each in near:
        assert each.pipeline.copy == winner.pipeline.copy
        rows = (each.tile.m, each.warps) != (winner.tile.m, winner.warps)
        columns = (each.tile.k, each.layout) != (winner.tile.k, winner.layout)
        assert not (rows and columns)
    assert len(near) <= len(everything) - 1


def test_a_refinement_times_no_more_neighbours_than_it_says():
    at = task()
    plain, refined = World(at), World(at)
    plain.run(database())
    refined.run(database(), refinements=1)
    extra = sum(len(digests) for digests, _ in refined.calls[len(plain.calls) :])
    assert 0 < extra <= NEIGHBOURS + 3


@pytest.mark.parametrize("row", SHAPES, ids=lambda row: row.copy)
@pytest.mark.parametrize("format", [Format(1, 2, 128), Format(1, 1, 64), Format(4, 8, 32)], ids=str)
def test_every_pipeline_shape_has_variants_to_choose_from(row, format):
    at = task(format=format)
    bases = [
        each
        for each in shipped_schedules(format, at.problem.dtype)
        if each.pipeline.copy == row.copy and legal(each, at.problem, at.target)
    ]
    assert bases
    for base in bases:
        found = legal_variants(base, at.problem, at.target)
        assert found[0] == base
        assert len(found) > 8
        assert {each.pipeline.copy for each in found} == {row.copy}


def test_every_pipeline_shape_is_timed_however_it_is_modelled():
    at = task((14336, 4096, 64))
    everything = list(candidates(at, shipped_schedules(at.problem.format, at.problem.dtype)))
    for number in (12, 48):
        kept = prune(everything, number, keep=set())
        copies = [each.schedule.pipeline.copy for each in kept]
        assert len(kept) == number
        assert all(copies.count(row.copy) >= number // 8 for row in SHAPES)
