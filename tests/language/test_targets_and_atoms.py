"""Targets, atoms and dtypes as data: facts that must agree with each other."""

import itertools

import pytest

from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.language import TARGETS, dtype_named, target_named
from samoyeds_gen.language.atoms import (
    COPY_ATOMS,
    MATRIX_ATOMS,
    copy_atom_named,
    matrix_atom_named,
)
from samoyeds_gen.language.dtypes import OPERAND_TYPES, OUTPUT_TYPES


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: each.name)
def test_target_limits_agree(target):
    assert target_named(target.name) is target
    assert target.name == f"sm_{target.capability}" + ("a" if target.specific else "")
    assert target.shared_per_sm - target.shared_per_cta == 1024, "a KB a CTA is reserved"
    assert target.threads_per_sm % 32 == 0
    assert target.accepts(target)


def test_accepting_is_transitive_and_specific_targets_stand_alone():
    for a, b, c in itertools.product(TARGETS, repeat=3):
        if a.accepts(b) and b.accepts(c):
            assert a.accepts(c)
    for a, b in itertools.permutations(TARGETS, 2):
        assert not (a.accepts(b) and b.accepts(a))
        if b.specific:
            assert not a.accepts(b)


def test_every_target_accepts_a_schedule_for_ampere():
    assert len(TARGETS) == 6
    assert all(target.accepts(target_named("sm_80")) for target in TARGETS)


@pytest.mark.parametrize("atom", MATRIX_ATOMS, ids=lambda each: each.name)
def test_matrix_atom_registers_follow_from_its_shape(atom):
    assert matrix_atom_named(atom.name) is atom
    threads, bits = atom.threads, 16
    if threads == 32:
        assert atom.name == f"mma_sp_m{atom.m}n{atom.n}k{atom.k}"
        assert atom.b_registers == atom.k * atom.n * bits // 32 // threads
    else:  # tokens come from shared memory, and their number is the schedule's
        assert atom.name == f"wgmma_sp_m{atom.m}k{atom.k}"
        assert atom.b_registers == 0
        assert atom.target == "sm_90a"
    assert atom.a_registers == atom.m * atom.k // 2 * bits // 32 // threads
    assert atom.d_registers == atom.m * atom.n // threads
    # A lane's word holds two rows of 16 columns; 32 lanes hold 16 rows of 64 columns.
    assert atom.selectors == 64 // atom.k


def test_copy_atoms_move_whole_chunks():
    for atom in COPY_ATOMS:
        assert copy_atom_named(atom.name) is atom
        assert atom.bytes == (0 if atom.name == "tma" else 16)


@pytest.mark.parametrize("dtype", OUTPUT_TYPES, ids=lambda each: each.name)
def test_dtypes_are_found_by_every_spelling(dtype):
    for spelling in (dtype.name, dtype.short, dtype.ptx):
        assert dtype_named(spelling) is dtype
    assert dtype.storage == ("float" if dtype.bytes == 4 else "unsigned short")


def test_only_sixteen_bit_types_are_operands():
    assert {each.bytes for each in OPERAND_TYPES} == {2}
    with pytest.raises(ScheduleError, match="dtype 'float32' is not one of float16, bfloat16"):
        dtype_named("float32", operand=True)
