"""Reports read from real logs of NVRTC, and what a clean build is."""

import json

import pytest
from cuda_sources import CALLED, HEAVY, INDEXED, SAXPY, SERIALISED_WGMMA, TARGETS
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.errors import CompileError
from samoyeds_gen.runtime import ResourceReport, parse_log, require_clean
from samoyeds_gen.runtime.nvrtc import translate

counts = st.integers(0, 2**20)
reports = st.builds(
    ResourceReport,
    entry=st.text("abcxyz_0189", min_size=1, max_size=20),
    registers=st.integers(0, 255),
    stack=counts,
    spill_stores=counts,
    spill_loads=counts,
    static_shared=counts,
    barriers=st.integers(0, 16),
    advice=st.lists(st.text(), max_size=3).map(tuple),
)


def reports_of(source: str, target: str, *options: str) -> dict[str, ResourceReport]:
    made = translate(source, name="k.cu", target=target, options=options)
    return {report.entry: report for report in parse_log(made.log)}


@given(reports)
def test_json_round_trip(report):
    assert ResourceReport.from_json(json.loads(json.dumps(report.to_json()))) == report


@given(st.lists(reports, max_size=4, unique_by=lambda report: report.entry))
def test_a_log_with_several_kernels_is_keyed_by_entry(expected):
    log = "\n".join(
        f"ptxas info    : Compiling entry function '{report.entry}' for 'sm_80'\n"
        f"ptxas info    : Function properties for {report.entry}\n"
        f"    {report.stack} bytes stack frame, {report.spill_stores} bytes spill stores, "
        f"{report.spill_loads} bytes spill loads\n"
        f"ptxas info    : Used {report.registers} registers, used {report.barriers} barriers, "
        f"{report.stack} bytes cumulative stack size, {report.static_shared} bytes smem"
        for report in expected
    )
    plain = {(r.entry, r.registers, r.stack, r.spill_loads, r.static_shared) for r in expected}
    parsed = parse_log(log)
    assert {(r.entry, r.registers, r.stack, r.spill_loads, r.static_shared) for r in parsed} == (
        plain
    )
    assert [report.entry for report in parsed] == sorted(report.entry for report in expected)


@pytest.mark.parametrize("target", TARGETS)
def test_real_logs_of_every_target(target):
    found = reports_of(SAXPY + HEAVY, target)
    assert list(found) == ["heavy", "saxpy"]
    heavy, saxpy = found["heavy"], found["saxpy"]
    assert 64 < heavy.registers <= 255
    assert (heavy.barriers, heavy.static_shared) == (1, 256)
    assert 4 <= saxpy.registers <= 24
    assert (saxpy.barriers, saxpy.static_shared) == (0, 0)
    for report in found.values():
        assert not report.spills
        assert report.advice == ()
        require_clean(report)


@pytest.mark.parametrize("target", TARGETS)
def test_a_kernel_that_really_spills(target):
    found = reports_of(SAXPY + HEAVY, target, "--maxrregcount=32")
    heavy = found["heavy"]
    assert heavy.spills
    assert heavy.registers <= 32
    assert heavy.spill_stores > 64
    assert heavy.spill_loads > 64
    assert heavy.stack > 64
    assert not found["saxpy"].spills
    require_clean(found["saxpy"])
    require_clean(heavy, allow_spills=True)
    with pytest.raises(CompileError) as caught:
        require_clean(heavy)
    assert str(caught.value) == (
        f"no-spills: kernel heavy spills registers: {heavy.spill_stores} bytes of stores and "
        f"{heavy.spill_loads} bytes of loads per thread at {heavy.registers} registers; use a "
        "smaller output tile or more warps, or let the schedule allow spills"
    )


@pytest.mark.parametrize("target", TARGETS)
def test_an_array_in_local_memory(target):
    found = reports_of(SAXPY + INDEXED, target)["indexed"]
    assert not found.spills
    assert found.stack == 64
    require_clean(found, allow_spills=True)
    with pytest.raises(CompileError) as caught:
        require_clean(found)
    assert str(caught.value) == (
        "no-stack: kernel indexed keeps 64 bytes a thread in local memory, where accumulators are "
        "as slow as spilled ones; unroll the loops that index arrays, or let the schedule allow "
        "spills"
    )


def test_spills_of_a_called_function_count_for_its_kernel():
    found = reports_of(CALLED, "sm_80", "--maxrregcount=24")
    assert list(found) == ["outer"]
    assert found["outer"].spills


def test_advice_goes_to_the_kernel_it_names():
    found = reports_of(SERIALISED_WGMMA, "sm_90a")
    assert found["calm"].advice == ()
    require_clean(found["calm"])
    assert all(line.startswith("(C75") for line in found["serialised"].advice)
    assert any("serialized" in line for line in found["serialised"].advice)
    require_clean(found["serialised"], allow_advice=True)
    with pytest.raises(CompileError) as caught:
        require_clean(found["serialised"], allow_spills=True)
    assert caught.value.rule == "no-advice"
    assert "kernel serialised: (C75" in str(caught.value)
    assert "wgmma.mma_async instructions are serialized" in str(caught.value)
    assert str(caught.value).endswith("so that the cause is gone, or let it allow advice")


def test_advice_that_names_no_kernel_goes_to_all():
    source = """
    extern "C" __global__ void early(float *o) {
      asm volatile("setmaxnreg.inc.sync.aligned.u32 240;"); *o = 1;
    }
    extern "C" __global__ void other(float *o) { *o = 1; }
    """
    found = reports_of(source, "sm_90a")
    assert "'setmaxnreg' ignored" in found["early"].advice[0]
    assert found["early"].advice == found["other"].advice


def test_logs_without_kernels():
    assert parse_log("") == ()
    assert parse_log("ptxas info    : 0 bytes gmem") == ()
    assert reports_of("__device__ int used() { return 1; }", "sm_80") == {}


def test_reports_print_as_one_line():
    report = ResourceReport("k", registers=40, static_shared=1024, barriers=1)
    assert str(report) == (
        "k: 40 registers, 1024 B static shared memory, 1 barriers, 0 B stack, spills none"
    )
