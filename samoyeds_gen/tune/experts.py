"""Which schedule suits the experts of a layer: a model of a grouped launch, and its choice.

How many tokens an expert gets is known on the device only: uniform routing is reckoned with. A tile
is its stages and its epilogue, a launch its waves of tiles and its bytes, which partly hide behind
each other. Constants are fits to an H200, 2 % from the best tiles on average, 4 % at worst; ring
kernels, for GPUs without wgmma, are reckoned with as in single products.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Final

from samoyeds_gen.compiler import first_violation
from samoyeds_gen.compiler.folds import plan_fold
from samoyeds_gen.compiler.ring.geometry import derive_geometry
from samoyeds_gen.compiler.warp_specialised import geometry as specialised
from samoyeds_gen.errors import TuneError
from samoyeds_gen.language import Schedule, Ssmm, Target, atoms, load_schedule, target_named
from samoyeds_gen.language.schedule import Epilogue, Launch, Overlap, Resident, Tile, Warps
from samoyeds_gen.tune.demand import estimate
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.shapes import ring

BASE: Final = "experts_sm90"
TOKENS: Final = (16, 24, 32, 48, 64, 80, 96, 112, 120, 128, 144, 160, 176, 192, 200)
EARLY_TO: Final = 48  # tokens a tile, up to which a layer's launches begin early; wider ones lose
MATRICES: Final = 2  # of 64 rows a warpgroup with wide tiles, where no prefix sums take registers
TURNS_FROM: Final = 80  # tokens a tile: with fewer, warpgroups do not fill the matrix unit anyway
SPARSE_BYTES: Final = 0.57  # bytes of weight, metadata and words an element that is stored
MANY_WAVES: Final = 12  # from so many on, the last one counts half

RING_BASES: Final = ("ssmm_sm80_prefix", "ssmm_sm80_expand")
RING_TOKENS: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 128)
RING_WARPS: Final = (((4, 1), 2), ((4, 2), 1), ((8, 1), 1))  # and CTAs that share a multiprocessor
RING_FRAGMENTS: Final = (1, 2, 4)  # of 16 rows a warp
RING_STAGES: Final = 4
RING_REGISTERS: Final = 230  # of the compiler's estimate, above which nearly all kernels spill


@dataclass(frozen=True, slots=True)
class TileTime:
    """Microseconds of a tile: `stage` and `stage_token` a k step of 128, `end` and `end_token` at
    its end; the second of each is multiplied by the tile's tokens.
    """

    stage: float
    stage_token: float
    end: float
    end_token: float

    def of(self, tokens: int, steps: int, matrices: int = 1) -> float:
        """A tile of `tokens` and `steps` k steps, whose warpgroups have so many matrices each."""
        sums = matrices * tokens
        return steps * (self.stage + self.stage_token * sums) + self.end + self.end_token * sums


# By warpgroups of consumers; tokens boxed by TMA, and gathered by cp.async.
BOXED: Final = {
    2: TileTime(0.042, 0.00449, 0.50, 0.0106),
    3: TileTime(0.001, 0.00670, 0.50, 0.0247),
}
GATHERED: Final = {
    2: TileTime(0.005, 0.01242, 0.85, 0.0335),
    3: TileTime(0.093, 0.01524, 0.15, 0.0237),
}
LAUNCH: Final = 6.3  # microseconds
OVERLAP: Final = 3  # the norm by which a launch's arithmetic and its bytes add up
READ_AGAIN: Final = 0.6  # of the weight's bytes, for every further column of tiles of an expert
MOST_COLUMNS: Final = 4  # from which on L2 serves them
GATHER_LAUNCH: Final = 3.0  # of the kernel that gathers before


@dataclass(frozen=True, slots=True)
class ExpertTask:
    """A grouped launch to choose for: `m` weight rows an expert, `k` columns, `experts` of them
    (`shared` of which take every token), `tokens` of which each meets `top` others.
    """

    m: int
    k: int
    experts: int
    top: int
    tokens: int
    shared: int = 0

    @property
    def rows(self) -> int:
        """Output rows of the launch."""
        return self.tokens * (self.top + self.shared)

    @property
    def share(self) -> float:
        """How likely a token meets a certain routed expert."""
        return min(1.0, self.top / max(1, self.experts - self.shared))

    def columns(self, n: int) -> float:
        """Expected tiles along the tokens, of n each, of all experts."""
        routed = (self.experts - self.shared) * expected_tiles(self.tokens, self.share, n)
        return routed + self.shared * math.ceil(self.tokens / n)

    @property
    def busy(self) -> float:
        """Expected number of experts that get a token."""
        routed = self.experts - self.shared
        return self.shared + routed * (1 - (1 - self.share) ** self.tokens)


@lru_cache(maxsize=4096)
def expected_tiles(tokens: int, share: float, n: int) -> float:
    """The mean of ceil(count / n), where count is binomial of `tokens` and `share`."""
    if tokens == 0 or share == 0:
        return 0.0
    if share == 1:
        return float(math.ceil(tokens / n))
    mean = tokens * share
    reach = 6 * math.sqrt(mean) + 6
    first, last = max(0, int(mean - reach)), min(tokens, int(mean + reach))
    whole = total = 0.0
    for count in range(first, last + 1):
        ways = math.lgamma(tokens + 1) - math.lgamma(count + 1) - math.lgamma(tokens - count + 1)
        chance = math.exp(ways + count * math.log(share) + (tokens - count) * math.log1p(-share))
        whole += chance
        total += chance * math.ceil(count / n)
    return total / whole


def predicted(task: ExpertTask, schedule: Schedule, problem: Ssmm, machine: Machine) -> float:
    """Microseconds of a grouped launch, its gather before included if it has one."""
    if schedule.pipeline.copy == atoms.CP_ASYNC_16B.name:
        return _predicted_ring(task, schedule, problem, machine)
    consumers = schedule.warps.m // 4
    gathers = problem.index is not None and schedule.pack.gather == "on_load"
    times = (GATHERED if gathers else BOXED)[consumers]
    tile, steps = schedule.tile, math.ceil(task.k / 128)
    tiles = task.columns(tile.n) * math.ceil(task.m / tile.m)
    waves = tiles / machine.multiprocessors
    waves = math.ceil(waves) if waves < MANY_WAVES else waves + 0.5
    matrices = specialised.derive_geometry(schedule, problem).matrices
    work = waves * times.of(tile.n, steps, matrices)
    bytes_time = _moved(task, schedule, problem) / machine.dram * 1e-6
    time = (work**OVERLAP + bytes_time**OVERLAP) ** (1 / OVERLAP) + LAUNCH
    if problem.index is not None and not gathers:
        time += GATHER_LAUNCH + task.rows * task.k * 4 / machine.dram * 1e-6
    return float(time)


def _predicted_ring(task: ExpertTask, schedule: Schedule, problem: Ssmm, machine: Machine) -> float:
    """The model of single products, with the tiles and the bytes of the experts together."""
    shape = (task.m, task.k, max(1, task.rows))
    alone = ring.demand(schedule, problem, target_named(machine.target), shape, machine)
    tile = schedule.tile
    tiles = math.ceil(task.columns(tile.n)) * math.ceil(task.m / tile.m)
    together = replace(alone, tiles=tiles, streamed=_moved(task, schedule, problem))
    return estimate(together, machine).us


def _moved(task: ExpertTask, schedule: Schedule, problem: Ssmm) -> float:
    """Bytes to and from device memory: weights that some tokens need, tokens and outputs."""
    form = problem.format
    weight = task.busy * task.m * task.k * form.n / form.m * 2 * SPARSE_BYTES
    features = task.m // 2 if problem.gated else task.m
    columns = min(MOST_COLUMNS, task.columns(schedule.tile.n) / max(task.busy, 1e-9))
    moved = weight * (1 + READ_AGAIN * max(0.0, columns - 1))
    return moved + task.rows * (2 * task.k + problem.out_dtype.bytes * features)


def expert_schedules(task: ExpertTask, problem: Ssmm, machine: Machine) -> list[Schedule]:
    """Legal schedules for the task, the one with the least predicted time first.

    Kernels of the ring are only considered where the warp-specialised pipeline cannot be had.
    Raises TuneError where neither multiplies experts of the format.
    """
    target = target_named(machine.target)
    legal = [
        each
        for each in _candidates(problem)
        if _measured(task, each) and first_violation(each, problem, target) is None
    ] or _ring_candidates(problem, target)
    if not legal:
        raise TuneError(
            f"no schedule multiplies experts of format ({problem.format}) on {machine.name}",
            remedy="use another format, or the reference backend",
        )
    found = [(predicted(task, each, problem, machine), each) for each in legal]
    found.sort(key=lambda each: (each[0], each[1].name))
    return [schedule for _, schedule in found]


def _measured(task: ExpertTask, schedule: Schedule) -> bool:
    """Whether the constants were fitted to the like: narrow tiles where experts get few tokens."""
    mean = task.tokens * (1.0 if task.shared else task.share)
    consumers, n = schedule.warps.m // 4, schedule.tile.n
    return n >= min(96, 0.6 * mean) and (consumers == 2 or (mean >= 8 and n <= 128))


def _candidates(problem: Ssmm) -> Iterator[Schedule]:
    base = load_schedule(BASE, problem.format, problem.dtype)
    rows = base.tile.m * 4 // base.warps.m  # of the decoded weight a warpgroup
    prefix = plan_fold(base, problem) == "prefix"
    for consumers in BOXED:
        for tokens in TOKENS:
            matrices = MATRICES if tokens >= TURNS_FROM and not prefix else 1
            for gather in ("before", "on_load") if problem.index else ("on_load",):
                packed = "_packed" if gather == "before" else ""
                made = replace(
                    base,
                    name=f"experts_n{tokens}_w{consumers}{packed}",
                    tile=Tile(rows * consumers * matrices, tokens, base.tile.k),
                    warps=Warps(4 * consumers, 1),
                    pack=replace(base.pack, gather=gather),
                    overlap=Overlap(1, tokens >= TURNS_FROM and base.overlap.turns),
                    epilogue=Epilogue(16, "warp" if matrices == 1 else "warpgroup"),
                    launch=Launch(tokens <= EARLY_TO),
                    where=(),
                )
                yield from _deepest(made, problem)


def _deepest(schedule: Schedule, problem: Ssmm) -> Iterator[Schedule]:
    """The schedule with as many stages as fit, up to eight."""
    target = target_named(schedule.target)
    for stages in range(8, 1, -1):
        deep = replace(schedule, pipeline=replace(schedule.pipeline, stages=stages))
        if first_violation(deep, problem, target) is None:
            if not specialised.derive_geometry(deep, problem).crowded:
                yield deep
            return


@lru_cache(maxsize=64)
def _ring_candidates(problem: Ssmm, target: Target) -> tuple[Schedule, ...]:
    """Legal schedules of the ring with as many stages as fit, for this target."""
    found: list[Schedule] = []
    for name in RING_BASES[problem.format.plain :]:  # without a fold the bases are alike
        base = load_schedule(name, problem.format, problem.dtype)
        per_row = problem.format.m if base.stationary.fold == "prefix" else 1
        for ((along_m, along_n), ctas), rows, tokens in product(
            RING_WARPS, RING_FRAGMENTS, RING_TOKENS
        ):
            tile = Tile(16 * rows * per_row * along_m, tokens, base.tile.k)
            made = replace(
                base,
                name=f"experts_{base.stationary.fold}_m{tile.m}n{tokens}_w{along_m}x{along_n}",
                tile=tile,
                warps=Warps(along_m, along_n),
                resident=Resident(ctas),
                where=(),
            )
            found += _deepest_ring(made, problem, target)
    return tuple(found)


def _deepest_ring(schedule: Schedule, problem: Ssmm, target: Target) -> Iterator[Schedule]:
    """The schedule with the deepest ring that leaves room for its resident CTAs, if any does."""
    for stages in range(RING_STAGES, 1, -1):
        deep = replace(schedule, pipeline=replace(schedule.pipeline, stages=stages))
        if first_violation(deep, problem, target) is None and _lean(deep, problem, target):
            yield deep
            return


def _lean(schedule: Schedule, problem: Ssmm, target: Target) -> bool:
    """Whether a legal schedule's CTAs run together as promised, and surely without spills."""
    if ring.room(schedule, problem, target) < schedule.resident.ctas:
        return False
    return derive_geometry(schedule, problem).registers <= RING_REGISTERS
