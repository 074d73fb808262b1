"""Every instruction the simulator knows: one table, one file per family.

A new instruction is a new row in the file of its family, or a new file listed here.
"""

from samoyeds_gen.simulator.instructions import (
    atomics,
    barrier,
    bits,
    bulk,
    cluster,
    control,
    conversion,
    copies,
    floating,
    fragments,
    integer,
    loads,
    matrix,
    mbarrier,
    packed,
    predicate,
    warp,
    warpgroup,
)
from samoyeds_gen.simulator.rows import Table

FAMILIES = (
    integer,
    bits,
    floating,
    packed,
    conversion,
    predicate,
    control,
    loads,
    atomics,
    copies,
    barrier,
    warp,
    fragments,
    matrix,
    mbarrier,
    bulk,
    warpgroup,
    cluster,
)
TABLE = Table(tuple(row for family in FAMILIES for row in family.ROWS))
