"""Grouped ring kernels on drawn experts: exact on integers, within the bound on reals."""

import pytest
from tiny import tiny

from samoyeds_gen.check import Failure, Subject
from samoyeds_gen.check.search import search
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import build_variant
from samoyeds_gen.language import TARGETS, load_schedule, make_ssmm, target_named
from samoyeds_gen.language.schedule import Raster

GATE = {"gated": True, "activation": "silu", "index": "int32"}
SUBJECTS = [
    ("prefix", Format(1, 2, 64), GATE),
    ("prefix", Format(1, 4, 32), {"scale": True, "bias": True, "out_dtype": "float32"}),
    ("exchange", Format(1, 2, 16), {"bias": True, "index": "int64"}),
    ("exchange", Format(1, 4, 64), {"gated": True, "activation": "relu", "scale": True}),
    ("expand", Format(4, 8, 16), {"gated": True, "activation": "gelu", "out_dtype": "float32"}),
    ("expand", Format(2, 2, 32), {"index": "int64", "scale": True, "activation": "relu"}),
]
SHIPPED = [("ssmm_sm80_prefix", Format(1, 2, 128)), ("ssmm_sm80_expand", Format(2, 4, 32))]


def require_agreement(schedule, form, options, target, examples):
    problem = make_ssmm(form, "bfloat16", grouped=True, **options)
    variant = build_variant(schedule, problem, target)
    assert "warning" not in variant.build.log, "nothing is declared and never used"
    outcome = search(variant, examples=examples)
    subject = Subject(schedule, problem, target)
    assert outcome.found is None, str(Failure(subject, "cpu", *outcome.found))
    assert outcome.examples == examples


@pytest.mark.parametrize(("fold", "form", "options"), SUBJECTS)
def test_experts_of_every_fold(fold, form, options):
    schedule = tiny(fold, form, raster=Raster(2))
    require_agreement(schedule, form, options, target_named("sm_80"), 24)


@pytest.mark.parametrize(("name", "form"), SHIPPED)
def test_experts_in_shipped_tiles(name, form):
    schedule = load_schedule(name, form, make_ssmm(form, "bfloat16").dtype)
    require_agreement(schedule, form, GATE, target_named("sm_80"), 6)


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: each.name)
def test_experts_on_every_target(target):
    form = Format(1, 2, 64)
    require_agreement(tiny("prefix", form), form, GATE, target, 4)
