"""One GPU set up for comparisons: its buffers, the peers, and kernels of ours checked in full."""

from collections.abc import Callable, Iterator, Sequence

import torch

from samoyeds_gen.errors import SamoyedsError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import Kernel, streamed_bytes
from samoyeds_gen.runtime import current_device
from samoyeds_gen.tune.buffers import Tokens, Weights, weight_sets
from samoyeds_gen.tune.contender import Contender, Failure
from samoyeds_gen.tune.gate import Expected, expected
from samoyeds_gen.tune.machines import Machine
from samoyeds_gen.tune.peers import cublas, peers
from samoyeds_gen.tune.replay import device_sample, first_line, replayed
from samoyeds_gen.tune.suites import Shape
from samoyeds_gen.tune.timing import Launch

Maker = Callable[[Shape], Kernel]
"""Gives the kernel that takes part at a shape. Raises SamoyedsError where there is none."""


class TorchRig:
    """The current GPU through torch. `ours` maps a contender's name to its format and maker.

    Of peers there are cuBLAS and, unless `sparse_peers` is False, cuSPARSELt.
    """

    def __init__(
        self,
        machine: Machine,
        ours: Sequence[tuple[str, Format, Maker]] = (),
        *,
        dtype: str = "bfloat16",
        with_peers: bool = True,
        sparse_peers: bool = True,
    ) -> None:
        self.machine = machine
        self._ours = ours
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._with_peers, self._peers = with_peers, peers if sparse_peers else cublas
        self._weights: Weights | None = None
        self._tokens: tuple[Shape, Tokens] | None = None
        self._expected: tuple[Shape, Format, Expected] | None = None

    def contenders(self, shape: Shape) -> list[Contender | Failure]:
        """Peers first, then ours in the order given."""
        return list(self._each(shape))

    def _each(self, shape: Shape) -> Iterator[Contender | Failure]:
        if self._with_peers:
            yield from self._peers(shape, self.weights(shape), self.tokens(shape))
        for name, format, make in self._ours:
            try:
                kernel = make(shape)
            except SamoyedsError as error:
                yield Failure(name, str(error))
                continue
            yield self.prepare(name, format, kernel, shape)

    def prepare(
        self, name: str, format: Format, kernel: Kernel, shape: Shape
    ) -> Contender | Failure:
        """Check a kernel's output in full at a shape; ready to be timed if it is right."""
        try:
            return self._prepare(name, format, kernel, shape)
        except (SamoyedsError, RuntimeError) as error:
            return Failure(name, first_line(error))

    def _prepare(
        self, name: str, format: Format, kernel: Kernel, shape: Shape
    ) -> Contender | Failure:
        weights, tokens = self.weights(shape), self.tokens(shape)
        plan = kernel.variant().plan
        first = weights.encoded(format)
        out = torch.full((shape[2], shape[0]), float("nan"), device="cuda").to(self._dtype)
        x = tokens.take(1)
        kernel(first, x[0], out=out)
        prefix = not format.plain and kernel.schedule.stationary.fold == "prefix"
        verdict = self._reference(shape, format).compare(out, block_rows=format.m if prefix else 1)
        if not verdict.passed:
            return Failure(name, f"wrong: {verdict}")
        nbytes = streamed_bytes(first, plan, current_device())
        w = weights.copies(format, plan, weight_sets(shape, nbytes))
        x = tokens.take(max(len(w), 2 if len(w) > 1 else tokens.own_sets))
        for each in w[1:]:
            kernel(each, x[0], out=out)

        def run(turn: int) -> object:
            return kernel(w[turn % len(w)], x[turn % len(x)], out=out)

        timed, how = replayed(run, len(x))
        return Contender(
            name=name,
            timed=timed,
            weight_bytes=nbytes,
            verdict=str(verdict),
            replay=how,
            format=str(format),
            choice=kernel.choice,
        )

    def sample(self, run: Launch, settle: int, timed: int) -> float:
        """Microseconds a run, by device events."""
        return device_sample(run, settle, timed)

    def release(self) -> None:
        """Give back the tokens and references of the latest shape; weights stay for the next."""
        self._tokens = self._expected = None
        torch.cuda.empty_cache()

    def weights(self, shape: Shape) -> Weights:
        """The weights of a shape's m and k."""
        m, k, _ = shape
        if self._weights is None or self._weights.shape != (m, k):
            self._weights = None
            torch.cuda.empty_cache()
            self._weights = Weights(m, k, self._dtype)
        return self._weights

    def tokens(self, shape: Shape) -> Tokens:
        """The tokens of a shape's n and k."""
        if self._tokens is None or self._tokens[0] != shape:
            self._tokens = shape, Tokens(shape[2], shape[1], self._dtype)
        return self._tokens[1]

    def _reference(self, shape: Shape, format: Format) -> Expected:
        """The float64 product with a format's weight; the latest is kept for other schedules."""
        if self._expected is None or self._expected[:2] != (shape, format):
            self._expected = None
            w = self.weights(shape).encoded(format)
            self._expected = shape, format, expected(w, self.tokens(shape).take(1)[0])
        return self._expected[2]
