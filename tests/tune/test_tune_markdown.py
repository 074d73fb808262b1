"""Tables of products: every figure stands where its shape and contender say, ratios beside it."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.errors import TuneError
from samoyeds_gen.tune.markdown import (
    NOT_YET,
    decode_markdown,
    rates_markdown,
    read_products,
    times_markdown,
)
from samoyeds_gen.tune.results import Row


def row(contender, shape, us, *, dense=100.0, kind="peer", format="", group="large"):
    m, k, n = shape
    return Row(
        group, m, k, n, contender, kind, format, "", "", "", "graph", us, us, us,
        2 * m * n * k / us * 1e-6, dense / us, 2 * m * k, 2 * m * k / us * 1e-6, None, "right",
    )  # fmt: skip


def run_of(shapes, times, group="large"):
    """cuBLAS in two layouts, the library's 2:4, and two formats of ours."""
    rows = []
    for shape, (first, second, peer, ours, plain) in zip(shapes, times, strict=True):
        dense = min(first, second)
        rows += [
            row("cuBLAS out[n,m]", shape, first, dense=dense, group=group),
            row("cuBLAS out[m,n]", shape, second, dense=dense, group=group),
            row("cuSPARSELt 2:4", shape, peer, dense=dense, format="1,1,16", group=group),
            row("auto (1,2,64)", shape, ours, dense=dense, kind="ours", format="1,2,64",
                group=group),
            row("auto (1,1,32)", shape, plain, dense=dense, kind="ours", format="1,1,32",
                group=group),
        ]  # fmt: skip
    return rows


def cells(table):
    """A table's lines without its rule, as lists of cells."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


SHAPES = ((4096, 4096, 64), (128, 256, 8), (777, 1000, 333))
times = st.tuples(*[st.floats(1, 1000)] * 5)


@given(st.lists(times, min_size=1, max_size=3))
def test_a_table_has_every_contender_of_every_shape(drawn):
    shapes = SHAPES[: len(drawn)]
    head, *lines, last = cells(times_markdown(run_of(shapes, drawn)))
    assert head == ["m, k, n", "cuBLAS", "cuSPARSELt 2:4", "(1,2,64)", "(1,1,32)"]
    for line, shape, (first, second, *others) in zip(lines, shapes, drawn, strict=True):
        dense = min(first, second)
        ratios = [f"{us:.1f} ({dense / us:.2f}x)" for us in others]
        assert line == [", ".join(map(str, shape)), f"{dense:.1f}", *ratios]
    assert last[:2] == ["geometric mean (least)", ""]
    for cell, of_contender in zip(last[2:], list(zip(*drawn, strict=True))[2:], strict=True):
        each = [min(a, b) / us for (a, b, *_), us in zip(drawn, of_contender, strict=True)]
        assert f"({min(each):.2f}x)" in cell


def test_rates_count_operations_and_say_how_far_ahead_plain_2_4_is():
    text = rates_markdown(run_of(SHAPES[:2], [(100, 90, 60, 30, 45), (10, 11, 8, 2, 10)]))
    assert cells(text)[1][1] == f"{2 * 4096 * 4096 * 64 / 90 * 1e-6:.0f}"
    assert cells(text)[1][3].endswith("(3.00x)")
    assert "At plain 2:4 ours takes 25.0, -25.0 % less time than cuSPARSELt's" in text
    alone = [each for each in run_of(SHAPES[:1], [(1, 1, 1, 1, 1)]) if each.format != "1,1,32"]
    assert "At plain 2:4" not in rates_markdown(alone)


def test_decode_is_by_weight_and_tokens():
    rows = []
    for weight, group in (((8192, 4096), "decode n <= 16"), ((2048, 1408), "decode 2048 x 1408")):
        for n, us in ((1, 10.0), (8, 20.0)):
            rows += run_of([(*weight, n)], [(30.0, 40.0, 25.0, us, us)], group)[:4]
    text = decode_markdown(rows)
    head, first, second = cells(text)
    assert head == ["m x k", "n = 1", "n = 8"]
    assert first == ["8192 x 4096", "10.0 (3.00x)", "20.0 (1.50x)"]
    assert second[0] == "2048 x 1408"
    assert "decode n <= 16 2.12x (least 1.50x)" in text
    rate = 2 * 8192 * 4096 / 10.0 * 1e-6
    assert f"At n = 1 that is {rate:.1f} to {rate:.1f} TB/s" in text


def test_a_weight_without_a_number_of_tokens_has_an_empty_cell():
    """What a decode run lacks where a kernel was refused, or where it ended before."""
    shapes = ((4096, 4096, 1), (4096, 4096, 8), (8192, 8192, 1))
    rows = [
        row("auto (1,2,128)", shape, 10.0, kind="ours", format="1,2,128", group="decode")
        for shape in shapes
    ]
    assert cells(decode_markdown(rows)) == [
        ["m x k", "n = 1", "n = 8"],
        ["4096 x 4096", "10.0 (10.00x)", "10.0 (10.00x)"],
        ["8192 x 8192", "10.0 (10.00x)", ""],
    ]


def test_what_was_not_measured_says_so():
    assert rates_markdown([]) == times_markdown([]) == decode_markdown([]) == NOT_YET


def test_rows_come_back_from_a_file(tmp_path):
    rows = run_of(SHAPES, [(5, 4, 3, 2, 1)] * 3)
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"rows": [asdict(each) for each in rows]}))
    assert read_products(path) == rows


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [{"group": "large"}]}', '{"rows": 3}'])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(TuneError) as caught:
        read_products(path)
    assert str(caught.value) == (
        "other.json does not hold the figures of products; write it with samoyeds-gen bench auto "
        "--output other.json"
    )
