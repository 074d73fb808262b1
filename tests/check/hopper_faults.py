"""Seeded faults of the warp-specialised pipeline, and what the check must call each of them.

Each breaks one promise. Five edits that break none are left out: a ring one stage shorter for
producer and consumers alike, prefix sums at every tile of a V-block (all its tiles but the last
have selector bits of 0), and copying the first row of the tokens for rows behind the selection,
whose products nobody stores; leaving out the meeting of a warpgroup behind an odd number of shared
slices, since its matrix work brings it together before the next; and one named barrier for the
slices of all warpgroups, whose warps happen to arrive together.
"""

from dataclasses import dataclass, replace

import faults
from faults import BOUNDS, CROOKED, DIVERGENT, EARLY, METADATA, RACE, RAW, STUCK, UNWRITTEN, VALUE

from samoyeds_gen.check import Subject
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm, target_named
from samoyeds_gen.language.layouts import swizzle_for_row
from samoyeds_gen.language.schedule import (
    Cluster,
    Epilogue,
    Launch,
    Overlap,
    Split,
    Stationary,
    Tile,
    Warps,
)


@dataclass(frozen=True)
class Fault(faults.Fault):
    """An edit of a warp-specialised kernel."""

    subject: str = "prefix"


def smallest(
    fold: str,
    format: Format,
    *,
    n: int = 16,
    k: int = 64,
    split: int = 1,
    turns: bool = False,
    cluster: int = 1,
    pieces: int = 1,
    fragments: int = 0,
    ahead: bool = False,
    skew: int = 0,
    slices: int = 8,
    by: str = "warp",
    matrices: int = 1,
    group: int | None = None,
    early: bool = False,
    **problem,
) -> Subject:
    """A kernel of two consumers with the smallest tile and a ring of two.

    Tile rows are walked by `group`, else one by one where fragments are streamed.
    """
    made = make_ssmm(format, "bfloat16", **problem)
    base = load_schedule("ssmm_sm90", format, made.dtype)
    rows = format.m if fold == "prefix" and not format.plain else 1
    schedule = replace(
        base,
        tile=Tile(128 * rows * matrices, n, k),
        warps=Warps(8, 1),
        pack=replace(base.pack, data="fragment" if fragments else "rows"),
        layout=replace(base.layout, weight="linear" if fragments else swizzle_for_row(k).name),
        stationary=Stationary(fold, weight="registers" if fragments else "shared"),
        pipeline=replace(base.pipeline, stages=2, fragments=fragments or 2),
        overlap=Overlap(split, turns, ahead, skew),
        cluster=Cluster(cluster),
        split=Split(pieces),
        epilogue=Epilogue(slices, by),
        raster=replace(base.raster, group=group or (1 if fragments else base.raster.group)),
        launch=Launch(early),
    )
    return Subject(schedule, made, target_named("sm_90a"))


SUBJECTS = {
    "prefix": smallest("prefix", Format(1, 2, 32), bias=True, scale=True),
    "spans": smallest("prefix", Format(1, 2, 128)),
    "split": smallest("prefix", Format(1, 2, 64), split=2, turns=True),
    "wide": smallest("expand", Format(1, 1, 32), k=128),
    "expand": smallest("expand", Format(2, 4, 16)),
    "gather": smallest("prefix", Format(1, 2, 64), index="int32", bias=True),
    "cluster": smallest("prefix", Format(1, 2, 64), cluster=2),
    "pieces": smallest("prefix", Format(1, 2, 32), pieces=2, bias=True),
    "ahead": smallest("expand", Format(1, 1, 32), ahead=True),
    "shared": smallest("expand", Format(1, 1, 32), n=24, by="warpgroup"),
    "pairs": smallest("prefix", Format(1, 2, 64), n=32, by="warpgroup", bias=True, scale=True),
    "skew": smallest("prefix", Format(1, 2, 64), skew=1),
    "early": smallest("prefix", Format(1, 2, 64), early=True, bias=True),
}

