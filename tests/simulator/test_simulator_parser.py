"""PTX text: dialects, scopes, and exact sentences for what is not understood."""

import numpy as np
import pytest
from simulator_toolchain import HEADER, launch_ptx, ptx, written

from samoyeds_gen.errors import CompileError
from samoyeds_gen.simulator import SimulationFault, parse
from samoyeds_gen.simulator.instructions import FAMILIES, TABLE
from samoyeds_gen.simulator.program import Address, Immediate, Pair, Register, Sink, Symbol, Vector

HEAD = HEADER.format(target="sm_90a")


def body(text):
    return parse(HEAD + f".visible .entry k(.param .u64 k_0) {{ {text} }}").functions["k"].body


def test_operands():
    (instruction, *rest) = body(
        ".reg .b32 %r<9>; .reg .pred %p<2>; .reg .b64 %rd;\n"
        "mma.sync {%r0, _}, [%rd+-16], -0x10, 0f3F800000;\n"
        "shfl.sync.bfly.b32 %r1|%p0, %r2, 1, 31, -1; ld.param.u64 %rd, [k_0+8];"
    )
    r0, rd = Register("%r0", "b32"), Register("%rd", "b64")
    assert instruction.operands == (
        Vector((r0, Sink())),
        Address(rd, -16),
        Immediate(-16),
        Immediate(0x3F800000, "f32"),
    )
    assert rest[0].operands[0] == Pair(Register("%r1", "b32"), Register("%p0", "pred"))
    assert rest[1].operands[1] == Address(Symbol("k_0"), 8)
    assert instruction.site.line == 5


def test_inner_scopes_have_their_own_names():
    text = (
        ".reg .b32 %r<3>; .reg .b64 %rd; mov.u32 %r0, 1; mov.u32 %r1, 0;\n"
        "{ .reg .b32 %r0; .reg .pred p; mov.u32 %r0, 5; setp.eq.u32 p, %r0, 5;\n"
        "@p bra DONE; mov.u32 %r1, 100; DONE: add.u32 %r1, %r1, %r0; }\n"
        "{ .reg .b32 %r0; .reg .pred p; mov.u32 %r0, 6; setp.eq.u32 p, %r0, 5;\n"
        "@p bra DONE; add.u32 %r1, %r1, 50; DONE: add.u32 %r1, %r1, %r0; }\n"
        "add.u32 %r1, %r1, %r0; ld.param.u64 %rd, [k_0]; st.global.u32 [%rd], %r1; ret;"
    )
    out = np.zeros(1, np.uint32)
    launch_ptx(
        HEAD + f".visible .entry k(.param .u64 k_0) {{ {text} }}", "k", written(out), threads=1
    )
    assert out[0] == 5 + 50 + 6 + 1


def test_lines_follow_the_source():
    source = 'extern "C" __global__ void k(int* p) {\n  p[threadIdx.x] = 3;\n}\n'
    program = parse(ptx(source, "sm_80", "-lineinfo"))
    stores = [i for i in program.functions["k"].body if getattr(i, "opcode", "").startswith("st.")]
    assert stores[0].site.source == "kernel.cu:2"
    assert str(stores[0].site).endswith(
        f"PTX line {stores[0].site.line}, kernel.cu:2: st.global.u32"
    )


