"""Prepared launches as one CUDA graph, which the driver queues in one step.

Decides how a graph comes about: the launches are captured on a stream of their own. The
programming guide's chapter on CUDA graphs says what the driver does with it.
"""

from weakref import finalize

from cuda.bindings import driver

from samoyeds_gen.runtime.device import context
from samoyeds_gen.runtime.driver import call, refusal
from samoyeds_gen.runtime.launch import PreparedSequence

_SUCCESS = driver.CUresult.CUDA_SUCCESS
_OWN_STREAM = int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
_THIS_THREAD = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


class LaunchGraph:
    """Launches with the arguments they had when it was made: `graph(stream)` queues them.

    Launches of one graph wait for each other, also on several streams. It may be dropped while it
    runs: the driver then frees it later. Raises LaunchError where the driver refuses; it cannot be
    made while this thread captures a stream.
    """

    __slots__ = ("__weakref__", "_executable", "_sequence")

    def __init__(self, sequence: PreparedSequence) -> None:
        self._sequence = sequence  # keeps the kernels loaded
        with context(sequence.device):
            self._executable = _captured(sequence)
        finalize(self, driver.cuGraphExecDestroy, self._executable).atexit = False

    @property
    def at_home(self) -> bool:
        """Whether the current context is that of the launches."""
        return self._sequence.at_home

    def __call__(self, stream: int) -> None:
        """Queue the launches on `stream`, of the current context."""
        (status,) = driver.cuGraphLaunch(self._executable, stream)
        if status != _SUCCESS:
            raise refusal(status, "launching the graph of a call")


def _captured(sequence: PreparedSequence) -> driver.CUgraphExec:
    doing = "making a graph of a call's launches"
    stream = call(driver.cuStreamCreate, _OWN_STREAM, doing=doing)
    try:
        call(driver.cuStreamBeginCapture, stream, _THIS_THREAD, doing=doing)
        try:
            sequence(int(stream))
        finally:
            graph = call(driver.cuStreamEndCapture, stream, doing=doing)
    finally:
        call(driver.cuStreamDestroy, stream, doing=doing)
    try:
        return call(driver.cuGraphInstantiate, graph, 0, doing=doing)
    finally:
        call(driver.cuGraphDestroy, graph, doing=doing)
