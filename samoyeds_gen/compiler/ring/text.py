"""What the templates of the cp.async ring see as `kernel`."""

from math import prod
from typing import ClassVar

from samoyeds_gen.compiler.ops import Op, StoreTile
from samoyeds_gen.compiler.ring.geometry import RingPlan
from samoyeds_gen.compiler.text import KernelText, Macros, Swizzled, swizzled

EPILOGUE = ("_epilogue.cuh.jinja",)


class RingText(KernelText):
    """Guards, addresses and names that follow from a ring plan."""

    operations: ClassVar[tuple[str, ...]] = (
        "_ops.cuh.jinja",
        "_ring_copies.cuh.jinja",
        "_ring_matrix.cuh.jinja",
        "_ring_ops.cuh.jinja",
        "_ring_experts.cuh.jinja",
    )

    def __init__(self, plan: RingPlan, macros: Macros) -> None:
        super().__init__(plan, macros)
        g = plan.geometry
        even = "if ({}_copy_row + row < {}) "
        self.weight_copy_guard = (
            "" if g.weight_copies_even else even.format("weight", "kWeightRows")
        )
        self.token_copy_guard = "" if g.token_copies_even else even.format("token", "kTileN")
        words = g.fragment_rows // 16 * g.metadata_words * 8
        whole = words % plan.threads == 0
        bound = "if (threadIdx.x + i * kThreads < {}) "
        self.metadata_copy_guard = "" if whole else bound.format("kMetadataStage / 16")
        fold_whole = prod(g.fold_shape) // 4 % plan.threads == 0
        self.fold_copy_guard = "" if fold_whole else bound.format("kFoldStage / 16")
        wide = plan.atom.a_registers == 4
        self.weight_lane_chunk = "lane / 16 * 16" if wide else "0"
        self.token_lane_chunk = "lane / 8 * 16" if wide else "lane / 8 % 2 * 16"
        self.load_weight = f"ldmatrix_x{plan.atom.a_registers}"
        self.load_tokens = f"ldmatrix_x{plan.atom.b_registers}"
        blocked = "tile_m * kTileM / kFormatM * kFormatN"
        self.first_stored_row = blocked if g.fold != "direct" else "tile_m * kTileM"
        # Fragments start with a block when M divides 16: one row for all instead of one each.
        self.blocks_in_fragment = 16 % plan.problem.format.m == 0
        together = "block_row + f * (16 / kFormatM * kFormatN)"
        self.block_row = together if self.blocks_in_fragment else "block_row[f]"
        self.folded = g.fold != "direct"
        self._name_experts(plan.problem.grouped)
        self._name_outputs(plan.problem.gated)

    def _name_experts(self, grouped: bool) -> None:
        """Where the tile of a CTA lies among the tiles, rows and words of all experts.

        Each expert's words were packed by themselves, so that an expert's follow those of others.
        They are padded to fragments and not to tiles, so that tiles of other heights read the same
        words: rows behind the expert's take those of its last ones.
        """
        self.tile, self.column = "blockIdx.x", "tile_n = in_group / group_rows"
        self.stored_row, self.word_rows = "first_stored_row", "tiles_m * kTileRows"
        self.word_row = "tile_m * kTileRows + chunk % (kTileRows / 4) * 4"
        self.first_fragment = "static_cast<long long>(tile_m) * kTileFragments"
        self.metadata_fragment = "i * (kThreads / (kMetadataWords * 8))"
        self.slot_fragment = "i * (kThreads / 8)"
        self.swaps, self.selectors, self.placement = "swaps", "selectors", "placement[row]"
        self.fragments = ""
        if grouped:
            self.fragments = self.macro("fragments_of_expert")(kernel=self)
            self.tile = "in_expert"
            self.column = "first_row = expert_row + in_group / group_rows * kTileN"
            self.stored_row = "expert * stored_rows + first_stored_row"
            self.word_rows = "fragments_m * 16"
            self.word_row = f"min({self.word_row}, rows - 4)"
            before = "static_cast<long long>(expert)"
            self.first_fragment = f"{before} * fragments_m + tile_m * kTileFragments"
            behind = "fragments_behind - static_cast<int>(threadIdx.x / {})"
            words, slots = behind.format("(kMetadataWords * 8)"), behind.format("8")
            self.metadata_fragment = f"min({self.metadata_fragment},\n            {words})"
            self.slot_fragment = f"min({self.slot_fragment}, {slots})"
            self.swaps = f"swaps + {before} * fold_words * fragments_m * 16"
            self.selectors = f"selectors + {before} * (kSets - 1) * fold_words * fragments_m * 16"
            last = "fragments_m * 16 - 1"
            self.placement = f"placement[expert * fragments_m * 16 + min(row, {last})]"

    def _name_outputs(self, gated: bool) -> None:
        """Where sums go. A gate and its up projection are 8 rows apart: in the same thread, two
        sums further.
        """
        self.ungated = not gated
        self.sums, self.row_at = "4", "f * 16 + half * 8 + lane / 4"
        self.tile_outputs, self.warp_outputs = "kTileM", "kWarpFeatures"
        self.first_row_of_unit = "first_feature"
        if gated:
            self.sums, self.row_at = "2", "f * 8 + lane / 4"
            self.tile_outputs, self.warp_outputs = "kTileOutputs", "kWarpOutputs"
            self.first_row_of_unit = "2 * first_feature"

    @property
    def swizzled(self) -> tuple[Swizzled, ...]:
        """The swizzle functions, one an operand."""
        return (
            swizzled("swizzle_weight", self.plan.buffer("weight_ring")),
            swizzled("swizzle_tokens", self.plan.buffer("token_ring")),
        )

    @property
    def functions(self) -> tuple[str, ...]:
        """Epilogue functions the file defines."""
        problem = self.plan.problem
        store = next(op for op in self.plan.epilogue if isinstance(op, StoreTile))
        convert = f"convert_{8 * problem.out_dtype.bytes}" + ("_paired" if store.paired else "")
        return (*((problem.activation,) if problem.activation else ()), convert)

    def render(self, op: Op) -> str:
        """The text of one operation, with the operations inside it."""
        return self._store(op) if isinstance(op, StoreTile) else super().render(op)

    def _store(self, op: StoreTile) -> str:
        name = {"exchange": "rows_exchange", "prefix": "rows_prefix"}.get(op.fold, "rows_direct")
        values = self._macros(name, EPILOGUE)
        if self.gated:
            rows = values(kernel=self, name="value", sum="c", half="0")
            rows += values(kernel=self, name="up", sum="c + 2", half="1")
        else:
            rows = values(kernel=self, name="value", sum="c", half="half")
        exchange = op.fold == "exchange"
        placed = self._macros("placement", EPILOGUE)(kernel=self) if exchange else ""
        store = self._macros("store_tile", EPILOGUE)
        return store(op=op, kernel=self, rows=rows, placed=placed)
