"""What a compile refuses, and how reports are found by kernel."""

import pytest
from cuda_sources import HEAVY, SAXPY, compile_saxpy

from samoyeds_gen.errors import CompileError


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"name": "dir/k.cu"},
            "source name 'dir/k.cu' is not a plain file name; pass the last part of the path "
            "only, for example 'ssmm_sm80.cu'",
        ),
        (
            {"name": ""},
            "source name '' is not a plain file name; pass the last part of the path only, for "
            "example 'ssmm_sm80.cu'",
        ),
        (
            {"options": ("-I/usr/include",)},
            "NVRTC option '-I/usr/include' is not allowed, files outside the source are not part "
            "of the cache key; leave it out of options",
        ),
        (
            {"options": ("--include-path=x",)},
            "NVRTC option '--include-path=x' is not allowed, files outside the source are not "
            "part of the cache key; leave it out of options",
        ),
        (
            {"options": ("-arch=sm_90",)},
            "NVRTC option '-arch=sm_90' is not allowed, the target decides the architecture; "
            "leave it out of options",
        ),
        (
            {"options": ("-dlto",)},
            "NVRTC option '-dlto' is not allowed, no cubin is made; leave it out of options",
        ),
    ],
)
def test_refused_names_and_options(cache, changes, sentence):
    with pytest.raises(CompileError) as caught:
        compile_saxpy(cache, **changes)
    assert str(caught.value) == sentence


def test_a_failed_compile_leaves_no_entry(cache):
    with pytest.raises(CompileError):
        compile_saxpy(cache, source="int x = y;")
    assert cache.entries() == []


def test_reports_are_found_by_entry(cache):
    both = compile_saxpy(cache, source=SAXPY + HEAVY, name="two.cu")
    assert both.report_of("heavy").static_shared == 256
    with pytest.raises(CompileError) as caught:
        _ = both.report
    assert str(caught.value) == (
        "two.cu has 2 kernels (heavy, saxpy), not one; name the kernel: build.report_of(entry)"
    )
    with pytest.raises(CompileError) as caught:
        both.report_of("absent")
    assert str(caught.value) == (
        "two.cu has no kernel 'absent', it has heavy, saxpy; declare the kernel as "
        'extern "C" __global__ under that name'
    )
    assert compile_saxpy(cache).report.entry == "saxpy"
    empty = compile_saxpy(cache, source="", name="empty.cu")
    with pytest.raises(CompileError, match=r"empty\.cu has 0 kernels \(none\), not one"):
        _ = empty.report
