"""Machine code of kernels whose matrix work runs on: its metadata has registers of its own."""

import re
from dataclasses import replace

import pytest
from machine_code import needs_disassembler

from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import build_variant
from samoyeds_gen.language import load_schedule, make_ssmm, target_named
from samoyeds_gen.language.layouts import swizzle_for_row
from samoyeds_gen.language.schedule import Epilogue, Overlap, Tile, Warps
from samoyeds_gen.runtime import disassemble

METADATA = re.compile(r"HGMMA\.SP\S* .*\b(R\d+), 0x[01]\b")
WEIGHT = re.compile(r"HGMMA\.SP\S* R\d+, R(\d+),")
LOADED = re.compile(r"LDG\.E\S*\.128\S* R(\d+),")
WAIT = re.compile(r"WARPGROUP\.DEPBAR\.LE gsb0, 0x1\b")


def stages(text):
    """The metadata registers of each stage's matrix work, in the order of the machine code."""
    found, stage = [], set()
    for line in text.splitlines():
        if named := METADATA.search(line):
            stage.add(named[1])
        elif WAIT.search(line):
            found.append(stage)
            stage = set()
    return found


def machine_code(n, k, consumers, fragments=0):
    problem = make_ssmm(Format(1, 1, 32), "bfloat16")
    base = load_schedule("ssmm_sm90", problem.format, problem.dtype)
    schedule = replace(
        base,
        where=(),
        tile=Tile(64 * consumers, n, k),
        warps=Warps(4 * consumers, 1),
        pack=replace(base.pack, data="fragment" if fragments else "rows"),
        layout=replace(base.layout, weight="linear" if fragments else swizzle_for_row(k).name),
        stationary=replace(base.stationary, weight="registers" if fragments else "shared"),
        pipeline=replace(base.pipeline, fragments=fragments or 2),
        overlap=Overlap(ahead=True),
        epilogue=Epilogue(8),
    )
    return disassemble(build_variant(schedule, problem, target_named("sm_90a")).build.cubin)


@needs_disassembler
@pytest.mark.parametrize("fragments", [2, 3, 4])
@pytest.mark.parametrize(("n", "k", "consumers"), [(256, 64, 2), (64, 128, 3)])
def test_no_weight_is_loaded_into_registers_in_flight(n, k, consumers, fragments):
    """Between a stage's matrix work and the wait that follows the next one's."""
    flying, issued, loads = set(), set(), 0
    for line in machine_code(n, k, consumers, fragments).splitlines():
        if named := WEIGHT.search(line):
            issued.add(int(named[1]))
        elif WAIT.search(line):
            flying, issued = issued, set()
        elif named := LOADED.search(line):
            loads += 1
            assert int(named[1]) not in flying | issued, line
    assert loads >= 2 * fragments  # before the loop, and in it


@needs_disassembler
@pytest.mark.parametrize(
    "tile", [(256, 64, 2), (128, 128, 4), (256, 64, 2, 2), (256, 64, 2, 3), (128, 128, 3, 2)]
)
def test_stages_in_flight_read_other_registers(tile):
    first, second, *rest = stages(machine_code(*tile))
    assert first
    assert second
    assert first.isdisjoint(second)  # a turn of the loop is two stages
    for last in rest:  # an odd stage behind the loop
        assert second.isdisjoint(last) or first.isdisjoint(last)
