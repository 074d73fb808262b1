"""Derived numbers of a legal warp-specialised schedule: warpgroups, stages, registers."""

from dataclasses import dataclass
from math import gcd

from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.compiler.plan import Geometry, KernelPlan
from samoyeds_gen.language.kernels import Ssmm
from samoyeds_gen.language.schedule import Schedule

WARPGROUP = 128  # threads
WARPGROUP_ROWS = 64  # rows of the matrix unit a warpgroup owns
BOX_COLUMNS = 64  # token columns of one TMA box: rows of 128 bytes, what the swizzle permutes
METADATA_COLUMNS = 64  # dense columns one metadata word of a lane spans
UNIT = 16  # dense columns of one expand slot
# Registers a thread of consumers and producer, by warpgroups of consumers. A producer that gathers
# keeps more values, and one that works in a cluster most: 32 are then too few. Beside one warpgroup
# of consumers there are more than threads can name.
REGISTERS = {1: (256, 56), 2: (240, 24), 3: (160, 32), 4: (112, 32)}
GATHER_REGISTERS = {1: (256, 56), 2: (232, 40), 3: (160, 32), 4: (104, 56)}
CLUSTER_REGISTERS = {1: (256, 56), 2: (232, 40), 3: (152, 56), 4: (104, 56)}
MAX_EXPERTS = 511  # of a grouped kernel: their tiles are counted in shared memory
OVERHEAD_REGISTERS = 24  # addresses, counters and words of a consumer with two rows a block
# What must be left of them besides for `spare`. Kernels of three warpgroups begin with 128
# registers a thread, and were seen to spill long before the estimate is reached.
LEFT_REGISTERS = {1: 4, 2: 4, 3: 24, 4: 4}
ACTIVATION_REGISTERS = {"silu": 4, "gelu_tanh": 8, "gelu": 12}
FRAGMENT_REGISTERS = 4  # where fragments of this tile and of the next one lie


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialisedGeometry(Geometry):
    """Numbers of one CTA. Rows are rows of the matrix unit: stored rows, and output rows for the
    expand fold; `weight_rows` are stored rows of a stage; `*_bytes` are bytes of one stage, and
    `word_bytes` those of one matrix's metadata and fold words. `outputs` are the output features
    of a warp and matrix, in `row_groups` groups of 8 rows of all `matrices` of 64 rows that a
    warpgroup multiplies; `slice_warps` warps share a slice. `parts_bytes`
    hold the parts that a CTA receives when k is split. `fragment_buffers` stages of weight are in
    flight to registers; 0 where weight goes through the ring. `spare`: consumers have registers to
    spare beside a tile's sums; they then hold the scales and names of its tokens, are told where it
    lies, and its first products begin the sums, which are zeros before otherwise. `crowded`: an
    activation may need more registers than there are.
    """

    consumers: int
    matrices: int
    rows: int
    weight_rows: int
    weight_row_bytes: int
    weight_bytes: int
    token_boxes: int
    token_bytes: int
    metadata_bytes: int
    fold_bytes: int
    word_bytes: int
    steps: int
    blocks_per_tile: int
    tiles_per_block: int
    part_tokens: int
    sums: int
    slice_warps: int
    slice_stride: int
    slice_bytes: int
    consumer_registers: int
    producer_registers: int
    gathered: bool
    weight_registers: bool
    fragment_buffers: int
    cluster: int
    split: int
    items: int
    item_bytes: int
    outputs: int
    row_groups: int
    spare: bool
    crowded: bool

    @property
    def places_told(self) -> bool:
        """Whether the producer tells the consumers where a tile lies, who else find out themselves.

        Those who load the weight must know before the first stage.
        """
        return self.spare and not self.fragment_buffers

    @property
    def groups(self) -> int:
        """Groups of 64 rows of a tile: matrices of all warpgroups."""
        return self.consumers * self.matrices

    @property
    def stage_bytes(self) -> int:
        """Bytes of one stage of the ring."""
        return self.weight_bytes + self.token_bytes + self.groups * self.word_bytes

    @property
    def parts_bytes(self) -> int:
        """Bytes of the parts that a CTA receives when k is split."""
        turns = -(-self.items // self.split)
        return self.split * turns * self.item_bytes if self.split > 1 else 0

    @property
    def token_chunks(self) -> int:
        """Chunks of 16 bytes that a token's features fill in a slice."""
        return (self.slice_stride - 16) // 16

    @property
    def part_slices(self) -> int:
        """Slices that hold a part of the tokens."""
        return -(-self.part_tokens // (self.slice_bytes // self.slice_stride))

    @property
    def slices(self) -> int:
        """Slices of a CTA: one a warp, or two a warpgroup, filled in turn."""
        return 4 * self.consumers if self.slice_warps == 1 else 2 * self.consumers


SpecialisedPlan = KernelPlan[SpecialisedGeometry]


def stored_by_matrices(plan: SpecialisedPlan) -> bool:
    """Whether sums reach the slices by stmatrix: 16-bit outputs, one feature a row."""
    return plan.geometry.features_per_row == 1 and plan.problem.out_dtype.bytes == 2


def weight_rows(schedule: Schedule, problem: Ssmm) -> int:
    """Stored rows a tile touches, in whole swizzle periods of 8; a box may read rows too many."""
    f, m = problem.format, schedule.tile.m
    if f.plain:
        return m
    if plan_fold(schedule, problem) == "prefix":
        return m // f.m
    worst_start = f.m - gcd(m, f.m)
    touched = ((worst_start + m - 1) // f.m + 1) * f.n
    return -(-touched // 8) * 8


def fold_bytes(schedule: Schedule, problem: Ssmm) -> int:
    """Bytes of 64 rows' fold words of one k tile."""
    fold = plan_fold(schedule, problem)
    if fold == "prefix":
        return WARPGROUP_ROWS * (problem.format.m - 1)
    if fold == "expand":
        return 2 * WARPGROUP
    return 0


def derive_geometry(schedule: Schedule, problem: Ssmm) -> SpecialisedGeometry:
    """All numbers the plan needs. The legality rules have made every division exact."""
    tile, f = schedule.tile, problem.format
    fold = plan_fold(schedule, problem)
    prefix = fold == "prefix"
    per_row = f.m if prefix else 1
    consumers = schedule.warps.m * schedule.warps.n // 4
    matrices = max(1, tile.m // (WARPGROUP_ROWS * per_row * consumers))
    sets = f.m if prefix else matrices
    blocks = max(1, tile.k // f.v) if prefix else 1
    streamed = schedule.pack.data == "fragment"
    buffers = schedule.pipeline.fragments if streamed else 0
    stored_rows = weight_rows(schedule, problem)
    metadata = 4 * 32 * 4 * tile.k // METADATA_COLUMNS
    words = metadata + fold_bytes(schedule, problem)
    part = tile.n // schedule.overlap.split
    outputs = WARPGROUP_ROWS // 4 * per_row // (2 if problem.gated else 1)
    sharing = 4 if schedule.epilogue.by == "warpgroup" else 1
    stride = sharing * matrices * outputs * problem.out_dtype.bytes + 16
    gathered = problem.index is not None
    selectors = 2 * max(0, f.m - 2) if prefix else 0  # those of two rows a block are overhead
    in_registers = fold == "expand" or schedule.stationary.weight == "registers"
    words_held = selectors + (max(1, buffers) * matrices * tile.k // 8 if in_registers else 0)
    words_held += FRAGMENT_REGISTERS if streamed else 0
    cluster = 1 if gathered else schedule.cluster.m
    registers = GATHER_REGISTERS if gathered else REGISTERS
    if cluster > 1 or schedule.split.k > 1:
        registers = CLUSTER_REGISTERS
    consumer, producer = registers[consumers]
    needed = sets * tile.n // 2 + OVERHEAD_REGISTERS + words_held
    # While sums leave, prefix sums have factors of every block and row.
    leaving = 2 * per_row * (blocks * prefix + problem.bias)
    name_registers = 2 if problem.index == "int64" else int(gathered)
    leaving += -(-tile.n // 32) * (int(problem.scale) + name_registers)
    left = LEFT_REGISTERS[consumers]
    activation = ACTIVATION_REGISTERS.get(problem.activation or "", 0)
    leaving += activation
    return SpecialisedGeometry(
        fold=fold,
        features_per_row=per_row,
        accumulator_sets=sets,
        tiles_per_word=1,
        registers=needed,
        consumers=consumers,
        matrices=matrices,
        rows=tile.m // per_row,
        weight_rows=stored_rows,
        weight_row_bytes=tile.k,
        weight_bytes=0 if streamed else stored_rows * tile.k,
        token_boxes=tile.k // BOX_COLUMNS,
        token_bytes=2 * tile.k * tile.n,
        metadata_bytes=metadata,
        fold_bytes=words - metadata,
        word_bytes=words,
        steps=tile.k // 32,
        blocks_per_tile=blocks,
        tiles_per_block=max(1, f.v // tile.k) if prefix else 1,
        part_tokens=part,
        sums=part // 2,
        slice_warps=sharing,
        slice_stride=stride,
        slice_bytes=schedule.epilogue.tokens * stride,
        consumer_registers=consumer,
        producer_registers=producer,
        gathered=gathered,
        weight_registers=in_registers,
        fragment_buffers=buffers,
        cluster=cluster,
        split=schedule.split.k,
        items=4 * consumers * -(-tile.n // schedule.epilogue.tokens),
        item_bytes=64 * schedule.epilogue.tokens * per_row,
        outputs=outputs,
        row_groups=matrices if problem.gated else 2 * matrices,
        crowded=needed + activation > consumer,
        # A CTA that has no columns of a split k gets no stage.
        spare=schedule.split.k == 1 and needed + leaving < consumer - left,
    )
