"""The directives a schedule file is written in, and the decorator that makes it a schedule.

Directives only record; whether the result is legal for a format and target is decided by
`compiler.legality`, which cites the line recorded here.
"""

import sys
from typing import Any, Literal, cast

from samoyeds_gen.errors import ScheduleError, Where
from samoyeds_gen.language.atoms import LDG_STREAM_16B, TMA, CopyAtom, MatrixAtom
from samoyeds_gen.language.kernels import Algorithm, Operand, WeightOperand
from samoyeds_gen.language.layouts import (
    LINEAR,
    STREAM_ROW_BYTES,
    Swizzle,
    swizzle_for_row,
)
from samoyeds_gen.language.schedule import (
    FOLDS,
    Cluster,
    Epilogue,
    Fold,
    Launch,
    Layout,
    Overlap,
    Pack,
    Pipeline,
    Raster,
    Resident,
    Schedule,
    Split,
    Stationary,
    Tile,
    Warps,
)

REQUIRED = ("tile", "warps", "tensorize", "stationary", "pipeline")
OPTIONAL = (Raster, Resident, Overlap, Cluster, Epilogue, Split, Launch)


class Directives:
    """What a schedule function receives as `s`: each call records one directive.

    Every directive may be given once per operand; all arguments are checked where they are
    written, and a mistake is a `ScheduleError` naming file and line.
    """

    def __init__(self, name: str, algorithm: Algorithm, target: str, path: str) -> None:
        self._name, self._algorithm, self._target, self._path = name, algorithm, target, path
        self._values: dict[str, object] = {}
        self._where: dict[str, Where] = {}

    def tile(self, *, m: int, n: int, k: int) -> None:
        """Give each CTA a tile of the output. (Halide: tile; CUTLASS: threadblock shape.)

        for all m, n, k      ->   for each (m0, n0): for each k0: tile m x n x k

        `m` counts output features (stored rows are derived), `n` tokens, `k` dense columns a
        stage of the ring, or of resident tokens. Legal when k is a multiple of 64, one metadata
        word's columns; in the stream, of 128 for each warp along k.
        """
        self._set(
            "tile",
            Tile(
                self._positive("tile", "m", m),
                self._positive("tile", "n", n),
                self._positive("tile", "k", k),
            ),
        )

    def warps(self, *, m: int, n: int, k: int = 1) -> None:
        """Split the tile among m x n x k warps. (CUTLASS: warp shape, sliced k; Triton: num_warps.)

        tile 256 x 128, warps(m=2, n=4)        ->   each warp owns 128 x 32 of it
        tile 64 x 16, warps(m=2, n=1, k=4)     ->   4 warps own the same 32 x 16 and take turns in k

        Legal when every warp owns whole fragments of the matrix atom, and at most 32 warps. The
        stream takes warps along k, whose sums are added in order, and none along n. Pipelines with
        warpgroups take one to four of them, each 4 warps along m, which multiply a matrix of 64
        rows, or two of them where folds add nothing and epilogue(by='warpgroup') stores them.
        """
        self._set(
            "warps",
            Warps(
                self._positive("warps", "m", m),
                self._positive("warps", "n", n),
                self._positive("warps", "k", k),
            ),
        )

    def split(self, *, k: int) -> None:
        """Let k CTAs share out the columns of each output tile. (CUTLASS: split-k.)

        one CTA sums all of k   ->   k CTAs sum a part each; the last one to end adds the parts

        Parts go through memory and are added in a fixed order, so results repeat bit by bit. Legal
        in the stream, up to 64.
        """
        self._set("split", Split(self._positive("split", "k", k)))

    def raster(self, *, group: int) -> None:
        """Walk the tiles in groups of `group` tile rows. (CUTLASS: threadblock swizzle.)

        row by row   ->   group rows at once, column by column

        Resident CTAs then share weight and token tiles in L2. Always legal.
        """
        self._set("raster", Raster(self._positive("raster", "group", group)))

    def tensorize(self, atom: MatrixAtom) -> None:
        """Compute with this matrix instruction. (Exo: replace; TVM: tensorize.)

        for each (i, j, kk): out += w * x   ->   one atom a fragment

        Legal when the target has the instruction and its k divides the fold period.
        """
        if not isinstance(atom, MatrixAtom):
            raise self._refuse(
                "tensorize",
                f"tensorize takes a matrix atom, not {atom!r}",
                "use atoms.MMA_SP_M16N8K32, atoms.MMA_SP_M16N8K16 or atoms.WGMMA_SP_M64K32",
            )
        self._set("tensorize", atom.name)

    def pack(self, operand: object, *, order: str | None = None, gather: str | None = None) -> None:
        """Fix an operand's order before the kernel runs. (Marlin: weight repacking.)

        pack(weight.metadata, order="fragment")   row-major words -> one word a lane, coalesced
        pack(weight.data, order="fragment")       rows -> the registers of a lane, 16 bytes a step
        pack(tokens, gather="on_load")            rows are picked by `selection` while copying
        pack(tokens, gather="before")             a kernel of its own packs the rows of all experts
        """
        name = self._operand("pack", operand, ("weight.metadata", "weight.data", "tokens"))
        word, allowed = (
            (gather, "gather='on_load' or 'before'")
            if name == "tokens"
            else (order, "order='fragment'")
        )
        if word not in allowed.split("'")[1::2] or (order is not None and gather is not None):
            raise self._refuse(
                "pack", f"pack({name}) got order={order!r}, gather={gather!r}", f"use {allowed}"
            )
        self._set(f"pack.{name}", word)

    def layout(
        self,
        operand: object,
        *,
        space: str | None = None,
        swizzle: Swizzle | None = None,
        order: str | None = None,
    ) -> None:
        """Lay an operand out in a memory space. (CuTe: composed layout; TVM: storage scope.)

        layout(tokens, space="shared", swizzle=XOR_128B)   chunk c of row r at c ^ (r % 8)
        layout(out, order="token_major")                   out[token, feature]

        Legal when the swizzle fits the row: weight rows take k bytes, token rows 2k bytes; in the
        stream token rows take 128 bytes and weights never lie in shared memory. Without a layout
        directive the conflict-free swizzle of the row is taken.
        """
        name = self._operand("layout", operand, ("weight.data", "tokens", "out"))
        if name == "out":
            if order != "token_major" or space is not None or swizzle is not None:
                raise self._refuse(
                    "layout",
                    f"layout(out) got order={order!r}, space={space!r}, swizzle={swizzle!r}",
                    "use order='token_major'",
                )
            self._set("layout.out", order)
            return
        if space != "shared" or not isinstance(swizzle, Swizzle) or order is not None:
            raise self._refuse(
                "layout",
                f"layout({name}) got space={space!r}, swizzle={swizzle!r}, order={order!r}",
                "use space='shared' and a swizzle of language.layouts",
            )
        self._set(f"layout.{name}", swizzle.name)

    def stationary(self, operand: object, *, space: str, fold: Fold | None = None) -> None:
        """Keep an operand in registers over the k loop. (Accelerators: output stationary.)

        stationary(out, space="registers", fold="exchange")
            a block's sub-row accumulates in the active set; sets are exchanged where the kept
            row changes (Samoyeds section 4.3). N = 1. Exact for NaN and infinity.
        stationary(out, space="registers", fold="prefix")
            one running sum per stored row, never reset; each output row takes weighted prefix
            sums at block ends. N = 1. Not exact for the neighbours of a NaN or infinity.
        stationary(out, space="registers", fold="expand")
            fragment rows are output rows, absent sub-rows read zeros. In the stream they are stored
            rows, with a set for each of the M - N + 1 rows they may belong to. Any (N, M, V).
        stationary(weight.metadata, space="registers")
            each lane's metadata words ride the ring and stay in registers for their steps.
        stationary(weight.data, space="registers")
            a warpgroup's matrix steps take weight values from registers and not from shared memory.
            With pack(weight.data, order="fragment") lanes load them there themselves, straight from
            memory. Plain formats.
        """
        name = self._operand("stationary", operand, ("out", "weight.metadata", "weight.data"))
        if space != "registers":
            raise self._refuse(
                "stationary", f"stationary({name}) got space={space!r}", "use space='registers'"
            )
        if name != "out":
            if fold is not None:
                raise self._refuse(
                    "stationary",
                    f"stationary({name}) takes no fold",
                    "give fold= to stationary(out)",
                )
            self._set(f"stationary.{name}", space)
            return
        if fold not in FOLDS:
            raise self._refuse(
                "stationary",
                f"fold {fold!r} is not one of {', '.join(FOLDS)}",
                f"use one of {', '.join(FOLDS)}",
            )
        self._set("stationary", fold)

    def pipeline(self, *, stages: int, copy: CopyAtom, fragments: int = 2) -> None:
        """Overlap copies with matrix work in a ring of `stages`. (CUTLASS: multistage.)

        load; compute; load; compute   ->   stages-1 loads in flight while one stage computes

        fragments=2 loads the next step's fragments while this step multiplies; 1 loads them in
        place. With copy=atoms.TMA and weights in fragment order it counts the stages of weight that
        are on their way to registers, up to 4. Legal from two stages up, while the ring fits the
        shared memory.

        copy=atoms.LDG_STREAM_16B is the stream: weights go from memory straight to registers,
        `stages` matrix steps in flight a lane, and `fragments` counts the chunks of tile k columns
        of tokens that lie in shared memory. Legal for stages in fours, while registers last.
        """
        if not isinstance(copy, CopyAtom):
            raise self._refuse(
                "pipeline",
                f"pipeline takes a copy atom, not {copy!r}",
                "use copy=atoms.CP_ASYNC_16B, atoms.TMA or atoms.LDG_STREAM_16B",
            )
        self._set(
            "pipeline",
            Pipeline(
                self._positive("pipeline", "stages", stages),
                copy.name,
                self._positive("pipeline", "fragments", fragments),
            ),
        )

    def resident(self, *, ctas: int = 1, spills: bool = False) -> None:
        """Leave registers for `ctas` CTAs on one SM. (CUDA: __launch_bounds__ minimum blocks.)

        255 registers a thread   ->   65536 / (ctas * threads)

        Shared memory may still allow fewer, which differs from target to target. A build that
        spills registers fails unless `spills` says it may.
        """
        self._set("resident", Resident(self._positive("resident", "ctas", ctas), bool(spills)))

    def overlap(
        self, *, split: int = 1, turns: bool = False, ahead: bool = False, skew: int = 0
    ) -> None:
        """Hide the fold's arithmetic behind matrix work. (FlashAttention-3: ping-pong scheduling.)

        multiply; add; multiply; add   ->   one warpgroup multiplies while another one adds

        `turns` orders the warpgroups by named barriers; `split` cuts a warpgroup's tokens in parts,
        one of which is added while the next is multiplied. Where nothing is added, `ahead` lets the
        matrix work of a stage run on while the next stage's is issued. `skew` lets each warpgroup
        begin that many stages behind the one before, so that one multiplies while another stores
        its tile; without turns, they keep the distance. For pipelines with warpgroups.
        """
        parts = self._positive("overlap", "split", split)
        behind = skew if skew == 0 else self._positive("overlap", "skew", skew)
        self._set("overlap", Overlap(parts, bool(turns), bool(ahead), int(behind)))

    def cluster(self, *, m: int) -> None:
        """Let `m` CTAs along the features share token copies. (CUTLASS: cluster shape, multicast.)

        every CTA copies its tokens   ->   each copies a part and sends it to all m

        For pipelines that copy by TMA.
        """
        self._set("cluster", Cluster(self._positive("cluster", "m", m)))

    def epilogue(self, *, tokens: int, by: Literal["warp", "warpgroup"] = "warp") -> None:
        """Let the output leave in slices of `tokens`. (CUTLASS: epilogue tile.)

        whole tile in shared memory, then stored   ->   slice after slice, each warp by itself

        Beside a ring there is no room for a whole tile. A slice of a warp is 16 rows wide; `by` a
        warpgroup it is 64, so that a token's outputs fill whole lines of memory, but four warps
        wait for each other at every slice. For pipelines with warpgroups.
        """
        if by not in ("warp", "warpgroup"):
            raise self._refuse(
                "epilogue", f"epilogue got by={by!r}", "use by='warp' or by='warpgroup'"
            )
        self._set("epilogue", Epilogue(self._positive("epilogue", "tokens", tokens), by))

    def launch(self, *, dependent: bool, prefetch: bool = False) -> None:
        """Begin while the launch before still runs. (CUDA: programmatic dependent launch.)

        last CTA of the one before ends; CTAs begin   ->   CTAs begin as others end, and wait

        Everything is read and written after the wait. With `prefetch`, CTAs of a stream ask before
        it for their first weights to be brought to L2, which changes no value. For the stream and
        pipelines with warpgroups, on sm_90 and later.
        """
        self._set("launch", Launch(bool(dependent), bool(prefetch)))

    def finish(self) -> Schedule:
        """The recorded value. Raises `ScheduleError` for a directive that is missing."""
        for directive in REQUIRED:
            if directive not in self._values:
                raise ScheduleError(
                    f"schedule {self._name} has no {directive} directive",
                    rule="directive-missing",
                    remedy=f"add s.{directive}(...)",
                    where=Where(self._path, 1),
                )
        get = self._values.get
        tile, pipeline = cast(Tile, get("tile")), cast(Pipeline, get("pipeline"))
        named = [(kind.__name__.lower(), kind) for kind in OPTIONAL]
        optional: dict[str, Any] = {name: get(name, kind()) for name, kind in named}
        return Schedule(
            name=self._name,
            algorithm=self._algorithm.name,
            target=self._target,
            tile=tile,
            warps=cast(Warps, get("warps")),
            tensorize=cast(str, get("tensorize")),
            pack=Pack(data=cast(Literal["rows", "fragment"], get("pack.weight.data", "rows"))),
            layout=self._layout(tile, pipeline),
            stationary=Stationary(
                cast(Fold, get("stationary")),
                weight="registers" if get("stationary.weight.data") else "shared",
            ),
            pipeline=pipeline,
            **optional,
            where=tuple(self._where.items()),
        )

    def _layout(self, tile: Tile, pipeline: Pipeline) -> Layout:
        weight = cast(str, self._values.get("layout.weight.data", LINEAR.name))
        if pipeline.copy == LDG_STREAM_16B.name:
            return Layout(weight, self._swizzle("layout.tokens", STREAM_ROW_BYTES))
        if pipeline.copy != TMA.name or "pack.weight.data" not in self._values:
            weight = self._swizzle("layout.weight.data", tile.k)
        return Layout(weight, self._swizzle("layout.tokens", 2 * tile.k))

    def _swizzle(self, key: str, row_bytes: int) -> str:
        given = self._values.get(key)
        if given is not None:
            return cast(str, given)
        try:
            return swizzle_for_row(row_bytes).name
        except ScheduleError:
            return "linear"  # the tile-k rule refuses such a tile with its own words

    def _set(self, key: str, value: object) -> None:
        directive = key.split(".")[0]
        if key in self._values:
            raise self._refuse(directive, f"{key} is given twice", "keep one of them")
        self._values[key] = value
        self._where[key] = self._place()

    def _positive(self, directive: str, name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._refuse(
                directive,
                f"{directive} {name}={value!r} is not a positive integer",
                f"give {name} as an integer from 1",
            )
        return value

    def _operand(self, directive: str, operand: object, allowed: tuple[str, ...]) -> str:
        name = getattr(operand, "name", None)
        if not isinstance(operand, Operand | WeightOperand) or name not in allowed:
            raise self._refuse(
                directive,
                f"{directive} does not apply to {name or operand!r}",
                f"apply it to one of {', '.join(allowed)}",
            )
        return cast(str, name)

    def _place(self) -> Where:
        """The line of the schedule file that is being executed."""
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == self._path:
                return Where(self._path, frame.f_lineno)
            frame = frame.f_back  # type: ignore[assignment]  # ends with None at the outermost
        return Where(self._path, 1)

    def _refuse(self, rule: str, sentence: str, remedy: str) -> ScheduleError:
        return ScheduleError(sentence, rule=rule, remedy=remedy, where=self._place())
