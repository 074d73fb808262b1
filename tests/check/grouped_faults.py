"""Seeded faults of grouped kernels: the tiles of experts, their weights, gates, scales and names.

Each breaks one promise. Edits that break none are left out: tiles too many of an expert, which
store nothing; a first row of the first expert other than offsets[0], which is 0; and entries of the
table behind the last expert, up to its end.
"""

from dataclasses import dataclass
from functools import partial

import faults
from faults import BOUNDS, CROOKED, DIVERGENT, RACE, RAW, UNWRITTEN, VALUE
from hopper_faults import smallest

from samoyeds_gen.check.trial import OVERWRITTEN
from samoyeds_gen.formats import Format


@dataclass(frozen=True)
class Fault(faults.Fault):
    """An edit of a grouped kernel."""

    subject: str = "experts"


_subject = partial(smallest, grouped=True, group=2)  # tile rows in pairs


SUBJECTS = {
    "experts": _subject("prefix", Format(1, 2, 64), bias=True),
    "gated": _subject("prefix", Format(1, 2, 64), activation="silu", gated=True, slices=16),
    "gather": _subject(
        "expand",
        Format(1, 1, 32),
        n=40,
        index="int32",
        activation="relu",
        gated=True,
        scale=True,
        slices=16,
    ),
    "expand": _subject("expand", Format(2, 4, 32), scale=True),
    "early": _subject("prefix", Format(1, 2, 64), early=True),
    "fragments": _subject("expand", Format(1, 1, 32), fragments=2),
    "streams": _subject("prefix", Format(1, 2, 64), fragments=2, activation="silu", gated=True),
    "shared": _subject(
        "prefix",
        Format(1, 2, 64),
        n=24,
        index="int32",
        activation="silu",
        gated=True,
        by="warpgroup",
    ),
    "shared scale": _subject(
        "expand", Format(1, 1, 32), n=40, index="int32", scale=True, slices=16, by="warpgroup"
    ),
}

TABLE = "expert_rows[0] = offsets[0];\n  }\n\n  __syncthreads();\n"
BAND = "expert * (m / kFormatM * kFormatN)"
STORED = "min(m / 2 - lane_feature, kChunkElements)"

FAULTS = (
    # Tiles are counted.
    Fault("counted with floor", "(max(end - begin, 0) + kTileN - 1) / kTileN",
          "max(end - begin, 0) / kTileN", (UNWRITTEN,)),
    Fault("offsets past the end", "min(offsets[at + 1], n)", "offsets[at + 1]", (BOUNDS,)),
    Fault("earlier experts left out of a later turn", "expert_tiles[at + 1] = before + sum;",
          "expert_tiles[at + 1] = sum;", (UNWRITTEN,)),
    Fault("first tile not written", "if (lane == 0) expert_tiles[0] = 0;", "", (RAW,)),
    Fault("table read before it is written", TABLE, TABLE.replace("  __syncthreads();\n", ""),
          (RACE, RAW)),
    Fault("tiles counted beside the launch before", "  await_launch();\n",
          "  if (threadIdx.x >= 32) await_launch();\n", (RACE,), "early"),
    Fault("tokens copied beside the launch before", "  await_launch();\n",
          "  if (warpgroup < kConsumers) await_launch();\n", (RACE,), "early"),
    # The walk.
    Fault("search stops at the expert before", "behind - expert > 1", "behind - expert > 2",
          (UNWRITTEN, BOUNDS)),
    Fault("search passes over a first tile", "if (expert_tiles[middle] <= tile)",
          "if (expert_tiles[middle] < tile)", (UNWRITTEN, BOUNDS)),
    Fault("a tile runs into the next expert", "last_row = expert_rows[expert + 1];",
          "last_row = n;", (RACE,)),
    Fault("rows that nobody owns", "last_row = expert_rows[expert + 1];",
          "last_row = expert + 1 < experts ? expert_rows[expert + 1] : n;", (OVERWRITTEN,)),
    # The experts' weights.
    Fault("weight of the first expert for all", "first_stored_row = expert * (m",
          "first_stored_row = 0 * (m"),
    Fault("stored rows counted as rows of out", BAND, "expert * m", (VALUE,)),
    Fault("words of the first expert for all", "expert * blocks_m + min(tile_m * kConsumers + g",
          "min(tile_m * kConsumers + g"),
    Fault("fragments of the first expert for all",
          "expert * blocks_m + min(tile_m * kConsumers + warpgroup",
          "min(tile_m * kConsumers + warpgroup", (VALUE,), "fragments"),
    Fault("no tile, and fragments loaded", "  if (tiles == 0) return;\n", "", (BOUNDS, RAW),
          "fragments"),
    # Gates.
    Fault("gate and up swapped", "activate(result[j]);", "activate(up[j]);", (VALUE,), "gated",
          (("result[j] *= up[j];", "result[j] *= value[j];"),)),
    Fault("up of the neighbour", "acc[0][part][i + 2]};", "acc[0][part][i + 1]};", (VALUE,),
          "gather"),
    Fault("features of gate and up", STORED, STORED.replace("m / 2", "m"), (RACE, BOUNDS), "gated"),
    Fault("sums of every other eight", "const int i = eight / 2 +", "const int i = eight / 4 +",
          (VALUE,), "gated"),
    # Scales and names that a warp holds.
    Fault("scale of the first 32 tokens", "token_scales[(first + group * 8) / 32]",
          "token_scales[0]", (VALUE,), "gather"),
    Fault("scale from the first expert", "row < last_row ? scale[row]",
          "row < last_row ? scale[row - first_row]", (VALUE,), "expand"),
    Fault("lost tokens of the first 32", "lost_tokens[(first + group * 8) / 32] >>",
          "lost_tokens[0] >>", (VALUE,), "gather"),
    Fault("tokens from the first expert", "at < last_row ? selection[at]",
          "at < last_row ? selection[at - first_row]", (VALUE,), "gather"),
)  # fmt: skip

