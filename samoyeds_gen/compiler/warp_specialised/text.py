"""What the templates of the warp-specialised pipeline see as `kernel`."""

from typing import ClassVar

from samoyeds_gen.compiler.ops import Op
from samoyeds_gen.compiler.plan import DEPENDENT_LAUNCH, Wrapper
from samoyeds_gen.compiler.text import KernelText, Macros, Swizzled, swizzled
from samoyeds_gen.compiler.warp_specialised.geometry import SpecialisedPlan, stored_by_matrices
from samoyeds_gen.compiler.warp_specialised.ops import Issue, MatrixStep, SendParts, StoreSlices
from samoyeds_gen.language.dtypes import FLOAT32

ROWS = ("_epilogue.cuh.jinja",)
OPERANDS_A_LINE = 8
PTX = ("_ptx.cuh.jinja", "_specialised_ptx.cuh.jinja")
PLAIN = ("cp_async_16b", "ldmatrix_x4", "ldg_stream_16b", *DEPENDENT_LAUNCH)
"""Wrappers that need nothing of the plan."""

_LAST_OF_BLOCK = "if (tile_k % kTilesPerBlock == kTilesPerBlock - 1) "


class SpecialisedText(KernelText):
    """Operand lists, descriptors and names that follow from a warp-specialised plan."""

    operations: ClassVar[tuple[str, ...]] = (
        "_specialised_producer.cuh.jinja",
        "_specialised_consumer.cuh.jinja",
        "_specialised_fragments.cuh.jinja",
        "_specialised_epilogue.cuh.jinja",
        "_specialised_experts.cuh.jinja",
    )

    def __init__(self, plan: SpecialisedPlan, macros: Macros) -> None:
        super().__init__(plan, macros)
        g = plan.geometry
        self.prefix, self.expand = g.fold == "prefix", g.fold == "expand"
        self.weight_shared = not g.weight_registers
        self.weight_streamed = g.fragment_buffers > 0
        self.weight_boxed = not self.weight_streamed
        self.boxed_weight = "kWeightStage + " if self.weight_boxed else ""
        self._name_groups(plan)
        self.gathered, self.turns = g.gathered, plan.schedule.overlap.turns
        self.ahead, self.skewed = plan.schedule.overlap.ahead, plan.schedule.overlap.skew > 0
        self.dependent = plan.schedule.launch.dependent
        self.stages_a_turn = 2 if self.ahead else 1
        self.full_count = "129" if g.gathered else "1"
        self.clustered, self.split = g.cluster > 1, g.split > 1
        self.alone = not self.clustered and not self.split
        self.unclustered = not self.clustered
        self.whole_rows = not self.clustered
        self.split_prefix = self.split and self.prefix
        self.first_k, self.last_k = ("first_k", "last_k") if self.split else ("0", "tiles_k")
        self.from_first_k = "first_k + " if self.split else ""
        self.stages_here = "last_k - first_k" if self.split else "tiles_k"
        self.everyone = "  __syncthreads();" if self.alone else "  cluster_sync();"
        # A producer meets its cluster as often as the consumers do.
        meetings = 2 if self.split else int(self.clustered)
        end = ["__syncwarp();", *["cluster_sync();"] * meetings] if meetings else []
        self.producer_end = "\n".join(end)
        self.empty_count = "kConsumers * kCluster" if self.clustered else "kConsumers"
        if self.ungrouped:
            self.first_token = "first_token"
        self.undone = "t >= slice_done && " if self.ungrouped else ""
        row = "group * kRasterGroup + in_group % group_rows"
        self.tile_m = f"({row}) * kCluster + rank" if self.clustered else row
        self._name_rows(plan)
        self._name_stores(plan)
        self._name_places(plan)
        self.tokens_here = "kTileN - first" if self.split else "kPartTokens - in_part"
        self.boxed_tokens = "" if g.gathered else " + kTokenStage"
        self.wgmma = "wgmma_sp_shared" if self.weight_shared else "wgmma_sp_registers"
        if self.weight_streamed:
            self.wgmma = "wgmma_sp_streamed"
        self.block_guard = "" if g.tiles_per_block == 1 else _LAST_OF_BLOCK

    def _name_groups(self, plan: SpecialisedPlan) -> None:
        """Groups of 64 rows: one a warpgroup, or several matrices of it."""
        self.matrices = range(plan.geometry.matrices)
        self.groups, self.group_rows, self.group_words = "kConsumers", "kGroupRows", "kWordBytes"
        self.metadata_words, self.matrix_count = "kTileK / 64", "1"
        words, word = "stage_words", "i"
        # Steps whose weight lanes hold: those of all matrices, one matrix behind the other.
        self.weight_steps, self.step_of_matrix, self.step_row = "kSteps", "step", "fragment_row"
        self.step_slots = "slots[0] >> (4 * step)"
        if len(self.matrices) > 1:
            self.groups = "kConsumers * kMatrices"
            self.group_rows, self.group_words = "kMatrices * kGroupRows", "kMatrices * kWordBytes"
            self.metadata_words, self.matrix_count = "kMatrices * (kTileK / 64)", "kMatrices"
            words, word = "stage_words + i / (kTileK / 64) * kWordBytes", "i % (kTileK / 64)"
            self.weight_steps, self.step_of_matrix = "kMatrices * kSteps", "step % kSteps"
            self.step_row = "(fragment_row + step / kSteps * kGroupRows)"
            self.step_slots = "slots[step / kSteps] >> (4 * (step % kSteps))"
        read = f"reinterpret_cast<const unsigned*>({words})"
        self.metadata_word = f"{read}[thread * (kTileK / 64) + {word}]"
        self._name_outputs(plan)

    def _name_outputs(self, plan: SpecialisedPlan) -> None:
        """Groups of 8 rows that become output: two of each matrix, or a gate's one."""
        self.matrix_of_rows, self.row_of_rows, self.sum_of_rows = "0", "rows * 8", "rows * 2"
        self.lane_rows = "lane / 8 % 2 * 16"
        if len(self.matrices) == 1:
            return
        if plan.problem.gated:
            self.matrix_of_rows, self.row_of_rows = "rows", "rows * (kGroupRows / 2)"
            self.sum_of_rows, self.lane_rows = "0", "lane / 8 % 2 * kGroupRows"
        else:
            self.matrix_of_rows = "rows / 2"
            self.row_of_rows = "rows / 2 * kGroupRows + rows % 2 * 8"
            self.sum_of_rows = "rows % 2 * 2"
            self.lane_rows += " + lane / 16 * kGroupRows * 2"

    def _name_rows(self, plan: SpecialisedPlan) -> None:
        """Where a tile's rows lie in the weight and its words, and who holds what of its tokens."""
        problem, direct = plan.problem, plan.geometry.fold == "direct"
        self.owner = " of the expert that owns row i" if problem.grouped else ""
        blocked = "tile_m * kTileM / kFormatM * kFormatN"
        stored = "tile_m * kTileM" if direct else blocked
        experts = "expert * m + " if direct else "expert * (m / kFormatM * kFormatN) +\n        "
        self.first_stored_row = experts + stored if problem.grouped else stored
        # A warp that has registers for its tile's scales and names loads them all at once.
        holds = plan.geometry.spare
        self.held_scale, self.held_names = problem.scale and holds, self.gathered and holds
        self.held_words = self.held_scale or self.held_names
        self.lost = FLOAT32.nan
        self.late_scale, self.late_names = problem.scale and not holds, self.gathered and not holds

    def _name_places(self, plan: SpecialisedPlan) -> None:
        """Where a tile lies: numbers that the producer tells the consumers."""
        self.places_found = not plan.geometry.places_told
        grouped = ("tile_m", "expert", "first_row", "last_row")
        fields = grouped if plan.problem.grouped else ("tile_m", "first_token")
        self.place_type, self.place_numbers = f"int{len(fields)}", ", ".join(fields)
        axes = zip(fields, "xyzw", strict=False)
        self.place_reads = tuple(f"{field} = place.{axis};" for field, axis in axes)
        self.sums_zero = "" if plan.geometry.spare else " = {}"
        tiles = plan.geometry.tiles_per_block
        self.first_block = "tile_k == 0" if tiles == 1 else "tile_k < kTilesPerBlock"

    def _name_stores(self, plan: SpecialisedPlan) -> None:
        """How a warp's slice is written, and what a lane stores of it."""
        g = plan.geometry
        self.transposed = stored_by_matrices(plan)
        self.stage = "stage_pairs" if g.features_per_row % 2 == 0 else "stage_ones"
        self.stage_group = "stage_eight"
        if self.transposed:  # features meet their neighbours of other lanes by stmatrix
            self.stage, self.stage_group = "stage_matrix", "stage_eight_by_matrices"
        alone = g.slice_warps == 1
        self.own_slices, self.shared_slices = alone, not alone
        self.storer = "lane" if alone else "thread"
        self.slice_turn = "" if alone else " + turn * kSliceBytes"
        self.slice_sync = "__syncwarp();" if alone else "warpgroup_sync(slice_barrier, 128);"
        self.stored_slice = "slice" if alone else "slices"
        self.own_feature = "first_feature" if alone else "first_feature + warp * kWarpOutputs"
        self.odd_slices = not alone and plan.schedule.overlap.split * g.part_slices % 2 == 1
        self.token_named = not self.transposed or plan.problem.scale or self.held_names
        self.store_matrices = f"stmatrix_x{g.row_groups}_trans"
        self.chunk_type = f"{'' if self.late_names else 'const '}unsigned char* const"
        # Slices of a tile are stored one behind the other, dealt ones by their places.
        self.whole_k = not self.split
        self.lane_out = "const lane_out" if self.split else "lane_out"
        self.lane_row = f"{self.first_token} + {'first + ' if self.split else ''}lane_token"
        here = f"{self.last_token} - {self.first_token}" if self.grouped else "min(n, kTileN)"
        left = f"{here} - lane_token"
        idle = 32 * g.slice_warps % g.token_chunks != 0  # who begins no whole token
        self.tokens_left = f"lane_token < kStoreTokens ? {left} : 0" if idle else left

    def word_block(self, warpgroup: str) -> str:
        """The row of word blocks that a warpgroup of the tile reads.

        Experts' rows of blocks follow one another without padding to tiles, so that tiles of other
        heights read the same words: warpgroups behind an expert's rows read its last ones.
        """
        here = f"tile_m * {self.groups} + {warpgroup}"
        return f"expert * blocks_m + min({here}, blocks_m - 1)" if self.grouped else here

    def wrapper(self, wrapper: Wrapper) -> str:
        """The text of one PTX wrapper."""
        macro = self._macros(wrapper.macro, PTX)
        words: dict[str, object] = {"dtype": self.plan.problem.dtype.ptx, "wrapper": wrapper}
        if wrapper.macro not in PLAIN:
            words["kernel"] = self
        return macro(**words)

    @property
    def producer_body(self) -> str:
        """The producer's loops around its operations."""
        ops = self.plan.producer
        if self.plan.geometry.gathered:  # one thread issues, all gather
            issue = "\n".join(self.render(op) for op in ops[1:-2])
            body = self.macro("gather_stage")(
                kernel=self, empty=self.render(ops[0]), issue=issue, gather=self.render(ops[-2])
            )
            return self.macro("produce_gather")(kernel=self, body=body)
        body = "\n".join(self.render(op) for op in ops)
        return self.macro("produce_boxes")(kernel=self, body=body)

    @property
    def stage_loop(self) -> str:
        """The consumers' loop over the stages of a tile."""
        body = "\n".join(self.render(op) for op in self.plan.loop)
        walk = "walk_fragments" if self.weight_streamed else "walk_stages"
        return self.macro(walk)(kernel=self, body=body)

    @property
    def tile_fragments(self) -> str:
        """Where a lane's weight fragments of a tile and of the next one begin."""
        return self.macro("tile_fragments")(kernel=self)

    @property
    def sum_operands(self) -> tuple[str, ...]:
        """The accumulator operands of one wgmma, a line each: "%0, %1, ..."."""
        return _lines([f"%{i}" for i in range(self.plan.geometry.sums)])

    @property
    def sum_constraints(self) -> tuple[str, ...]:
        """Their constraints, a line each."""
        lines = _lines([f'"+f"(acc[{i}])' for i in range(self.plan.geometry.sums)], 4)
        return (f": {lines[0]}", *(f"  {line}" for line in lines[1:]))

    def matrix_step(self, op: Issue, step: MatrixStep) -> str:
        """The call of one matrix step."""
        first = self.plan.geometry.spare and step.index == 0
        add = "tile_k > 0" if first else "1"
        return self.macro(self.wgmma)(op=op, step=step, add=add).strip("\n")

    def operand(self, position: int) -> str:
        """The operand `position` behind the accumulators."""
        return f"%{self.plan.geometry.sums + position}"

    @property
    def swizzled(self) -> tuple[Swizzled, ...]:
        """The swizzle functions of operands that threads read themselves."""
        if self.weight_shared or self.weight_streamed:
            return ()
        return (swizzled("swizzle_weight", self.plan.buffer("weight_ring")),)

    @property
    def functions(self) -> tuple[str, ...]:
        """Epilogue functions the file defines."""
        problem = self.plan.problem
        store = next(op for op in self.plan.epilogue if isinstance(op, StoreSlices))
        convert = f"convert_{8 * problem.out_dtype.bytes}" + ("_paired" if store.paired else "")
        if self.transposed:
            convert = "round_pair"
        return (*((problem.activation,) if problem.activation else ()), convert)

    def render(self, op: Op) -> str:
        """The text of one operation."""
        if isinstance(op, StoreSlices | SendParts):
            name = "values_prefix" if op.fold == "prefix" else "values_direct"
            rows = [self.macro(name)(kernel=self, name="value", sum="i")]
            if isinstance(op, StoreSlices):
                rows.insert(0, f"const int i = eight / 2 + {self.sum_of_rows} + odd;")
            if self.gated:  # the up projection of a gate is 8 rows behind: two sums of a thread
                rows.append(self.macro(name)(kernel=self, name="up", sum="i + 2"))
            return self.macro(op.macro)(op=op, kernel=self, body="\n".join(rows))
        return super().render(op)


def _lines(words: list[str], each: int = OPERANDS_A_LINE) -> tuple[str, ...]:
    """Words joined by commas, `each` a line, a comma behind every line but the last."""
    parts = [", ".join(words[i : i + each]) for i in range(0, len(words), each)]
    return tuple(part + ("," if part is not parts[-1] else "") for part in parts)
