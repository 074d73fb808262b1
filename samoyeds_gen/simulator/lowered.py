"""A kernel ready to run: what `lowering` makes and `machine` executes."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.accumulators import Watched
from samoyeds_gen.simulator.program import Site, Variable
from samoyeds_gen.simulator.rows import Step
from samoyeds_gen.simulator.scalars import Array, DType
from samoyeds_gen.simulator.specials import SPECIALS

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine


@dataclass(frozen=True, slots=True)
class Block:
    """Steps that run without a decision, then `end`, which says where its lanes go."""

    steps: tuple[Step, ...]
    end: Step
    families: Counter[str]
    site: Site | None


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """A kernel ready to run: blocks, register types and memory layout.

    `watched` are the registers that asynchronous work may hold, `proxies` says that there is such
    work on shared memory, `single_lanes` that lanes synchronise one by one, `dependent` that they
    wait for the launch before (griddepcontrol.wait). `cluster` and
    `register_limit` are the kernel's own directives, None where it has none.
    """

    blocks: tuple[Block, ...]
    sites: tuple[Site, ...]
    storage: tuple[DType, ...]
    specials: tuple[tuple[int, str], ...]
    parameters: tuple[tuple[int, int], ...]
    variables: tuple[Variable, ...]
    dynamic_start: int
    local_size: int
    granule: int
    global_granule: int
    watched: Watched
    proxies: bool
    single_lanes: bool
    dependent: bool
    cluster: int | None
    register_limit: int | None

    def fresh_registers(self, m: "Machine") -> list[Array]:
        """Registers at the start of a batch: special ones filled in, the others zero."""
        zeros = {dtype: np.zeros(1, dtype) for dtype in set(self.storage)}
        registers = [zeros[dtype] for dtype in self.storage]
        for slot, name in self.specials:
            registers[slot] = SPECIALS[name](m)
        return registers
