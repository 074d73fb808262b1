"""`bench`, `tune` and `advise`: what they print, write and refuse, with an invented GPU."""

import json

import pytest

from samoyeds_gen.cli import benching, tuning
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm
from samoyeds_gen.runtime import driver_present
from samoyeds_gen.tune.bench import Results, run_bench
from samoyeds_gen.tune.contender import Contender, Failure
from samoyeds_gen.tune.machines import machine_named
from samoyeds_gen.tune.record import FINAL, Record
from samoyeds_gen.tune.timing import FULL, QUICK, Timed

NO_DRIVER = pytest.mark.skipif(driver_present(), reason="needs a machine without a GPU")


@pytest.fixture(autouse=True)
def _own_database(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMOYEDS_CACHE_DIR", str(tmp_path / "cache"))


class InventedDevice:
    name = "NVIDIA H200"

    def __str__(self):
        return "NVIDIA H200 (invented)"


class InventedRig:
    machine = machine_named("H200")

    def __init__(self, ours):
        self.ours = ours

    def contenders(self, shape):
        yield Contender(
            name="cuBLAS out[n,m]", timed=Timed(lambda turn: 100.0), weight_bytes=8, verdict="right"
        )
        yield Failure("cuSPARSELt 2:4", "internal error")
        for name, format, make in self.ours:
            kernel = make(shape)
            yield Contender(
                name=name,
                timed=Timed(lambda turn: 40.0),
                weight_bytes=4,
                verdict="right",
                replay="host (no graph: why not)",
                format=str(format),
                choice=kernel.choice,
            )

    def sample(self, run, settle, timed):
        return run(0)

    def release(self):
        pass


@pytest.fixture
def gpu(monkeypatch):
    """An invented GPU for `bench`: what it was asked to measure."""
    asked = []

    def measure(shapes, ours, effort, written, *, with_peers):
        asked.append((shapes, [(name, format) for name, format, _ in ours], effort, with_peers))
        return run_bench(shapes, InventedRig(ours), effort, written=written)

    monkeypatch.setattr(benching, "require_torch", lambda *given: None)
    monkeypatch.setattr(benching, "device_info", InventedDevice)
    monkeypatch.setattr(benching, "about", lambda effort: {"gpu": "invented"})
    monkeypatch.setattr(benching, "measure", measure)
    return asked


def test_bench_prints_rows_means_and_failures_and_writes_files(cli, gpu, tmp_path):
    outputs = [option for kind in ("json", "csv", "svg") for option in ("-o", f"r.{kind}")]
    ran = cli("bench", "ssmm_sm80", "auto", "-s", "64,128,8", "-f", "1,2,64", "--quick", *outputs)
    assert (ran.code, ran.err) == (0, "")
    for words in ("2.50x", "not counted", "internal error", "host (no graph: why not)", "invented"):
        assert words in ran.out
    data = json.loads((tmp_path / "r.json").read_text())
    assert [row["contender"] for row in data["rows"]] == [
        "cuBLAS out[n,m]",
        "ssmm_sm80 (1,2,64)",
        "auto (1,2,64)",
    ]
    assert data["rows"][2]["reason"].startswith("quickest of")
    assert (tmp_path / "r.csv").read_text().startswith("group,m,k,n,contender")
    assert "<svg" in (tmp_path / "r.svg").read_text()


def test_bench_options_choose_shapes_formats_and_effort(cli, gpu):
    assert cli("bench", "-f", "1,2,64,4,8,32", "-f", "1,2,64", "--suite", "paper").code == 0
    assert cli("bench", "-s", "8,16,24", "-s", "1,2,3", "--quick", "--rounds", "5").code == 0
    assert cli("bench", "--suite", "mma", "--no-peers").code == 0
    (paper, ours, full, peers), (own, _, quick, _), (mma, default, _, without) = gpu
    assert [name for name, _ in ours] == ["auto (1,2,64)", "auto (4,8,32)"]
    assert {group for group, _ in paper} == {"paper"}
    assert len(paper) == 6
    assert (full, peers, without) == (FULL, True, False)
    assert own == [("given", (8, 16, 24)), ("given", (1, 2, 3))]
    assert (quick.rounds, quick.sample_ms) == (5, QUICK.sample_ms)
    assert [shape for _, shape in mma] == [(8192, 8192, 8192), (14336, 4096, 4096)]
    assert default == [("auto (1,2,128)", Format(1, 2, 128))]


REFUSED = [
    (
        ("bench", "--suite", "huge"),
        "suite 'huge' is not one of mma, paper, large, ragged, decode, moe, ",
    ),
    (("bench", "-f", "1,2"), "formats '1,2' are not triples n,m,v; write them as 1,2,64"),
    (("bench", "-f", "1,2,64,4"), "formats '1,2,64,4' are not triples n,m,v; write them"),
    (("bench", "-s", "1,2"), "shape '1,2' is not three positive integers m,k,n; write it"),
    (("bench", "-o", "r.txt"), "the output 'r.txt' does not end in one of .json, .csv, .svg;"),
    (
        ("tune", "--suite", "huge"),
        "suite 'huge' is not one of mma, paper, large, ragged, decode; use",
    ),
    (("tune", "-f", "2,1,64"), "format 2,1,64 keeps 2 of 1 sub-rows, but 1 <= n <= m <= 16"),
    (("advise", "-s", "8,8,8", "--gpu", "TPU"), "GPU 'TPU' is not one of H200, H100, A100, "),
    (("advise", "-s", "8,8"), "shape '8,8' is not three positive integers m,k,n; write it"),
    (("advise", "-s", "8,8,8", "--gpu", "H200", "-d", "int8"), "dtype: dtype 'int8' is not one of"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=lambda each: str(each)[:60])
def test_a_refusal_is_one_line(cli, arguments, sentence):
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {sentence}")
    assert ran.err.count("\n") == 1


@NO_DRIVER
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("bench",), "there is no GPU to run on: "),
        (("tune", "-s", "8,8,8"), "there is no GPU to run on: "),
        (("advise", "-s", "8,8,8"), "no GPU is present and none is named; give --gpu, one of H200"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_what_needs_a_gpu_says_so(cli, arguments, sentence):
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {sentence}")


def test_advise_prints_what_its_json_says(cli):
    arguments = ("advise", "-s", "8192,8192,8192", "--gpu", "h200")
    data = json.loads(cli(*arguments, "--json").out)
    ran = cli(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.rstrip().endswith(data["advice"])
    assert data["gpu"] == "H200"
    assert data["dense_source"] == "table"
    for offer in data["offers"]:
        assert f"({offer['format']})" in ran.out
        assert f"{offer['us']:.1f} us" in ran.out


def test_advise_takes_formats_and_another_database(cli, tmp_path):
    ran = cli(
        "advise", "-s", "64,64,8", "--gpu", "A100", "-f", "1,2,64", "--database", "own.sqlite",
        "--json",
    )  # fmt: skip
    assert [offer["format"] for offer in json.loads(ran.out)["offers"]] == ["1,2,64"]
    assert (tmp_path / "own.sqlite").is_file()


class InventedMeasuring:
    """Every candidate takes as many microseconds as its tile has features, dense takes 300."""

    def __init__(self, task):
        self.task = task

    def __call__(self, schedules, effort):
        from samoyeds_gen.tune.search import Outcome

        return {each: Outcome(float(each.tile.m)) for each in schedules}

    def dense(self, effort):
        return Record(
            gpu=self.task.machine.name,
            format="",
            dtype=self.task.problem.dtype.name,
            shape=self.task.shape,
            schedule=None,
            effort=FINAL,
            us=300.0,
        )


@pytest.fixture
def tuned(monkeypatch):
    """`tune` on an invented H200 that compiles nothing."""
    import sys
    import types

    module = types.ModuleType("samoyeds_gen.tune.measuring")
    module.Measuring = InventedMeasuring
    monkeypatch.setitem(sys.modules, "samoyeds_gen.tune.measuring", module)
    monkeypatch.setattr(tuning, "require_torch", lambda *given: None)
    monkeypatch.setattr(tuning, "device_info", lambda: None)
    monkeypatch.setattr(tuning, "machine_of", lambda device: machine_named("H200"))
    monkeypatch.setattr(
        tuning, "build_all", lambda task, schedules: ((each, each.digest) for each in schedules)
    )


def timed_and_known(out):
    """The numbers of the only row of a result."""
    (row,) = [line for line in out.splitlines() if line.strip().startswith("4096, 4096, 4096")]
    timed, known, _ = map(int, row.split()[-3:])
    return timed, known


def test_tune_searches_keeps_and_exports_and_advise_then_knows(cli, tuned, tmp_path):
    arguments = ("tune", "ssmm_sm80_prefix", "-s", "4096,4096,4096", "-f", "1,2,64", "--quick")
    ran = cli(*arguments, "--export", "table.json")
    assert ran.code == 0
    table = json.loads((tmp_path / "table.json").read_text())
    here = [each for each in table["entries"] if each[3:6] == [4096, 4096, 4096] and each[6]]
    best = min(each[7] for each in here)
    assert f"{best:.1f} us" in ran.out
    assert f"{300 / best:.2f}x" in ran.out
    assert "legal candidates" in ran.err
    again = cli(*arguments)
    assert timed_and_known(ran.out)[1] == 0
    assert timed_and_known(again.out) == (0, timed_and_known(ran.out)[0])
    advice = json.loads(
        cli("advise", "-s", "4096,4096,4096", "--gpu", "H200", "-f", "1,2,64", "--json").out
    )
    assert (advice["offers"][0]["source"], advice["dense_us"]) == ("table", 300.0)
    assert advice["offers"][0]["us"] == best
    assert ["H200", "", "bfloat16", 4096, 4096, 4096, "", 300.0] in table["entries"]


def test_tune_times_no_more_than_what_is_recommended(cli, tuned):
    arguments = ("tune", "-s", "4096,4096,4096", "-f", "1,2,64", "--recommended", "5")
    ran = cli(*arguments)
    assert ran.code == 0
    assert 5 <= timed_and_known(ran.out)[0] <= 5 + 4  # sorted out, and the best of them to the end
    wrong = cli("tune", "ssmm_sm80_prefix", *arguments[1:])
    assert wrong.code != 0
    assert "--recommended takes the schedules of measurements" in wrong.err


def test_export_alone_needs_no_gpu(cli, tmp_path):
    ran = cli("tune", "--export", "table.json")
    assert (ran.code, ran.out) == (0, "wrote table.json\n")
    assert json.loads((tmp_path / "table.json").read_text())["version"] == 1


def test_compile_and_run_without_a_file_choose_and_say_so(cli):
    made = json.loads(cli("compile", "-s", "4096,4096,4096", "-t", "sm_90a", "--json").out)
    assert "expected" in made["choice"]
    ran = cli("run", "-s", "40,64,8", "--device", "cpu")
    assert ran.code == 0
    (choice,) = [line for line in ran.out.splitlines() if line.startswith("choice")]
    assert "quickest of" in choice
    given = cli("run", "ssmm_sm80", "-s", "40,64,8", "--device", "cpu").out
    assert "given by the caller" in given


def test_results_without_ratios_print_no_means(capsys):
    benching.print_results(Results())
    assert "geometric mean" not in capsys.readouterr().out
    f = Format(1, 2, 64)
    assert load_schedule("ssmm_sm80", f, make_ssmm(f, "bf16").dtype).name == "ssmm_sm80"
