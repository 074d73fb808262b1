"""The machine code of a cubin as text, through NVIDIA's own disassembler.

Decides where the tool is looked for: the wheels of the `inspect` extra, then PATH.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from samoyeds_gen.errors import CompileError

_TOOLS = {"nvdisasm": ("--print-code",), "cuobjdump": ("--dump-sass",)}
"""The tools by preference: cuobjdump calls nvdisasm, so it works only where both are."""


def disassemble(cubin: bytes) -> str:
    """The SASS of every kernel in a cubin.

    Raises CompileError when neither nvdisasm nor cuobjdump is installed, or when the tool refuses
    the cubin.
    """
    tool = find_tool()
    with tempfile.TemporaryDirectory(prefix="samoyeds-gen-") as directory:
        path = Path(directory) / "kernel.cubin"
        path.write_bytes(cubin)
        environment = os.environ | {
            "PATH": f"{tool.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        }
        done = subprocess.run(
            [tool, *_TOOLS[tool.name], path],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise CompileError(
            f"{tool.name} refuses the cubin: {complaint[0]}",
            remedy="use a disassembler at least as new as the NVRTC that made it",
        )
    return done.stdout


def find_tool() -> Path:
    """The disassembler that `disassemble` uses; CompileError naming the remedy without one."""
    for name in _TOOLS:
        for folder in _wheel_folders():
            if os.access(folder / name, os.X_OK):
                return folder / name
    for name in _TOOLS:
        if found := shutil.which(name):
            return Path(found)
    raise CompileError(
        "neither nvdisasm nor cuobjdump is installed",
        remedy="pip install samoyeds-gen[inspect]",
    )


def _wheel_folders() -> Iterator[Path]:
    """Where the wheels nvidia-cuda-nvdisasm and nvidia-cuda-cuobjdump put their programs."""
    spec = find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(Path(root).glob("*/bin"), reverse=True)
    yield Path(sys.prefix) / "bin"
