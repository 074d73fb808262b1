"""`bench` with a suite of layers: what it prints, writes as it goes, and refuses."""

import json
from dataclasses import replace

import pytest

from samoyeds_gen.cli import benching, layer_benching
from samoyeds_gen.tune.contender import Failure
from samoyeds_gen.tune.layers import CONFIGS, TOKENS
from samoyeds_gen.tune.layers.memory_rows import PeakRow
from samoyeds_gen.tune.layers.model_rows import model_rows
from samoyeds_gen.tune.layers.rows import LayerContender, layer_rows
from samoyeds_gen.tune.layers.run import run_layers
from samoyeds_gen.tune.machines import machine_named
from samoyeds_gen.tune.timing import FULL, QUICK, Timed


class InventedDevice:
    name = "NVIDIA H200"

    def __str__(self):
        return "NVIDIA H200 (invented)"


class InventedRig:
    def __init__(self, formats):
        self.formats = formats

    def prepare(self, config):
        pass

    def contenders(self, case):
        def one(name, us, form=""):
            return LayerContender(
                name=name, eager=Timed(lambda turn: 2 * us), graph=Timed(lambda turn: us),
                replay="graph", weight_bytes=10, held_bytes=20, peak_bytes=3_000_000,
                host_us=33.0, worst=0.5, relative=0.004, format=form,
                rotated="tokens; weights fit in L2" if form else "",
            )  # fmt: skip

        yield one("grouped_mm", 100.0)
        yield Failure("transformers", "not installed")
        for form in self.formats:
            yield one(f"ours ({form})", 40.0, str(form))

    def sample(self, run, settle, timed):
        return run(0)

    def release(self):
        pass


@pytest.fixture
def gpu(monkeypatch):
    """An invented GPU: what it was asked to measure."""
    asked = []

    def measure(cases, formats, given, written, done):
        asked.append((cases, formats, given))
        return run_layers(
            cases, InventedRig(formats), given.effort, layer_rows, written=written,
            within=given.within, begun=done,
        )  # fmt: skip

    monkeypatch.setattr(benching, "require_torch", lambda *given: None)
    monkeypatch.setattr(layer_benching, "device_info", InventedDevice)
    monkeypatch.setattr(benching, "about", lambda effort: {"gpu": "invented"})

    def measure_models(cases, formats, given, written):
        asked.append((cases, formats, given))
        rig = InventedRig(formats)
        return run_layers(
            cases, rig, given.effort, model_rows, written=written, within=given.within
        )

    monkeypatch.setattr(layer_benching, "measure_layers", measure)
    monkeypatch.setattr(layer_benching, "measure_models", measure_models)
    return asked


def test_moe_prints_rows_means_and_failures_and_writes_files(cli, gpu, tmp_path):
    outputs = [option for kind in ("json", "csv", "svg") for option in ("-o", f"r.{kind}")]
    layers = ("--config", "mixtral-8x7b", "--config", "qwen1.5-moe")
    ran = cli("bench", "--suite", "moe", *layers, "--tokens", "16,1024", "--quick", *outputs)
    assert (ran.code, ran.err) == (0, "")
    for words in (
        "2.50x",
        "left out",
        "not installed",
        "tokens <= 1024",
        "invented",
        "3.0",
        "fit in L2",
    ):
        assert words in ran.out
    data = json.loads((tmp_path / "r.json").read_text())
    assert (data["suite"], data["gpu"]) == ("moe", "invented")
    assert [(row["config"], row["tokens"]) for row in data["rows"]] == [
        (config, tokens)
        for config in ("mixtral-8x7b", "qwen1.5-moe")
        for tokens in (16, 1024)
        for _ in range(2)
    ]
    assert (tmp_path / "r.csv").read_text().startswith("group,config,hidden,inner,experts,top")
    assert "<svg" in (tmp_path / "r.svg").read_text()


