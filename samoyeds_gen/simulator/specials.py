"""What each lane reads from %tid.x and its kin (PTX ISA, "Special Registers")."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from samoyeds_gen.simulator.scalars import Array

if TYPE_CHECKING:
    from samoyeds_gen.simulator.machine import Machine

Read = Callable[["Machine"], Array]


def _same(value: int, dtype: type = np.uint32) -> Array:
    return np.array([value], dtype)


def _ctaid(axis: int) -> Read:
    def read(m: "Machine") -> Array:
        x, y, _ = m.grid
        linear = m.grid_cta_of.astype(np.uint32)
        return (linear % x, linear // x % y, linear // (x * y))[axis].astype(np.uint32)

    return read


def _lanemask(compare: Callable[[int, int], bool]) -> Read:
    table = np.array(
        [sum(1 << bit for bit in range(32) if compare(bit, lane)) for lane in range(32)], np.uint32
    )
    return lambda m: table[np.arange(m.lanes) & 31]


def _rank(m: "Machine") -> Array:
    return (m.cta_of % m.cluster).astype(np.uint32)


def _cluster_id(m: "Machine") -> Array:
    ids: Array = _ctaid(0)(m) // m.cluster
    return ids.astype(np.uint32)


SPECIALS: dict[str, Read] = {
    "tid": lambda m: m.thread_of.astype(np.uint32),
    "tid.x": lambda m: m.thread_of.astype(np.uint32),
    "tid.y": lambda m: _same(0),
    "tid.z": lambda m: _same(0),
    "ntid.x": lambda m: _same(m.threads),
    "ntid.y": lambda m: _same(1),
    "ntid.z": lambda m: _same(1),
    "ctaid.x": _ctaid(0),
    "ctaid.y": _ctaid(1),
    "ctaid.z": _ctaid(2),
    "nctaid.x": lambda m: _same(m.grid[0]),
    "nctaid.y": lambda m: _same(m.grid[1]),
    "nctaid.z": lambda m: _same(m.grid[2]),
    "cluster_ctaid.x": _rank,
    "cluster_ctaid.y": lambda m: _same(0),
    "cluster_ctaid.z": lambda m: _same(0),
    "cluster_ctarank": _rank,
    "cluster_nctaid.x": lambda m: _same(m.cluster),
    "cluster_nctaid.y": lambda m: _same(1),
    "cluster_nctaid.z": lambda m: _same(1),
    "cluster_nctarank": lambda m: _same(m.cluster),
    "clusterid.x": _cluster_id,
    "clusterid.y": _ctaid(1),
    "clusterid.z": _ctaid(2),
    "nclusterid.x": lambda m: _same(m.grid[0] // m.cluster),
    "nclusterid.y": lambda m: _same(m.grid[1]),
    "nclusterid.z": lambda m: _same(m.grid[2]),
    "laneid": lambda m: (np.arange(m.lanes) & 31).astype(np.uint32),
    "warpid": lambda m: (m.warp_of % m.warps).astype(np.uint32),
    "nwarpid": lambda m: _same(m.warps),
    "smid": lambda m: m.grid_cta_of.astype(np.uint32),
    "nsmid": lambda m: _same(1 << 16),
    "gridid": lambda m: _same(0, np.uint64),
    "clock": lambda m: _same(0),
    "clock_hi": lambda m: _same(0),
    "clock64": lambda m: _same(0, np.uint64),
    "globaltimer": lambda m: _same(0, np.uint64),
    "lanemask_eq": _lanemask(lambda bit, lane: bit == lane),
    "lanemask_lt": _lanemask(lambda bit, lane: bit < lane),
    "lanemask_le": _lanemask(lambda bit, lane: bit <= lane),
    "lanemask_gt": _lanemask(lambda bit, lane: bit > lane),
    "lanemask_ge": _lanemask(lambda bit, lane: bit >= lane),
    "dynamic_smem_size": lambda m: _same(m.dynamic_shared),
    "total_smem_size": lambda m: _same(m.shared_size),
}
