"""Which schedule suits the experts of a layer: a model of a grouped launch, and its choice.

How many tokens each expert gets is known only on the device, so the model reckons with what uniform
routing would give: a tile's time is its stages and its epilogue; a launch is its waves of tiles and
its bytes, which partly hide behind each other. The constants are fits to measured launches on an
H200: the tiles that they rank first are 2 % from the best ones on average, 12 % at worst.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from samoyeds_gen.compiler import first_violation
from samoyeds_gen.errors import TuneError
from samoyeds_gen.language import Schedule, Ssmm, load_schedule, target_named
from samoyeds_gen.language.schedule import Epilogue, Overlap, Tile, Warps
from samoyeds_gen.tune.machines import Machine

BASE: Final = "experts_sm90"
TOKENS: Final = (16, 24, 32, 48, 64, 96, 112, 120, 128, 144, 160, 176, 192, 200)
TURNS_FROM: Final = 96  # tokens a tile: with fewer, warpgroups do not fill the matrix unit anyway
SPARSE_BYTES: Final = 0.57  # bytes of weight, metadata and words an element that is stored
MANY_WAVES: Final = 12  # from so many on, the last one counts half


@dataclass(frozen=True, slots=True)
class TileTime:
    """Microseconds of a tile: `stage` and `stage_token` a k step of 128, `end` and `end_token` at
    its end; the second of each is multiplied by the tile's tokens.
    """

    stage: float
    stage_token: float
    end: float
    end_token: float

    def of(self, tokens: int, steps: int) -> float:
        """A tile of `tokens` and `steps` k steps."""
        stage = self.stage + self.stage_token * tokens
        return steps * stage + self.end + self.end_token * tokens


# By warpgroups of consumers; tokens boxed by TMA, and gathered by cp.async.
BOXED: Final = {
    2: TileTime(0.100, 0.00389, 0.64, 0.0184),
    3: TileTime(0.005, 0.00631, 0.20, 0.0390),
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
    consumers = schedule.warps.m // 4
    gathers = problem.index is not None and schedule.pack.gather == "on_load"
    times = (GATHERED if gathers else BOXED)[consumers]
    tile, steps = schedule.tile, math.ceil(task.k / 128)
    tiles = task.columns(tile.n) * math.ceil(task.m / tile.m)
    waves = tiles / machine.multiprocessors
    waves = math.ceil(waves) if waves < MANY_WAVES else waves + 0.5
    form = problem.format
    weight = task.busy * task.m * task.k * form.n / form.m * 2 * SPARSE_BYTES
    features = task.m // 2 if problem.gated else task.m
    columns = min(MOST_COLUMNS, task.columns(tile.n) / max(task.busy, 1e-9))
    moved = weight * (1 + READ_AGAIN * max(0.0, columns - 1))
    moved += task.rows * (2 * task.k + problem.out_dtype.bytes * features)
    work = waves * times.of(tile.n, steps)
    bytes_time = moved / machine.dram * 1e-6
    time = (work**OVERLAP + bytes_time**OVERLAP) ** (1 / OVERLAP) + LAUNCH
    if problem.index is not None and not gathers:
        time += GATHER_LAUNCH + task.rows * task.k * 4 / machine.dram * 1e-6
    return float(time)


def expert_schedules(task: ExpertTask, problem: Ssmm, machine: Machine) -> list[Schedule]:
    """Legal schedules for the task, the one with the least predicted time first.

    Raises TuneError where the machine has no pipeline for grouped products.
    """
    target = target_named(machine.target)
    found = []
    for schedule in _candidates(problem):
        if _measured(task, schedule) and first_violation(schedule, problem, target) is None:
            found.append((predicted(task, schedule, problem, machine), schedule))
    if not found:
        raise TuneError(
            f"no schedule multiplies experts of format ({problem.format}) on {machine.name}",
            remedy="use a Hopper GPU, or the reference backend",
        )
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
    for consumers in BOXED:
        for tokens in TOKENS:
            for gather in ("before", "on_load") if problem.index else ("on_load",):
                packed = "_packed" if gather == "before" else ""
                made = replace(
                    base,
                    name=f"experts_n{tokens}_w{consumers}{packed}",
                    tile=Tile(rows * consumers, tokens, base.tile.k),
                    warps=Warps(4 * consumers, 1),
                    pack=replace(base.pack, gather=gather),
                    overlap=Overlap(1, tokens >= TURNS_FROM and base.overlap.turns),
                    epilogue=Epilogue(8 if tokens < TURNS_FROM or consumers > 2 else 16),
                    where=(),
                )
                yield from _deepest(made, problem)


def _deepest(schedule: Schedule, problem: Ssmm) -> Iterator[Schedule]:
    """The schedule with as many stages as fit, up to eight."""
    target = target_named(schedule.target)
    for stages in range(8, 1, -1):
        deep = replace(schedule, pipeline=replace(schedule.pipeline, stages=stages))
        if first_violation(deep, problem, target) is None:
            yield deep
            return