MORE_FAULTS = (
    # Tiles are counted.
    Fault("offsets of experts that are not there", "const int end = at < experts ? ",
          "const int end = at <= experts ? ", (BOUNDS,)),
    Fault("scan without a lane guard", "if (lane >= step) sum += other;", "sum += other;",
          (UNWRITTEN,)),
    Fault("counted once for all rows of tiles", "/ kTileN * tiles_m;", "/ kTileN;", (BOUNDS,)),
    Fault("scan one round short", "step < 32; step *= 2", "step < 16; step *= 2", (UNWRITTEN,)),
    Fault("only the last turn counts", "before += __shfl_sync", "before = __shfl_sync",
          (UNWRITTEN, RACE)),
    Fault("one tile an expert", "(max(end - begin, 0) + kTileN - 1) / kTileN", "1", (UNWRITTEN,)),
    Fault("last expert left out", "if (at < experts) {", "if (at < experts - 1) {", (RAW,)),
    Fault("one turn of a warp", "first < experts; first += 32", "first < 1; first += 32", (RAW,)),
    Fault("sums of the first lane", "__shfl_sync(~0u, sum, 31)", "__shfl_sync(~0u, sum, 0)",
          (UNWRITTEN,)),
    Fault("rows end where they begin", "expert_rows[at + 1] = end;",
          "expert_rows[at + 1] = begin;", (UNWRITTEN,)),
    Fault("two warps count", "if (threadIdx.x < 32) {\n    const int lane = threadIdx.x;",
          "if (threadIdx.x < 64) {\n    const int lane = threadIdx.x;", (RACE,)),
    Fault("half a warp counts", "if (threadIdx.x < 32) {\n    const int lane",
          "if (threadIdx.x < 16) {\n    const int lane", (DIVERGENT,)),
    # The walk.
    Fault("raster of all tiles", "kRasterGroup * tiles_n);\n    const int group_rows",
          "kRasterGroup * tiles_n + 1);\n    const int group_rows", (UNWRITTEN,)),
    Fault("last row of the last expert for all", "last_row = expert_rows[expert + 1];",
          "last_row = expert_rows[experts];", (RACE,)),
    Fault("tiles of tokens all at the first", "in_group / group_rows * kTileN;", "0;", (RACE,)),
    Fault("rows from the start of the expert's neighbour",
          "first_row = expert_rows[expert] +", "first_row = expert_rows[expert + 1] +",
          (UNWRITTEN,)),
    Fault("search without the last expert", "int behind = experts;", "int behind = experts - 1;",
          (UNWRITTEN, BOUNDS)),
    Fault("tiles of all rows of tiles",
          "(expert_tiles[expert + 1] - expert_tiles[expert]) / tiles_m;",
          "expert_tiles[expert + 1] - expert_tiles[expert];", (UNWRITTEN,)),
    Fault("tiles counted from the first expert", "tile - expert_tiles[expert];", "tile;",
          (BOUNDS, UNWRITTEN)),
    Fault("group of rows of tiles as if whole",
          "min(tiles_m - group * kRasterGroup, kRasterGroup);", "kRasterGroup;", (UNWRITTEN,)),
    Fault("rows of tiles in steps of one group", "tile_m = group * kRasterGroup +",
          "tile_m = group +", (RACE,)),
    Fault("last row too early", "last_row = expert_rows[expert + 1];",
          "last_row = expert_rows[expert + 1] - 1;", (UNWRITTEN,)),
    # The experts' weights.
    Fault("bias of the first expert for all", "(bias + expert * m)", "bias"),
    Fault("words without rows of blocks", "expert * blocks_m + min(tile_m * kConsumers + g",
          "expert + min(tile_m * kConsumers + g"),
    Fault("stored rows of half a band", BAND, "expert * (m / kFormatM)", (VALUE,), "expand"),
    Fault("weight of the next expert", "first_stored_row = expert * (m",
          "first_stored_row = (expert + 1) * (m"),
    Fault("rows of a band of the weight", BAND, "expert * m * kFormatN", (VALUE,), "expand"),
    Fault("weight by rows of tiles", BAND, "expert * tiles_m * kTileM / kFormatM * kFormatN"),
    Fault("words of another stage", "(block_row) * tiles_k + tile_k;",
          "(block_row) * tiles_k;"),
    Fault("fragments without rows of blocks",
          "expert * blocks_m + min(tile_m * kConsumers + warpgroup",
          "expert + min(tile_m * kConsumers + warpgroup", (VALUE,), "fragments"),
    Fault("fragments of the tile before", "fragments_of(tile + tile_step);",
          "fragments_of(tile);", (VALUE,), "fragments"),
    Fault("place of the next tile kept", "fragments_of(tile + tile_step);\n\n    place(tile);",
          "fragments_of(tile + tile_step);\n", (RACE,), "fragments"),
    Fault("tokens of the first expert for all", "box * kBoxColumns, first_row);",
          "box * kBoxColumns, first_row - expert_rows[expert]);"),
    # Gates.
    Fault("added instead of multiplied", "result[j] *= up[j];", "result[j] += up[j];", (VALUE,),
          "gated"),
    Fault("activation behind the product",
          "result[j] = activate(result[j]);\n                result[j] *= up[j];",
          "result[j] *= up[j];\n            result[j] = activate(result[j]);", (VALUE,), "gated"),
    Fault("activation on up", "result[j] *= up[j];", "result[j] *= activate(up[j]);", (VALUE,),
          "gated"),
    Fault("up of the other prefix", "up[p] = acc[p + 1][part][i + 2];",
          "up[p] = acc[p][part][i + 2];", (VALUE,), "gated"),
    Fault("up left out", "            result[j] *= up[j];\n", "", (VALUE,), "gated"),
    Fault("gate twice", "acc[0][part][i + 2]};", "acc[0][part][i]};", (VALUE,), "gather"),
    Fault("sigmoid of up", "activate(result[j]);\n                result[j] *= up[j];",
          "activate(up[j]);\n            result[j] *= value[j];", (VALUE,), "gather"),
    Fault("half of the features", STORED, STORED.replace("m / 2", "m / 4"), (UNWRITTEN,),
          "gated"),
    Fault("features of a warp twice as far apart", "tile_m * kTileOutputs +",
          "tile_m * kTileM +", (UNWRITTEN,), "gated"),
    Fault("rows of both halves", "(rows * 8 + lane / 4) * kFeaturesPerRow * sizeof",
          "(rows * 8 + lane / 8) * kFeaturesPerRow * sizeof", (RACE,), "gated"),
    Fault("token of every other eight", "const int token = group * 8 +",
          "const int token = group / 2 * 8 +", (RAW, VALUE, RACE), "gated"),
    Fault("features and tokens not transposed", "x1.trans.shared", "x1.shared", (VALUE,), "gather"),
    Fault("token of a pair for both", "round_pair(token_pair[rows][0], token_pair[rows][1])",
          "round_pair(token_pair[rows][0], token_pair[rows][0])", (VALUE,), "gather"),
    Fault("features of eight tokens in one place", "(lane_rows + group * 8 * kSliceStride,",
          "(lane_rows,", (VALUE, RAW, RACE), "gather"),
    # Scales and names that a warp holds.
    Fault("lost token of the neighbour", "lost_tokens[(first + group * 8) / 32] >> held_by",
          "lost_tokens[(first + group * 8) / 32] >> (held_by ^ 1)", (VALUE,), "gather"),
    Fault("names from the first expert", "row < last_row ? selection[row] : 0",
          "row < last_row ? selection[row - first_row] : 0", (VALUE,), "gather"),
    Fault("scale of the first token for all", "token_scales[(first + group * 8) / 32], held_by)",
          "token_scales[(first + group * 8) / 32], 0)", (VALUE,), "gather"),
    Fault("scale of the next lane", "token_scales[(first + group * 8) / 32], held_by)",
          "token_scales[(first + group * 8) / 32], held_by + 1)", (VALUE,), "gather"),
    Fault("scale of the tile before", "held_by = (first + token) % 32;",
          "held_by = token % 8;", (VALUE,), "gather"),
    Fault("scale past the last row", "row < last_row ? scale[row] : 0.0f", "scale[row]",
          (BOUNDS,), "expand"),
    Fault("scale left out", "  result[j] *= token_scale;\n", "\n", (VALUE,), "gather"),
    Fault("lost tokens kept", "if (lost) result[j]", "if (false) result[j]", (VALUE,), "gather"),
    Fault("every token lost with one", "lost_tokens[(first + group * 8) / 32] >> held_by & 1",
          "lost_tokens[(first + group * 8) / 32] != 0", (VALUE,), "gather"),
    Fault("names below zero kept", "__ballot_sync(~0u, named < 0 ||", "__ballot_sync(~0u, ",
          (VALUE,), "gather"),
    Fault("names past the last token kept", "named < 0 || named >= token_count);",
          "named < 0);", (VALUE,), "gather"),
    Fault("rows behind the last looked up", "at < last_row ? selection[at] : -1",
          "selection[at]", (BOUNDS,), "gather"),
    Fault("wide store to a narrow row", "out_stride % kChunkElements == 0 &&", "", (CROOKED,)),
)  # fmt: skip
