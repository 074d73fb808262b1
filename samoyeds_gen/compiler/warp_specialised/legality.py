"""What makes a warp-specialised schedule legal. Rules run in order: later ones rely on earlier."""

from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.compiler.rules import (
    COMMON,
    Case,
    Rule,
    Violation,
    gate_rows,
    ring_depth,
)
from samoyeds_gen.compiler.warp_specialised.capacity import warpgroup_registers, warpgroup_shared
from samoyeds_gen.compiler.warp_specialised.geometry import REGISTERS, WARPGROUP_ROWS, weight_rows
from samoyeds_gen.language.layouts import LINEAR, XOR_128B, swizzle_for_row

LARGEST_BOX = 256  # rows of one TMA box, and tokens of one wgmma
MAX_CLUSTER = 8  # CTAs that every GPU of the architecture runs together
MAX_FRAGMENTS = 4  # stages of weight that registers could ever hold


def warpgroup_matrix(case: Case) -> Violation | None:
    """Only warpgroup matrix steps read what TMA writes."""
    if case.schedule.tensorize == "wgmma_sp_m64k32":
        return None
    return Violation(
        f"copies by tma feed warpgroups, {case.schedule.tensorize} is a warp's matrix step",
        "use atoms.WGMMA_SP_M64K32, or copy=atoms.CP_ASYNC_16B",
        "tensorize",
    )


def warpgroups(case: Case) -> Violation | None:
    """Consumers are one to four warpgroups along the features."""
    warps = case.schedule.warps
    if warps.n == 1 and warps.m % 4 == 0 and warps.m // 4 in REGISTERS:
        return None
    return Violation(
        f"{warps.m} x {warps.n} warps are not one to four warpgroups of 4 x 1 warps",
        "use warps(m=4, 8, 12 or 16, n=1)",
        "warps",
    )


def warpgroup_turns(case: Case) -> Violation | None:
    """A turn is passed to another warpgroup."""
    if not case.schedule.overlap.turns or case.schedule.warps.m > 4:
        return None
    return Violation(
        "overlap turns=True with one warpgroup, which has nobody to take turns with",
        "leave turns out, or use more warps",
        "overlap",
    )


def warpgroup_fold(case: Case) -> Violation | None:
    """Accumulators of a warpgroup keep their rows, so sets cannot be exchanged."""
    fold = plan_fold(case.schedule, case.problem)
    if fold == "exchange":
        return Violation(
            "fold exchange moves accumulators, which wgmma keeps in place",
            "use fold='prefix' or fold='expand'",
            "stationary",
        )
    if fold == "prefix" and case.problem.format.n != 1:
        return Violation(
            f"fold prefix needs N = 1, the format is ({case.problem.format})",
            "use fold='expand'",
            "stationary",
        )
    return None


def warpgroup_tile_k(case: Case) -> Violation | None:
    """A stage's rows are whole swizzle rows, its columns whole metadata words."""
    k = case.schedule.tile.k
    if k in (64, 128):
        return None
    return Violation(f"tile k={k} is not 64 or 128", "use k=64 or k=128", "tile")


def warpgroup_period(case: Case) -> Violation | None:
    """Sub-row changes fall at fixed places of the tile, and between matrix steps."""
    f, k = case.problem.format, case.schedule.tile.k
    if plan_fold(case.schedule, case.problem) != "prefix":
        return None
    if f.v % 32 == 0 and (f.v % k == 0 or k % f.v == 0):
        return None
    return Violation(
        f"fold prefix with V={f.v} changes rows inside a step of k=32 or at places that differ "
        f"from tile to tile of k={k}",
        "use fold='expand'",
        "stationary",
    )


def warpgroup_tile_m(case: Case) -> Violation | None:
    """Every warpgroup owns one or two matrices of 64 rows."""
    prefix = plan_fold(case.schedule, case.problem) == "prefix"
    per_row = case.problem.format.m if prefix else 1
    m, groups = case.schedule.tile.m, case.schedule.warps.m // 4
    needed = WARPGROUP_ROWS * per_row * groups
    if m not in (needed, 2 * needed):
        return Violation(
            f"tile m={m} is not {needed} = {WARPGROUP_ROWS} rows x {per_row} features x "
            f"{groups} warpgroups",
            f"use m={needed}, or other warps",
            "tile",
        )
    if m == 2 * needed and (problem := _single_matrix(case)):
        return Violation(
            f"tile m={m} gives {groups} warpgroups two matrices of {WARPGROUP_ROWS} rows each, "
            f"{problem}",
            f"use m={needed}",
            "tile",
        )
    rows = weight_rows(case.schedule, case.problem)
    if rows > LARGEST_BOX:
        return Violation(
            f"tile m={m} takes {rows} stored rows, a TMA box has at most {LARGEST_BOX}",
            "use fewer warpgroups",
            "tile",
        )
    return None


