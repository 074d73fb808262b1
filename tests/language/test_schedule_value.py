"""The Schedule value: JSON round trip, digest, equality, and what takes part in them."""

import dataclasses
import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samoyeds_gen.check.work import drawn_subjects
from samoyeds_gen.errors import ScheduleError, Where
from samoyeds_gen.language.schedule import (
    Cluster,
    Epilogue,
    Launch,
    Layout,
    Overlap,
    Pack,
    Pipeline,
    Raster,
    Resident,
    Schedule,
    Split,
    Stationary,
    Tile,
    Warps,
)

EXAMPLE = Schedule(
    name="example",
    algorithm="ssmm",
    target="sm_80",
    tile=Tile(256, 64, 64),
    warps=Warps(4, 2),
    tensorize="mma_sp_m16n8k32",
    pack=Pack(),
    layout=Layout("xor_64b", "xor_128b"),
    stationary=Stationary("exchange"),
    pipeline=Pipeline(4, "cp_async_16b"),
)

CHANGES = [
    {"name": "other"},
    {"algorithm": "gemm"},
    {"target": "sm_89"},
    {"tile": Tile(128, 64, 64)},
    {"tile": Tile(256, 64, 128)},
    {"warps": Warps(2, 4)},
    {"tensorize": "mma_sp_m16n8k16"},
    {"layout": Layout("linear", "xor_128b")},
    {"layout": Layout("xor_64b", "linear")},
    {"stationary": Stationary("prefix")},
    {"stationary": Stationary("exchange", weight="registers")},
    {"pipeline": Pipeline(3, "cp_async_16b")},
    {"pipeline": Pipeline(4, "cp_async_16b", 1)},
    {"raster": Raster(4)},
    {"resident": Resident(2)},
    {"resident": Resident(1, True)},
    {"overlap": Overlap(2)},
    {"overlap": Overlap(1, True)},
    {"cluster": Cluster(2)},
    {"epilogue": Epilogue(8)},
    {"warps": Warps(4, 2, 2)},
    {"pack": Pack(data="fragment")},
    {"split": Split(2)},
    {"launch": Launch(dependent=True)},
    {"launch": Launch(dependent=True, prefetch=True)},
]

drawn = (drawn_subjects("ssmm_sm80") | drawn_subjects("decode_sm80")).map(
    lambda subject: subject.schedule
)


@given(drawn)
@settings(max_examples=60)
def test_json_round_trip(schedule):
    back = Schedule.from_json(schedule.to_json())
    assert back == schedule
    assert hash(back) == hash(schedule)
    assert back.digest == schedule.digest
    assert back.to_json() == schedule.to_json()
    assert pickle.loads(pickle.dumps(schedule)) == schedule


@given(drawn)
@settings(max_examples=30)
def test_key_order_of_json_is_free(schedule):
    shuffled = json.dumps(json.loads(schedule.to_json()), sort_keys=True)
    assert Schedule.from_json(shuffled) == schedule


@given(drawn, drawn)
@settings(max_examples=60)
def test_digests_tell_schedules_apart(left, right):
    assert (left.digest == right.digest) == (left == right)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_field_is_part_of_the_digest(change):
    changed = replace(EXAMPLE, **change)
    assert changed != EXAMPLE
    assert changed.digest != EXAMPLE.digest
    assert Schedule.from_json(changed.to_json()) == changed


def test_changes_reach_every_field():
    fields = {field.name for field in dataclasses.fields(Schedule)} - {"where"}
    assert {name for change in CHANGES for name in change} == fields


def test_digest_is_stable():
    """Kernels and tuning results on disk are found by it."""
    assert EXAMPLE.digest == "92a90ac0de42"


def test_where_takes_no_part():
    placed = replace(EXAMPLE, where=(("tile", Where("a.py", 3)),))
    assert placed == EXAMPLE
    assert hash(placed) == hash(EXAMPLE)
    assert placed.digest == EXAMPLE.digest
    assert placed.to_json() == EXAMPLE.to_json()
    assert placed.place_of("tile") == Where("a.py", 3)
    assert placed.place_of("warps") is None
    assert (placed.source_path, EXAMPLE.source_path) == ("a.py", None)


def test_optional_directives_may_be_left_out_of_json():
    data = EXAMPLE.as_dict()
    for name in ("raster", "resident"):
        del data[name]
    assert Schedule.from_json(json.dumps(data)) == EXAMPLE


def test_print_shows_every_directive_and_the_digest():
    text = str(EXAMPLE)
    assert EXAMPLE.digest in text.splitlines()[0]
    for word in ("tile", "m=256", "warps", "mma_sp_m16n8k32", "xor_128b", "exchange", "stages=4"):
        assert word in text


def test_values_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        EXAMPLE.name = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        EXAMPLE.tile.m = 1


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.just("word"),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, min_size=1, max_size=2)
    ),
    max_leaves=4,
)


@given(JSON)
@settings(max_examples=40)
def test_json_of_anything_else_is_refused(value):
    with pytest.raises(ScheduleError, match=r"^json: "):
        Schedule.from_json(json.dumps(value))
    for name, whole in EXAMPLE.as_dict().items():
        if not isinstance(whole, str) or not isinstance(value, str):
            with pytest.raises(ScheduleError, match=rf"^json: schedule\.{name}"):
                Schedule.from_json(json.dumps({**EXAMPLE.as_dict(), name: value}))
