"""Seeded faults: edits of an emitted kernel, and what the check must call each of them."""

from dataclasses import dataclass, replace

from samoyeds_gen.check import Subject
from samoyeds_gen.compiler import compile_plan, emit
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Variant
from samoyeds_gen.language import load_schedule, make_ssmm, target_named
from samoyeds_gen.language.schedule import Stationary, Tile, Warps
from samoyeds_gen.runtime import compile_source

VALUE, UNWRITTEN, RACE = "wrong value", "unwritten", "race"
EARLY, BOUNDS, CROOKED = "read before arrival", "out of bounds", "misaligned"
STUCK, METADATA = "deadlock", "invalid metadata"
DIVERGENT, RAW = "divergent barrier", "uninitialised read"


@dataclass(frozen=True)
class Fault:
    """Replace `old`, which occurs once, by `new` in the kernel of `subject`; `kinds` may follow.

    `also` are more such edits, for what one edit alone does not break.
    """

    name: str
    old: str
    new: str
    kinds: tuple[str, ...] = (VALUE,)
    subject: str = "exchange"
    also: tuple[tuple[str, str], ...] = ()


def _subject(fold: str, format: Format, *, m: int, atom: str | None = None, **problem) -> Subject:
    """A two by two warp kernel with the smallest tile, a ring of three, selection and epilogue."""
    options = {"index": "int32", "bias": True, "scale": True, **problem}
    made = make_ssmm(format, "bfloat16", **options)
    base = load_schedule("ssmm_sm80", format, made.dtype)
    schedule = replace(
        base,
        tile=Tile(m, 32, 64),
        warps=Warps(2, 2),
        tensorize=atom or "mma_sp_m16n8k32",
        stationary=Stationary(fold),
        pipeline=replace(base.pipeline, stages=3, fragments=2),
    )
    return Subject(schedule, made, target_named("sm_80"))


SUBJECTS = {
    "exchange": _subject("exchange", Format(1, 2, 32), m=64),
    "prefix": _subject("prefix", Format(1, 2, 32), m=64),
    "expand": _subject("expand", Format(2, 4, 16), m=32),
    "short": _subject("exchange", Format(1, 2, 16), m=64, atom="mma_sp_m16n8k16"),
    "silu": _subject("exchange", Format(1, 2, 64), m=64, activation="silu", index=None),
}


def faulty(fault: Fault | None, subject: Subject) -> Variant:
    """The subject's kernel, with the fault if one is given. The edit must find its text once."""
    plan = compile_plan(subject.schedule, subject.problem, subject.target)
    source = emit(plan)
    if fault is not None:
        for old, new in ((fault.old, fault.new), *fault.also):
            found = source.count(old)
            assert found == 1, f"{fault.name}: {old!r} occurs {found} times in the kernel"
            source = source.replace(old, new)
    build = compile_source(source, name=plan.source_name, target=plan.target.name)
    return Variant(plan, source, build)


NEXT_TILE = (
    "    // The next tile is visible to every warp, and no warp still reads this one's stage.\n"
    "    __syncthreads();\n"
)
STAGING = "    // Staging reuses the bytes of the ring.\n    __syncthreads();\n"
NAMED = "  // The token rows are visible to every warp.\n  __syncthreads();\n"

