"""Constants of GPUs that the analytic model reckons with.

The H200's were measured on one; the others are from the vendor's data sheets, scaled by what the
H200 reaches of its own. They rank schedules; their times are only a guide until a GPU is tuned.
"""

from dataclasses import dataclass, replace
from typing import Final

from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.runtime import Device

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Roof:
    """Dense-equivalent TFLOP/s that no kernel of a format has exceeded, operands at hand.

    `plain` is 2:4, `expand` the folds that multiply zeros for absent sub-rows, `prefix` pairs of
    (least V, rate) at N, M = 1, 2.
    """

    plain: float
    expand: float
    prefix: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """One GPU: `clock` in GHz under load, `dram` and `l2` in TB/s, `launch` in microseconds.

    `dense` is what a library's dense product sustains and `sparse` the rate of 2:4 instructions by
    the first word of their atom, both in dense-equivalent TFLOP/s of 16-bit types. `roof` is None
    where nothing was measured. `clusters` are pairs of a size and how many clusters of it surely
    run together, where these are fewer than the multiprocessors suggest.
    """

    name: str
    target: str
    multiprocessors: int
    clock: float
    dram: float
    l2: float
    l2_bytes: int
    dense: float
    sparse: tuple[tuple[str, float], ...]
    roof: Roof | None = None
    launch: float = 2.0
    shared_per_clock: int = 128
    clusters: tuple[tuple[int, int], ...] = ()

    def clusters_of(self, size: int) -> int:
        """How many clusters of so many CTAs run together, each CTA on its own multiprocessor."""
        return dict(self.clusters).get(size, self.multiprocessors // size)

    def sparse_rate(self, atom: str) -> float:
        """TFLOP/s of a matrix atom; of the slowest kind for one without a row."""
        rates = dict(self.sparse)
        return rates.get(atom.partition("_")[0], min(rates.values()))

    def roof_tflops(self, format: Format) -> float | None:
        """The measured roof of a format, None where none was measured."""
        if self.roof is None:
            return None
        if format.plain:
            return self.roof.plain
        if format.n == 1:
            at = [rate for least, rate in self.roof.prefix if format.v >= least]
            return max([self.roof.expand, *at])
        return self.roof.expand


HOPPER_CLUSTERS = ((3, 39), (4, 30), (5, 22), (6, 17), (7, 15), (8, 14))
"""A cluster stays within one of 8 groups of 14 to 18 multiprocessors, so that some are left over;
the least of what drivers said of H200s (cuOccupancyMaxActiveClusters) and of how 132 can lie there.
One more than these took two waves, twice as long.
"""

H200_ROOF = Roof(1430.0, 1720.0, ((32, 1653.0), (64, 2291.0), (128, 2832.0), (256, 2843.0)))

MACHINES: Final = (
    Machine(
        "H200", "sm_90a", 132, 1.75, 4.3, 14.0, 50 * MIB, 680.0,
        (("mma", 925.0), ("wgmma", 1430.0)), H200_ROOF, clusters=HOPPER_CLUSTERS,
    ),
    Machine(
        "H100", "sm_90a", 132, 1.7, 3.1, 13.5, 50 * MIB, 640.0,
        (("mma", 900.0), ("wgmma", 1390.0)), clusters=HOPPER_CLUSTERS,
    ),
    Machine("A100", "sm_80", 108, 1.35, 1.8, 7.0, 40 * MIB, 250.0, (("mma", 520.0),)),
    Machine("RTX 3090", "sm_86", 82, 1.7, 0.87, 4.0, 6 * MIB, 65.0, (("mma", 130.0),)),
    Machine("L40S", "sm_89", 142, 2.2, 0.8, 9.0, 96 * MIB, 300.0, (("mma", 600.0),)),
    Machine("RTX 4090", "sm_89", 128, 2.5, 0.93, 9.0, 72 * MIB, 160.0, (("mma", 310.0),)),
    Machine("B200", "sm_100a", 148, 1.8, 7.0, 16.0, 126 * MIB, 1500.0, (("mma", 1000.0),)),
    Machine("RTX 5090", "sm_120a", 170, 2.4, 1.6, 12.0, 96 * MIB, 205.0, (("mma", 400.0),)),
)  # fmt: skip

WITHOUT_GPU: Final = "sm_80"
"""The target that is reckoned with where there is neither a GPU nor a target given."""


def short_name(name: str) -> str:
    """A GPU's name without its vendor: the key of tables."""
    return name.removeprefix("NVIDIA ").strip()


def machine_named(name: str) -> Machine:
    """The GPU whose name contains `name`, whatever its case. Raises TuneError naming those known.

    Of several, the one with the shortest name.
    """
    found = [each for each in MACHINES if name.strip().lower() in each.name.lower()]
    if not name.strip() or not found:
        names = ", ".join(each.name for each in MACHINES)
        raise TuneError(f"GPU {name!r} is not one of {names}", remedy=f"use one of {names}")
    return min(found, key=lambda each: len(each.name))


def machine_of(device: Device) -> Machine:
    """The constants of a present GPU: its own row, else a like one's scaled by its size.

    Like is the same name with another number of multiprocessors, else the same architecture, else
    the latest row.
    """
    name = short_name(device.name)
    known = [each for each in MACHINES if each.name in name]
    if known and known[0].multiprocessors == device.multiprocessors:
        return known[0]
    alike = known or [each for each in MACHINES if each.target == device.target]
    base = alike[0] if alike else MACHINES[-1]
    share = device.multiprocessors / base.multiprocessors
    return replace(
        base,
        name=name,
        target=device.target,
        multiprocessors=device.multiprocessors,
        dram=base.dram * share,
        l2=base.l2 * share,
        dense=base.dense * share,
        sparse=tuple((unit, rate * share) for unit, rate in base.sparse),
        roof=None,
        clusters=(),
    )


def machine_for_target(target: str) -> Machine:
    """The first row of an architecture, for choices without a GPU."""
    found = [each for each in MACHINES if each.target == target]
    return found[0] if found else replace(MACHINES[0], target=target, roof=None)
