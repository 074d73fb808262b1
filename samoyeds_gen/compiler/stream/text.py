"""What the templates of the stream see as `kernel`."""

from typing import ClassVar

from samoyeds_gen.compiler.ops import Op
from samoyeds_gen.compiler.stream.geometry import StreamPlan
from samoyeds_gen.compiler.stream.ops import FinishSlices
from samoyeds_gen.compiler.text import KernelText, Macros, Swizzled, swizzled
from samoyeds_gen.language.dtypes import FLOAT32

EPILOGUE = ("_epilogue.cuh.jinja",)


class StreamText(KernelText):
    """Guards, addresses and names that follow from a stream's plan."""

    operations: ClassVar[tuple[str, ...]] = (
        "_ops.cuh.jinja",
        "_stream_copies.cuh.jinja",
        "_stream_matrix.cuh.jinja",
        "_stream_epilogue.cuh.jinja",
    )

    def __init__(self, plan: StreamPlan, macros: Macros) -> None:
        super().__init__(plan, macros)
        g = plan.geometry
        even = g.token_copies_even
        self.token_copy_guard = "" if even else "if (threadIdx.x + i * kThreads < kTokenPieces) "
        self._deal_tokens()
        self.convert = f"convert_quad_{8 * plan.problem.out_dtype.bytes}"
        self.lost = FLOAT32.nan
        self.split = plan.schedule.split.k > 1
        self.prefetch = plan.schedule.launch.prefetch
        self.folded = g.fold != "direct"
        self.words_span_groups = g.groups_per_word > 1
        self.rounds_meet = "__syncwarp();" if g.bands_in_warp else "__syncthreads();"
        self.shares_rows = g.fold == "expand" and plan.problem.format.n > 1

    def _deal_tokens(self) -> None:
        """Which row and panel the i-th piece of a thread belongs to, and where it lies.

        Pieces follow one another as they lie in shared memory. Where threads cover whole rows of
        panels, or a panel whole rounds of threads, addresses differ by constants.
        """
        rows, tokens = self.plan.threads // 8, self.plan.schedule.tile.n
        if rows % tokens == 0:
            self.token_row_of = "threadIdx.x / 8 % kTileN"
            self.token_panel_of = "(threadIdx.x / 8 / kTileN + i * (kThreads / 8 / kTileN))"
        elif tokens % rows == 0:
            self.token_row_of = "threadIdx.x / 8 + i % (kTileN * 8 / kThreads) * (kThreads / 8)"
            self.token_panel_of = "i / (kTileN * 8 / kThreads)"
        else:
            self.token_row_of = "(threadIdx.x + i * kThreads) / 8 % kTileN"
            self.token_panel_of = "((threadIdx.x + i * kThreads) / 8 / kTileN)"
        self.token_target = "swizzle_tokens((threadIdx.x + i * kThreads) * 16)"
        if rows % 8 == 0:  # the swizzle's period of rows
            self.token_target = "swizzle_tokens(threadIdx.x * 16) + i * kThreads * 16"

    @property
    def swizzled(self) -> tuple[Swizzled, ...]:
        """The swizzle of resident tokens."""
        return (swizzled("swizzle_tokens", self.plan.buffer("token_ring")),)

    def render(self, op: Op) -> str:
        """The text of one operation, with the operations inside it."""
        if not isinstance(op, FinishSlices):
            return super().render(op)
        finish = "store_part" if op.split else "store_sums"
        return self.macro(op.macro)(
            op=op,
            kernel=self,
            body=self._place(op.fold),
            finish=self.macro(finish)(op=op, kernel=self, body=""),
        )

    def _place(self, fold: str) -> str:
        if fold == "expand":
            return self.macro("place_candidates")(op=None, kernel=self, body="")
        name = "rows_prefix" if fold == "prefix" else "rows_direct"
        rows = self._macros(name, EPILOGUE)(kernel=self, name="value", sum="c", half="half")
        return self.macro("place_rows")(op=None, kernel=self, body=rows)
