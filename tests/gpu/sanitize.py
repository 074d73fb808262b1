"""Runs compute-sanitizer's four tools over schedules, shipped and others, and layers.

    python tests/gpu/sanitize.py [--layers | SCHEDULE FORMAT ..]

With `--layers`, over small layers of experts alone, from the router's scores to combined outputs.

Needs a GPU and compute-sanitizer, which comes with the CUDA toolkit. Everything runs once without a
tool first, which compiles the kernels: inside a tool that takes minutes. Exits with 1 unless every
run, of every tool too, ends with no error. cuda-bindings asks the driver for symbols that it may
lack, which is no error of a kernel: --report-api-errors no.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm
from samoyeds_gen.language.schedule import (
    Cluster,
    Epilogue,
    Launch,
    Layout,
    Overlap,
    Pack,
    Split,
    Stationary,
    Tile,
    Warps,
)

PLAIN = "no tool"
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SHAPE = "600,330,150"
RUNS = (
    ("ssmm_sm90", "1,2,128"),
    ("ssmm_sm90", "1,1,32"),
    ("ssmm_sm90", "4,8,32"),
    ("decode_sm80", "1,2,128"),
    ("decode_sm80", "4,8,32"),
    ("ssmm_sm80_prefix", "1,2,64"),
)
LAYERS = ("on_load", "before", "early", "ring")  # where tokens are gathered; kernels of other GPUs
STREAMED = {
    "pack": Pack(data="fragment"),
    "layout": Layout("linear", "xor_128b"),
    "stationary": Stationary("expand", weight="registers"),
}
GOOD = ("ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 0 hazards")


def directed(folder: Path) -> list[tuple[str, str]]:
    """Schedule files with directives that shipped ones lack: CTAs that split k, and share tokens,
    in a cluster; slices of warpgroups; two matrices a warpgroup; matrix work that runs on; a launch
    that begins early.
    """
    made = []
    for name, form, m, changes in (
        ("split", Format(1, 2, 128), 256, {"split": Split(3)}),
        ("shared", Format(1, 2, 128), 256, {"cluster": Cluster(2)}),
        ("lines", Format(1, 2, 128), 256, {"epilogue": Epilogue(16, "warpgroup")}),
        ("ahead", Format(1, 1, 32), 128, {"overlap": Overlap(ahead=True)}),
        ("tall", Format(1, 1, 32), 256, {"epilogue": Epilogue(16, "warpgroup")}),
        ("expanded", Format(4, 8, 32), 256, {"epilogue": Epilogue(16, "warpgroup")}),
        ("early", Format(1, 2, 128), 256, {"launch": Launch(dependent=True)}),
        ("streamed", Format(1, 1, 32), 128, {"overlap": Overlap(ahead=True), **STREAMED}),
    ):
        base = replace(load_schedule("ssmm_sm90", form, make_ssmm(form, "bf16").dtype), where=())
        path = folder / f"{name}.json"
        tile, warps = Tile(m, 64, 128), Warps(8, 1)
        path.write_text(replace(base, name=name, tile=tile, warps=warps, **changes).to_json())
        made.append((str(path), str(form)))
    return made


def kernel_command(schedule: str, form: str) -> list[str]:
    """What runs one kernel and prints how many outputs are wrong."""
    return ["-m", "samoyeds_gen", "run", schedule, "--format", form, "--shape", SHAPE,
            "--device", "gpu"]  # fmt: skip


def layer_command(kind: str) -> list[str]:
    """What runs one layer of experts and prints how many outputs are wrong."""
    return [str(Path(__file__).with_name("layer_run.py")), kind]


def run(tool: str, name: str, command: list[str]) -> tuple[str, bool]:
    """One tool over one command: a line to print, and whether it found nothing."""
    within = ["compute-sanitizer", "--tool", tool, "--report-api-errors", "no"]
    before = [sys.executable] if tool == PLAIN else [*within, sys.executable]
    done = subprocess.run([*before, *command], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    right = next((line for line in lines if "0 wrong" in line), "")
    summary = next((line for line in reversed(lines) if "SUMMARY" in line), "no summary")
    clean = any(each in summary for each in GOOD)
    if tool == PLAIN:
        summary, clean = right or "not 0 wrong", True
    good = done.returncode == 0 and bool(right) and clean
    return f"{tool:<10} {name:<28} {summary.lstrip('= ')}", good


def commands(given: list[str], folder: Path) -> list[tuple[str, list[str]]]:
    """What to run: a name and a command each."""
    layers = [(f"layer {kind}", layer_command(kind)) for kind in LAYERS]
    if given == ["--layers"]:
        return layers
    kernels = list(zip(given[::2], given[1::2], strict=True)) or [*RUNS, *directed(folder)]
    named = [(f"{Path(name).stem} {form}", kernel_command(name, form)) for name, form in kernels]
    return named if given else named + layers


def main() -> int:
    """Everything, as many at a time as there are processors."""
    if shutil.which("compute-sanitizer") is None:
        print("compute-sanitizer is not on the path; it comes with the CUDA toolkit")
        return 1
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = commands(sys.argv[1:], Path(folder))
        every = True
        for tools in ((PLAIN,), TOOLS):
            jobs = [(tool, *each) for tool in tools for each in runs]
            for line, good in pool.map(lambda job: run(*job), jobs):
                print(("ok   " if good else "FAIL ") + line, flush=True)
                every = every and good
    return 0 if every else 1


if __name__ == "__main__":
    raise SystemExit(main())
