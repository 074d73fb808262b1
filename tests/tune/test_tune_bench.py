"""A comparison with an invented GPU: who is timed, what is counted, and what is written down."""

import csv
import io
import json
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tune_cases import H200, shipped

from samoyeds_gen.errors import TuneError
from samoyeds_gen.kernel import Choice
from samoyeds_gen.tune.bench import run_bench, sentence_of
from samoyeds_gen.tune.contender import Contender, Failure
from samoyeds_gen.tune.results import (
    Row,
    as_csv,
    geometric_mean,
    means,
    roof_share,
    write_results,
)
from samoyeds_gen.tune.suites import (
    DECODE_TOKENS,
    SMALLEST_WEIGHT,
    SUITES,
    group_of,
    suite_named,
)
from samoyeds_gen.tune.timing import Effort, Timed

EFFORT = Effort(rounds=3, sample_ms=1.0, settle_ms=1.0, warmup_s=0.01)
OURS = Choice(shipped(), "table", "quickest of 3 measured at 8, 8, 8 on H200", 50.0)


def contender(name, us, *, choice=None, format=None, weight_bytes=1000, launches=1, replay="graph"):
    return Contender(
        name=name,
        timed=Timed(lambda turn: us, launches),
        weight_bytes=weight_bytes,
        verdict="8 elements, 0 unwritten, 0 wrong",
        replay=replay,
        format=format,
        choice=choice,
    )


class InventedRig:
    """A GPU on which everybody takes the time that they are given."""

    machine = H200

    def __init__(self, at):
        self.at = at
        self.released = []
        self.asked = []
        self.log = []

    def contenders(self, shape):
        self.asked.append(shape)
        return self.at(shape)

    def sample(self, run, settle, timed):
        self.log.append(run(0))
        return run(0)

    def release(self):
        self.released.append(self.asked[-1])


def usual(shape):
    return [
        contender("cuBLAS out[n,m]", 110.0),
        contender("cuBLAS out[m,n]", 100.0),
        Failure("cuSPARSELt 2:4", "internal error"),
        contender("auto (1,2,128)", 500.0, choice=OURS, format="1,2,128", launches=10),
    ]


SHAPES = [("paper", (1024, 512, 256)), ("paper", (512, 512, 512)), ("given", (8, 8, 8))]


def test_everybody_is_timed_at_every_shape_and_compared_with_the_faster_cublas():
    rig = InventedRig(usual)
    kept = []
    results = run_bench(SHAPES, rig, EFFORT, written=lambda now: kept.append(len(now.rows)))
    assert kept[-1] == len(results.rows)
    assert len(kept) == len(SHAPES)
    assert kept == sorted(set(kept))
    assert rig.asked == rig.released == [shape for _, shape in SHAPES]
    assert [row.contender for row in results.rows[:3]] == [
        "cuBLAS out[n,m]",
        "cuBLAS out[m,n]",
        "auto (1,2,128)",
    ]
    slow, fast, ours = results.rows[:3]
    assert (slow.ratio, fast.ratio, ours.ratio) == (pytest.approx(100 / 110), 1.0, 2.0)
    assert (ours.median_us, ours.kind, fast.kind) == (50.0, "ours", "peer")
    assert ours.tflops == pytest.approx(2 * 1024 * 512 * 256 / 50e-6 * 1e-12)
    assert ours.weight_tbs == pytest.approx(1000 / 50e-6 * 1e-12)
    assert (ours.schedule, ours.digest) == (OURS.schedule.name, OURS.schedule.digest)
    assert [(each.shape if isinstance(each, Row) else (each.m, each.k, each.n), each.contender,
             each.error) for each in results.failed] == [
        (shape, "cuSPARSELt 2:4", "internal error") for _, shape in SHAPES
    ]  # fmt: skip


def test_a_failure_is_said_and_not_timed():
    rig = InventedRig(lambda shape: [Failure("wrong one", "wrong: 3 elements")])
    said = []
    results = run_bench(SHAPES[:1], rig, EFFORT, lambda *step: said.append(step))
    assert (results.rows, rig.log) == ([], [])
    assert (0, 1, "1024,512,256 wrong one: wrong: 3 elements") in said
    assert said[-1] == (1, 1, "done")


