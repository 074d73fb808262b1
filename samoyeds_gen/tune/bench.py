"""Ours and cuBLAS in one run: equal work, checked in full first, timed in turn and sustained."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from samoyeds_gen.formats import Format, SparseWeight, encode
from samoyeds_gen.kernel import Kernel, compile
from samoyeds_gen.runtime import device_info, nvrtc_version
from samoyeds_gen.tune.gate import Verdict, expected
from samoyeds_gen.tune.timing import Launch, time_interleaved

Shape = tuple[int, int, int]
SUITES: dict[str, tuple[Shape, ...]] = {
    "mma": ((8192, 8192, 8192), (14336, 4096, 4096)),
}
BUFFER_BYTES = 256 * 2**20  # rotate over more than any L2


@dataclass(frozen=True, slots=True)
class Row:
    """One contender at one shape; `tflops` counts 2 m n k whatever the sparsity."""

    m: int
    k: int
    n: int
    contender: str
    median_us: float
    least_us: float
    most_us: float
    tflops: float
    ratio: float
    verdict: str


def bench_ssmm(
    shapes: Sequence[Shape],
    schedules: Sequence[str],
    format: Format,
    *,
    rounds: int = 9,
    progress: Callable[[str], None] = print,
) -> list[Row]:
    """Time bf16 schedules of one format and cuBLAS's faster operand layout at (m, k, n) shapes.

    A schedule with a wrong or unwritten element is reported and not timed. `ratio` is cuBLAS's
    time over the contender's.
    """
    rows: list[Row] = []
    for m, k, n in shapes:
        generator = torch.Generator(device="cuda").manual_seed(m + k + n)
        dense = torch.randn(m, k, device="cuda", generator=generator) * 0.05
        w = encode(dense, n=format.n, m=format.m, v=format.v)
        sets = max(2, BUFFER_BYTES // (2 * k * n) + 1)
        tokens = [
            torch.randn(n, k, device="cuda", generator=generator).bfloat16() for _ in range(sets)
        ]
        contenders: dict[str, Launch] = dict(_cublas(dense.bfloat16(), tokens, n, m))
        verdicts = {name: "peer" for name in contenders}
        reference = expected(w, tokens[0])
        for schedule in schedules:
            kernel = compile(schedule, n=format.n, m=format.m, v=format.v)
            verdict, launch = _ours(kernel, w, tokens, reference.compare)
            verdicts[kernel.schedule.name] = str(verdict)
            progress(f"{m},{k},{n} {kernel.schedule.name}: {verdict}")
            if verdict.passed:
                contenders[kernel.schedule.name] = launch
        del reference
        timings = time_interleaved(contenders, rounds=rounds)
        best = min(timings[name].median_us for name in contenders if name.startswith("cublas"))
        for name, timing in timings.items():
            tflops = 2 * m * n * k / timing.median_us * 1e-6
            ratio = best / timing.median_us
            row = Row(
                m,
                k,
                n,
                name,
                timing.median_us,
                timing.least_us,
                timing.most_us,
                tflops,
                ratio,
                verdicts[name],
            )
            progress(
                f"{m},{k},{n} {name:28s} {timing.median_us:9.1f} us {tflops:6.0f} TF {ratio:.3f}"
            )
            rows.append(row)
    return rows


def _cublas(weight: torch.Tensor, tokens: list[torch.Tensor], n: int, m: int) -> dict[str, Launch]:
    by_token = torch.empty(n, m, device="cuda", dtype=torch.bfloat16)
    by_feature = torch.empty(m, n, device="cuda", dtype=torch.bfloat16)

    def linear(turn: int) -> object:
        return torch.mm(tokens[turn % len(tokens)], weight.T, out=by_token)

    def matmul(turn: int) -> object:
        return torch.mm(weight, tokens[turn % len(tokens)].T, out=by_feature)

    return {"cublas out[n,m]": linear, "cublas out[m,n]": matmul}


def _ours(
    kernel: Kernel,
    w: SparseWeight,
    tokens: list[torch.Tensor],
    compare: Callable[..., Verdict],
) -> tuple[Verdict, Launch]:
    out = torch.full((tokens[0].shape[0], w.shape[0]), float("nan"), device="cuda").bfloat16()
    kernel(w, tokens[0], out=out)
    prefix = kernel.schedule.stationary.fold == "prefix"
    verdict = compare(out, block_rows=w.format.m if prefix else 1)

    def launch(turn: int) -> object:
        return kernel(w, tokens[turn % len(tokens)], out=out)

    return verdict, launch


def write_rows(rows: Sequence[Row], path: Path, *, suite: str, format: str, rounds: int) -> None:
    """Write the raw figures as JSON, with the machine and versions that made them."""
    device = device_info(0)
    record = {
        "gpu": device.name,
        "driver": device.driver,
        "nvrtc": nvrtc_version(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "suite": suite,
        "format": format,
        "dtype": "bfloat16",
        "rounds": rounds,
        "work": "2 m n k operations for every contender; ratio is the faster cuBLAS layout's time "
        "over the contender's",
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(record, indent=1) + "\n")


__all__ = ["SUITES", "Row", "bench_ssmm", "write_rows"]
