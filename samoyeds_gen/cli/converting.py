"""`samoyeds-gen convert`: a Hugging Face model's folder with sparse Mixture-of-Experts layers."""

from collections.abc import Callable
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from samoyeds_gen.cli.console import print_json, print_table, progress
from samoyeds_gen.cli.options import Json
from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import Format


class Method(StrEnum):
    """How entries to keep are chosen."""

    MAGNITUDE = "magnitude"
    WANDA = "wanda"
    SECOND_ORDER = "second_order"


def convert(
    model_dir: Annotated[
        Path, typer.Argument(metavar="MODEL_DIR", help="The folder of a dense model, safetensors.")
    ],
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="New, empty, or of this conversion's start.")
    ],
    format: Annotated[
        str, typer.Option("--format", "-f", metavar="N,M,V", help="The weight format.")
    ] = "1,2,128",
    method: Annotated[
        Method, typer.Option("--method", help="How the entries to keep are chosen.")
    ] = Method.MAGNITUDE,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", metavar="FILE", help="A text, or a .npy of token ids [sequences, T]."
        ),
    ] = None,
    sequences: Annotated[
        int, typer.Option("--sequences", min=1, help="How many sequences of a text to take.")
    ] = 128,
    length: Annotated[
        int, typer.Option("--length", min=1, help="How many tokens each of them has.")
    ] = 2048,
    damping: Annotated[
        float, typer.Option("--damping", help="Added to the Hessian's diagonal, of its mean.")
    ] = 0.01,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", "-d", help="bf16 or fp16; by default the model's own type."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Where to work, such as cuda:1; a GPU if there is one."),
    ] = None,
    json: Json = False,
) -> None:
    """Convert a Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE or DeepSeek-V2/V3 model, layer by layer.

    An interrupted conversion goes on when the same command is run again.
    """
    for package in ("torch", "transformers"):
        if find_spec(package) is None:
            raise ModelError(
                f"converting models needs {package}, which is not installed",
                remedy="pip install 'samoyeds-gen[hf]'",
            )
    from samoyeds_gen import moe
    from samoyeds_gen.moe.report import HEADINGS

    form = Format.parse(format)
    samples = None
    if calibration is not None:
        samples = moe.read_samples(calibration, model_dir, sequences=sequences, length=length)
    with progress("layers") as advance:
        report = moe.convert(
            model_dir,
            out_dir,
            form.n,
            form.m,
            form.v,
            method=str(method),
            calibration=samples,
            damping=damping,
            dtype=dtype,
            device=device,
            progress=layered(advance),
        )
    if json:
        print_json(report.to_json())
        return
    first, *others = HEADINGS
    title = f"({report.format}) {report.dtype}, {report.method}"
    print_table((first, *(f">{each}" for each in others)), report.rows(), title=title)


def layered(advance: Callable[[float, float], None]) -> Callable[[str, int, int], None]:
    """What `convert` reports its progress to: layers done, and the share of the one at work."""
    layers = [0, 0]

    def report(what: str, done: int, total: int) -> None:
        if what == "layers":
            layers[:] = done, total
            advance(done, total)
        elif layers[1]:
            advance(round(layers[0] + done / total, 2), layers[1])

    return report
