"""`samoyeds-gen new`: a schedule file to start from, which passes `check` as it is."""

from keyword import iskeyword
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.language import target_named

STARTER = '''"""(N, M, V) weights x routed tokens, $target and later: say what is special."""

from samoyeds_gen.language import atoms, layouts, schedule
from samoyeds_gen.language.kernels import ssmm


@schedule(ssmm, target="$target")
def $name(s, weight, tokens, out):
    # Tile: what one CTA computes. m counts output features, n tokens, k dense columns a stage.
    s.tile(m=128, n=64, k=64)
    s.warps(m=2, n=2)

    # The matrix instruction. With V = 16 and a fold that changes rows, a k32 step would span two
    # sub-rows, so the k16 step is taken there; `weight.format` is the format being compiled.
    folded = weight.format.n == 1
    short = folded and weight.format.v == 16
    s.tensorize(atoms.MMA_SP_M16N8K16 if short else atoms.MMA_SP_M16N8K32)

    # Pack: metadata in the order the lanes read it, tokens gathered by `selection` on load.
    s.pack(weight.metadata, order="fragment")
    s.pack(tokens, gather="on_load")

    # Layout: weight rows take k bytes in shared memory, token rows 2k; the swizzle must fit them.
    s.layout(weight.data, space="shared", swizzle=layouts.XOR_64B)
    s.layout(tokens, space="shared", swizzle=layouts.XOR_128B)
    s.layout(out, order="token_major")

    # Stationary: accumulators stay in registers. "exchange" and "prefix" need N = 1, "expand"
    # takes every format.
    s.stationary(out, space="registers", fold="exchange" if folded else "expand")
    s.stationary(weight.metadata, space="registers")

    # Pipeline: a ring of three stages, so that two tiles are copied while one is computed.
    s.pipeline(stages=3, copy=atoms.CP_ASYNC_16B)
'''


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A Python name, or a path that ends in one.")
    ],
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="TARGET", help="The least target.")
    ] = "sm_80",
) -> None:
    """Write a commented schedule file to start from; an existing file is never overwritten."""
    path = Path(name).with_suffix(".py") if Path(name).suffix != ".py" else Path(name)
    if not path.stem.isidentifier() or iskeyword(path.stem):
        raise ScheduleError(
            f"{path.stem!r} is not a Python name",
            rule="schedule-file",
            remedy="use letters, digits and underscores, not starting with a digit",
        )
    text = Template(STARTER).substitute(name=path.stem, target=target_named(target).name)
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise ScheduleError(
            f"{path} exists already", rule="schedule-file", remedy="choose another name"
        ) from None
    typer.echo(f"wrote {path}")
    typer.echo(f"next: samoyeds-gen check {path}")
