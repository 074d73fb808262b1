"""Seeded faults of the stream: edits of an emitted kernel, and what the check must call them."""

from dataclasses import replace

from faults import BOUNDS, CROOKED, EARLY, METADATA, RACE, RAW, UNWRITTEN, VALUE, Fault

from samoyeds_gen.check import Subject
from samoyeds_gen.compiler.stream.geometry import tile_step
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm, target_named
from samoyeds_gen.language.schedule import Launch, Split, Stationary, Tile, Warps

TICKET = "ticket left"


def _subject(
    fold: str, format: Format, *, split: int, chunks: int = 3, groups: int = 2, early: bool = False
) -> Subject:
    """Few warps with the smallest tile, two groups in flight, selection and epilogue."""
    made = make_ssmm(format, "bfloat16", index="int32", bias=True, scale=True)
    base = load_schedule("decode_sm80", format, made.dtype)
    schedule = replace(
        base,
        warps=Warps(2 if format.n < 3 else 3, 1, 2),
        stationary=Stationary(fold),
        pipeline=replace(base.pipeline, stages=8, fragments=chunks),
        split=Split(split),
        launch=Launch(early),
    )
    tile = Tile(tile_step(schedule, made), 16, 256 * groups)
    target = target_named("sm_90a" if early else "sm_80")
    return Subject(replace(schedule, tile=tile), made, target)


STREAM_SUBJECTS = {
    "stream prefix": _subject("prefix", Format(1, 2, 32), split=2),
    "stream expand": _subject("expand", Format(2, 4, 16), split=1),
    "stream bands": _subject("expand", Format(3, 7, 48), split=1),
    "stream early": _subject("prefix", Format(1, 2, 32), split=2, early=True),
    "stream turns": _subject("prefix", Format(1, 2, 64), split=3, chunks=1, groups=4),
}


def fault(name, old, new, kinds=(VALUE,), subject="prefix"):
    return Fault(name, old, new, kinds, f"stream {subject}")


NEXT_CHUNK = (
    "    // This chunk is visible to every warp, and no warp still reads the one before it.\n"
    "    __syncthreads();\n"
)
NAMED = "  // The token rows are visible to every warp.\n  __syncthreads();\n"
SLICE = "    // Nobody reads these bytes any more, neither as tokens nor as the slice before.\n"
VISIBLE = "    // Every warp's sums of this slice are visible.\n    __syncthreads();\n"
FENCES = "    fence_gpu();\n    const unsigned ticket"
AFTER = "    fence_gpu();\n    *last ="

LOADS = (
    "#pragma unroll\n"
    "  for (int slot = 0; slot < kGroups; ++slot) load_group(slot, group + slot * kWarpsK);\n"
)