def test_without_cublas_there_are_no_ratios():
    rig = InventedRig(lambda shape: usual(shape)[3:])
    results = run_bench(SHAPES, rig, EFFORT)
    assert [row.ratio for row in results.rows] == [None] * 3
    assert results.means == []


def test_a_row_as_a_sentence():
    row = run_bench(SHAPES[:1], InventedRig(usual), EFFORT).rows[2]
    assert sentence_of(row) == (
        "1024,512,256 auto (1,2,128): 50.0 us, 5 TFLOP/s, 2.00x, 0.00 TB/s of weight"
    )


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9))
def test_a_geometric_mean_has_the_product_of_its_values(values):
    assert geometric_mean(values) ** len(values) == pytest.approx(prod(values))
    assert min(values) * (1 - 1e-9) <= geometric_mean(values) <= max(values) * (1 + 1e-9)


def test_means_say_how_many_shapes_they_are_of():
    def at(shape):
        present = usual(shape)
        return present[:2] if shape == (512, 512, 512) else present

    results = run_bench(SHAPES, InventedRig(at), EFFORT)
    found = {(each.group, each.contender): each for each in results.means}
    assert (found["paper", "auto (1,2,128)"].shapes, found["paper", "auto (1,2,128)"].of) == (1, 2)
    assert found["given", "auto (1,2,128)"].ratio == pytest.approx(2.0)
    assert found["paper", "cuBLAS out[n,m]"].ratio == pytest.approx(100 / 110)
    assert means([]) == []


def test_the_roof_is_the_longer_of_matrix_work_and_bytes():
    large, small = (8192, 8192, 8192), (8192, 8192, 1)
    ours = contender("ours", 1.0, format="1,2,128", weight_bytes=36_000_000)
    work = 2 * 8192**3 / 2832e12 * 1e6
    assert roof_share(ours, large, 2 * work, H200) == pytest.approx(0.5)
    moved = (36_000_000 + 2 * (8192 + 8192)) / H200.dram * 1e-6
    assert roof_share(ours, small, 4 * moved, H200) == pytest.approx(0.25)
    from samoyeds_gen.tune.machines import machine_named

    assert roof_share(ours, large, 1.0, machine_named("A100")) is None


def test_json_and_csv_hold_every_row(tmp_path):
    results = run_bench(SHAPES, InventedRig(usual), EFFORT)
    about = {"gpu": "H200", "effort": {"rounds": 3}}
    for name in ("r.json", "r.csv"):
        write_results(tmp_path / name, results.rows, results.failed, about)
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["gpu"] == "H200"
    assert [Row(**row) for row in data["rows"]] == results.rows
    assert len(data["failed"]) == 3
    assert [each["ratio"] for each in data["means"]] == [each.ratio for each in results.means]
    table = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert [float(row["median_us"]) for row in table] == [row.median_us for row in results.rows]
    assert as_csv(results.rows[:1]).count("\n") == 2


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(TuneError) as caught:
        write_results(tmp_path / "r.txt", [], [], {})
    assert str(caught.value) == (
        "the output 'r.txt' does not end in one of .json, .csv; name it with one of .json, .csv"
    )


def test_suites_are_those_that_are_reported():
    assert len(SUITES["paper"]) == 6
    assert len(SUITES["large"]) == 4
    assert len(SUITES["decode"]) == 5 * len(DECODE_TOKENS)
    assert all(n % 16 for _, _, n in SUITES["ragged"]), "no tile takes them whole"
    assert all(min(shape) >= 1 for shapes in SUITES.values() for shape in shapes)
    with pytest.raises(
        TuneError, match="suite 'huge' is not one of mma, paper, large, ragged, decode;"
    ):
        suite_named("huge")


@pytest.mark.parametrize(
    ("n", "group"),
    [(1, "decode n <= 16"), (16, "decode n <= 16"), (32, "decode n 17..64"),
     (64, "decode n 17..64"), (128, "decode n > 64"), (256, "decode n > 64")],
)  # fmt: skip
def test_decode_means_are_by_tokens_and_the_smallest_weight_stands_alone(n, group):
    assert group_of("decode", (8192, 8192, n)) == group
    assert group_of("decode", (*SMALLEST_WEIGHT, n)) == "decode 2048 x 1408"
    assert group_of("large", (8192, 8192, n)) == "large"