def _single_matrix(case: Case) -> str | None:
    """Why warpgroups cannot have a second matrix, if so."""
    schedule = case.schedule
    if plan_fold(schedule, case.problem) == "prefix":
        return "fold prefix has no registers for the sums of a second"
    if schedule.pack.data == "fragment":
        return "which weight in fragment order has no registers for"
    if schedule.epilogue.by != "warpgroup":
        return "whose rows leave together by epilogue(by='warpgroup') only"
    return None


def warpgroup_tile_n(case: Case) -> Violation | None:
    """Parts are whole wgmma widths, slices whole groups of eight tokens."""
    n, split, slice_tokens = (
        case.schedule.tile.n,
        case.schedule.overlap.split,
        case.schedule.epilogue.tokens,
    )
    if n > LARGEST_BOX or n % (8 * split):
        return Violation(
            f"tile n={n} is not a multiple of 8 x {split} parts up to {LARGEST_BOX}",
            "use another tile n or split",
            "tile",
        )
    if slice_tokens % 8:
        return Violation(
            f"epilogue tokens={slice_tokens} is not a multiple of 8",
            f"use epilogue(tokens={slice_tokens // 8 * 8 + 8})",
            "epilogue",
        )
    return None


def warpgroup_ahead(case: Case) -> Violation | None:
    """Sums stay untouched while their matrix work is in flight, and so do its operands."""
    overlap, problem = case.schedule.overlap, case.problem
    if not overlap.ahead:
        return None
    schedule = case.schedule
    streamed = schedule.pack.data == "fragment" and schedule.pipeline.fragments > 1
    untouched = schedule.stationary.weight == "shared" or streamed
    if plan_fold(schedule, problem) != "direct" or not untouched or overlap.split > 1:
        return Violation(
            "overlap ahead=True leaves sums and operands in flight, which only formats with N = M "
            "never touch, with weight in shared memory or fragments of several stages, and split=1",
            "leave ahead out",
            "overlap",
        )
    return None


def warpgroup_skew(case: Case) -> Violation | None:
    """The last warpgroup begins with a stage that is filled before any is given back."""
    s = case.schedule
    skew, others = s.overlap.skew, s.warps.m // 4 - 1
    if skew == 0:
        return None
    if s.overlap.turns or s.split.k > 1 or others == 0:
        return Violation(
            f"overlap skew={skew} needs several warpgroups, without turns, on all columns",
            "leave skew out",
            "overlap",
        )
    if others * skew >= s.pipeline.stages:
        return Violation(
            f"overlap skew={skew} lets the last of {others + 1} warpgroups begin {others * skew} "
            f"stages behind the first, the ring has {s.pipeline.stages}",
            f"use more than {others * skew} stages, or a smaller skew",
            "overlap",
        )
    return None


def warpgroup_layout(case: Case) -> Violation | None:
    """TMA permutes rows of up to 128 bytes; wgmma reads the same permutation."""
    layout, k = case.schedule.layout, case.schedule.tile.k
    weight = swizzle_for_row(k).name
    if case.schedule.pack.data == "fragment":
        if layout.weight != LINEAR.name:
            return Violation(
                f"layout(weight.data) asks for {layout.weight}, fragments go to registers",
                "leave layout(weight.data) out",
                "layout.weight.data",
            )
        weight = LINEAR.name
    for operand, given, needed in (
        ("weight.data", layout.weight, weight),
        ("tokens", layout.tokens, XOR_128B.name),
    ):
        if given != needed:
            return Violation(
                f"{operand} has the swizzle {given}, TMA and wgmma share {needed} at tile k={k}",
                f"use layouts.{needed.upper()}",
                f"layout.{operand}",
            )
    return None


def grouped_alone(case: Case) -> Violation | None:
    """Experts' tiles are dealt to single CTAs; a gate meets its up projection in one thread."""
    problem, schedule = case.problem, case.schedule
    if not (problem.grouped or problem.gated):
        return None
    for name, size in (("cluster m", schedule.cluster.m), ("split k", schedule.split.k)):
        if size > 1:
            return Violation(
                f"{name}={size} makes clusters, tiles of experts are dealt to single CTAs",
                "leave it out",
                name.split()[0],
            )
    return None


def launch_warpgroups(case: Case) -> Violation | None:
    """The ring is filled when the launch before has ended."""
    if not case.schedule.launch.prefetch:
        return None
    return Violation(
        "launch prefetch=True is the stream's, a ring of warpgroups is filled after the wait",
        "leave it out",
        "launch",
    )


