"""Disassembly, with the real tool where it is installed, and the refusal where it is not."""

import pytest
from cuda_sources import SAXPY, TARGETS

from samoyeds_gen.errors import CompileError
from samoyeds_gen.runtime import compile_source, disassemble, disassembly
from samoyeds_gen.runtime.disassembly import find_tool


@pytest.fixture
def tool():
    try:
        return find_tool()
    except CompileError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("target", TARGETS)
def test_machine_code_is_shown(target):
    text = disassemble(compile_source(SAXPY, name="k.cu", target=target, cache=None).cubin)
    assert "saxpy" in text
    assert "FFMA" in text
    assert "EXIT" in text


def test_a_broken_cubin_is_refused(tool):
    with pytest.raises(CompileError, match=rf"{tool.name} refuses the cubin: .*; use a disassem"):
        disassemble(b"not a cubin")


def test_the_remedy_without_a_tool(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(disassembly, "_wheel_folders", lambda: iter([tmp_path]))
    with pytest.raises(CompileError) as caught:
        disassemble(b"")
    assert str(caught.value) == (
        "neither nvdisasm nor cuobjdump is installed; pip install samoyeds-gen[inspect]"
    )


def test_wheels_come_before_the_path(monkeypatch, tmp_path):
    for folder in ("wheel", "path"):
        (tmp_path / folder).mkdir()
        program = tmp_path / folder / "nvdisasm"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(disassembly, "_wheel_folders", lambda: iter([tmp_path / "wheel"]))
    assert find_tool() == tmp_path / "wheel" / "nvdisasm"
    (tmp_path / "wheel" / "nvdisasm").unlink()
    assert find_tool() == tmp_path / "path" / "nvdisasm"
