"""What a profiler would count: warp instructions, shared wavefronts, global sectors.

Bank and sector patterns repeat from step to step, so each is analysed once and remembered.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from samoyeds_gen.simulator.scalars import Array

_BANKS, _WORD, _SECTOR = 32, 4, 32
_REMEMBERED = 1 << 16

# The one named cache of the simulator: counts of analysed access patterns, by a 64-bit hash.
PATTERNS: dict[tuple[str, int, int], int] = {}


@dataclass(slots=True)
class Counters:
    """Totals of a launch.

    `opcodes`: dynamic warp instructions by family. `shared_wavefronts`: by instruction kind, actual
    and ideal passes through the 32 banks. `global_sectors`: 32-byte sectors touched, over
    `global_requests` warp requests, by kind. `barriers`: completed CTA barriers. `instructions`:
    sum of `opcodes`.
    """

    opcodes: Counter[str] = field(default_factory=Counter)
    shared_wavefronts: dict[str, tuple[int, int]] = field(default_factory=dict)
    global_sectors: Counter[str] = field(default_factory=Counter)
    global_requests: Counter[str] = field(default_factory=Counter)
    barriers: int = 0
    instructions: int = 0
    enabled: bool = True

    def visit(self, families: Counter[str], warps: int) -> None:
        """Count the instructions of a block that `warps` warps ran."""
        for family, count in families.items():
            self.opcodes[family] += count * warps
            self.instructions += count * warps

    def shared(self, kind: str, index: Array, lanes: Array, size: int) -> None:
        """Count one shared-memory instruction; `index` is a byte address per lane of `lanes`."""
        if not self.enabled:
            return
        warps = lanes >> 5
        actual = _remember("bank", index, lanes, size, 128)
        # A quarter warp moves 16-byte items, a half warp 8-byte ones.
        groups = (warps << 2) | ((lanes & 31) // max(min(32, 128 // size), 8))
        ideal = int(np.count_nonzero(np.diff(groups))) + 1
        before = self.shared_wavefronts.get(kind, (0, 0))
        self.shared_wavefronts[kind] = (before[0] + actual, before[1] + ideal)

    def global_(self, kind: str, offsets: Array, lanes: Array, size: int) -> None:
        """Count one global-memory instruction."""
        if not self.enabled:
            return
        self.global_sectors[kind] += _remember("sector", offsets, lanes, size, _SECTOR)
        self.global_requests[kind] += int(np.count_nonzero(np.diff(lanes >> 5))) + 1

    def moved(self, kind: str, bytes_: int) -> None:
        """Count shared memory moved by an asynchronous unit, which has no bank conflicts."""
        if self.enabled:
            passes = -(-bytes_ // (_BANKS * _WORD))
            before = self.shared_wavefronts.get(kind, (0, 0))
            self.shared_wavefronts[kind] = (before[0] + passes, before[1] + passes)

    def rows(self, kind: str, starts: Array, width: int) -> None:
        """Count one bulk request for runs of `width` bytes at these offsets."""
        if self.enabled and len(starts):
            sectors = (starts + width - 1) // _SECTOR - starts // _SECTOR + 1
            self.global_sectors[kind] += int(sectors.sum())
            self.global_requests[kind] += 1


def _remember(what: str, index: Array, lanes: Array, size: int, period: int) -> int:
    base = index[0] - index[0] % period
    key = (what, size, hash(np.concatenate((index - base, lanes)).tobytes()))
    known = PATTERNS.get(key)
    if known is None:
        if len(PATTERNS) >= _REMEMBERED:
            PATTERNS.clear()
        count = _wavefronts if what == "bank" else _sectors
        known = PATTERNS[key] = count(index, lanes, size)
    return known


def _wavefronts(index: Array, lanes: Array, size: int) -> int:
    """Passes that the lanes' words need: per group of lanes, the most words any one bank serves."""
    together = max(min(32, 128 // size), 8)
    group = (lanes >> 5) * 4 + (lanes & 31) // together
    words = (index // _WORD)[:, None] + np.arange(max(size // _WORD, 1))
    distinct = _distinct((group[:, None] << 32) | words)
    banks = np.bincount((distinct >> 32) * _BANKS + distinct % _BANKS)
    whole = np.zeros(-(-len(banks) // _BANKS) * _BANKS, np.int64)
    whole[: len(banks)] = banks
    return int(whole.reshape(-1, _BANKS).max(axis=1).sum())


def _sectors(offsets: Array, lanes: Array, size: int) -> int:
    """Distinct 32-byte sectors per warp, summed; an item never straddles two."""
    return len(_distinct((lanes >> 5 << 40) | (offsets // _SECTOR)))


def _distinct(keys: Array) -> Array:
    keys = np.sort(keys, axis=None)
    return keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
