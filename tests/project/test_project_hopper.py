"""The page on the Hopper kernel quotes numbers of the plan; here they are held against it."""

import re

import pytest
from document_blocks import ROOT

from samoyeds_gen.compiler import compile_plan
from samoyeds_gen.compiler.warp_specialised.ops import ExpectBytes
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the docs are not here")


@pytest.fixture(scope="module")
def plan():
    problem = make_ssmm(Format(1, 2, 128), "bfloat16")
    return compile_plan(load_schedule("ssmm_sm90", problem.format, problem.dtype), problem)


@pytest.fixture(scope="module")
def page():
    return re.sub(r"\s+", " ", (ROOT / "docs" / "hopper.md").read_text())


def test_tile_threads_and_registers(plan, page):
    g, tile = plan.geometry, plan.schedule.tile
    assert f"tile {tile.m} x {tile.n} x {tile.k}" in page
    assert f"A CTA has {plan.threads} threads" in page
    consumer, producer = g.consumer_registers, g.producer_registers
    total = 128 * (g.consumers * consumer + producer)
    assert f"128 x ({g.consumers} x {consumer} + {producer}) = {total}" in page
    assert f"{g.accumulator_sets} x {g.sums} accumulators" in page
    assert f"| {producer} | {consumer} |" in page


def test_a_stage(plan, page):
    g = plan.geometry
    expect = next(op.bytes for op in plan.producer if isinstance(op, ExpectBytes))
    parts = f"{g.weight_bytes} + {g.consumers} x {g.word_bytes} + {g.token_bytes}"
    assert f"{expect} = {parts}" in page
    assert f"{g.weight_rows} stored rows x {plan.schedule.tile.k // 2} values" in page
    assert f"{g.metadata_bytes} bytes, and its selector bits, {g.fold_bytes} bytes" in page
    slices = plan.buffer("slices")
    assert f"slices take {slices.bytes} bytes" in page
    assert f"{g.slice_stride} bytes a token" in page


def test_traffic_of_the_stage_with_192_tokens(plan, page):
    g, n, k = plan.geometry, 192, plan.schedule.tile.k
    words, tokens = g.consumers * g.word_bytes, 2 * n * k
    written, read = g.weight_bytes + tokens + words, g.consumers * tokens
    assert f"{written / 1000:.1f} KB in; {read / 1000:.1f} KB of tokens" in page
    clocks = (written + read + g.weight_bytes + words) / 128
    assert abs(clocks - 1440) < 5
    assert "that is 1440 clocks" in page
    assert f"matrix work is {g.consumers * k // 32 * n // 2}" in page
    assert f"additions {g.rows * n // 128} on" in page


def test_waves(plan, page):
    for n, tiles, waves in ((200, 1312, "9.9"), (192, 1376, "10.4")):
        assert 8192 // plan.schedule.tile.m * -(-8192 // n) == tiles
        assert f"{tiles / 132:.1f}" == waves
        assert f"{tiles} tiles" in page
        assert waves in page
