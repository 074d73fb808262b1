"""The program that a checker of memory and races is put around, run by the simulator."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "gpu" / "layer_run.py"


@pytest.mark.full
@pytest.mark.parametrize("kind", ["on_load", "before", "ring"])
def test_a_small_layer_is_right(kind):
    pytest.importorskip("torch", reason="needs torch")
    command = [sys.executable, str(PROGRAM), kind, "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"layer {kind}: 0 wrong\n"), done.stderr
