"""`samoyeds-gen run`: one problem of random data, on simulator or GPU, beside the reference."""

import sys
import time
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
import typer

from samoyeds_gen.cli.console import print_facts, print_json, print_table, progress
from samoyeds_gen.cli.counters import counter_rows, counters_json
from samoyeds_gen.cli.options import (
    DEFAULT_DTYPE,
    DEFAULT_FORMAT,
    Device,
    DeviceChoice,
    DtypeText,
    FormatText,
    Json,
    MaybeFile,
    TargetText,
    parse_shape,
    resolve_or_choose,
)
from samoyeds_gen.errors import LaunchError
from samoyeds_gen.formats import ELEMENTS, SparseWeight, encode
from samoyeds_gen.kernel import Kernel
from samoyeds_gen.kernel.simulated import require_simulable
from samoyeds_gen.reference import ssmm_with_bound
from samoyeds_gen.runtime import (
    current_device,
    device_info,
    driver_present,
    require_driver,
    stage,
    synchronise,
)

COMPARED_WORK = 2**34
"""Multiply-adds of the reference that are always done; beyond, a sample of tokens is compared."""

TIMED_LAUNCHES = 20


@dataclass(frozen=True, slots=True)
class Data:
    """A random problem: w [m, k], tokens [T, k], selection [n] or None."""

    w: SparseWeight
    tokens: np.ndarray[Any, Any]
    selection: np.ndarray[Any, Any] | None
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The worst element of an output against the reference, over `tokens` output rows."""

    error: float
    bound: float
    ratio: float
    wrong: int
    tokens: int


def run(
    shape: Annotated[
        str, typer.Option("--shape", "-s", metavar="M,K,N", help="Features, inputs, tokens.")
    ],
    file: MaybeFile = None,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", metavar="T", help="Select the n tokens from T of them."),
    ] = None,
    format: FormatText = DEFAULT_FORMAT,
    dtype: DtypeText = DEFAULT_DTYPE,
    target: TargetText = None,
    device: DeviceChoice = Device.AUTO,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random data.")] = 0,
    json: Json = False,
) -> None:
    """Run random data through a schedule's kernel and compare with the reference."""
    shape_ = parse_shape(shape)
    index: Literal["int64"] | None = None if tokens is None else "int64"
    request = resolve_or_choose(file, format, dtype, target, shape_, index=index)
    kernel = Kernel(request.schedule, request.problem, request.target, request.choice)
    variant = kernel.variant(index=index)
    on_gpu = device is Device.GPU or (device is Device.AUTO and driver_present())
    if device is Device.GPU:
        require_driver()
    if device is Device.AUTO and not on_gpu:
        m, k, n = shape_
        require_simulable(variant.plan, m, n, k)
    data = make_data(kernel, shape_, tokens, seed)
    with progress("simulating") as advance:
        began = time.perf_counter()
        out = kernel(data.w, data.tokens, data.selection, device=device.value, progress=advance)
        seconds = time.perf_counter() - began
    launch = kernel_seconds(kernel, data) if on_gpu else None
    result = compare(kernel, data, out)
    show = _print_json if json else _print_text
    show(kernel, data, seconds, launch, result)
    if result.wrong:
        sys.stdout.flush()
        raise LaunchError(
            f"{result.wrong} elements are out of bounds, the worst by {result.ratio:.3g} times",
            remedy=f"samoyeds-gen check {file or kernel.schedule.name} finds the smallest case",
        )


def _print_text(
    kernel: Kernel, data: Data, seconds: float, launch: float | None, result: Comparison
) -> None:
    m, k = data.w.shape
    chosen = "" if data.selection is None else f", selected from {len(data.tokens)} tokens"
    facts = [
        ("device", _device(launch)),
        ("kernel", repr(kernel)),
        ("choice", kernel.choice),
        ("problem", f"m={m}, k={k}, n={data.n}{chosen}"),
        (
            "call",
            f"{seconds * 1e3:.1f} ms" + (" with copies to and from the GPU" if launch else ""),
        ),
        *((("kernel", f"{launch * 1e6:.1f} us a launch"),) if launch else ()),
        ("error", f"{result.error:.3g} at worst, {result.bound:.3g} allowed there"),
        ("compared", f"{result.tokens} of {data.n} tokens, {result.wrong} wrong elements"),
    ]
    print_facts(facts)
    if launch is None and kernel.last_report is not None:
        print_table(("counter", ">value", ""), counter_rows(kernel.last_report.counters))


def _print_json(
    kernel: Kernel, data: Data, seconds: float, launch: float | None, result: Comparison
) -> None:
    m, k = data.w.shape
    facts: dict[str, object] = {
        "device": _device(launch),
        "kernel": repr(kernel),
        "choice": str(kernel.choice),
        "m": m,
        "k": k,
        "n": data.n,
        "tokens": len(data.tokens),
        "call_seconds": seconds,
        "launch_seconds": launch,
        "worst": asdict(result),
    }
    if launch is None and kernel.last_report is not None:
        facts["counters"] = counters_json(kernel.last_report.counters)
    print_json(facts)


def _device(launch: float | None) -> str:
    return "simulator" if launch is None else str(device_info())


def make_data(kernel: Kernel, shape: tuple[int, int, int], tokens: int | None, seed: int) -> Data:
    """Standard normal weight and tokens of the kernel's format and dtype."""
    m, k, n = shape
    if tokens is not None and tokens < 1:
        raise LaunchError(f"tokens={tokens} is not positive", remedy="select from at least one")
    rng = np.random.default_rng(seed)
    problem = kernel.problem
    f = problem.format
    dense = rng.standard_normal((m, k), np.float32)
    w = encode(dense, n=f.n, m=f.m, v=f.v, dtype=problem.dtype.name)
    rows = rng.standard_normal((tokens or n, k), np.float32).astype(ELEMENTS[problem.dtype.name])
    selection = None if tokens is None else rng.integers(0, tokens, n, np.int64)
    return Data(w, rows, selection, n)


def compare(kernel: Kernel, data: Data, out: np.ndarray[Any, Any]) -> Comparison:
    """Hold the output against the reference, all of it or a sample of tokens if it is large."""
    m, k = data.w.shape
    count = min(data.n, max(1, COMPARED_WORK // (m * k)))
    chosen = np.linspace(0, data.n - 1, count).astype(np.int64)
    rows = chosen if data.selection is None else data.selection[chosen]
    plain = data.w.format.plain
    value, bound = ssmm_with_bound(
        data.w, data.tokens, rows, fold="exchange" if plain else kernel.schedule.stationary.fold
    )
    error = np.abs(out[chosen].astype(np.float64) - value)
    ratio = np.where(np.isnan(error), np.inf, error / bound)
    worst = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    wrong = int(np.count_nonzero(ratio > 1))
    return Comparison(float(error[worst]), float(bound[worst]), float(ratio[worst]), wrong, count)


def kernel_seconds(kernel: Kernel, data: Data) -> float:
    """Seconds a launch takes on the GPU, averaged over back-to-back launches on device arrays."""
    device = current_device()
    tokens = stage(data.tokens, device)
    selection = None if data.selection is None else stage(data.selection, device)
    kernel(data.w, tokens, selection)
    synchronise()
    began = time.perf_counter()
    for _ in range(TIMED_LAUNCHES):
        kernel(data.w, tokens, selection)
    synchronise()
    return (time.perf_counter() - began) / TIMED_LAUNCHES