def one_cta(case: Case) -> Violation | None:
    """A persistent CTA takes its SM for itself."""
    ctas = case.schedule.resident.ctas
    if ctas == 1:
        return None
    return Violation(
        f"resident ctas={ctas}, a warp-specialised CTA takes an SM for itself",
        "use resident(ctas=1)",
        "resident",
    )


def cluster_shares(case: Case) -> Violation | None:
    """Each CTA of a cluster copies a share of the tokens, whole swizzle periods of 8."""
    cluster, n = case.schedule.cluster.m, case.schedule.tile.n
    if cluster in (1, 2, 4) and n % (8 * cluster) == 0:
        return None
    return Violation(
        f"cluster m={cluster} is not 1, 2 or 4 with {n} tokens in {cluster} shares of 8",
        "use another cluster or tile n",
        "cluster",
    )


def cluster_split(case: Case) -> Violation | None:
    """The CTAs that split k are a cluster, each of which finishes some slices."""
    split, cluster = case.schedule.split.k, case.schedule.cluster.m
    if split > 1 and cluster > 1:
        return Violation(
            f"split k={split} makes a cluster of its own, cluster m={cluster} is another",
            "leave one of them out",
            "split",
        )
    if split > MAX_CLUSTER:
        return Violation(
            f"split k={split} is more than the {MAX_CLUSTER} CTAs of a cluster",
            f"use split(k={MAX_CLUSTER})",
            "split",
        )
    if split > 1 and case.schedule.epilogue.by == "warpgroup":
        return Violation(
            f"split k={split} deals slices of warps to a cluster, epilogue by='warpgroup' has none",
            "leave by out",
            "epilogue",
        )
    slice_tokens, part = case.schedule.epilogue.tokens, case.schedule.tile.n
    part //= case.schedule.overlap.split
    if split > 1 and part % slice_tokens:
        return Violation(
            f"epilogue tokens={slice_tokens} does not divide the {part} tokens of a part, whose "
            "slices are dealt to a cluster",
            "use epilogue(tokens=8)",
            "epilogue",
        )
    return None


def whole_warps(case: Case) -> Violation | None:
    """A warpgroup's warps share the columns of a step."""
    if case.schedule.warps.k > 1:
        return Violation(
            f"warps k={case.schedule.warps.k} is the stream's, warpgroups have one warp along k",
            "leave it out, or use copy=atoms.LDG_STREAM_16B",
            "warps",
        )
    return None


def weight_fragments(case: Case) -> Violation | None:
    """Fragments are loaded by the lanes that multiply them, and hold whole stored rows."""
    schedule, remedy = case.schedule, "leave pack(weight.data) out"
    if schedule.pack.data == "rows":
        return None
    if schedule.stationary.weight != "registers":
        return Violation(
            "weight.data is packed in fragment order, TMA copies rows",
            f"add s.stationary(weight.data, space='registers'), or {remedy}",
            "pack.weight.data",
        )
    fold = plan_fold(schedule, case.problem)
    if fold == "expand":
        return Violation(
            f"fragments hold stored rows, the fold {fold} multiplies output rows",
            remedy,
            "pack.weight.data",
        )
    buffers = schedule.pipeline.fragments
    if buffers > MAX_FRAGMENTS:
        return Violation(
            f"pipeline fragments={buffers} stages of weight in registers is more than "
            f"{MAX_FRAGMENTS}",
            f"use fragments={MAX_FRAGMENTS} or fewer",
            "pipeline",
        )
    return None


RULES: dict[str, Rule] = COMMON | {
    "warpgroup-matrix": warpgroup_matrix,
    "warpgroups": warpgroups,
    "whole-warps": whole_warps,
    "warpgroup-turns": warpgroup_turns,
    "warpgroup-fold": warpgroup_fold,
    "weight-fragments": weight_fragments,
    "warpgroup-tile-k": warpgroup_tile_k,
    "warpgroup-period": warpgroup_period,
    "warpgroup-tile-m": warpgroup_tile_m,
    "warpgroup-tile-n": warpgroup_tile_n,
    "ring-depth": ring_depth,
    "warpgroup-ahead": warpgroup_ahead,
    "warpgroup-layout": warpgroup_layout,
    "one-cta": one_cta,
    "launch-warpgroups": launch_warpgroups,
    "cluster-shares": cluster_shares,
    "cluster-split": cluster_split,
    "warpgroup-skew": warpgroup_skew,
    "grouped-alone": grouped_alone,
    "gate-rows": gate_rows,
    "warpgroup-registers": warpgroup_registers,
    "warpgroup-shared": warpgroup_shared,
}
