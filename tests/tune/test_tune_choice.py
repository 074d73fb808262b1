"""Choosing: the table for its own buckets, its nearest entries elsewhere, else the model alone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tune_cases import H200, PAIRS, database, record, shipped, task, true_us

from samoyeds_gen.check.strategies import SHIPPED
from samoyeds_gen.compiler import first_violation
from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Choice
from samoyeds_gen.language import make_ssmm, target_named
from samoyeds_gen.language.schedule import Overlap, Split, Tile
from samoyeds_gen.tune.buckets import bucket_of, distance
from samoyeds_gen.tune.choice import (
    DOUBT,
    FARTHEST,
    Task,
    dense_expected,
    fitted,
    legal,
    modelled,
    rank,
    shipped_schedules,
)
from samoyeds_gen.tune.database import Database
from samoyeds_gen.tune.demand import dense_us
from samoyeds_gen.tune.machines import MACHINES, machine_named
from samoyeds_gen.tune.tables import read_table, shipped_tables

PREFIX, EXCHANGE, EXPAND = (
    shipped(name) for name in ("ssmm_sm80_prefix", "ssmm_sm80_exchange", "ssmm_sm80_expand")
)
SQUARE = (4096, 4096, 4096)

sizes = st.sampled_from((64, 500, 1408, 2048, 4096, 5760, 8192, 14336))
shapes = st.tuples(sizes, sizes, sizes)
known = st.lists(
    st.builds(record, st.sampled_from((PREFIX, EXCHANGE, EXPAND)), st.floats(10, 1000), shapes),
    max_size=6,
)


@given(shapes, st.sampled_from(SHIPPED), st.sampled_from(MACHINES), st.booleans())
def test_a_choice_is_always_legal_and_says_why(shape, format, machine, selected):
    at = task(shape, format, machine, index="int32" if selected else None)
    ranked = rank(at, database())
    assert all(first_violation(each.schedule, at.problem, at.target) is None for each in ranked)
    assert all(each.source == "model" and each.reason for each in ranked)
    assert len({each.schedule for each in ranked}) == len(ranked)
    times = [each.expected_us for each in ranked]
    assert times == sorted(times)


@given(known, shapes)
def test_a_bucket_with_measurements_takes_the_quickest_of_them(stored, shape):
    at = task(shape)
    newest = {(each.shape, each.digest): each for each in stored}
    here = [each for each in newest.values() if bucket_of(each.shape) == bucket_of(shape)]
    here = [each for each in here if each.shape == shape] or here
    best = rank(at, database(*stored))[0]
    assert (best.source == "table") == bool(here)
    if here and all(each.shape == shape for each in here):
        assert best.expected_us == min(each.us for each in here)
        assert best.schedule in [each.schedule for each in here if each.us == best.expected_us]


@given(known, shapes)
def test_elsewhere_each_schedule_is_carried_over_from_its_nearest_measurement(stored, shape):
    at = task(shape)
    newest = {(each.shape, each.digest): each for each in stored}.values()
    ranked = rank(at, database(*stored))
    for choice in ranked:
        mine = [
            each
            for each in newest
            if choice.schedule in (each.schedule, fitted(each.schedule, shape[2]))
        ]
        near = min((distance(each.shape, shape) for each in mine), default=float("inf"))
        if choice.source == "nearest":
            assert near <= FARTHEST
            assert near > 0 or choice.schedule not in [each.schedule for each in mine]
            options = [
                each.us
                * modelled(choice.schedule, at).us
                / modelled(each.schedule, task(each.shape)).us
                * (1 + DOUBT * near)
                for each in mine
                if distance(each.shape, shape) == pytest.approx(near)
            ]
            assert min(abs(choice.expected_us / each - 1) for each in options) < 1e-9
        elif choice.source == "model" and ranked[0].source == "nearest":
            assert near > FARTHEST


@given(st.sampled_from((PREFIX, EXCHANGE, shipped("ssmm_sm90"))), st.integers(1, 1000))
def test_a_fitted_tile_takes_the_tokens_in_as_many_tiles_with_less_padding(schedule, tokens):
    fit = fitted(schedule, tokens)
    tiles = [-(-tokens // each.tile.n) for each in (schedule, fit)]
    assert tiles[0] == tiles[1]
    assert fit.tile.n % 8 == 0 or fit == schedule
    assert schedule.tile.n / 2 < fit.tile.n <= schedule.tile.n
    if fit == schedule:  # eight tokens fewer a tile would not do, or would be another schedule
        less = schedule.tile.n - 8
        assert -(-tokens // less) > tiles[0] or 2 * (tokens / tiles[0]) <= schedule.tile.n
    else:
        assert replace(fit, name=schedule.name) == replace(schedule, tile=fit.tile)
        assert f"n{fit.tile.n}k" in fit.name
        assert fit.tile.n * tiles[0] - tokens < 8 * tiles[0]


def test_a_shape_between_tuned_ones_gets_a_tile_that_fits_its_tokens():
    """On an H200, 152 tokens in two tiles of 128 took 9 us and in two of 80 took 7."""
    wide = replace(shipped("ssmm_sm90"), tile=Tile(128, 128, 128), overlap=Overlap())
    wide = replace(wide, warps=replace(wide.warps, m=4))
    best = rank(task((7168, 2048, 152)), database(record(wide, 8.7, (7168, 2048, 256))))[0]
    assert best.schedule == fitted(wide, 152)
    assert best.schedule.tile == Tile(128, 80, 128)
    assert best.reason.endswith("corrected by the model, with a tile that fits the tokens")


def test_the_reason_names_the_measurement_and_the_distance():
    ranked = rank(task((8192, 4096, 4096)), database(record(PREFIX, 180.0)))
    (best,) = [each for each in ranked if each.source == "nearest"]
    assert best.reason == (
        "measured at 4096, 4096, 4096 on H200, 1.0 octaves away, corrected by the model"
    )
    assert str(best).startswith(f"ssmm_sm80_prefix {PREFIX.digest}: measured at ")
    assert str(best).endswith(" us expected")


def test_measured_against_the_model_the_measurement_wins():
    at = task()
    by_model = rank(at, database())[0].schedule
    other = next(each for each in (PREFIX, EXCHANGE) if each != by_model)
    slow, quick = modelled(by_model, at).us * 2, modelled(by_model, at).us * 0.9
    best = rank(at, database(record(by_model, slow), record(other, quick)))[0]
    assert (best.schedule, best.source, best.expected_us) == (other, "table", quick)


def test_a_shape_beyond_every_measurement_is_modelled():
    best = rank(task((64, 64, 8)), database(record(PREFIX, 180.0)))[0]
    assert best.source == "model"


def test_the_users_own_measurements_outweigh_shipped_ones():
    at = task()
    theirs, mine = record(PREFIX, 100.0, origin="h200.json"), record(EXCHANGE, 150.0)
    assert rank(at, database(theirs))[0].schedule == PREFIX
    assert rank(at, database(theirs, mine))[0].schedule == EXCHANGE


def test_another_gpu_of_the_architecture_counts_as_farther_off():
    at = task(machine=machine_named("H100"))
    ranked = rank(at, database(record(EXCHANGE, 1.0)))
    (carried,) = [each for each in ranked if each.source == "nearest"]
    assert carried.schedule == EXCHANGE
    assert "on H200, 1.0 octaves away" in carried.reason
    assert rank(task(machine=machine_named("A100")), database(record(EXCHANGE, 1.0)))[0].source == (
        "model"
    )


@pytest.mark.parametrize(
    ("change", "format"),
    [
        ({"tile": replace(PREFIX.tile, m=100)}, PAIRS),
        ({"pipeline": replace(PREFIX.pipeline, copy="another_age")}, PAIRS),
        ({}, Format(2, 4, 64)),
    ],
)
def test_a_measured_schedule_that_is_not_legal_is_passed_over(change, format):
    unusable = replace(PREFIX, **change)
    ranked = rank(task(format=format), database(record(unusable, 0.001, format=format)))
    assert unusable not in [each.schedule for each in ranked]


def test_another_format_counts_as_farther_off():
    stored = database(record(PREFIX, 180.0, format=Format(1, 2, 64)))
    (carried,) = [each for each in rank(task(), stored) if each.source == "nearest"]
    assert carried.schedule == PREFIX
    assert "4096, 4096, 4096 on H200 with (1,2,64), 1.0 octaves away, " in carried.reason
    there = modelled(PREFIX, task(format=Format(1, 2, 64))).us
    ratio = modelled(PREFIX, task()).us / there
    assert carried.expected_us == pytest.approx(180.0 * ratio * (1 + DOUBT))
    own = record(PREFIX, 200.0, (4096, 4096, 3000))
    both = database(own, record(PREFIX, 180.0, format=Format(1, 2, 64)))
    nearer = next(each for each in rank(task(), both) if each.schedule == PREFIX)
    assert nearer.reason.startswith("measured at 4096, 4096, 3000 on H200, 0.4 octaves away")


def test_both_dtypes_of_a_format_share_measurements_their_own_first():
    at = task()
    halves = Task(at.machine, at.target, make_ssmm(PAIRS, "float16"), at.shape)
    stored = database(record(PREFIX, 180.0))
    assert (rank(halves, stored)[0].source, rank(halves, stored)[0].expected_us) == ("table", 180.0)
    own = database(record(PREFIX, 180.0), record(EXCHANGE, 190.0, dtype="float16"))
    assert rank(halves, own)[0].schedule == EXCHANGE
    assert rank(at, own)[0].schedule == PREFIX


@pytest.mark.parametrize("format", ["1,2,256", "1,4,64", "2,4,32", "4,8,64"])
def test_a_format_without_measurements_at_few_tokens_is_carried_over_from_others(format):
    """The model alone named kernels of mma.sp, which took up to four times as long on an H200."""
    best = rank(task((4096, 4096, 208), Format.parse(format)), Database(None))[0]
    assert best.source == "nearest"
    assert " with (" in best.reason
    assert best.schedule.pipeline.copy == "tma"


def test_no_legal_schedule_at_all_is_refused(monkeypatch):
    import samoyeds_gen.tune.choice as room

    monkeypatch.setattr(room, "shipped_schedules", lambda format, dtype: ())
    with pytest.raises(TuneError) as caught:
        rank(task(), database())
    assert str(caught.value) == (
        "no shipped schedule is legal for m=4096, k=4096, n=4096, (1,2,128) bfloat16, H200, target "
        "sm_90a; give a schedule of your own to compile"
    )


def test_in_an_invented_world_untuned_shapes_lose_little():
    """Ten shapes between eight tuned ones, times off from the model by up to a quarter either way:
    what is chosen is within a tenth of the best shipped schedule.
    """
    tuned = [(m, k, n) for m in (4096, 16384) for k in (2048, 8192) for n in (1024, 4096)]
    stored = [
        record(each, true_us(each, task(shape)), shape)
        for shape in tuned
        for each in shipped_schedules(PAIRS, task().problem.dtype)
        if legal(each, task().problem, task().target)
    ]
    opened = database(*stored)
    for m, k, n in ((6000 + 700 * at, 3000 + 400 * at, 1500 + 200 * at) for at in range(10)):
        at = task((m, k, n))
        times = {each: true_us(each, at) for each in shipped_schedules(PAIRS, at.problem.dtype)}
        best = rank(at, opened)[0].schedule
        (base,) = [each for each in times if best in (each, fitted(each, n))]
        assert times[base] <= 1.1 * min(times.values())


def test_dense_times_come_from_the_table_then_nearby_then_the_model():
    at = task()
    assert dense_expected(at, database()) == (dense_us(SQUARE, at.machine), "model")
    opened = database(record(None, 200.0))
    assert dense_expected(at, opened) == (200.0, "table")
    us, source = dense_expected(task((8192, 4096, 4096)), opened)
    assert source == "nearest"
    assert us == pytest.approx(
        200 * dense_us((8192, 4096, 4096), at.machine) / dense_us(SQUARE, at.machine)
    )


def test_a_given_schedule_says_so():
    import samoyeds_gen as sg

    kernel = sg.compile(PREFIX, n=1, m=2, v=128, target="sm_80")
    assert kernel.choice == Choice(PREFIX, "given", "given by the caller")
    assert str(kernel.choice) == f"ssmm_sm80_prefix {PREFIX.digest}: given by the caller"


SHIPPED_ENTRIES = [
    each
    for path in shipped_tables()
    for each in read_table(path.read_text(), path.name)
    if each.schedule is not None
]


@pytest.mark.parametrize("format", sorted({each.format for each in SHIPPED_ENTRIES}))
def test_every_shape_of_the_shipped_table_takes_its_quickest_schedule(format):
    opened = Database(None)
    mine = [each for each in SHIPPED_ENTRIES if each.format == format]
    for place in sorted({(each.gpu, each.dtype, each.shape) for each in mine}):
        here = [each for each in mine if (each.gpu, each.dtype, each.shape) == place]
        machine = machine_named(place[0])
        problem = make_ssmm(Format.parse(format), place[1])
        at = Task(machine, target_named(machine.target), problem, place[2])
        best = rank(at, opened)[0]
        assert (best.source, best.expected_us) == ("table", min(each.us for each in here)), place


# Shapes between those that were tuned, whose tiles do not fill the chip.
FEW_TILES = ((12288, 4096, 20), (5120, 13824, 48), (7168, 2048, 100), (4096, 4096, 200))


@pytest.mark.parametrize("shape", FEW_TILES)
def test_few_tiles_are_shared_out_by_clusters_that_all_run_at_once(shape):
    best = rank(task(shape), Database(None))[0]
    schedule = best.schedule
    size = schedule.split.k * schedule.cluster.m
    tiles = -(-shape[0] // schedule.tile.m) * -(-shape[2] // schedule.tile.n)
    assert tiles * schedule.split.k >= 2 / 3 * H200.multiprocessors, "most of the chip works"
    if schedule.pipeline.copy == "tma":
        assert tiles // schedule.cluster.m <= H200.clusters_of(size), "in one wave"


def test_a_split_whose_clusters_would_not_fit_is_not_carried_over():
    """Measured at 16 tiles, a split by 6 is quickest; 20 tiles in clusters of 6 take two waves."""
    base = replace(shipped("ssmm_sm90"), tile=Tile(256, 64, 128), overlap=Overlap())
    five, six = (replace(base, name=f"by{k}", split=Split(k)) for k in (5, 6))
    stored = database(record(five, 16.3, (4096, 14336, 64)), record(six, 15.6, (4096, 14336, 64)))
    assert rank(task((4096, 14336, 64)), stored)[0].schedule == six
    assert rank(task((5120, 13824, 48)), stored)[0].schedule == fitted(five, 48)


# Microseconds on an H200; where k is no multiple of 16, rows of tokens begin inside a sector of L2.
MISALIGNED = {
    (7168, 3072, 130): {"m128n72k128_c7e390": 9.1, "m256n72k128_e56d9a": 10.1},
    (7168, 3048, 130): {"m128n72k128_c7e390": 16.1, "m256n72k128_e56d9a": 12.9},
    (8192, 8200, 8192): {"m256n200k128_4618f8": 864.0, "m384n128k128_5ee869": 792.7},
    (4096, 11000, 2500): {"m256n160k128_526f9b": 198.8, "m384n112k128_e2c532": 172.7},
}


@pytest.mark.parametrize("shape", MISALIGNED)
def test_tall_tiles_are_chosen_where_rows_of_tokens_are_misaligned(shape):
    measured = MISALIGNED[shape]
    chosen = rank(task(shape), Database(None))[0].schedule.name.removeprefix("ssmm_sm90_")
    assert measured[chosen] == min(measured.values())
