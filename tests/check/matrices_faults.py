"""Seeded faults of warpgroups that multiply two matrices, as hopper_faults.py has others."""

from faults import EARLY, METADATA, RACE, STUCK, UNWRITTEN, VALUE
from hopper_faults import Fault, smallest

from samoyeds_gen.formats import Format

SUBJECTS = {
    "tall": smallest("expand", Format(1, 1, 32), by="warpgroup", matrices=2, turns=True),
    "tall-ahead": smallest(
        "expand", Format(1, 1, 32), by="warpgroup", matrices=2, ahead=True, out_dtype="float32"
    ),
    "tall-gate": smallest(
        "expand",
        Format(1, 1, 32),
        by="warpgroup",
        matrices=2,
        grouped=True,
        activation="silu",
        gated=True,
    ),
    "tall-expand": smallest("expand", Format(4, 8, 32), by="warpgroup", matrices=2),
}

FAULTS = (
    Fault("metadata of the first matrix for both", " + i / (kTileK / 64) * kWordBytes", "",
          (VALUE,), "tall"),
    Fault("words of the warpgroup before", "+ warpgroup) * kMatrices * kWordBytes",
          "+ warpgroup) * kWordBytes", (EARLY, METADATA, RACE, VALUE), "tall"),
    Fault("weight of the first matrix for both", "weight_matrix + 256", "weight_matrix + 0",
          (VALUE,), "tall"),
    Fault("sums of the first matrix for both", "acc[rows / 2][part]", "acc[0][part]", (VALUE,),
          "tall"),
    Fault("both matrices leave at one place", " + lane / 16 * kGroupRows * 2", "",
          (VALUE, RACE, UNWRITTEN), "tall"),
    Fault("slots of the first matrix for both", "slots[step / kSteps]", "slots[0]",
          (VALUE, EARLY), "tall-expand"),
    Fault("stored rows of the first matrix for both", "step / kSteps * kGroupRows", "0",
          (VALUE,), "tall-expand"),
    Fault("projections of the first matrix for both", "acc[rows][part][i + 2]",
          "acc[0][part][i + 2]", (VALUE,), "tall-gate"),
    Fault("gates of both matrices leave at one place", "lane / 8 % 2 * kGroupRows", "0",
          (VALUE, RACE, UNWRITTEN), "tall-gate"),
    Fault("words of half the groups copied", "g < kConsumers * kMatrices", "g < kConsumers",
          (STUCK,), "tall"),
)  # fmt: skip

MORE_FAULTS = (
    Fault("rows of the second matrix behind the first's", "rows / 2 * kGroupRows + rows % 2 * 8",
          "rows * 8", (VALUE, RACE, UNWRITTEN), "tall-ahead"),
    Fault("fold words behind the first matrix's metadata",
          "stage_words + matrix * kWordBytes + kMetadataBytes", "stage_words + kMetadataBytes",
          (VALUE, EARLY), "tall-expand"),
    Fault("sums of the second half for both", "eight / 2 + rows % 2 * 2 + odd",
          "eight / 2 + 2 + odd", (VALUE,), "tall-ahead"),
)  # fmt: skip
