"""Runs compute-sanitizer's four tools over shipped schedules, and one split over a cluster.

    python tests/gpu/sanitize.py [SCHEDULE FORMAT ..]

Needs a GPU and compute-sanitizer, which comes with the CUDA toolkit. Exits with 1 unless every run
of every tool ends with no error. cuda-bindings asks the driver for symbols that it may lack, which
is no error of a kernel: --report-api-errors no.
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm
from samoyeds_gen.language.schedule import Cluster, Split, Tile

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
GOOD = ("ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 0 hazards")


def clusters(folder: Path) -> list[tuple[str, str]]:
    """Schedule files whose CTAs split k, and share tokens, in a cluster."""
    form = Format(1, 2, 128)
    base = replace(load_schedule("ssmm_sm90", form, make_ssmm(form, "bf16").dtype), where=())
    made = []
    for name, changes in (("split", {"split": Split(3)}), ("shared", {"cluster": Cluster(2)})):
        path = folder / f"{name}.json"
        tile = Tile(256, 64, 128)
        path.write_text(replace(base, name=name, tile=tile, **changes).to_json())
        made.append((str(path), str(form)))
    return made


def run(tool: str, schedule: str, form: str) -> tuple[str, bool]:
    """One tool over one kernel: a line to print, and whether it found nothing."""
    command = [
        "compute-sanitizer", "--tool", tool, "--report-api-errors", "no", sys.executable, "-m",
        "samoyeds_gen", "run", schedule, "--format", form, "--shape", SHAPE, "--device", "gpu",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    summary = next((line for line in reversed(lines) if "SUMMARY" in line), "no summary")
    right = any("0 wrong" in line for line in lines)
    good = done.returncode == 0 and right and any(each in summary for each in GOOD)
    name = Path(schedule).stem
    return f"{tool:<10} {name:<18} {form:<9} {summary.lstrip('= ')}", good


def main() -> int:
    """Everything, four at a time."""
    if shutil.which("compute-sanitizer") is None:
        print("compute-sanitizer is not on the path; it comes with the CUDA toolkit")
        return 1
    given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(4) as pool:
        runs = list(zip(given[::2], given[1::2], strict=True)) or [*RUNS, *clusters(Path(folder))]
        jobs = [(tool, *each) for tool in TOOLS for each in runs]
        results = list(pool.map(lambda job: run(*job), jobs))
    for line, good in results:
        print(("ok   " if good else "FAIL ") + line)
    return 0 if all(good for _, good in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