STREAM_FAULTS = (
    # The launch before.
    fault("weights read beside the launch before", "  await_launch();\n\n" + LOADS,
          LOADS + "  await_launch();\n\n", (RACE,), "early"),
    fault("one warp alone waits for the launch before", "  await_launch();\n\n",
          "  if (threadIdx.x < 32) await_launch();\n\n", (RACE,), "early"),
    # Tokens in shared memory.
    fault("stream wait left out", "    cp_async_wait_1();\n\n" + NEXT_CHUNK, NEXT_CHUNK, (EARLY,)),
    fault("stream wait one short", "cp.async.wait_group 1;", "cp.async.wait_group 2;", (EARLY,)),
    fault("chunk not seen by every warp", NEXT_CHUNK, "", (RACE,)),
    fault("rows of tokens not seen by every warp", NAMED, "", (RACE,)),
    fault("chunk copied where it is still read", "  // No warp still reads the chunk before this "
          "one.\n    __syncthreads();\n", "", (RACE,), "turns"),
    fault("chunk of the wrong columns", "first_group * kGroupK + chunk * kTileK",
          "first_group * kGroupK + (chunk ^ 1) * kTileK"),
    fault("tokens of the first split for all", "first_group * kGroupK + chunk * kTileK",
          "chunk * kTileK"),
    fault("chunk skipped", "copy_tokens(chunk + 2);", "copy_tokens(chunk + 3);"),
    fault("chunk of tokens read again", "    read_stage = read_stage + 1 == kChunks ? 0 : "
          "read_stage + 1;\n", "", (RACE, VALUE)),
    fault("columns one too many", "column < end_column", "column <= end_column", (BOUNDS, VALUE)),
    fault("stream swizzle left out", "swizzle_tokens(lane % 8 * kTokenRowBytes + lane / 8 * 16)",
          "(lane % 8 * kTokenRowBytes + lane / 8 * 16)"),
    fault("second step of a panel reads the first", "(step % 2 * 64)", "0"),
    fault("warps along k read one group", "warp_k * (kGroupK / 64) * kPanelBytes", "0"),
    # Weights and metadata in flight.
    fault("group loaded a slot too early", "load_group(0, group + kGroups * kWarpsK);",
          "load_group(0, group + (kGroups - 1) * kWarpsK);"),
    fault("weights of the wrong step", "step * 128);", "(step ^ 1) * 128);"),
    fault("metadata of the wrong step", "metadata_words[slot][f][step / 2]",
          "metadata_words[slot][f][0]"),
    fault("stream metadata selector swapped", "if (selector == 0)", "if (selector == 1)"),
    fault("metadata of another quad", "first_word * 64 + lane * 2",
          "first_word * 64 + (lane ^ 4) * 2"),
    fault("metadata halves exchanged", "                            metadata_words[slot][f]",
          "                            0x11111111u + 0 * metadata_words[slot][f]", (METADATA,)),
    fault("group past the end loaded", "  const auto load_group = [&](int slot, int group) {\n"
          "    if (group < end_group) {", "  const auto load_group = [&](int slot, int group) {\n"
          "    if (group < end_group + 2) {", (BOUNDS,)),
    fault("last group left out", "(stored_k + kGroupK - 1) / kGroupK", "stored_k / kGroupK"),
    # Folds.
    fault("prefix weight of the last block wrong", "add_prefix(f, half, kNoRow);", ";"),
    fault("stream prefix weight one-sided", "static_cast<float>(leaves - enters)",
          "static_cast<float>(leaves)"),
    fault("offset of the other half", "offset_words[slot][f][half]", "offset_words[slot][f][0]"),
    fault("offsets of the word's first group", "(group % kGroupsPerWord)",
          "(0 * group % kGroupsPerWord)"),
    fault("candidate off by one", "& 15) == set;", "& 15) == set + 1;", (VALUE,), "expand"),
    fault("offset of the first 16 columns for all", "(column + i / 2 * 16)", "(column)", (VALUE,),
          "expand"),
    fault("last candidate left out", "set < kSets; ++set) {\n            // Registers",
          "set < kSets - 1; ++set) {\n            // Registers", (VALUE,), "expand"),
    fault("candidates not added", "*to = first ?", "*to = true ?", (VALUE,), "expand"),
    fault("first candidate added to what was there", "const bool first = set == 0 ||",
          "const bool first = set == 1 ||", (RAW, VALUE, RACE, UNWRITTEN), "expand"),
    fault("candidates of one feature not ordered", "      __syncwarp();\n", "", (RACE,), "expand"),
    fault("candidates of several warps not ordered", "      __syncthreads();\n    }\n",
          "      __syncwarp();\n    }\n", (RACE,), "bands"),
    # Sums over warps and CTAs.
    fault("slice written over the one before", SLICE + "    __syncthreads();\n", SLICE, (RACE,)),
    fault("sums not seen by every warp", VISIBLE, "", (RACE,)),
    fault("sums of the last warp along k left out", "warp < kWarpsK;", "warp < kWarpsK - 1;"),
    fault("no fence before the ticket", FENCES, "    const unsigned ticket", (RACE,)),
    fault("no fence after the ticket", AFTER, "    *last =", (RACE,)),
    fault("ticket not reset", "atomicInc(tickets + tile, kSplits - 1)",
          "atomicAdd(tickets + tile, 1u)", (TICKET,)),
    fault("first CTA adds the parts", "*last = ticket == kSplits - 1;", "*last = ticket == 0;",
          (RACE, RAW)),
    fault("part of the other split", "(split * kTileN + t", "(0 * split * kTileN + t",
          (RACE, RAW)),
    fault("last part left out", "s < kSplits;", "s < kSplits - 1;"),
    fault("parts of one token tile for all", "tile_m * (gridDim.x / kSplits) + tile_n",
          "tile_m * (gridDim.x / kSplits)", (RACE, RAW, VALUE, TICKET, UNWRITTEN)),
    # Edges and epilogue.
    fault("stream wide store to a narrow row", "if (aligned && feature + kQuad <= m)",
          "if (feature + kQuad <= m)", (CROOKED,)),
    fault("stream features stored past the end", "if (feature + e < m) to[e]",
          "if (feature + e <= m) to[e]", (BOUNDS, RACE)),
    fault("stream last tokens unwritten", "if (token < tokens_left &&",
          "if (token < tokens_left - 1 &&", (UNWRITTEN,)),
    fault("stream bias of the neighbour", "? bias[feature + e]", "? bias[feature]"),
    fault("stream bias read past the end", "feature + e < m ? bias", "feature + e <= m ? bias",
          (BOUNDS,)),
    fault("stream selection ignored", "place < n ? selection[place] :", "place < n ? place :"),
    fault("stream scale of the next token", "scale[place]", "scale[min(place + 1, n - 1)]"),
)  # fmt: skip