FAULTS = (
    # Waits and barriers.
    Fault("wait left out", "    cp_async_wait_1();\n\n" + NEXT_TILE, NEXT_TILE, (EARLY,)),
    Fault("first wait left out", "  cp_async_wait_1();\n\n  // Every", "  // Every", (EARLY,)),
    Fault("wait one short", "cp.async.wait_group 1;", "cp.async.wait_group 2;", (EARLY,)),
    Fault("copies not committed", "    cp_async_commit();\n    ++write_stage;",
          "    ++write_stage;", (EARLY,)),
    Fault("barrier left out after the wait", NEXT_TILE, "", (RACE,)),
    Fault("barrier before the wait instead of after it", "    cp_async_wait_1();\n\n" + NEXT_TILE,
          NEXT_TILE + "    cp_async_wait_1();\n", (RACE,)),
    Fault("barrier left out before the staging", STAGING, "", (RACE,)),
    Fault("barrier left out after the look-up of tokens", NAMED, "", (RACE,)),
    Fault("warp barrier left out before the store",
          "      __syncwarp();\n#pragma unroll 1\n", "#pragma unroll 1\n", (RACE,)),
    Fault("barrier of one warp row", NEXT_TILE, "    if (warp_m == 0) __syncthreads();\n", (RACE,)),
    Fault("barrier that half a warp skips", NEXT_TILE, "    if (lane < 16) __syncthreads();\n",
          (DIVERGENT,)),
    Fault("barrier that waits for warps that are not there", NAMED,
          '  asm volatile("bar.sync 1, 256;");\n', (STUCK,)),
    # The ring.
    Fault("ring one stage short", "kStages = 3;", "kStages = 2;", (EARLY,)),
    Fault("ring written one stage short", "write_stage + 1 == kStages ? 0",
          "write_stage + 1 >= kStages - 1 ? 0", (RACE,)),
    Fault("copy one tile too far", "copy_weight(tile + 2);", "copy_weight(tile + 3);"),
    Fault("read stage never advances",
          "    read_stage = read_stage + 1 == kStages ? 0 : read_stage + 1;\n", "", (RACE,)),
    # Layouts.
    Fault("swizzle left out where weights are written",
          "swizzle_weight(weight_copy_row * kWeightRowBytes + weight_copy_column * 2)",
          "(weight_copy_row * kWeightRowBytes + weight_copy_column * 2)"),
    Fault("swizzle left out where tokens are read",
          "swizzle_tokens(token_row * kTokenRowBytes", "(token_row * kTokenRowBytes"),
    Fault("chunk of eight bytes", "swizzle_weight(weight_row * kWeightRowBytes + lane / 16 * 16)",
          "swizzle_weight(weight_row * kWeightRowBytes + lane / 16 * 8)", (CROOKED,)),
    Fault("wide store to a narrow row", "if (aligned && feature + kChunkElements <= m)",
          "if (feature + kChunkElements <= m)", (CROOKED,)),
    # Metadata.
    Fault("metadata selector swapped", "if (selector == 0)", "if (selector == 1)"),
    Fault("metadata selectors swapped at k16", "    case 2:", "    case 2 + 4:", (VALUE,), "short"),
    Fault("metadata of the wrong row in odd lanes", "* kMetadataWords * 128 + lane * 4",
          "* kMetadataWords * 128 + (lane % 2 ? lane ^ 4 : lane) * 4"),
    Fault("metadata unordered", "metadata_word[f][step / kStepsPerWord],",
          "(metadata_word[f][step / kStepsPerWord] & 0x33333333) << 2 |"
          "(metadata_word[f][step / kStepsPerWord] >> 2 & 0x33333333),", (METADATA,)),
    Fault("metadata of the first tile for all", "+ tile * kMetadataWords * 32;", ";"),
    # Folds.
    Fault("one exchange left out",
          "    exchange(tile % kTilesPerWord * kBlocksPerTile + 1);\n", ""),
    Fault("exchange words never reloaded", "    load_fold_words();\n\n    multiply_and_load(1",
          "    multiply_and_load(1"),
    Fault("placement ignored", "(placed[f][half] >> (4 * set) & 15) == i", "set == i"),
    Fault("prefix weight one-sided", "static_cast<float>(leaves - enters)",
          "static_cast<float>(leaves)", (VALUE,), "prefix"),
    Fault("last prefix sums left out", "add_prefix_sums(p, selected[p], 0);", ";", (VALUE,),
          "prefix"),
    Fault("last row keeps the running sum", "value[kFeaturesPerRow - 1] -= value[i];", "",
          (VALUE,), "prefix"),
    Fault("slot ignored", "row = block_row + f * (16 / kFormatM * kFormatN) + slot;",
          "row = block_row;", (VALUE,), "expand"),
    Fault("absent rows read the first row", "slot == kAbsent ? zeros :", "slot == 14 ? zeros :",
          (VALUE, RAW, RACE, EARLY), "expand"),
    Fault("zeros not written", "reinterpret_cast<unsigned*>(shared + kZeros)[threadIdx.x] = 0;",
          ";", (RAW,), "expand"),
    # Edges.
    Fault("last columns left out", "(stored_k + kTileK - 1) / kTileK", "stored_k / kTileK"),
    Fault("last columns one too many", "tile * kTileK < token_columns_left",
          "tile * kTileK <= token_columns_left", (BOUNDS,)),
    Fault("one chunk of columns too many", "token_columns_left = k -",
          "token_columns_left = k + 8 -", (BOUNDS,)),
    Fault("last features unwritten", "if (place < n && feature < m)",
          "if (place < n && feature + kChunkElements <= m)", (UNWRITTEN,)),
    Fault("last tokens unwritten", "if (place < n && feature < m)",
          "if (place < n - 1 && feature < m)", (UNWRITTEN,)),
    Fault("tokens stored past the end", "if (place < n && feature < m)",
          "if (place <= n && feature < m)", (BOUNDS,)),
    Fault("one tile of tokens for all", "const int tile_n = in_group / group_rows;",
          "const int tile_n = 0;", (RACE,)),
    # Operands and epilogue.
    Fault("selection ignored", "place < n ? selection[place] : -1", "place < n ? place : -1"),
    Fault("scale of the next token", "place < n ? scale[place]",
          "place < n ? scale[min(place + 1, n - 1)]"),
    Fault("bias read past the end", "at < m ? bias[at]", "at <= m ? bias[at]", (BOUNDS,)),
    Fault("bias of the neighbour", "at < m ? bias[at]", "at < m ? bias[at / 2 * 2]"),
    Fault("activation of the neighbour", "result[i] = activate(result[i]);",
          "result[i] = activate(result[0]);", (VALUE,), "silu"),
)  # fmt: skip
