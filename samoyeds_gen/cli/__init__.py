"""The command line: thin, one file a command; results on stdout, progress and errors on stderr."""

from samoyeds_gen.cli.app import app, main

__all__ = ["app", "main"]
