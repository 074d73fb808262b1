"""What one NVRTC compile gives, and how its failures read."""

import pytest
from cuda_sources import FOR_ANY_TARGET, FOR_HOPPER, SAXPY, TARGETS

from samoyeds_gen.errors import CompileError, Where
from samoyeds_gen.runtime.nvrtc import nvrtc_version, translate


@pytest.mark.parametrize("target", TARGETS)
def test_one_compile_gives_ptx_cubin_and_log(target):
    made = translate(SAXPY, name="saxpy.cu", target=target)
    assert f".target {target}" in made.ptx
    assert ".visible .entry saxpy(" in made.ptx
    assert made.ptx.endswith("}\n\n") or made.ptx.rstrip().endswith("}")
    assert "\0" not in made.ptx
    assert made.cubin[:4] == b"\x7fELF"
    assert f"Compiling entry function 'saxpy' for '{target}'" in made.log
    assert made.seconds > 0


def test_cubins_are_deterministic():
    first, second = (translate(SAXPY, name="saxpy.cu", target="sm_80") for _ in range(2))
    assert (first.ptx, first.cubin) == (second.ptx, second.cubin)


@pytest.mark.parametrize(("target", "sources"), [("sm_80", FOR_ANY_TARGET), ("sm_90a", FOR_HOPPER)])
def test_what_the_gpu_tests_launch_compiles(target, sources):
    for source in sources:
        assert translate(source, name="k.cu", target=target).cubin


def kernel(body: str) -> str:
    return f'extern "C" __global__ void k(int *p) {{\n{body}\n}}\n'


FAILURES = [
    pytest.param(
        kernel("int unused;\np[0] = missing;"),
        "sm_80",
        (),
        Where("k.cu", 3),
        'k.cu:3: NVRTC {v} for sm_80 refuses the source: identifier "missing" is undefined, in '
        "`p[0] = missing;`; correct the source at that line",
        id="source",
    ),
    pytest.param(
        kernel("int once;\np[0] = 1"),
        "sm_90a",
        (),
        Where("k.cu", 4),
        'k.cu:4: NVRTC {v} for sm_90a refuses the source: expected a ";", in `}}`; correct the '
        "source at that line",
        id="syntax",
    ),
    pytest.param(
        '#line 40 "ssmm.py"\n' + kernel("p[0] = missing;"),
        "sm_80",
        (),
        Where("ssmm.py", 41),
        'ssmm.py:41: NVRTC {v} for sm_80 refuses the source: identifier "missing" is undefined, '
        "in `p[0] = missing;`; correct the source at that line",
        id="line directive",
    ),
    pytest.param(
        '#include "absent.h"\n' + kernel(""),
        "sm_80",
        (),
        Where("k.cu", 1),
        'k.cu:1: NVRTC {v} for sm_80 refuses the source: cannot open source file "absent.h", in '
        '`#include "absent.h"`; correct the source at that line',
        id="include",
    ),
    pytest.param(
        "#error too small\n" + kernel(""),
        "sm_80",
        (),
        Where("k.cu", 1),
        "k.cu:1: NVRTC {v} for sm_80 refuses the source: #error directive: too small, in "
        "`#error too small`; correct the source at that line",
        id="error directive",
    ),
    pytest.param(
        kernel('asm volatile("wgmma.fence.sync.aligned;");'),
        "sm_80",
        (),
        None,
        "NVRTC {v} for sm_80 refuses k.cu: Instruction 'wgmma.fence' not supported on .target "
        "'sm_80' (PTX line 23, in `wgmma.fence.sync.aligned;`); use an instruction that the "
        "target has, or another target",
        id="instruction",
    ),
    pytest.param(
        kernel("__shared__ int s[20000]; s[threadIdx.x] = *p; __syncthreads(); *p = s[3];"),
        "sm_80",
        (),
        None,
        "NVRTC {v} for sm_80 refuses k.cu: Entry function 'k' uses too much shared data (0x13880 "
        "bytes, 0xc000 max); change the option, the target or the resource that the message names",
        id="shared memory",
    ),
    pytest.param(
        kernel(""),
        "sm_80",
        ("--bogus",),
        None,
        "NVRTC {v} for sm_80 refuses k.cu: unrecognized option --bogus found; change the option, "
        "the target or the resource that the message names",
        id="option",
    ),
    pytest.param(
        kernel(""),
        "hopper",
        (),
        None,
        "target 'hopper' is not the name of a GPU architecture; write it as NVRTC does, for "
        "example 'sm_80', 'sm_90a' or 'sm_120a'",
        id="target name",
    ),
]


@pytest.mark.parametrize(("source", "target", "options", "where", "sentence"), FAILURES)
def test_failures_quote_the_first_error(source, target, options, where, sentence):
    with pytest.raises(CompileError) as caught:
        translate(source, name="k.cu", target=target, options=options)
    assert _without_ptx_line(str(caught.value)) == _without_ptx_line(
        sentence.format(v=nvrtc_version())
    )
    assert caught.value.where == where


def _without_ptx_line(text: str) -> str:
    """The number of a PTX line depends on how many header lines the NVRTC version writes."""
    return " ".join(word for word in text.split() if not word.rstrip(",").isdigit())


def test_an_unknown_target_names_the_known_ones():
    with pytest.raises(CompileError, match=r"'sm_999' is not an architecture .* sm_80, .*sm_90"):
        translate(SAXPY, name="saxpy.cu", target="sm_999")


def test_the_whole_log_is_a_note():
    with pytest.raises(CompileError) as caught:
        translate(kernel("one();\ntwo();"), name="k.cu", target="sm_80")
    (note,) = caught.value.__notes__
    assert '"one" is undefined' in note
    assert '"two" is undefined' in note


def test_the_log_has_no_nul():
    source = kernel("__shared__ int s[20000]; s[threadIdx.x] = *p; __syncthreads(); *p = s[3];")
    with pytest.raises(CompileError) as caught:
        translate(source, name="k.cu", target="sm_80")
    assert "\0" not in "".join(caught.value.__notes__)


def test_reading_an_empty_result_leaves_python_intact():
    """A failed compile has a PTX of one byte; Python shares every bytes object of length one."""
    with pytest.raises(CompileError):
        translate(kernel("missing();"), name="k.cu", target="sm_80")
    assert [bytes([value])[0] for value in range(256)] == list(range(256))
