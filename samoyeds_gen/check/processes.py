"""Running pieces of work here or in several processes; a process that dies costs its piece only."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context

from samoyeds_gen.check.work import Result, Work
from samoyeds_gen.errors import CheckError

Progress = Callable[[int, int], None]
ATTEMPTS = 3
_THREAD_LIMITS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def run_all(work: Sequence[Work], jobs: int, progress: Progress | None = None) -> list[Result]:
    """Results in the order of the work; the simulator's in `jobs` processes, the GPU's in this.

    Pieces that were lost because a process was ended from outside are run again. Raises CheckError
    when that happens `ATTEMPTS` times.
    """
    total = sum(piece.total for piece in work)
    done = 0
    results: dict[int, Result] = {}

    def keep(number: int, result: Result) -> None:
        nonlocal done
        results[number] = result
        done += work[number].total
        if progress is not None:
            progress(done, total)

    alone = [n for n, piece in enumerate(work) if jobs == 1 or piece.device == "gpu"]
    attempts = 0
    while spread := [n for n in range(len(work)) if n not in results and n not in alone]:
        attempts += 1
        try:
            for number, result in _spread(work, spread, jobs):
                keep(number, result)
        except BrokenProcessPool:
            if attempts == ATTEMPTS:
                raise CheckError(
                    f"processes of the check were ended from outside {ATTEMPTS} times",
                    remedy="use fewer jobs, each of them takes half a GB of memory",
                ) from None
    for number in alone:
        keep(number, work[number].run())
    return [results[number] for number in range(len(work))]


def _spread(work: Sequence[Work], numbers: list[int], jobs: int) -> Iterator[tuple[int, Result]]:
    """Results of these pieces as they are finished by a pool of processes."""
    with _one_thread_each(), ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        futures = {pool.submit(work[number].run): number for number in numbers}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that share the cores must not each start a thread a core for small products."""
    before = {name: os.environ.get(name) for name in _THREAD_LIMITS}
    os.environ.update(dict.fromkeys(_THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