def test_parsing_is_memoised():
    text = HEAD + ".visible .entry k() { ret; }"
    assert parse(text) is parse(str(text))
    assert parse(text).entries == ("k",)
    assert parse(text).target == "sm_90a"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "frobnicate.b32 %r0, %r1;",
            "unknown opcode: no row matches 'frobnicate.b32' (at PTX line 5: frobnicate.b32)",
        ),
        (
            "add.s32.sideways %r0, %r1, %r1;",
            "unknown opcode: no row matches 'add.s32.sideways' (at PTX line 5: add.s32.sideways)",
        ),
        (
            "add.s32 %r0, %r1;",
            "unknown opcode: 'add.s32' takes 2 sources (at PTX line 5: add.s32)",
        ),
        (
            "bra NOWHERE;",
            "unknown opcode: 'bra' names no label of its function (at PTX line 5: bra)",
        ),
        (
            "mov.u32 %r0, %nosuch;",
            "unknown opcode: 'mov.u32' reads %nosuch, which is not modelled "
            "(at PTX line 5: mov.u32)",
        ),
        (
            "ld.global.v2.u32 %r0, [%r1];",
            "unknown opcode: 'ld.global.v2.u32' needs 2 destinations "
            "(at PTX line 5: ld.global.v2.u32)",
        ),
        (
            "mov.u32 5, %r0;",
            "unknown opcode: 'mov.u32' cannot write to Immediate(value=5, type=None) "
            "(at PTX line 5: mov.u32)",
        ),
        (
            "call vprintf, (%r0);",
            "unknown opcode: a call of 'vprintf' cannot be expanded (at PTX line 5: call)",
        ),
    ],
)
def test_what_the_simulator_does_not_know(line, message):
    text = HEAD + f".visible .entry k() {{ .reg .b32 %r<2>;\n{line} ret; }}"
    with pytest.raises(SimulationFault) as caught:
        launch_ptx(text, "k")
    assert str(caught.value) == message
    assert caught.value.kind == "unknown opcode"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".visible .entry k() { ret }", "PTX line 4: a semicolon is missing"),
        (".visible .entry k() { ret;", "PTX line 4: a closing brace is missing"),
        (".nonsense 3;", "PTX line 4: unknown directive"),
        ("hello;", "PTX line 4: a directive or function was expected"),
        (".visible .entry k() { @%p0 ret; }", "PTX line 4: undeclared predicate %p0"),
        (".visible .entry k() { mov.u32 %r0, [; }", "PTX line 4: bad operands of mov.u32"),
        (".visible .entry k() { .frob 3; }", "PTX line 4: unknown directive .frob"),
        (".visible .entry k() { 7 8; }", "PTX line 4: not an instruction: '7 8'"),
    ],
)
def test_text_that_is_not_ptx(text, message):
    with pytest.raises(CompileError) as caught:
        parse(HEAD + text)
    assert str(caught.value).startswith(message)


def test_brx_takes_each_lane_to_its_target():
    text = (
        ".reg .b32 %r<3>; .reg .b64 %rd; mov.u32 %r0, %tid.x; rem.u32 %r1, %r0, 3;\n"
        "ts: .branchtargets A, B, C;\nbrx.idx %r1, ts;\n"
        "A: mov.u32 %r2, 10; bra.uni D;\nB: mov.u32 %r2, 20; bra.uni D;\nC: mov.u32 %r2, 30;\n"
        "D: ld.param.u64 %rd, [k_0]; mad.wide.u32 %rd, %r0, 4, %rd;\n"
        "st.global.u32 [%rd], %r2; ret;"
    )
    out = np.zeros(32, np.uint32)
    launch_ptx(HEAD + f".visible .entry k(.param .u64 k_0) {{ {text} }}", "k", written(out))
    assert out.tolist() == [(10, 20, 30)[i % 3] for i in range(32)]


def test_rows_have_one_meaning_each():
    # A second row that also matches an opcode would be dead, or hide the first.
    assert len(TABLE.rows) == sum(len(family.ROWS) for family in FAMILIES)
    assert len({row.pattern for row in TABLE.rows}) == len(TABLE.rows)
    for opcode, family in (
        ("ld.global.nc.L1::no_allocate.L2::128B.v4.u32", "ld.{space}"),
        ("ld.relaxed.gpu.global.L1::evict_last.b64", "ld.{space}"),
        ("cp.async.ca.shared::cta.global.L2::cache_hint.L2::256B", "cp.async"),
        ("mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32", "mma.sp"),
        ("atom.acq_rel.gpu.global.add.u32", "atom"),
        ("red.relaxed.gpu.global.v2.f32.add", "red"),
        ("cvt.rn.relu.bf16x2.f32", "cvt"),
    ):
        found = TABLE.find(opcode)
        assert found is not None, opcode
        assert found[0].family == family
    for opcode in (
        "ld.global.L3::128B.u32",
        "mma.sp.sync.aligned.m16n8k64",
        "cvt.rn.f33.f32",
        "bra.uniform",
    ):
        assert TABLE.find(opcode) is None
