"""Combinations of every number of rows are compiled without spills, which `built_of` refuses."""

import pytest

from samoyeds_gen.compiler import Combine, lower_combine
from samoyeds_gen.kernel.routing_steps import built_of
from samoyeds_gen.language import target_named
from samoyeds_gen.language.dtypes import BFLOAT16, FLOAT32

UNEVEN = (9, 10, 11, 13, 15)  # about where rows begin to be read in two batches


def build(choices, weighted, target):
    for dtype in (BFLOAT16, FLOAT32):
        problem = Combine(choices, dtype, 16 // dtype.bytes, weighted)
        assert built_of(lower_combine(problem, target_named(target))).build.report.spill_stores == 0


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("choices", UNEVEN)
def test_uneven_numbers_of_rows(choices, weighted, target):
    build(choices, weighted, target)


@pytest.mark.full
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("choices", sorted({*range(1, 41), 63, 64, 65} - {*UNEVEN}))
def test_any_number_of_rows(choices, weighted, target):
    build(choices, weighted, target)
