"""How work gets onto the GPU for timing: CUDA graphs without host overhead, events around them."""

from contextlib import suppress

import torch

from samoyeds_gen.tune.timing import Launch, Timed

GRAPH_US = 4000.0
"""Work in one graph, in microseconds as launched from the host: replaying it costs a few."""

MOST_LAUNCHES = 1024


def device_sample(run: Launch, settle: int, timed: int) -> float:
    """Microseconds a run over `timed` back-to-back runs after `settle` more, by device events."""
    start = torch.cuda.Event(enable_timing=True)
    stop = torch.cuda.Event(enable_timing=True)
    for turn in range(settle):
        run(turn)
    start.record()
    for turn in range(timed):
        run(turn)
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) * 1000 / timed


def replayed(run: Launch, sets: int, *, us: float = GRAPH_US) -> tuple[Timed, str]:
    """One graph that launches through all of `sets` buffer sets, often enough to take about `us`.

    Where the work cannot be captured it is timed as launched from the host. Returns what to time,
    and "graph", or "host" with the reason.
    """
    once = device_sample(run, 3, 5)
    rounds = max(1, round(us / (once * sets)))
    launches = min(sets * rounds, max(sets, MOST_LAUNCHES // sets * sets))
    try:
        graph = _captured(run, launches)
        graph.replay()
        torch.cuda.synchronize()
    except RuntimeError as error:
        torch.cuda.synchronize()
        return Timed(run), f"host (no graph: {first_line(error)})"
    return Timed(_Replay(graph, run), launches), "graph"


def _captured(run: Launch, launches: int) -> torch.cuda.CUDAGraph:
    """A graph of so many launches. Relaxed: memory may be freed meanwhile, none of it the graph's.

    torch.cuda.graph would also collect garbage each time, which takes longer than what is captured.
    """
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run(0)  # what is made once a stream, such as workspaces, is made before the capture
        stream.synchronize()
        graph.capture_begin(capture_error_mode="relaxed")
        try:
            for turn in range(launches):
                run(turn)
        except BaseException:
            with suppress(RuntimeError):  # the error that ended the capture says more
                graph.capture_end()
            raise
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)
    return graph


class _Replay:
    """Replays a graph, and keeps alive what was captured: the buffers that it names."""

    def __init__(self, graph: torch.cuda.CUDAGraph, captured: Launch) -> None:
        self._graph = graph
        self._captured = captured

    def __call__(self, turn: int) -> None:
        self._graph.replay()


def first_line(error: BaseException) -> str:
    """An error of a library in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]
