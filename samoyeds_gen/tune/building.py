"""Compiling the candidates of a search, several at a time; NVRTC works outside the GIL."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from samoyeds_gen.errors import SamoyedsError
from samoyeds_gen.kernel import build_variant
from samoyeds_gen.language import Schedule
from samoyeds_gen.tune.choice import Task


def build_all(
    task: Task, schedules: Sequence[Schedule], threads: int | None = None
) -> Iterator[tuple[Schedule, str | SamoyedsError]]:
    """The cache key of each schedule's code as it is ready, or why there is none.

    A spill or serialised matrix work is a refusal like any other.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="tune-compile") as pool:
        futures = {
            pool.submit(build_variant, each, task.problem, task.target): each for each in schedules
        }
        try:
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, SamoyedsError):
                    yield futures[future], error
                else:
                    yield futures[future], future.result().build.key
        finally:
            pool.shutdown(cancel_futures=True)
