"""What tests of machine code have in common: the mark of those that need a disassembler."""

import pytest

from samoyeds_gen.errors import SamoyedsError
from samoyeds_gen.runtime.disassembly import find_tool


def tool_missing():
    """Why there is no disassembler; empty where there is one."""
    try:
        find_tool()
    except SamoyedsError as error:
        return str(error)
    return ""


needs_disassembler = pytest.mark.skipif(
    bool(tool_missing()), reason=tool_missing() or "no disassembler"
)