def test_moe_runs_everything_unless_told_otherwise(cli, gpu):
    assert cli("bench", "--suite", "moe").code == 0
    options = ("--routing", "zipf", "-f", "1,2,64,1,1,32", "--rounds", "5", "--quick")
    assert cli("bench", "--suite", "moe", *options, "--no-peers", "--within", "60").code == 0
    (everything, formats, plain), (skewed, several, given) = gpu
    assert len(everything) == len(CONFIGS) * len(TOKENS)
    assert {case.routing for case in everything} == {"uniform"}
    assert [str(form) for form in formats] == ["1,2,128"]
    assert (plain.effort, plain.peers, plain.within) == (FULL, True, None)
    assert {case.routing for case in skewed} == {"zipf"}
    assert [str(form) for form in several] == ["1,2,64", "1,1,32"]
    assert (given.effort.rounds, given.effort.sample_ms) == (5, QUICK.sample_ms)
    assert (given.peers, given.within) == (False, 60)


def test_moe_goes_on_where_a_file_ends(cli, gpu, tmp_path, monkeypatch):
    layer = ("--suite", "moe", "--config", "qwen1.5-moe", "--quick", "-o", "r.json")
    assert cli("bench", *layer, "--tokens", "16").code == 0
    assert cli("bench", *layer, "--tokens", "16,128", "--resume").code == 0
    assert cli("bench", *layer, "--tokens", "16", "--resume", "--routing", "one").code == 0
    before = (tmp_path / "r.json").read_text()
    late = ("--tokens", "128", "--resume", "-f", "1,2,64")
    assert cli("bench", *layer, *late, "--within", "0").code == 0
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == json.loads(before)["rows"]
    del gpu[-1]
    assert cli("bench", *layer, *late).code == 0
    asked = [[str(case) for case in cases] for cases, _, _ in gpu]
    case = "qwen1.5-moe"
    assert asked == [[f"{case} 16"], [f"{case} 128"], [f"{case} 16 one"], [f"{case} 128"]]
    data = json.loads((tmp_path / "r.json").read_text())
    found = [(row["tokens"], row["routing"], row["format"]) for row in data["rows"]]
    assert found == [
        (tokens, routing, form)
        for tokens, routing, ours in (
            (16, "uniform", "1,2,128"),
            (16, "one", "1,2,128"),
            (128, "uniform", "1,2,64"),
        )
        for form in ("", ours)
    ]
    monkeypatch.setattr(benching, "about", lambda effort: {"gpu": "another"})
    ran = cli("bench", *layer, "--tokens", "16", "--resume")
    assert ran.code == 1
    assert ran.err == (
        "error: r.json was made with gpu invented, this run has another; "
        "write to another file, or leave --resume out\n"
    )


def test_model_prints_rows_and_means_and_writes_files(cli, gpu, tmp_path):
    outputs = [option for kind in ("json", "csv", "svg") for option in ("-o", f"r.{kind}")]
    ran = cli("bench", "--suite", "model", "--config", "qwen3-30b-a3b", "--quick", *outputs)
    assert (ran.code, ran.err) == (0, "")
    for words in ("qwen3-30b-a3b prefill", "decode 64", "2.50x", "tokens/s", "left out"):
        assert words in ran.out
    data = json.loads((tmp_path / "r.json").read_text())
    assert (data["suite"], len(data["rows"]), len(data["means"])) == ("model", 6, 4)
    assert data["rows"][1]["tokens_per_s"] == pytest.approx(4096 / 40e-6)
    assert (tmp_path / "r.csv").read_text().startswith("group,config,call,tokens,cache,contender")
    assert "tokens a second" in (tmp_path / "r.svg").read_text()
    assert cli("bench", "--suite", "model").code == 0
    assert [len(cases) for cases, _, _ in gpu] == [3, 9]