FULL = "mbarrier_wait(full(), phase);"
EMPTY = "mbarrier_wait(empty(), phase ^ 1);"
EXPECT = "mbarrier_expect(full(), "
WAIT = "      wgmma_wait_0();\n"
PIN = "      pin(acc[0][0]);\n"
RELEASE = "      if (thread == 0) mbarrier_arrive(empty());\n"
TAKE = "      warpgroup_sync(my_turn, 256);\n"
PASS = "      warpgroup_arrive(next_turn, 256);\n"
CONSUMERS = (
    "#pragma unroll 1\n  for (int tile = first_tile; tile < tiles; tile += tile_step) {\n    float"
)
SLICE = "        // The slice is whole.\n        __syncwarp();\n"
PART_1 = (
    "      wgmma_sp_shared_0(acc[0][1], weight_matrix + 0,\n"
    "          token_matrix + (0 * kBoxBytes + 1 * kPartTokens * 128) / 16 + 0,\n"
    "          metadata[0], tile_k > 0);\n"
)
LAST_TILE = "max(0, min(in_group / group_rows * kTileN, n - kTileN));"
SHARE = "rank * (kBoxBytes / kCluster),"
GATHER_BYTES = "from, named < 0 ? 0 : bytes);"
MEET = "    cluster_sync();\n"
PARTS_MAY_LIE = f" by sender, turn, value and lane.\n{MEET}"
TWO_MEETINGS = f"{MEET}{MEET}    return;"
LAST_MEETING = "    cluster_sync();\n    return;"
CLUSTER_END = " or arrive at its barriers.\n  cluster_sync();\n"

