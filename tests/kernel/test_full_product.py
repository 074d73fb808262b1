"""`pytest -m full`: every shipped format, dtype, target and fold, with the shipped tile.

The default tests cover the same by a covering set (check's, test_targets, test_drawn_kernels).
"""

from dataclasses import replace

import pytest

from samoyeds_gen.check import Failure, Subject
from samoyeds_gen.check.search import search
from samoyeds_gen.check.strategies import DTYPES, SHIPPED
from samoyeds_gen.compiler import first_violation
from samoyeds_gen.kernel import build_variant
from samoyeds_gen.language import FOLDS, TARGETS, load_schedule, make_ssmm
from samoyeds_gen.language.schedule import Stationary

EXAMPLES = 5


def product():
    """Subjects of the product; the epilogue varies from row to row."""
    for format in SHIPPED:
        for fold in FOLDS if format.n == 1 and format.m > 1 else ("expand",):
            for dtype in DTYPES:
                for target in TARGETS:
                    yield format, fold, dtype, target


def subject_of(number, format, fold, dtype, target):
    problem = make_ssmm(
        format,
        dtype,
        index=(None, "int32", "int64")[number % 3],
        bias=number % 2 == 0,
        scale=number % 4 < 2,
        activation=(None, "relu", "silu", "gelu", "gelu_tanh")[number % 5],
        out_dtype=(None, "float32", "float16", "bfloat16")[number % 7 % 4],
    )
    base = load_schedule("ssmm_sm80", format, problem.dtype)
    short = format.v == 16 and fold != "expand"
    schedule = replace(
        base,
        stationary=Stationary(fold),
        tensorize="mma_sp_m16n8k16" if short else "mma_sp_m16n8k32",
    )
    return Subject(schedule, problem, target)


ROWS = list(enumerate(product()))


@pytest.mark.full
@pytest.mark.product
@pytest.mark.parametrize(("number", "row"), ROWS, ids=lambda each: "")
def test_every_combination(number, row):
    subject = subject_of(number, *row)
    violation = first_violation(subject.schedule, subject.problem, subject.target)
    assert violation is None, f"{subject}: {violation}"
    variant = build_variant(subject.schedule, subject.problem, subject.target)
    assert not variant.build.report.spills
    outcome = search(variant, examples=EXAMPLES, seed=number)
    assert outcome.found is None, str(Failure(subject, "cpu", *outcome.found))


def test_the_product_is_whole():
    folded = sum(format.n == 1 and format.m > 1 for format in SHIPPED)
    pairs = len(SHIPPED) + folded * (len(FOLDS) - 1)
    assert len(ROWS) == pairs * len(DTYPES) * len(TARGETS)
