"""All six targets: NVRTC speaks two PTX dialects, and the simulator must agree on both."""

import pytest
from tiny import tiny, tiny_stream

from samoyeds_gen.check import Failure, Subject
from samoyeds_gen.check.search import search
from samoyeds_gen.check.strategies import RATIOS
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import build_variant
from samoyeds_gen.language import TARGETS, load_schedule, make_ssmm, target_named

CASES = [
    ("direct", "expand", Format(2, 2, 32), "float16"),
    ("exchange", "exchange", Format(1, 4, 32), "bfloat16"),
    ("exchange-k16", "exchange", Format(1, 2, 16), "float16"),
    ("prefix", "prefix", Format(1, 2, 64), "bfloat16"),
    ("expand", "expand", Format(4, 8, 16), "float16"),
    ("stream-direct", "stream-expand", Format(2, 2, 32), "bfloat16"),
    ("stream-prefix", "stream-prefix", Format(1, 2, 64), "float16"),
    ("stream-expand", "stream-expand", Format(4, 8, 16), "bfloat16"),
]


@pytest.mark.parametrize("target", ["sm_90a", "sm_120a"])
@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_shipped_streams_spill_nothing(ratio, target):
    format = Format(*ratio, 32)
    options = {"index": "int64", "bias": True, "scale": True, "activation": "gelu_tanh"}
    problem = make_ssmm(format, "bfloat16", out_dtype="float32", **options)
    schedule = load_schedule("decode_sm80", format, problem.dtype)
    report = build_variant(schedule, problem, target_named(target)).build.report
    assert not report.spills
    assert not report.advice


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: each.name)
@pytest.mark.parametrize(("name", "fold", "format", "dtype"), CASES, ids=[c[0] for c in CASES])
def test_ptx_of_every_target_agrees(target, name, fold, format, dtype):
    bfloat = dtype == "bfloat16"
    problem = make_ssmm(
        format,
        dtype,
        index="int64" if bfloat else "int32",
        bias=bfloat,
        scale=not bfloat,
        activation="silu" if bfloat else None,
        out_dtype="float32" if bfloat else "bfloat16",
    )
    stream, _, name = fold.rpartition("-")
    schedule = tiny_stream(name, format) if stream else tiny(fold, format)
    subject = Subject(schedule, problem, target)
    variant = build_variant(subject.schedule, problem, target)
    assert f".target {target.name}" in variant.build.ptx
    assert not variant.build.report.spills
    assert "warning" not in variant.build.log, "nothing is declared and never used"
    outcome = search(variant, examples=6)
    assert outcome.found is None, str(Failure(subject, "cpu", *outcome.found))
