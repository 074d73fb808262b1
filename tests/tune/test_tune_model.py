"""The analytic model: laws that any time obeys, and how near it comes to recorded measurements."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tune_cases import H200, PAIRS, database, shipped, task

from samoyeds_gen.check.strategies import SHIPPED, schedules
from samoyeds_gen.formats import Format
from samoyeds_gen.language import atoms, make_ssmm, target_named
from samoyeds_gen.language.schedule import Split
from samoyeds_gen.tune.choice import Task, legal, modelled, rank, shipped_schedules
from samoyeds_gen.tune.demand import EFFICIENCY, dense_us, estimate, tile_clocks
from samoyeds_gen.tune.machines import MACHINES, machine_for_target, machine_named, machine_of
from samoyeds_gen.tune.shapes import SHAPES, plain, tuned_shape

sizes = st.sampled_from((1, 8, 100, 1408, 4096, 9000, 16384))
shapes = st.tuples(sizes, sizes, sizes)
machines = st.sampled_from(MACHINES)


@given(shapes, machines, st.sampled_from(SHIPPED))
def test_every_legal_shipped_schedule_has_a_time_and_a_limit(shape, machine, format):
    at = task(shape, format, machine)
    for schedule in shipped_schedules(format, at.problem.dtype):
        if legal(schedule, at.problem, at.target):
            found = modelled(schedule, at)
            assert found.us > machine.launch
            assert found.limit in {"memory", "matrix work", "shared memory", "L2", "vector work"}


@given(shapes, st.sampled_from((0, 1, 2)))
def test_a_larger_product_never_takes_less_time(shape, axis):
    larger = tuple(size * (2 if place == axis else 1) for place, size in enumerate(shape))
    schedule = shipped()
    assert modelled(schedule, task(larger)).us >= modelled(schedule, task(shape)).us * (1 - 1e-9)
    assert dense_us(larger, H200) >= dense_us(shape, H200) * 0.5


@given(shapes)
def test_a_better_machine_is_never_slower(shape):
    schedule = shipped()
    better = replace(
        H200,
        dram=2 * H200.dram,
        l2=2 * H200.l2,
        sparse=tuple((unit, 2 * rate) for unit, rate in H200.sparse),
    )
    there = Task(better, target_named("sm_90a"), make_ssmm(PAIRS, "bf16"), shape)
    assert modelled(schedule, there).us <= modelled(schedule, task(shape)).us * (1 + 1e-9)


def recorded():
    from project_places import ROOT

    for path in sorted((ROOT / "docs" / "measurements").glob("2026-11-21-h200-mma-*.json")):
        data = json.loads(path.read_text())
        for row in data["rows"]:
            yield data["format"], (row["m"], row["k"], row["n"]), row["contender"], row["median_us"]


RECORDED = list(recorded())


@pytest.mark.parametrize(
    ("format", "shape", "contender", "us"), RECORDED, ids=lambda each: str(each)[:24]
)
def test_the_model_is_within_an_eighth_of_what_was_measured(format, shape, contender, us):
    form = Format.parse(format)
    if contender.startswith("cublas"):
        found = dense_us(shape, H200)
    else:
        found = modelled(shipped(contender, form), task(shape, form)).us
    assert found == pytest.approx(us, rel=1 / 8)


@pytest.mark.parametrize(
    ("shape", "us"),
    [((14336, 4096, 16), 30.0), ((8192, 8192, 16), 33.5), ((16384, 6144, 16), 47.8)],
)
def test_dense_products_of_few_tokens_are_bound_by_memory(shape, us):
    assert dense_us(shape, H200) == pytest.approx(us, rel=0.15)


def test_there_are_recorded_measurements_of_every_fold():
    assert {contender for _, _, contender, _ in RECORDED} >= {
        "ssmm_sm80_prefix",
        "ssmm_sm80_exchange",
        "ssmm_sm80_expand",
    }


@given(schedules(shipped(), make_ssmm(PAIRS, "bfloat16"), target_named("sm_90a")))
def test_any_legal_schedule_has_a_positive_time(schedule):
    at = task((1000, 1000, 100))
    assert 0 < modelled(schedule, at).us < 1e6


def test_a_pipeline_without_a_row_is_reckoned_with_as_it_is():
    unknown = replace(shipped(), pipeline=replace(shipped().pipeline, copy="some_new_copy"))
    at = task()
    row = tuned_shape(unknown)
    assert list(row.variants(unknown, at.problem, at.target)) == [unknown]
    demand = row.demand(unknown, at.problem, at.target, at.shape, H200)
    assert 50 < estimate(demand, H200).us < 1000
    assert not legal(unknown, at.problem, at.target)


def test_every_row_names_a_copy_atom_once():
    copies = [row.copy for row in SHAPES]
    assert len(set(copies)) == len(copies)
    assert set(copies) <= {atom.name for atom in atoms.COPY_ATOMS}


@given(shapes, st.integers(1, 32))
def test_device_memory_moves_every_array_at_least_once(shape, group):
    m, k, n = shape
    schedule = replace(shipped(), raster=replace(shipped().raster, group=group))
    problem = make_ssmm(PAIRS, "bf16")
    least = plain.weight_bytes(problem, m, k) + 2 * n * (m + k)
    assert plain.streamed_bytes(schedule, problem, shape, H200) >= least * (1 - 1e-9)


class Present:
    """What the driver would say of a GPU."""

    def __init__(self, name, target, multiprocessors):
        self.name, self.target, self.multiprocessors = name, target, multiprocessors


def test_a_present_gpu_takes_its_row_or_one_scaled():
    assert machine_of(Present("NVIDIA H200", "sm_90a", 132)) is H200
    part = machine_of(Present("NVIDIA H200 NVL", "sm_90a", 66))
    assert (part.name, part.dense, part.roof) == ("H200 NVL", H200.dense / 2, None)
    other = machine_of(Present("NVIDIA A10", "sm_86", 41))
    assert (other.name, other.target) == ("A10", "sm_86")
    assert other.dense == pytest.approx(machine_named("3090").dense / 2)
    newer = machine_of(Present("NVIDIA X1", "sm_130a", 200))
    assert (newer.target, newer.multiprocessors) == ("sm_130a", 200)


@given(st.sampled_from(MACHINES), st.integers(1, 8))
def test_whole_clusters_run_together_and_no_more_than_there_is_room_for(machine, size):
    together = machine.clusters_of(size)
    assert 1 <= together <= machine.multiprocessors // size
    assert machine.clusters_of(1) == machine.multiprocessors
    assert together >= 0.8 * (machine.multiprocessors // size) - 1


@pytest.mark.parametrize(("size", "together"), [(1, 132), (2, 66), (3, 39), (4, 30), (6, 17)])
def test_clusters_take_another_wave_when_they_do_not_fit_together(size, together):
    schedule, at = shipped("ssmm_sm90"), task()
    row = tuned_shape(schedule).demand(schedule, at.problem, at.target, at.shape, H200)
    fits = replace(row, cluster=size, tiles=size * together, streamed=0.0)
    over = replace(fits, tiles=size * (together + 1))
    drained = H200.launch, tile_clocks(fits, H200, 1) / EFFICIENCY / H200.clock * 1e-3
    assert estimate(fits, H200).us == pytest.approx(sum(drained))
    assert estimate(over, H200).us == pytest.approx(drained[0] + 2 * drained[1])


def test_a_present_gpu_of_another_size_has_no_row_of_clusters():
    assert machine_of(Present("NVIDIA H200", "sm_90a", 132)).clusters
    assert not machine_of(Present("NVIDIA H200 NVL", "sm_90a", 66)).clusters


def test_a_split_that_does_not_fit_is_modelled_as_two_waves():
    """Measured on an H200: by 3, 28.6 us; by 4, 43.5 us, for 32 clusters of 4 do not fit."""
    at = task((4096, 14336, 256))
    base = shipped("ssmm_sm90")
    times = {}
    for parts in (3, 4):
        schedule = replace(base, tile=replace(base.tile, n=128), split=Split(parts))
        times[parts] = modelled(schedule, at).us
    assert times[3] == pytest.approx(28.6, rel=0.2)
    assert times[4] == pytest.approx(43.5, rel=0.2)


def test_every_target_has_a_machine_to_choose_for():
    from samoyeds_gen.language import TARGETS

    for target in TARGETS:
        assert machine_for_target(target.name).target == target.name


@pytest.mark.parametrize(
    ("text", "name"), [("h200", "H200"), ("H100", "H100"), ("4090", "RTX 4090")]
)
def test_machines_are_found_by_a_part_of_their_name(text, name):
    assert machine_named(text).name == name


@given(st.sampled_from(SHIPPED))
def test_only_a_measured_machine_has_a_roof(format):
    assert H200.roof_tflops(format) >= 1430
    assert machine_named("A100").roof_tflops(format) is None


# Dense-equivalent TFLOP/s that a throw-away prototype of the warp-specialised pipeline reached at
# its best variant, on an H200 at its power limit.
PROTOTYPE = [
    ("1,2,128", (8192, 8192, 8192), 1795),
    ("1,2,128", (16384, 4096, 16384), 1636),
    ("1,2,128", (16384, 6144, 4096), 1675),
    ("1,2,128", (4096, 14336, 4096), 1770),
    ("1,2,128", (14336, 4096, 4096), 1691),
    ("1,2,128", (4096, 4096, 4096), 1500),
    ("1,2,64", (8192, 8192, 8192), 1440),
    ("1,2,32", (8192, 8192, 8192), 1100),
    ("1,1,64", (8192, 8192, 8192), 987),
    ("1,1,64", (16384, 4096, 16384), 935),
    ("1,1,64", (4096, 14336, 4096), 957),
    ("1,1,64", (4096, 4096, 4096), 873),
]


@pytest.mark.parametrize(("format", "shape", "tflops"), PROTOTYPE)
def test_the_warp_specialised_pipeline_is_modelled_near_its_prototype(format, shape, tflops):
    form = Format.parse(format)
    at = task(shape, form)
    base = shipped("ssmm_sm90", form)
    best = min(modelled(each, at).us for each in near_variants(base, at))
    m, k, n = shape
    assert 2 * m * k * n / best * 1e-6 == pytest.approx(tflops, rel=0.15)


def near_variants(base, at):
    """The base with its tokens a tile varied."""
    for n in (96, 128, 160, 176, 192, 200, 208):
        variant = replace(base, tile=replace(base.tile, n=n))
        if legal(variant, at.problem, at.target):
            yield variant


def test_few_tokens_are_streamed_and_many_are_not():
    few, many = (rank(task((14336, 4096, n)), database())[0].schedule for n in (8, 4096))
    assert (few.name, many.name) == ("decode_sm80", "ssmm_sm90")
