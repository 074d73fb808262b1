"""The application: which commands there are, and how a refusal leaves the program.

A SamoyedsError is one line on stderr and exit code 1; a mistake in the command line itself is
exit code 2. Nothing a user can do prints a traceback.
"""

import sys
from typing import Annotated

import typer

from samoyeds_gen.cli import (
    advising,
    benching,
    checking,
    compiling,
    converting,
    emitting,
    explaining,
    laddering,
    listing,
    running,
    starting,
    tuning,
)
from samoyeds_gen.cli.console import complain
from samoyeds_gen.errors import SamoyedsError

app = typer.Typer(
    name="samoyeds-gen",
    help="Compile, check, run and explain structured-sparse GPU kernels written as schedules.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(listing.list_shipped)
app.command("new")(starting.new)
app.command("emit")(emitting.emit_files)
app.command("compile")(compiling.compile_schedule)
app.command("check")(checking.check)
app.command("run")(running.run)
app.command("explain")(explaining.explain)
app.command("bench")(benching.bench)
app.command("tune")(tuning.tune)
app.command("advise")(advising.advise)
app.command("ladder")(laddering.ladder)
app.command("convert")(converting.convert)


def _version(wanted: bool) -> None:
    if wanted:
        from samoyeds_gen import __version__

        typer.echo(f"samoyeds-gen {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line of this process and leave it with the command's exit code."""
    try:
        app(prog_name="samoyeds-gen")
    except SamoyedsError as error:
        complain(str(error))
        sys.exit(1)
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(1)