FAULTS = (
    # The launch before.
    Fault("consumers do not wait for the launch before", "  await_launch();\n",
          "  if (warpgroup == kConsumers) await_launch();\n", (RACE,), "early"),
    Fault("producer does not wait for the launch before", "  await_launch();\n",
          "  if (warpgroup < kConsumers) await_launch();\n", (RACE,), "early"),
    # The ring's barriers.
    Fault("producer waits for the wrong parity", EMPTY, EMPTY.replace(" ^ 1", ""), (STUCK,)),
    Fault("consumer waits for the wrong parity", FULL, FULL.replace("phase", "phase ^ 1"),
          (EARLY, RACE)),
    Fault("bytes of the tokens not announced", " + kTokenStage);", ");", (EARLY,)),
    Fault("sixteen bytes too many announced", EXPECT, EXPECT + "16 + ", (STUCK,)),
    Fault("stage released before the wait", WAIT + PIN + "\n" + RELEASE, RELEASE + WAIT + PIN,
          (RACE,)),
    Fault("stage never released", RELEASE, "", (STUCK,)),
    Fault("stage released by one warpgroup", RELEASE,
          RELEASE.replace("thread ==", "threadIdx.x =="), (STUCK,)),
    # Matrix work.
    Fault("wait left out", WAIT + PIN + "\n" + RELEASE, RELEASE, (EARLY,)),
    Fault("wait one short", "wgmma.wait_group.sync.aligned 0;", "wgmma.wait_group.sync.aligned 1;",
          (EARLY,)),
    Fault("fence left out", "wgmma.fence.sync.aligned;", "", (RACE,)),
    Fault("descriptor stride of four rows", "8 * row_bytes / 16", "4 * row_bytes / 16"),
    Fault("swizzling mode of the weight for tokens", "kTokenSwizzle = 1", "kTokenSwizzle = 2"),
    Fault("swizzling mode of tokens for the weight", "kWeightSwizzle = 2", "kWeightSwizzle = 1",
          (EARLY,)),
    Fault("metadata selector of the other step", "wgmma_sp_shared_1(acc[0][0], weight_matrix + 2,",
          "wgmma_sp_shared_0(acc[0][0], weight_matrix + 2,"),
    Fault("metadata word of the first steps for all",
          "+ (1 * kBoxBytes + 0 * kPartTokens * 128) / 16 + 0,\n          metadata[1], 1);",
          "+ (1 * kBoxBytes + 0 * kPartTokens * 128) / 16 + 0,\n          metadata[0], 1);",
          (VALUE,), "wide"),
    Fault("half of the tokens skipped", PART_1, "", (VALUE,), "split"),
    # Folds.
    Fault("prefix weight of the next block", "selectors[p][half] >> 1 & 1",
          "selectors[p][half] >> 2 & 1"),
    Fault("last block's weight without the block behind", "selectors[p][half] >> 1 >> 1 & 1", "0"),
    Fault("slot off by one", "(block_row + slot) * kWeightRowBytes",
          "(block_row + slot + 1) * kWeightRowBytes", (EARLY,), "expand"),
    Fault("zeros not written", "reinterpret_cast<unsigned*>(shared + kZeros)[threadIdx.x] = 0;",
          ";", (RAW,), "expand"),
    # Gather.
    Fault("gathered tokens not shown to the matrix unit", "      proxy_fence();\n", "", (EARLY,),
          "gather"),
    Fault("rows that are not there copied", "max(named, 0) * token_stride", "named * token_stride",
          (BOUNDS,), "gather", ((GATHER_BYTES, "from, bytes);"),)),
    Fault("chunks not permuted", "(gather_chunk % 8 ^ row % 8) * 16", "gather_chunk % 8 * 16",
          (VALUE,), "gather"),
    # Turns.
    Fault("turn not passed", PASS, "", (STUCK,), "split"),
    # Tiles.
    Fault("tiles computed twice", "tile_step = gridDim.x;", "tile_step = max(1, gridDim.x - 1);",
          (RACE,)),
    Fault("tiles skipped", "tile_step = gridDim.x;", "tile_step = gridDim.x + 1;", (UNWRITTEN,)),
    # Clusters.
    Fault("stage released at the own CTA alone",
          "mbarrier_arrive_at(empty(), thread);",
          "mbarrier_arrive_at(empty(), rank);", (RACE,), "cluster"),
    Fault("CTA leaves early", CLUSTER_END, " or arrive at its barriers.\n", (RACE,), "cluster",
          ((LAST_MEETING, "    return;"),)),
    Fault("share of tokens to the wrong place", SHARE, "(1 - rank) * (kBoxBytes / kCluster),",
          (VALUE,), "cluster"),
    # Columns split in a cluster.
    Fault("parts sent over a ring in use", PARTS_MAY_LIE, PARTS_MAY_LIE.replace(MEET, ""), (RACE,),
          "pieces", ((TWO_MEETINGS, LAST_MEETING),)),
    Fault("parts read before they are there", f"    }}\n{MEET}\n", "    }\n\n", (RACE, EARLY, RAW),
          "pieces", ((TWO_MEETINGS, LAST_MEETING),)),
    Fault("a part left out", "int from = 0; from < kSplit", "int from = 1; from < kSplit", (VALUE,),
          "pieces"),
    Fault("weight of the block behind the own columns", " &= own_blocks;", " &= ~0u;", (VALUE,),
          "pieces"),
    # Epilogue.
    Fault("slice overwritten while lanes read it",
          "        // Every lane has read the slice.\n        __syncwarp();\n", "", (RACE,)),
)  # fmt: skip

