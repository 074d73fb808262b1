"""The peers that torch brings: cuBLAS in both operand layouts, and cuSPARSELt's 2:4.

Each is checked like a kernel of ours before it is timed. cuSPARSELt takes its quickest algorithm.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from samoyeds_gen.tune.buffers import Tokens, Weights, weight_sets
from samoyeds_gen.tune.contender import CUBLAS, Contender, Failure
from samoyeds_gen.tune.gate import Expected, expected_of
from samoyeds_gen.tune.replay import device_sample, first_line, replayed
from samoyeds_gen.tune.suites import Shape
from samoyeds_gen.tune.timing import Launch

CUSPARSELT = "cuSPARSELt 2:4"
HALVED = "1,1,16"
"""The format that cuSPARSELt's weight has, whose roof it is held against."""

PEER_SLACK = 16.0
"""Bounds allowed to a peer: torch lets cuBLAS sum the parts of a split k in 16 bits."""

SEARCH_US = 500.0
"""Work of one algorithm that is timed to find the quickest, in microseconds."""

TOKEN_STEP = 8
"""cuSPARSELt takes whole eights of columns; torch pads them, and so do we."""


def peers(shape: Shape, weights: Weights, tokens: Tokens) -> Iterator[Contender | Failure]:
    """Every peer at one shape, checked."""
    yield from cublas(shape, weights, tokens)
    yield cusparselt(shape, weights, tokens)


def cublas(shape: Shape, weights: Weights, tokens: Tokens) -> Iterator[Contender | Failure]:
    """The dense product, output by token and output by feature."""
    m, k, n = shape
    nbytes = m * k * weights.dtype.itemsize
    dense = weights.dense(weight_sets(shape, nbytes))
    x = tokens.take(max(len(dense), 2 if len(dense) > 1 else tokens.own_sets))
    by_token = torch.empty(n, m, device="cuda", dtype=weights.dtype)
    by_feature = torch.empty(m, n, device="cuda", dtype=weights.dtype)

    def token_major(turn: int) -> object:
        return torch.mm(x[turn % len(x)], dense[turn % len(dense)].T, out=by_token)

    def feature_major(turn: int) -> object:
        return torch.mm(dense[turn % len(dense)], x[turn % len(x)].T, out=by_feature)

    expected = expected_of(dense[0], x[0])
    for name, run, out in (
        (f"{CUBLAS} out[n,m]", token_major, by_token),
        (f"{CUBLAS} out[m,n]", feature_major, by_feature.T),
    ):
        out.fill_(float("nan"))
        yield _checked(name, run, partial(_always, out), expected, len(x), nbytes)


def cusparselt(shape: Shape, weights: Weights, tokens: Tokens) -> Contender | Failure:
    """2:4 sparse times dense with the quickest algorithm of either output order."""
    if not hasattr(torch, "_cslt_sparse_mm"):
        return Failure(CUSPARSELT, f"torch {torch.__version__} has no cuSPARSELt")
    try:
        return _cusparselt(shape, weights, tokens)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        return Failure(CUSPARSELT, first_line(error))


def _cusparselt(shape: Shape, weights: Weights, tokens: Tokens) -> Contender | Failure:
    halved = weights.halved()
    first = torch._cslt_compress(halved)
    nbytes = first.numel() * first.element_size()
    packed = [first]
    packed += [first.clone() for _ in range(weight_sets(shape, nbytes) - 1)]
    sets = max(len(packed), 2 if len(packed) > 1 else tokens.own_sets)
    x = [_padded(each).T for each in tokens.take(sets)]
    expected = expected_of(halved, tokens.take(1)[0])
    del halved
    options = _quickest(packed, x)

    run = partial(_multiply, packed, x, options)
    n = shape[2]

    def token_major(result: Any) -> torch.Tensor:
        return (result if options["transpose_result"] else result.T)[:n]

    found = _checked(CUSPARSELT, run, token_major, expected, len(x), nbytes)
    if isinstance(found, Failure):
        return found
    words = ", ".join(f"{key} {value}" for key, value in options.items())
    return replace(found, verdict=f"{found.verdict}; {words}", format=HALVED)


def _quickest(packed: Sequence[torch.Tensor], x: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The options of the quickest algorithm: the library's own search, and every algorithm tried.

    An algorithm that does not take the problem is passed over.
    """
    best: tuple[float, dict[str, Any]] | None = None
    refusal: RuntimeError | None = None
    for transposed in (True, False):
        for options in _algorithms(packed[0], x[0], transposed):
            run = partial(_multiply, packed, x, options)
            try:
                timed, _ = replayed(run, len(x), us=SEARCH_US)
                us = device_sample(timed.run, 2, 3) / timed.launches
            except RuntimeError as error:
                refusal = error
                torch.cuda.synchronize()
                continue
            if best is None or us < best[0]:
                best = us, options
    if best is None:
        raise refusal or RuntimeError("cuSPARSELt offers no algorithm")
    return best[1]


def _multiply(
    packed: Sequence[torch.Tensor], x: Sequence[torch.Tensor], options: dict[str, Any], turn: int
) -> object:
    return torch._cslt_sparse_mm(packed[turn % len(packed)], x[turn % len(x)], **options)


def _algorithms(
    packed: torch.Tensor, x: torch.Tensor, transposed: bool
) -> Iterator[dict[str, Any]]:
    """What the library's search finds, then each algorithm that it counts."""
    search: Callable[..., Any] | None = getattr(
        getattr(torch._C, "_cusparselt", None), "mm_search", None
    )
    if search is None:
        found = torch._cslt_sparse_mm_search(packed, x, transpose_result=transposed)
        yield {"transpose_result": transposed, "alg_id": int(found)}
        return
    algorithm, split_k, mode, count = search(packed, x, None, None, None, transposed)
    searched = {"transpose_result": transposed, "alg_id": int(algorithm)}
    if int(split_k) != 1:
        searched |= {"split_k": int(split_k), "split_k_mode": int(mode)}
    yield searched
    for each in range(int(count)):
        if each != int(algorithm) or int(split_k) != 1:
            yield {"transpose_result": transposed, "alg_id": each}


def _always(out: torch.Tensor, result: object) -> torch.Tensor:
    return out


def _padded(tokens: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(tokens, (0, 0, 0, -len(tokens) % TOKEN_STEP)).contiguous()


def _checked(
    name: str,
    run: Launch,
    out_of: Callable[[Any], torch.Tensor],
    expected: Expected,
    sets: int,
    nbytes: int,
) -> Contender | Failure:
    """Run once, hold every element against the bound, then capture.

    `out_of` gives the output [n, m] from what `run` returned.
    """
    try:
        verdict = expected.compare(out_of(run(0)), slack=PEER_SLACK)
        if not verdict.passed:
            return Failure(name, f"wrong: {verdict}")
        timed, how = replayed(run, sets)
    except RuntimeError as error:
        torch.cuda.synchronize()
        return Failure(name, first_line(error))
    return Contender(name=name, timed=timed, weight_bytes=nbytes, verdict=str(verdict), replay=how)
