"""`samoyeds-gen advise`: which format and schedule a shape wants, and when dense is better."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from samoyeds_gen.cli.benching import parse_formats
from samoyeds_gen.cli.console import print_json, print_table
from samoyeds_gen.cli.options import DEFAULT_DTYPE, DtypeText, Json, parse_shape
from samoyeds_gen.errors import TuneError
from samoyeds_gen.language import dtype_named
from samoyeds_gen.runtime import device_info, driver_present
from samoyeds_gen.tune import MACHINES, Machine, machine_named, open_database
from samoyeds_gen.tune.advice import FORMATS, Advice, Offer
from samoyeds_gen.tune.advice import advise as advise_shape
from samoyeds_gen.tune.machines import machine_of


def advise(
    shape: Annotated[
        str, typer.Option("--shape", "-s", metavar="M,K,N", help="Features, inputs, tokens.")
    ],
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", metavar="NAME", help="A GPU by name; the present one if left out."),
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", metavar="N,M,V", help="Only these formats."),
    ] = None,
    dtype: DtypeText = DEFAULT_DTYPE,
    database: Annotated[
        Path | None,
        typer.Option("--database", metavar="PATH", help="Another file than the user's own."),
    ] = None,
    json: Json = False,
) -> None:
    """Say, from table and model, which format and schedule to use and what to expect; no GPU."""
    wanted = parse_shape(shape)
    formats = tuple(parse_formats(format)) if format else FORMATS
    machine = chosen_machine(gpu)
    name = dtype_named(dtype, operand=True).name
    with closing(open_database(database)) as opened:
        advice = advise_shape(wanted, machine, opened, formats=formats, dtype=name)
    if json:
        print_json(as_json(advice))
    else:
        print_advice(advice)


def chosen_machine(gpu: str | None) -> Machine:
    """The GPU named, else the present one. Raises TuneError when there is neither."""
    if gpu is not None:
        return machine_named(gpu)
    if driver_present():
        return machine_of(device_info())
    names = ", ".join(each.name for each in MACHINES)
    raise TuneError("no GPU is present and none is named", remedy=f"give --gpu, one of {names}")


def print_advice(advice: Advice) -> None:
    """The offers and dense, quickest first, then the advice in one line."""
    m, k, n = advice.shape
    dense = (
        "dense",
        f"{advice.dense_us:.1f} us",
        "1.00x",
        "100 %",
        "",
        advice.dense_source,
        "",
    )
    rows = [(each.us, _cells(each)) for each in advice.offers]
    rows = sorted([*rows, (advice.dense_us, dense)], key=lambda each: each[0])
    print_table(
        ("format", ">time", ">of dense", ">bytes", "schedule", "from", "reason"),
        [cells for _, cells in rows],
        title=f"m={m}, k={k}, n={n} on {advice.machine.name}",
    )
    typer.echo(advice.sentence)


def _cells(offer: Offer) -> tuple[str, ...]:
    return (
        f"({offer.format})",
        f"{offer.us:.1f} us",
        f"{offer.speedup:.2f}x",
        f"{100 * offer.bytes_share:.0f} %",
        f"{offer.choice.schedule.name} {offer.choice.schedule.digest}",
        offer.choice.source,
        offer.choice.reason,
    )


def as_json(advice: Advice) -> dict[str, object]:
    """The advice as plain data; times in microseconds."""
    m, k, n = advice.shape
    return {
        "gpu": advice.machine.name,
        "m": m,
        "k": k,
        "n": n,
        "dense_us": advice.dense_us,
        "dense_source": advice.dense_source,
        "advice": advice.sentence,
        "dense_is_better": advice.best is None,
        "offers": [
            {
                "format": str(each.format),
                "us": each.us,
                "speedup": each.speedup,
                "bytes_share": each.bytes_share,
                "source": each.choice.source,
                "reason": each.choice.reason,
                "digest": each.choice.schedule.digest,
                "schedule": each.choice.schedule.as_dict(),
            }
            for each in advice.offers
        ],
    }
