"""What a schedule asks of a GPU for one shape, and the time that takes: the analytic model.

A pipeline shape says what one step of its loop moves and computes (tune/shapes). Here that becomes
a time: resources work side by side but not perfectly, and tiles come in waves. The model ranks
candidates and carries a measured time to a shape nearby; it does not replace timing.
"""

from dataclasses import dataclass
from math import ceil

from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.suites import Shape

FMA_PER_CLOCK = 128
EFFICIENCY = 0.9
"""Share of the modelled rate that the mma.sp kernels reach on an H200; see docs/tuning.md."""

SHARPNESS = 3.0
"""How well resources overlap: 1 would add their clocks up, infinity take the longest alone. This is
the exponent that fits the mma.sp kernels; asynchronous pipelines have a larger one.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The work of one kernel: `tiles` CTAs' worth, `resident` at a time on a multiprocessor.

    Of one of a tile's `steps`: `matrix` dense-equivalent operations on `unit`, `shared` bytes in
    and out of shared memory, `fetched` bytes from L2, `vector` float32 operations, and `latency`,
    the least clocks between steps that the ring's depth allows. `drain` is the clocks of a tile
    outside its steps; `streamed` the bytes of the whole product that device memory moves.
    `sharpness` is how well the pipeline's resources overlap. CTAs run in clusters of `cluster`.
    """

    tiles: int
    resident: int
    steps: int
    unit: str
    matrix: float
    shared: float
    fetched: float
    vector: float
    latency: float
    drain: float
    streamed: float
    sharpness: float = SHARPNESS
    cluster: int = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """A modelled time, and what it is that takes it."""

    us: float
    limit: str


def estimate(demand: Demand, machine: Machine) -> Estimate:
    """The time of a kernel: launch, then its waves of tiles beside its memory traffic."""
    slots = machine.clusters_of(demand.cluster) * demand.cluster * demand.resident
    full, rest = divmod(demand.tiles, slots)
    clocks = full * tile_clocks(demand, machine, demand.resident)
    if rest:
        clocks += tile_clocks(demand, machine, ceil(rest / machine.multiprocessors))
    working = clocks / EFFICIENCY / machine.clock * 1e-3
    streaming = demand.streamed / machine.dram * 1e-6
    limit = "memory" if streaming > working else max(_terms(demand, machine))[1]
    both = float((working**SHARPNESS + streaming**SHARPNESS) ** (1 / SHARPNESS))
    return Estimate(machine.launch + both, limit)


def tile_clocks(demand: Demand, machine: Machine, sharing: int) -> float:
    """Clocks of one tile while `sharing` CTAs work on the same multiprocessor.

    Latency is one more term, which sharing does not lengthen: a deeper ring is never worse. Alone,
    a CTA's drain is not hidden; beside others half of it is.
    """
    clocks = [sharing * each for each, _ in _terms(demand, machine)]
    powers = [each**demand.sharpness for each in (*clocks, demand.latency)]
    step = float(sum(powers) ** (1 / demand.sharpness))
    drain = demand.drain if sharing == 1 else demand.drain * sharing / 2
    return demand.steps * step + drain


def _terms(demand: Demand, machine: Machine) -> list[tuple[float, str]]:
    """Clocks of one step on each resource of a multiprocessor, were it alone."""
    per_clock = machine.multiprocessors * machine.clock * 1e9
    matrix = machine.sparse_rate(demand.unit) * 1e12 / per_clock
    return [
        (demand.matrix / matrix, "matrix work"),
        (demand.shared / machine.shared_per_clock, "shared memory"),
        (demand.fetched / (machine.l2 * 1e12 / per_clock), "L2"),
        (demand.vector / FMA_PER_CLOCK, "vector work"),
    ]


def dense_us(shape: Shape, machine: Machine) -> float:
    """What a dense 16-bit product of a library takes: its sustained rate, or its bytes, and launch.

    128 x 256 output tiles come in waves; with few tokens k is split, so that memory is the limit.
    """
    m, k, n = shape
    operations = 2.0 * m * n * k
    tiles = ceil(m / 128) * ceil(n / 256)
    waves = ceil(tiles / machine.multiprocessors) * machine.multiprocessors / tiles
    quantised = waves if n > 256 else 1.0
    working = operations / machine.dense * 1e-6 * quantised
    streaming = 2.0 * (m * k + n * k + n * m) / (0.9 * machine.dram) * 1e-6
    return machine.launch + max(working, streaming)
