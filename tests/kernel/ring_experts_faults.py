"""Seeded faults of grouped ring kernels: edits of what experts and gates add, and what running
them must come to.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from expert_products import device_run, experts_of, integers, within
from tiny import tiny

from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import GroupedKernel, Variant, grouped_kernel
from samoyeds_gen.language import make_ssmm, target_named
from samoyeds_gen.language.schedule import Raster
from samoyeds_gen.runtime import compile_source
from samoyeds_gen.simulator import SimulationFault

VALUE, RACE, BOUNDS = "wrong value", "race", "out of bounds"
RAW = "uninitialised read"
MISPLACED = (VALUE, RACE)  # a row that two experts write, or none
LOST = (*MISPLACED, BOUNDS)  # a tile of nobody
COLUMNS = 72  # of the weights: the last tile of k is a part


@dataclass(frozen=True)
class Fault:
    """Replace `old`, which occurs once in the kernel of `subject`, by `new`; `kinds` may follow.

    `also` are more such edits, for what one edit alone does not break.
    """

    name: str
    old: str
    new: str
    kinds: tuple[str, ...] = (VALUE,)
    subject: str = "prefix"
    also: tuple[tuple[str, str], ...] = ()


SUBJECTS = {
    "prefix": ("prefix", Format(1, 4, 32), {"bias": True, "scale": True}),
    "exchange": ("exchange", Format(1, 2, 64), {"index": "int64"}),
    "expand": ("expand", Format(2, 4, 32), {}),
    "prefix gate": ("prefix", Format(1, 2, 64), {"gated": True, "activation": "silu"}),
    "wide gate": ("prefix", Format(1, 2, 64), {"gated": True, "activation": "gelu"}),
    "exchange gate": (
        "exchange",
        Format(1, 2, 64),
        {"gated": True, "activation": "relu", "index": "int32"},
    ),
    "expand gate": ("expand", Format(1, 1, 64), {"gated": True, "activation": "silu"}),
}
METADATA = "i * (kThreads / (kMetadataWords * 8))"
BEHIND = "fragments_behind - static_cast<int>(threadIdx.x"
WORDS = "tile_m * kTileRows + chunk % (kTileRows / 4) * 4"
SLOTS = "i * (kThreads / 8)"
# Ends of the experts' rows, and rows of the output. The second has experts of two rounds of 32; the
# last ones are what only a GPU can be handed.
ENDS = (
    (np.array([0, 3, 3, 20, 53]), 53),
    (np.cumsum([0, 1, *[0] * 29, 17, 2, 1, 0, 18]), 39),
    (np.array([20, 40, 3, 13]), 45),
    (np.array([0, 5, 30, 90]), 35),
)


@cache
def kernel_of(subject: str) -> GroupedKernel:
    """The unedited kernel of a subject."""
    fold, form, options = SUBJECTS[subject]
    problem = make_ssmm(form, "bfloat16", grouped=True, **options)
    schedule = tiny(fold, form, raster=Raster(2))
    if subject == "wide gate":  # two fragments along m
        schedule = replace(schedule, tile=replace(schedule.tile, m=2 * schedule.tile.m))
    return grouped_kernel(schedule, problem, target_named("sm_80"))


def faulty(fault: Fault) -> GroupedKernel:
    """The kernel with the fault. The edit must find its text once."""
    whole = kernel_of(fault.subject)
    variant = whole.variant
    source = variant.source
    for old, new in ((fault.old, fault.new), *fault.also):
        found = source.count(old)
        assert found == 1, f"{fault.name}: {old!r} occurs {found} times in the kernel"
        source = source.replace(old, new)
    build = compile_source(source, name=variant.plan.source_name, target="sm_80")
    return GroupedKernel(Variant(variant.plan, source, build), whole.problem)


def outcome(kernel: GroupedKernel) -> str | None:
    """What the first of the runs that goes wrong comes to; None where all are right."""
    problem, block = kernel.problem, kernel.gate_block
    for ends, n in ENDS:
        rng, experts = np.random.default_rng(n), len(ends) - 1
        # Three tile rows of an expert, the last of them a part.
        rows = 2 * kernel.variant.plan.tile[0] + 2 * (block or problem.format.m)
        w = experts_of(problem.format, experts, rows // 2 if block else rows, COLUMNS, rng, block)
        tokens = integers(rng, n, COLUMNS).astype(w.numpy().data.dtype)
        given = {}
        if problem.index:
            given["selection"] = rng.integers(0, n, n).astype(problem.index)
        if problem.bias:
            given["bias"] = rng.standard_normal(w.shape[0]).astype(np.float32)
        if problem.scale:
            given["scale"] = rng.standard_normal(n).astype(np.float32)
        try:
            out = device_run(kernel, w, tokens, ends, **given)
        except SimulationFault as fault:
            return fault.kind
        if not within(kernel, out, w, tokens, ends, **given):
            return VALUE
    return None


PLACE_FAULTS = (
    Fault("experts of the first round alone", "first < experts; first += 32",
          "first < 32; first += 32"),
    Fault("counts cut off", "0) + kTileN - 1) / kTileN", "0)) / kTileN"),
    Fault("experts without tokens have a tile", "(max(end - begin, 0) + kTileN - 1) / kTileN",
          "max(end - begin, 0) / kTileN + 1", LOST),
    Fault("counts that fall", "max(end - begin, 0)", "end - begin"),
    Fault("counts beyond the rows", "min(offsets[at + 1], n)", "offsets[at + 1]", (BOUNDS,)),
    Fault("counts beyond the experts", "at < experts ? min(offsets", "true ? min(offsets",
          (BOUNDS,)),
    Fault("sums of half a warp", "step < 32; step *= 2", "step < 16; step *= 2", MISPLACED),
    Fault("sums without the first expert", "lane >= step", "lane > step", MISPLACED),
    Fault("tile rows not counted", "in_expert < sum * tiles_m", "in_expert < sum", LOST),
    Fault("the tile behind the last", "in_expert < sum * tiles_m", "in_expert <= sum * tiles_m",
          LOST),
    Fault("the last expert of those behind", "__ffs(behind) - 1", "31 - __clz(behind)",
          LOST),
    Fault("experts of the second round", "expert = first + owner", "expert = owner"),
    Fault("tiles of experts before", "(__shfl_sync(~0u, sum, owner) - tiles_n) * tiles_m", "0",
          LOST),
    Fault("tiles of rounds before", "in_expert -= __shfl_sync(~0u, sum, 31) * tiles_m;",
          "", MISPLACED),
    Fault("width of the lane's own expert", "tiles_n = __shfl_sync(~0u, columns, owner)",
          "tiles_n = columns", LOST),
    Fault("rows of the lane's own expert", "expert_row = __shfl_sync(~0u, begin, owner)",
          "expert_row = begin", LOST),
    Fault("end of the lane's own expert", "last_row = __shfl_sync(~0u, end, owner)",
          "last_row = end", MISPLACED),
    Fault("CTAs without a tile go on", "if (expert < 0) return;", "", (BOUNDS, RAW, *MISPLACED)),
    Fault("the first column alone", "expert_row + in_group / group_rows * kTileN", "expert_row",
          MISPLACED),
    Fault("groups of all tile rows", "tiles_m - group * kRasterGroup, kRasterGroup",
          "tiles_m, kRasterGroup", LOST),
)  # fmt: skip
PART_FAULTS = (
    Fault("weight of the first expert", "expert * stored_rows + first_stored_row",
          "first_stored_row"),
    Fault("rows of the next expert", "stored_rows - first_stored_row - weight_copy_row",
          "experts * stored_rows - first_stored_row - weight_copy_row", (BOUNDS,)),
    Fault("metadata of the first expert",
          "static_cast<long long>(expert) * fragments_m + tile_m * kTileFragments",
          "static_cast<long long>(tile_m) * kTileFragments"),
    Fault("metadata padded to tiles", "(expert) * fragments_m + tile_m",
          "(expert) * tiles_m * kTileFragments + tile_m", (VALUE, BOUNDS)),
    Fault("metadata without the last fragment", "(m + fragment_features - 1) / fragment_features",
          "m / fragment_features"),
    Fault("metadata behind the expert's", f"{BEHIND} / (kMetadataWords * 8))",
          "1 << 20", (BOUNDS,)),
    Fault("metadata behind the fragment's",
          "fragments_behind - static_cast<int>(threadIdx.x / (kMetadataWords * 8))",
          "fragments_behind", (BOUNDS,)),
    Fault("swaps behind the expert's", f"min({WORDS}, rows - 4)", WORDS, (BOUNDS,),
          subject="exchange"),
    Fault("slots behind the expert's", f"min({SLOTS}, {BEHIND} / 8))", SLOTS, (BOUNDS,),
          subject="expand"),
    Fault("placement behind the expert's", "min(row, fragments_m * 16 - 1)", "row", (BOUNDS,),
          subject="exchange"),
    Fault("selectors of the first expert",
          "selectors + static_cast<long long>(expert) * (kSets - 1) * fold_words", "selectors + 0"),
    Fault("selectors of one plane", "(expert) * (kSets - 1) * fold_words", "(expert) * fold_words"),
    Fault("swaps of the first expert", "swaps + static_cast<long long>(expert)", "swaps + 0",
          subject="exchange"),
    Fault("placement of the first expert", "placement[expert * fragments_m * 16 + min(",
          "placement[min(", subject="exchange"),
    Fault("slots of the first expert",
          "(expert) * fragments_m + tile_m * kTileFragments + threadIdx.x / 8",
          "(tile_m) * kTileFragments + threadIdx.x / 8", subject="expand"),
    Fault("bias of the first expert", "(bias + expert * m)", "bias"),
    Fault("scale of the expert's place", "? scale[place]", "? scale[place - first_row]"),
    Fault("tokens of the first expert", "tokens + (first_row + token_copy_row)",
          "tokens + (token_copy_row)"),
    Fault("names of the first expert", "const int place = first_row + row;",
          "const int place = row;", subject="exchange"),
    Fault("rows of the expert behind", "place < last_row && feature < m",
          "place < n && feature < m", MISPLACED),
)  # fmt: skip
GATE_FAULTS = (
    Fault("gates alone", "result[i] *= up[i];", "", subject="prefix gate"),
    Fault("up projections are activated", "result[i] = activate(result[i]);\n", "",
          subject="prefix gate"),
    Fault("the gate's own sums", "up[i] = acc[i + 1][f][t][c + 2];",
          "up[i] = acc[i + 1][f][t][c];", subject="prefix gate"),
    Fault("the next token's up projection", "up[kFeaturesPerRow - 1] = acc[0][f][t][c + 2];",
          "up[kFeaturesPerRow - 1] = acc[0][f][t][c + 1];", subject="prefix gate"),
    Fault("outputs of the gate's rows", "(f * 8 + lane / 4)", "(f * 16 + lane / 4)",
          (VALUE, RAW, RACE), subject="wide gate"),
    Fault("tiles as wide as their weight", "tile_m * kTileOutputs", "tile_m * kTileM",
          subject="prefix gate"),
    Fault("warps as wide as their weight", "% kWarpsM * kWarpOutputs", "% kWarpsM * kWarpFeatures",
          (VALUE, RACE, BOUNDS), subject="prefix gate"),
    Fault("features as many as rows", "&& feature < m / 2)", "&& feature < m)",
          (VALUE, RACE, BOUNDS), subject="prefix gate",
          also=(("kChunkElements <= m / 2)", "kChunkElements <= m)"),)),
    Fault("the gate's placement", "placed[f][1]", "placed[f][0]", subject="exchange gate"),
    Fault("placement of half the rows", "2 * first_feature / kFeaturesPerRow",
          "first_feature / kFeaturesPerRow", subject="exchange gate"),
    Fault("up projections of plain rows", "up[1] = {acc[0][f][t][c + 2]}",
          "up[1] = {acc[0][f][t][c]}", subject="expand gate"),
)  # fmt: skip
FAULTS = (*PLACE_FAULTS, *PART_FAULTS, *GATE_FAULTS)
