"""Seeded faults of weight that streams from memory to registers, as hopper_faults.py has others."""

from faults import BOUNDS, EARLY, RACE, STUCK, VALUE
from hopper_faults import Fault, smallest

from samoyeds_gen.formats import Format

SUBJECTS = {
    "fragments": smallest("expand", Format(1, 1, 32), fragments=2),
    "streams": smallest("prefix", Format(1, 2, 64), fragments=1, turns=True, by="warpgroup"),
    "streamed": smallest("expand", Format(1, 1, 32), fragments=3, ahead=True),
}

AHEAD = """
        // This stage's matrix work has ended: its registers are free for a later stage.
        const int ahead = tile_k + kFragmentStages;
        const int first_ahead = min(slot, tiles_k - 1);
        load_fragments(slot, ahead < tiles_k ? tile_fragments + ahead * kFragmentWords
                                           : next_fragments + first_ahead * kFragmentWords);
"""

FAULTS = (
    Fault("fragments loaded while they are multiplied", AHEAD, "", (EARLY, RACE), "fragments",
          (("        wgmma_wait_0();\n", AHEAD + "        wgmma_wait_0();\n"),)),
    Fault("fragments of the stage before", "fragments[slot][0]", "fragments[slot ^ 1][0]",
          (VALUE,), "fragments"),
    Fault("fragments of a stage too early", "ahead = tile_k + kFragmentStages",
          "ahead = tile_k + kFragmentStages - 1", (VALUE,), "fragments"),
    Fault("first fragments of the same tile", "fragments_of(tile + tile_step);",
          "fragments_of(tile);", (VALUE,), "fragments"),
    Fault("next tile not held to those there are", "place(min(tile, tiles - 1));", "place(tile);",
          (BOUNDS,), "fragments"),
    Fault("fragments past the end of a row", "? tile_fragments + ahead * kFragmentWords",
          "|| true ? tile_fragments + ahead * kFragmentWords", (VALUE, BOUNDS), "fragments"),
    Fault("stored rows of the tile before", "tile_m * kConsumers + warpgroup) * 4 + warp",
          "max(tile_m, 1) * kConsumers - kConsumers + warpgroup) * 4 + warp", (VALUE,), "streams"),
    Fault("fragments of the stage that was multiplied", "ahead = tile_k + kFragmentStages",
          "ahead = tile_k", (VALUE,), "streams"),
    Fault("fragments of the stage in flight are loaded",
          "slot_before = (slot + kFragmentStages - 1) % kFragmentStages;", "slot_before = slot;",
          (EARLY, RACE, VALUE), "streamed"),
    Fault("the last stage's fragments are kept", "slot == last_slot && tiles_k > 0",
          "slot == last_slot && tiles_k < 0", (VALUE,), "streamed"),
    Fault("another stage is the last", "(tiles_k + kFragmentStages - 1) % kFragmentStages",
          "tiles_k % kFragmentStages", (VALUE,), "streamed"),
)  # fmt: skip

MORE_FAULTS = (
    Fault("last stage of an odd number left out", "if (tile_k >= tiles_k) break;",
          "if (tile_k + 1 >= tiles_k && slot == 0 && tile_k > 0) break;",
          (STUCK, VALUE, RACE), "fragments"),
    Fault("fragments of stages that are not there", "min(slot, tiles_k - 1);\n    load_frag",
          "slot;\n    load_frag", (BOUNDS,), "fragments"),
    Fault("fragments of the first warpgroup for all", "tile_m * kConsumers + warpgroup) * 4 + warp",
          "tile_m * kConsumers) * 4 + warp", (VALUE,), "fragments"),
    Fault("fragments of another lane", "+ lane * 4;", "+ (lane ^ 1) * 4;", (VALUE,), "fragments"),
    Fault("fragments of the first step for all", "from + step * 128)", "from)", (VALUE,),
          "fragments"),
)  # fmt: skip
