"""Instruction atoms as data: what a schedule may build its pipeline from.

An atom's meaning lives in the simulator; its text lives in the templates under the atom's name.
Shapes and fragment sizes are from the PTX ISA, "Warp-level matrix instructions" and "Asynchronous
warpgroup-level matrix instructions".
"""

from dataclasses import dataclass

from samoyeds_gen.errors import ScheduleError


@dataclass(frozen=True, slots=True)
class MatrixAtom:
    """A sparse matrix step of `threads` threads: D[m, n] += A[m, k/2 stored] B[k, n].

    Register counts are 32-bit words a thread; `selectors` is how many steps one metadata word
    feeds: 2 for k32, 4 for k16. For k32 only selectors 0 and 1 are defined (ptxas accepts 2 for
    f16 and refuses it for bf16), which is why the plan derives them from this number. A warpgroup
    atom takes any `n` that is a multiple of its own, up to 256; `target` is the only architecture
    that has it, None if later ones have it too.
    """

    name: str
    m: int
    n: int
    k: int
    a_registers: int
    b_registers: int
    d_registers: int
    selectors: int
    least_capability: int
    dtypes: tuple[str, ...] = ("float16", "bfloat16")
    threads: int = 32
    target: str | None = None


@dataclass(frozen=True, slots=True)
class CopyAtom:
    """A copy of `bytes` a thread that overlaps with matrix work: into a ring in shared memory, or
    straight into registers; 0 bytes where it takes a box. It decides the pipeline shape
    (compiler/shapes.py).
    """

    name: str
    bytes: int
    least_capability: int


MMA_SP_M16N8K32 = MatrixAtom("mma_sp_m16n8k32", 16, 8, 32, 4, 4, 4, 2, 80)
MMA_SP_M16N8K16 = MatrixAtom("mma_sp_m16n8k16", 16, 8, 16, 2, 2, 4, 4, 80)
WGMMA_SP_M64K32 = MatrixAtom(
    "wgmma_sp_m64k32", 64, 8, 32, 4, 0, 4, 2, 90, threads=128, target="sm_90a"
)
CP_ASYNC_16B = CopyAtom("cp_async_16b", 16, 80)
TMA = CopyAtom("tma", 0, 90)
LDG_STREAM_16B = CopyAtom("ldg_stream_16b", 16, 80)

MATRIX_ATOMS = (MMA_SP_M16N8K32, MMA_SP_M16N8K16, WGMMA_SP_M64K32)
COPY_ATOMS = (CP_ASYNC_16B, TMA, LDG_STREAM_16B)


def matrix_atom_named(name: str) -> MatrixAtom:
    """Look a matrix atom up by name. Raises `ScheduleError` naming the known ones."""
    for atom in MATRIX_ATOMS:
        if atom.name == name:
            return atom
    names = ", ".join(atom.name for atom in MATRIX_ATOMS)
    raise ScheduleError(
        f"matrix atom {name!r} is not one of {names}",
        rule="atom-known",
        remedy=f"use one of {names}",
    )


def copy_atom_named(name: str) -> CopyAtom:
    """Look a copy atom up by name. Raises `ScheduleError` naming the known ones."""
    for atom in COPY_ATOMS:
        if atom.name == name:
            return atom
    names = ", ".join(atom.name for atom in COPY_ATOMS)
    raise ScheduleError(
        f"copy atom {name!r} is not one of {names}",
        rule="atom-known",
        remedy=f"use one of {names}",
    )