def test_memory_is_told_without_a_gpu(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(layer_benching, "driver_present", lambda: False)
    outputs = ("-o", "r.json", "-o", "r.csv")
    ran = cli("bench", "--suite", "memory", "--config", "qwen1.5-moe", *outputs)
    assert ran.code == 0
    for words in ("28.3 %", "141", "weights of one layer"):
        assert words in ran.out
    assert "dense did" not in ran.out
    data = json.loads((tmp_path / "r.json").read_text())
    assert [row["gb"] for row in data["rows"]] == [24, 80, 141]
    assert (data["gpu"], data["measured"], data["peaks"]) == ("H200", False, [])
    assert (tmp_path / "r.csv").read_text().startswith("config,format,gb,dense_bytes")


def test_memory_is_measured_with_one(cli, monkeypatch, tmp_path):
    def measure(config, form, rows, machine):
        done = [replace(row, measured="fits; more: does not fit") for row in rows]
        peak = PeakRow(
            config=config.name, contender="grouped_mm", tokens=128, peak_bytes=2_100_000,
            formula_bytes=2_000_000,
        )  # fmt: skip
        return done, [peak]

    monkeypatch.setattr(layer_benching, "driver_present", lambda: True)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: name
    )  # torch, if it is here or not
    monkeypatch.setattr(layer_benching, "device_info", InventedDevice)
    monkeypatch.setattr(layer_benching, "machine_of", lambda device: machine_named("H200"))
    monkeypatch.setattr(benching, "about", lambda effort: {"gpu": "invented"})
    monkeypatch.setattr(layer_benching, "measure_memory", measure)
    two = ("--config", "qwen1.5-moe", "--config", "minicpm-moe")
    ran = cli("bench", "--suite", "memory", *two, "-o", "r.json")
    for words in ("fits; more: does not fit", "2.1", "2.0", "grouped_mm"):
        assert words in ran.out
    assert len(json.loads((tmp_path / "r.json").read_text())["peaks"]) == 2
    assert "fits; more" not in cli("bench", "--suite", "memory", *two, "--within", "-1").out


def test_cases_left_out_for_time_are_said(cli, gpu):
    ran = cli("bench", "--suite", "moe", "--config", "qwen1.5-moe", "--within", "-1")
    assert "5 cases were left out for time" in ran.out


REFUSED = [
    (("--suite", "moe", "--config", "gpt"), "layer 'gpt' is not one of mixtral-8x7b, "),
    (("--suite", "moe", "--tokens", "x"), "tokens 'x' are not whole numbers; write them as 16,"),
    (("--suite", "moe", "--tokens", "0"), "numbers of tokens [0] are not all positive; "),
    (("--suite", "moe", "--routing", "odd"), "routing 'odd' is not one of uniform, zipf, one; "),
    (("--suite", "moe", "--suite", "mma"), "suites of layers (moe, model, memory) take neither "),
    (("--suite", "model", "--config", "gpt"), "decoder layer 'gpt' is not one of mixtral-8x7b, "),
    (("--suite", "model", "--tokens", "8"), "--tokens, --routing and --resume are options of the"),
    (("--suite", "memory", "-o", "r.svg"), "the output 'r.svg' does not end in one of .json, .c"),
    (("--suite", "memory", "--routing", "one"), "--tokens, --routing and --resume are options of "),
    (("--suite", "model", "--resume"), "--tokens, --routing and --resume are options of "),
    (("--suite", "moe", "--resume", "-o", "r.csv"), "--resume goes on with the cases of a .json "),
    (("--suite", "moe", "-s", "8,8,8"), "suites of layers (moe, model, memory) take neither "),
    (("--suite", "moe", "-o", "r.txt"), "the output 'r.txt' does not end in one of .json, "),
    (("--config", "mixtral-8x7b"), "--config, --tokens, --routing, --within and --resume "),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=lambda each: str(each)[:60])
def test_a_refusal_is_one_line(cli, gpu, arguments, sentence):
    ran = cli("bench", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {sentence}")
    assert ran.err.count("\n") == 1
    assert gpu == []
