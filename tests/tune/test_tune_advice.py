"""Advice needs no GPU: it ranks formats, takes the table's word first, and may say dense."""

import pytest
from tune_cases import H200, database, record, shipped

from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format, encode
from samoyeds_gen.tune.advice import FORMATS, WORTH, advise, stored_share
from samoyeds_gen.tune.machines import MACHINES

SHAPE = (8192, 8192, 8192)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda each: each.name)
@pytest.mark.parametrize("shape", [SHAPE, (14336, 4096, 16), (64, 64, 1)])
def test_offers_are_ranked_and_compared_with_dense(machine, shape):
    advice = advise(shape, machine, database())
    assert [each.us for each in advice.offers] == sorted(each.us for each in advice.offers)
    for each in advice.offers:
        assert each.speedup == pytest.approx(advice.dense_us / each.us)
    first = advice.offers[0]
    assert (advice.best is None) == (first.speedup < WORTH)
    word = "keep the weight dense" if advice.best is None else f"use ({first.format}) with "
    assert advice.sentence.startswith(word)


def test_measurements_decide_where_there_are_any():
    slow = [
        record(shipped("ssmm_sm80_expand", each), 1e6, SHAPE, format=each)
        for each in FORMATS
        if each != Format(4, 8, 32)
    ]
    quick = record(shipped("ssmm_sm80_expand", Format(4, 8, 32)), 10.0, SHAPE, format="4,8,32")
    stored = database(*slow, quick, record(None, 25.0, SHAPE))
    advice = advise(SHAPE, H200, stored)
    assert (str(advice.best.format), advice.best.choice.source) == ("4,8,32", "table")
    assert (advice.dense_us, advice.dense_source) == (25.0, "table")
    assert advice.sentence == (
        "use (4,8,32) with ssmm_sm80_expand: 10.0 us instead of 25.0 us dense, 2.50x"
    )


def test_dense_is_advised_where_it_is_better():
    advice = advise(SHAPE, H200, database(record(None, 1.0, SHAPE)))
    assert advice.best is None
    assert advice.sentence.startswith(
        "keep the weight dense: 1.0 us, the best format reaches 0.00x"
    )


def test_only_formats_asked_for_are_compared():
    advice = advise(SHAPE, H200, database(), formats=[Format(1, 4, 64)], dtype="float16")
    assert [str(each.format) for each in advice.offers] == ["1,4,64"]


def test_formats_without_a_legal_schedule_are_left_out(monkeypatch):
    import samoyeds_gen.tune.choice as room

    real = room.shipped_schedules
    monkeypatch.setattr(
        room, "shipped_schedules", lambda f, dtype: () if f.n == 1 else real(f, dtype)
    )
    assert {each.format.n for each in advise(SHAPE, H200, database()).offers} == {4, 8}
    with pytest.raises(TuneError, match="no shipped schedule is legal"):
        advise(SHAPE, H200, database(), formats=[Format(1, 2, 64)])


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_the_share_of_bytes_is_that_of_an_encoded_weight(format):
    import numpy as np

    dense = np.random.default_rng(0).standard_normal((256, 512), np.float32)
    w = encode(dense, n=format.n, m=format.m, v=format.v)
    assert stored_share(format) == pytest.approx(w.nbytes / (2 * dense.size), rel=1e-6)
