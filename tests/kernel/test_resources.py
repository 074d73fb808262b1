"""What ptxas makes of every shipped kernel: registers, spills, stack, shared memory, advice.

Needs no GPU. The default run takes a covering set of formats, selections, types and epilogues;
`pytest -m full` takes their whole product.
"""

from itertools import product

import pytest

from samoyeds_gen.check.covering import covering
from samoyeds_gen.check.strategies import DTYPES, LENGTHS, RATIOS, SHIPPED
from samoyeds_gen.compiler import first_violation
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import build_variant
from samoyeds_gen.language import load_schedule, make_ssmm, target_named

RING = ("ssmm_sm80", "ssmm_sm80_exchange", "ssmm_sm80_expand", "ssmm_sm80_prefix")
HOPPER = "ssmm_sm90"
FACTORS = {
    "ratio": RATIOS,
    "v": LENGTHS,
    "index": (None, "int32"),
    "dtype": DTYPES,
    "epilogue": (False, True),
}
REGISTER_FILE = 65536
LARGEST_SLICES = 24 * 1024
ROWS = {HOPPER: 12} | dict.fromkeys(RING, 3)


def legal(name, row):
    """The schedule and problem of a row, None where the schedule does not take the format."""
    format = Format(*row["ratio"], row["v"])
    full = {"bias": True, "scale": True, "activation": "gelu"} if row["epilogue"] else {}
    problem = make_ssmm(format, row["dtype"], index=row["index"], **full)
    try:
        schedule = load_schedule(name, format, problem.dtype)
    except ScheduleError:
        return None
    if first_violation(schedule, problem, target_named(schedule.target)) is not None:
        return None
    return schedule, problem


def rows(name, limit):
    whole = [dict(zip(FACTORS, values, strict=True)) for values in product(*FACTORS.values())]
    taken = [row for row in whole if legal(name, row)]
    given = [{"ratio": ratio, "index": index} for ratio in RATIOS for index in FACTORS["index"]]
    chosen = taken
    if limit:
        chosen = covering(FACTORS, legal=lambda row: row in taken, given=given, limit=limit)
    return [pytest.param(name, row, id=" ".join(map(str, (name, *row.values())))) for row in chosen]


SOME = [row for name, limit in ROWS.items() for row in rows(name, limit)]
ALL = [row for name in ROWS for row in rows(name, None)]


def require_lean(name, row):
    schedule, problem = legal(name, row)
    target = target_named(schedule.target)
    variant = build_variant(schedule, problem, target)
    plan, report = variant.plan, variant.build.report
    assert (report.spill_stores, report.spill_loads, report.stack) == (0, 0, 0), str(report)
    assert report.advice == ()
    assert report.static_shared == 0
    assert f"kSharedBytes = {plan.shared_bytes};" in variant.source
    assert plan.shared_bytes <= target.shared_per_cta
    assert schedule.resident.ctas * plan.threads * report.registers <= REGISTER_FILE
    g = plan.geometry
    if name == HOPPER:
        # Launched with equal shares; ptxas then honours setmaxnreg, so that the sums have room.
        assert report.registers == REGISTER_FILE // plan.threads // 8 * 8
        assert g.registers <= g.consumer_registers
        assert plan.buffer("slices").bytes <= LARGEST_SLICES
        kept = 128 * (g.consumers * g.consumer_registers + g.producer_registers)
        assert kept <= plan.threads * report.registers
        assert f"setmaxnreg.inc.sync.aligned.u32 {g.consumer_registers};" in variant.build.ptx
        assert f"setmaxnreg.dec.sync.aligned.u32 {g.producer_registers};" in variant.build.ptx
    else:
        assert report.registers >= plan.buffer("acc").bytes // 4, "sums are not in registers"


@pytest.mark.parametrize(("name", "row"), SOME)
def test_shipped_kernels_are_lean(name, row):
    require_lean(name, row)


@pytest.mark.full
@pytest.mark.product
@pytest.mark.parametrize(("name", "row"), ALL)
def test_every_shipped_kernel_is_lean(name, row):
    require_lean(name, row)


HEAVY = (  # float32 rows that are gathered, biased, activated and mostly scaled
    ((1, 2, 32), "gelu", "int32", True),
    ((1, 2, 128), "silu", "int64", False),
    ((1, 4, 32), "gelu_tanh", "int32", True),
)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("ratio", "activation", "index", "scale"), HEAVY)
def test_the_heaviest_epilogues_do_not_spill(ratio, activation, index, scale, grouped):
    problem = make_ssmm(
        Format(*ratio),
        "bfloat16",
        out_dtype="float32",
        index=index,
        bias=True,
        activation=activation,
        scale=scale,
        grouped=grouped,
    )
    schedule = load_schedule(HOPPER, problem.format, problem.dtype)
    report = build_variant(schedule, problem, target_named("sm_90a")).build.report
    assert not report.spills, str(report)


def test_the_product_holds_every_format_and_the_subset_every_pattern():
    for name in (HOPPER, "ssmm_sm80", "ssmm_sm80_expand"):
        formats = {
            (*each.values[1]["ratio"], each.values[1]["v"])
            for each in ALL
            if each.values[0] == name
        }
        assert formats == {(f.n, f.m, f.v) for f in SHIPPED}
    for ratio in RATIOS:
        for index in FACTORS["index"]:
            assert any(
                (row["ratio"], row["index"]) == (ratio, index)
                for name, row in (each.values for each in SOME)
                if name == HOPPER
            )