MORE_FAULTS = (
    # The ring's barriers.
    Fault("producer does not wait", EMPTY, ";", (DIVERGENT,)),
    Fault("consumer does not wait", FULL, ";", (EARLY, RACE)),
    Fault("parity never turns", "      phase ^= 1;\n", "", (DIVERGENT,)),
    Fault("bytes of one warpgroup's words not announced", "kConsumers * kWordBytes +",
          "kWordBytes +", (STUCK,)),
    Fault("bytes not announced", EXPECT, "mbarrier_arrive(full()); (void)(", (EARLY,)),
    Fault("stage released by every warp", RELEASE, RELEASE.replace("thread ==", "lane =="),
          (STUCK,)),
    Fault("stage empty when one warpgroup has released it", "kEmpty + 8 * i, kConsumers)",
          "kEmpty + 8 * i, 1)", (STUCK,)),
    Fault("barriers used before all threads see them", '"memory");\n  }\n  __syncthreads();\n',
          '"memory");\n  }\n', (RACE, RAW)),
    Fault("barriers made without a fence",
          '    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");\n', "", (RACE,)),
    Fault("consumer stays at its stage", "      next_stage();\n    }\n\n    // Epilogue",
          "    }\n\n    // Epilogue", (STUCK,)),
    Fault("ring one stage long", "stage == kStages", "stage == kStages + 1", (BOUNDS,)),
    Fault("producer keeps its registers", "    registers_for_producer();\n", "", (STUCK,)),
    # Matrix work.
    Fault("first part's wait left out", "      wgmma_wait_1();\n", "", (EARLY,), "split"),
    Fault("groups not committed", "wgmma.commit_group.sync.aligned;", "", (EARLY,)),
    Fault("descriptor stride of the weight's rows for tokens", "kTokenStage, 128, kTokenSwizzle",
          "kTokenStage, kWeightRowBytes, kTokenSwizzle"),
    Fault("no swizzling mode", "kTokenSwizzle = 1", "kTokenSwizzle = 0"),
    Fault("weight of the first warpgroup for all",
          "weight_at + warpgroup * kGroupRows * kWeightRowBytes", "weight_at"),
    Fault("metadata unordered", "[thread * (kTileK / 64) + i];",
          "[thread * (kTileK / 64) + i] & 0x33333333;", (METADATA,)),
    Fault("tokens of the first box for all", "(1 * kBoxBytes + 0 * kPartTokens * 128) / 16 + 0",
          "(0 * kBoxBytes + 0 * kPartTokens * 128) / 16 + 0", (VALUE,), "wide"),
    Fault("half of the tokens twice", PART_1, PART_1.replace("+ 1 *", "+ 0 *"), (VALUE,), "split"),
    Fault("sums of the last tile kept", "metadata[0], tile_k > 0);", "metadata[0], 1);"),
    Fault("every stage begins the sums", "metadata[0], tile_k > 0);", "metadata[0], 0);", (VALUE,),
          "spans"),
    Fault("every block begins the rows", "if (tile_k < kTilesPerBlock)", "if (tile_k >= 0)",
          (VALUE,), "spans"),
    Fault("no block begins the rows", "if (tile_k < kTilesPerBlock)", "if (tile_k < 0)", (VALUE,),
          "spans"),
    Fault("place of the stage before", "(shared + kPlaces)[stage];",
          "(shared + kPlaces)[(stage + 1) % kStages];", (RACE, RAW, VALUE, UNWRITTEN)),
    Fault("place of the first tile for all", "if (tile_k == 0) {\n        const int2",
          "if (tile_k == 0 && tile == first_tile) {\n        const int2", (RACE, UNWRITTEN)),
    # Folds.
    Fault("prefix weight of the other row", "const int row = warp * 16 + half * 8 +",
          "const int row = warp * 16 + (1 - half) * 8 +"),
    Fault("prefix sums at the first tile of a block", "kTilesPerBlock == kTilesPerBlock - 1",
          "kTilesPerBlock == 0", (VALUE,), "spans"),
    Fault("last row keeps the running sum", "value[kFeaturesPerRow - 1] -= value[p];", ""),
    Fault("slot of the other stored row", "(block_row + slot) * kWeightRowBytes",
          "(block_row + (slot ^ 1)) * kWeightRowBytes", (VALUE,), "expand"),
    Fault("slot of the next step", "slots[0] >> (4 * step) & 15", "slots[0] >> (4 * step + 4) & 15",
          (VALUE,), "expand"),
    Fault("absent rows read a stored row", "slot == kAbsent ? shared_base + kZeros :",
          "slot == 14 ? shared_base + kZeros :", (VALUE, RACE, EARLY), "expand"),
    Fault("swizzle left out where fragments are read", "weight_at + swizzle_weight(offset)",
          "weight_at + offset", (VALUE,), "expand"),
    # Copies.
    Fault("words of the first warpgroup for all", "tile_m * kConsumers + g;",
          "tile_m * kConsumers;"),
    Fault("words of the next tile", ") * tiles_k + tile_k;",
          ") * tiles_k + min(tile_k + 1, tiles_k - 1);"),
    Fault("weight of the first tile for all", "tile_k * (kTileK / 2), first_stored_row);",
          "tile_k * (kTileK / 2), 0);"),
    Fault("weight columns of tokens", "tile_k * (kTileK / 2), first_stored_row);",
          "tile_k * kTileK, first_stored_row);"),
    Fault("tokens of the first tile for all", "box * kBoxColumns, first_token);",
          "box * kBoxColumns, 0);"),
    # Gather.
    Fault("gathered tokens not waited for", "  cp_async_arrive(full());",
          "  mbarrier_arrive(full());", (EARLY,), "gather"),
    Fault("full without the gathering threads", "kFull + 8 * i, 129)", "kFull + 8 * i, 1)",
          (DIVERGENT, EARLY), "gather"),
    Fault("columns that are not there copied", "max(0, min(16, 2 * (k - column)))", "16",
          (VALUE, BOUNDS), "gather"),
    Fault("chunks permuted by other rows", "(gather_chunk % 8 ^ row % 8) * 16",
          "(gather_chunk % 8 ^ row / 2 % 8) * 16", (VALUE,), "gather"),
    Fault("token rows of the last tile",
          " last tile's.\n      warpgroup_sync(kGatherBarrier, 128);\n", " last tile's.\n",
          (RACE,), "gather"),
    Fault("token rows read before they are written",
          "      }\n      warpgroup_sync(kGatherBarrier, 128);\n", "      }\n", (RACE,), "gather"),
    Fault("selection ignored", "at < n ? selection[at] : -1", "at < n ? at : -1", (VALUE,),
          "gather"),
    # Turns.
    Fault("turn not taken", TAKE, "", (DIVERGENT, STUCK), "split"),
    Fault("first turn not given",
          "  if (warpgroup == kConsumers - 1) warpgroup_arrive(next_turn, 256);\n", "", (STUCK,),
          "split"),
    # Skew.
    Fault("waits for a stage that nobody fills", "if (first_tile < tiles && behind < tiles_k) ", "",
          (STUCK,), "skew"),
    Fault("waits for the ring's second round", "kFull + 8 * behind, 0);",
          "kFull + 8 * behind, 0);\n  mbarrier_wait(shared_base + kFull + 8 * behind, 1);",
          (STUCK,), "skew"),
    # Tiles.
    Fault("consumers take one tile", CONSUMERS,
          CONSUMERS.replace("tile += tile_step", "tile += tiles"), (STUCK, RACE)),
    Fault("one tile of tokens for all", LAST_TILE, "0;", (RACE,)),
    Fault("last tile begins before the first token", LAST_TILE, LAST_TILE[7:-2] + ";", (BOUNDS,)),
    Fault("last tile of k left out", "(stored_k + kTileK - 1) / kTileK",
          "max(1, stored_k / kTileK)"),
    Fault("V-blocks cut short", "(k + kFormatV - 1) / kFormatV * kFormatV", "k", (VALUE,), "spans"),
    # Clusters.
    Fault("stage released at the first CTA alone", "mbarrier_arrive_at(empty(), thread);",
          "mbarrier_arrive_at(empty(), 0);", (STUCK, DIVERGENT), "cluster"),
    Fault("empty when the own CTA has released", "kConsumers * kCluster);", "kConsumers);",
          (STUCK,), "cluster"),
    Fault("barriers used before the cluster sees them", '"memory");\n  }\n  cluster_sync();\n',
          '"memory");\n  }\n  __syncthreads();\n', (RACE, RAW), "cluster"),
    Fault("share of tokens over the other", SHARE, "0,", (RACE,), "cluster"),
    Fault("share of the wrong tokens", "first_token + rank * (kTileN / kCluster));",
          "first_token);", (VALUE,), "cluster"),
    Fault("multicast to the first CTA", "(1 << kCluster) - 1)", "1)", (STUCK,), "cluster"),
    Fault("CTAs of a cluster compute the same rows", ") * kCluster + rank;", ") * kCluster;",
          (RACE,), "cluster"),
    # Columns split in a cluster.
    Fault("a column of tiles twice", "units_k * (rank + 1) / kSplit",
          "(units_k * (rank + 1) + 1) / kSplit",
          (VALUE, BOUNDS), "pieces"),
    Fault("a column of tiles left out", "units_k * rank / kSplit", "(units_k * rank + 1) / kSplit",
          (VALUE,), "pieces"),
    Fault("parts sent to the own CTA", "kPartSums + offset, item % kSplit)",
          "kPartSums + offset, rank)", (RAW, RACE, EARLY), "pieces"),
    Fault("parts of all senders in one place", "(rank * kTurns + item / kSplit)", "(item / kSplit)",
          (RACE,), "pieces"),
    Fault("parts of the next turn", "kPartSums + turn * kItemBytes",
          "kPartSums + (turn + 1) % kTurns * kItemBytes", (VALUE,), "pieces"),
    Fault("every other slice not stored", "turn * kSplit + rank < kItems",
          "turn * kSplit < kItems / 2", (UNWRITTEN,), "pieces"),
    # Epilogue.
    Fault("slice read while lanes write it", SLICE, "", (RACE,)),
    Fault("one slice for all warpgroups", "kSlices + slice_warp * kSliceBytes;",
          "kSlices + warp * kSliceBytes;", (RACE,)),
    Fault("wide store to a narrow row", "out_stride % kChunkElements == 0 &&", "", (CROOKED,)),
    Fault("wide store past the last feature", " && lane_features == kChunkElements;",
          ";", (BOUNDS, RACE, VALUE)),
    Fault("last features unwritten", "min(m - lane_feature, kChunkElements)",
          "min(m - 1 - lane_feature, kChunkElements)", (UNWRITTEN,)),
    Fault("features stored past the end", "min(m - lane_feature, kChunkElements)",
          "min(m + 1 - lane_feature, kChunkElements)", (BOUNDS, RACE, VALUE)),
    Fault("last tokens unwritten", "min(n, kTileN) - lane_token;",
          "min(n, kTileN) - 1 - lane_token;", (UNWRITTEN,)),
    Fault("tokens stored past the end", "min(n, kTileN) - lane_token;",
          "min(n, kTileN) + 1 - lane_token;", (BOUNDS,)),
    Fault("tokens of the tile before stored again",
          "(kTileN - first_token % kTileN) % kTileN - lane_token", "-lane_token", (RACE,)),
    Fault("first tokens of the last tile unwritten", "tokens_done - first;",
          "tokens_done + 1 - first;", (UNWRITTEN,)),
    Fault("every slice to the same rows", "lane_out += slice_tokens * out_stride;", "",
          (RACE, UNWRITTEN)),
    Fault("bias of the neighbour", "feature < m ? bias[feature]",
          "feature < m ? bias[feature / 2 * 2]"),
    Fault("scale of the next token", "? scale[row]", "? scale[min(row + 1, n - 1)]"),
    # Matrix work that runs on.
    Fault("the present stage is released", "  last_stage = stage;",
          "  last_stage = (stage + 1) % kStages;", (RACE, RAW, EARLY, STUCK), "ahead"),
    Fault("always stage 0 is released", "last_stage = stage;", "",
          (RACE, RAW, EARLY, STUCK, DIVERGENT), "ahead"),
    Fault("sums stored in flight", "wgmma_wait_0();", "wgmma_wait_1();", (RACE, RAW, EARLY),
          "ahead"),
    # Slices that a warpgroup shares.
    Fault("warps do not meet at a slice", "        warpgroup_sync(slice_barrier, 128);", "",
          (RACE,), "shared"),
    Fault("one slice for all turns", "in_part / kSliceTokens) % 2", "in_part / kSliceTokens) % 1",
          (RACE,), "shared"),
    Fault("warps lie on one another", " + warp * kWarpOutputs * sizeof(Output);", ";",
          (RACE, VALUE), "shared"),
    Fault("warps of pairs lie on one another", "slices + warp * kWarpOutputs * sizeof(Output)",
          "slices", (RACE, VALUE), "pairs"),
    Fault("bias of another warp's features", "first_feature + warp * kWarpOutputs + (rows",
          "first_feature + (rows", (VALUE, BOUNDS), "pairs"),
    Fault("the last stage is kept", "if (tiles_k > 0) {", "if (tiles_k < 0) {", (STUCK, DIVERGENT),
          "ahead"),
)  # fmt: skip
