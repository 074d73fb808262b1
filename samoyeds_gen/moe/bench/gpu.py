"""What is read from a GPU beside times: memory of a call, time of the host, and poisoned memory."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.tune.replay import GRAPH_US, device_sample, replayed
from samoyeds_gen.tune.timing import Launch, Timed

HOST_CALLS = 20
"""Calls between two looks at the clock: few enough that the GPU's queue does not fill."""

SMALL, LEAST = 2**20, 2**9
"""Bytes: blocks of up to the one lie in pages of their own, and all are multiples of the other."""


def give_back() -> None:
    """Wait for the GPU and return what torch holds without using it."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def peak_bytes(call: Callable[[], Array]) -> int:
    """The most bytes that torch holds during a call beyond those before it, result included."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated()) - int(before)


def poison(nbytes: int) -> None:
    """Leave NaN in the memory that the next allocations of up to `nbytes` in all are given.

    Blocks of every size are taken until torch has to ask for more memory, which leaves no gap.
    """
    torch.cuda.empty_cache()
    held = []
    for size in (*_halves(nbytes + 4 * SMALL, SMALL + LEAST), *_halves(SMALL, LEAST)):
        before = torch.cuda.memory_reserved()
        while torch.cuda.memory_reserved() == before:
            held.append(torch.full((size,), 255, dtype=torch.uint8, device="cuda"))
    del held


def _halves(most: int, least: int) -> Iterator[int]:
    """From `most` by halves down to `least`."""
    while most > least:
        yield most
        most //= 2
    yield least


def host_us(run: Launch, us: float) -> float:
    """Microseconds of the host for a call whose work takes the GPU `us`: the median of few looks.

    The GPU is idle before each look, so that nothing waits for room in its queue.
    """
    calls = HOST_CALLS if us < 1000 else 3
    looks = []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for turn in range(calls):
            run(turn)
        looks.append((time.perf_counter() - start) / calls * 1e6)
    torch.cuda.synchronize()
    return statistics.median(looks)


def graphs_of(run: Launch, sets: int) -> tuple[Timed | None, str]:
    """What replays `run` over its buffer sets: one graph of all, or several of some sets each.

    Between replays of different graphs a GPU waits as long as a call of few tokens takes, so each
    graph holds what takes about GRAPH_US. None and the reason where it cannot be captured.
    """
    together = max(1, int(GRAPH_US / device_sample(run, 2, 3)))
    if together >= sets:
        timed, how = replayed(run, sets)
        return (timed, how) if how == "graph" else (None, how)
    firsts = range(0, sets - together + 1, together)
    each = [replayed(partial(_from_set, run, first), together, us=1.0) for first in firsts]
    for _, how in each:
        if how != "graph":
            return None, how
    replays = [timed.run for timed, _ in each]
    return Timed(lambda turn: replays[turn % len(replays)](turn), together), "graph"


def _from_set(run: Launch, first: int, turn: int) -> object:
    return run(first + turn)
