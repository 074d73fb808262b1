"""Comparisons of layers with an invented GPU: configurations, ratios, best peers, files, cuts."""

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layer_cases import SMALL, TINY, InventedLayerRig, contender, usual

from samoyeds_gen.errors import CompileError, TuneError
from samoyeds_gen.formats import Format, gate_block
from samoyeds_gen.tune.layers import (
    CONFIGS,
    TOKENS,
    Case,
    LayerConfig,
    cases_of,
    choice,
    config_named,
)
from samoyeds_gen.tune.layers.best import Peers, read_peers
from samoyeds_gen.tune.layers.choice import chosen_kernels, names_of
from samoyeds_gen.tune.layers.rows import LayerRow, layer_means, layer_rows, layers_json, rows_csv
from samoyeds_gen.tune.layers.run import run_layers
from samoyeds_gen.tune.machines import machine_named
from samoyeds_gen.tune.timing import Effort

EFFORT = Effort(rounds=3, sample_ms=1.0, settle_ms=1.0, warmup_s=0.01)
CASES = cases_of([TINY, SMALL], [16, 4096])


def peer(config, tokens, name, us, graph):
    return {"config": config, "T": str(tokens), "peer": name, "us": us, "us_graph": graph}


PEERS = Peers(
    [
        peer("tiny", 16, "grouped_mm", "50.0", "60.0"),
        peer("tiny", 16, "vllm_tuned", "40.0", "30.0"),
        peer("tiny", 16, "eager_loop", "900.0", ""),
        peer("tiny", 4096, "vllm_tuned", "10.0", "10.0"),
    ]
)


def with_best(case, contenders, timings):
    return layer_rows(case, contenders, timings, PEERS.best(case))


def test_configurations_are_those_of_the_format_notes():
    by_name = {each.name: each for each in CONFIGS}
    assert len(by_name) == len(CONFIGS) == 8
    assert by_name["mixtral-8x7b"] == LayerConfig("mixtral-8x7b", 4096, 14336, 8, 2)
    assert by_name["qwen3-30b-a3b"].dense_bytes == 2 * 128 * 3 * 2048 * 768
    assert config_named("dsv3-like-64e").operations(16) == 2 * 16 * 8 * 3 * 7168 * 2048
    for each in CONFIGS:  # sizes that every compared format takes
        for form in (Format(1, 2, 128), Format(1, 2, 64), Format(1, 1, 32)):
            assert each.inner % gate_block(form) == 0
            assert each.hidden % form.m == 0


def test_cases_go_layer_by_layer_and_count_under_three_means():
    cases = cases_of(CONFIGS[:2], TOKENS)
    assert [each.config.name for each in cases[:6]] == ["mixtral-8x7b"] * 5 + ["mixtral-8x22b"]
    groups = [each.group for each in cases[:5]]
    assert groups == ["tokens <= 128"] * 2 + ["tokens <= 1024"] + ["tokens > 1024"] * 2
    assert str(Case(TINY, 16, "zipf")) == "tiny 16 zipf"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: config_named("gpt"), "layer 'gpt' is not one of mixtral-8x7b, "),
        (lambda: cases_of(CONFIGS, [1], "odd"), "routing 'odd' is not one of uniform, zipf, one;"),
        (lambda: cases_of(CONFIGS, []), r"numbers of tokens \[\] are not all positive;"),
        (lambda: cases_of(CONFIGS, [8, 0]), r"numbers of tokens \[8, 0\] are not all positive;"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(TuneError, match=sentence):
        call()


def test_ratios_are_to_the_better_grouped_mm_and_ours_counts_replayed():
    results = run_layers(CASES[:1], InventedLayerRig(), EFFORT, layer_rows)
    dense, eager, ours = results.rows
    assert [row.us for row in results.rows] == [100.0, 500.0, 40.0]
    assert [row.ratio for row in results.rows] == [1.0, 0.2, 2.5]
    assert (ours.us_eager, ours.us_graph, eager.us_graph) == (80.0, 40.0, None)
    assert ours.tflops == pytest.approx(TINY.operations(16) / 40e-6 * 1e-12)
    assert ours.weight_tbs == pytest.approx(1000 / 40e-6 * 1e-12)
    assert (dense.share, ours.share) == (1.0, 2000 / TINY.dense_bytes)
    assert (ours.kind, dense.kind, ours.schedules) == ("ours", "peer", "a + b")
    assert [row.ratio_best for row in results.rows] == [None] * 3
    assert [(each.contender, each.error) for each in results.failed] == [
        ("hf_batched_mm", "left out, since it would copy 90 GB of weights")
    ]


def test_ours_is_never_given_the_better_of_two_ways():
    rig = InventedLayerRig(lambda case: [contender("ours (1,1,32)", 10.0, 30.0, format="1,1,32")])
    (row,) = run_layers(CASES[:1], rig, EFFORT, with_best).rows
    assert (row.us, row.ratio, row.ratio_best) == (30.0, None, None)


def test_cases_of_one_name_are_all_kept():
    results = run_layers([CASES[0]] * 2, InventedLayerRig(), EFFORT, layer_rows)
    assert len(results.rows) == 2 * 3


def test_the_best_peer_is_carried_by_grouped_mm():
    results = run_layers(CASES[:2], InventedLayerRig(), EFFORT, with_best)
    few, many = results.rows[:3], results.rows[3:]
    # In the file 30 against 50, here grouped_mm takes 100: the best would take 60.
    assert [row.best_us for row in few] == [pytest.approx(60.0)] * 3
    assert [row.ratio_best for row in few] == pytest.approx([0.6, 0.12, 1.5])
    assert {row.best for row in few} == {"vllm_tuned"}
    assert [row.ratio_best for row in many] == [None] * 3  # no grouped_mm in the file
    assert PEERS.best(Case(TINY, 16, "zipf")) is None
    assert PEERS.best(Case(SMALL, 16)) is None


@given(st.floats(1, 1e5), st.floats(1, 1e5), st.floats(1, 1e5))
def test_a_best_peer_keeps_its_ratio_to_grouped_mm(best, then, now):
    peers = Peers(
        [peer("tiny", 16, "grouped_mm", str(then), ""), peer("tiny", 16, "a", str(best), "")]
    )
    found = peers.best(Case(TINY, 16))
    assert found.us == min(best, then)
    assert found.carried(now) / now == pytest.approx(min(best, then) / then)


def test_the_file_of_peers_has_every_case():
    peers = read_peers()
    for case in cases_of(CONFIGS, TOKENS):
        found = peers.best(case)
        assert found is not None, str(case)
        assert 0 < found.us <= found.anchor_us
    assert peers.best(Case(config_named("mixtral-8x7b"), 16)).us == 638.9


def test_another_file_of_peers(tmp_path):
    path = tmp_path / "peers.csv"
    path.write_text("config,T,peer,us,us_graph\ntiny,16,grouped_mm,7.5,\n")
    assert read_peers(path).best(Case(TINY, 16)).us == 7.5
    with pytest.raises(OSError, match="peers2"):
        read_peers(tmp_path / "peers2.csv")


def test_weights_are_made_once_a_layer_and_given_back_after_each_case():
    rig = InventedLayerRig()
    run_layers(CASES, rig, EFFORT, with_best)
    assert rig.log == [
        "prepare tiny", "check tiny 16", "release", "check tiny 4096", "release",
        "prepare small", "check small 16", "release", "check small 4096", "release",
    ]  # fmt: skip


def test_results_are_written_after_every_case_and_a_cut_is_counted():
    seen, clock = [], iter(range(0, 1000, 10))
    said = []
    results = run_layers(
        CASES,
        InventedLayerRig(),
        EFFORT,
        with_best,
        written=lambda results: seen.append(len(results.rows)),
        within=25,
        clock=lambda: next(clock),
        progress=lambda *step: said.append(step),
    )
    assert seen == [3, 6, 6]
    assert results.cut == 2
    assert said[-1] == (2, 4, "2 cases left out after 25 s")


def test_an_interrupted_run_has_written_what_it_found():
    seen = []

    def at(case):
        if case.config is SMALL:
            raise KeyboardInterrupt
        return usual(case)

    with pytest.raises(KeyboardInterrupt):
        run_layers(
            CASES, InventedLayerRig(at), EFFORT, with_best,
            written=lambda results: seen.append(layers_json(results.rows, results.failed, {})),
        )  # fmt: skip
    assert len(json.loads(seen[-1])["rows"]) == 6


def test_means_are_by_group_and_contender():
    results = run_layers(CASES, InventedLayerRig(), EFFORT, with_best)
    found = {(each.group, each.contender): each for each in layer_means(results.rows)}
    few = found["tokens <= 128", "ours (1,2,128)"]
    assert (few.ratio, few.least, few.cases) == (pytest.approx(2.5), 2.5, 2)
    assert (few.ratio_best, few.least_best) == (pytest.approx(1.5), pytest.approx(1.5))
    many = found["tokens > 1024", "ours (1,2,128)"]
    assert (many.ratio_best, many.least_best) == (None, None)


def test_a_case_in_which_nobody_takes_part_is_no_row():
    rig = InventedLayerRig(lambda case: [])
    assert run_layers(CASES, rig, EFFORT, with_best).rows == []


def test_json_and_csv_hold_every_row():
    results = run_layers(CASES, InventedLayerRig(), EFFORT, with_best)
    data = json.loads(layers_json(results.rows, results.failed, {"gpu": "H200"}))
    assert [LayerRow(**row) for row in data["rows"]] == results.rows
    assert data["gpu"] == "H200"
    assert len(data["failed"]) == 4
    assert len(data["means"]) == len(layer_means(results.rows))
    table = list(csv.DictReader(io.StringIO(rows_csv(results.rows, LayerRow))))
    assert [float(row["us"]) for row in table] == [row.us for row in results.rows]
    assert table[1]["us_graph"] == ""


def test_a_row_as_a_sentence():
    rows = run_layers(CASES[:1], InventedLayerRig(), EFFORT, with_best).rows
    assert str(rows[2]) == (
        "tiny 16 ours (1,2,128): 80.0 us, 40.0 us replayed, 0 TFLOP/s, 2.50x (1.50x of best), "
        "peak 0.0 MB, host 12 us"
    )
    assert "replayed" not in str(rows[1])
    assert "x" not in str(replace(rows[1], ratio=None, ratio_best=None)).split(":")[1]


def test_kernels_are_compiled_ahead(monkeypatch):
    seen = []

    def compiled(schedule, problem, target):
        seen.append((schedule, problem, target.name))
        if len(seen) == 1:
            raise CompileError("it spills")

    steps = []
    monkeypatch.setattr(choice, "grouped_kernel", compiled)
    monkeypatch.setattr(choice, "order_of", lambda *given, **options: steps.append(options))
    monkeypatch.setattr(
        choice,
        "order_of_combine",
        lambda *given, weighted, early: steps.append((*given[2:5], weighted)),
    )
    cases = cases_of([config_named("qwen1.5-moe")], [16, 16384])
    count = choice.compile_ahead(cases, [Format(1, 2, 128)], machine_named("H200"))
    assert len(set(seen)) == len(seen) == count - 2 + 1
    assert {each[2] for each in seen} == {"sm_90a"}
    given = {"chooses": False, "values": "float32", "index": "int64", "early": False}
    assert given in steps
    assert (4, 16, 2048, True) in steps
    assert (1, 4 * 16384, 2048, False) in steps


def test_kernels_are_named_and_only_the_first_may_pack_tokens():
    machine = machine_named("H200")
    for tokens in (16, 16384):
        first, down = chosen_kernels(
            Case(config_named("qwen1.5-moe"), tokens), Format(1, 2, 128), machine
        )
        assert first.problem.gated
        assert not down.packs_tokens
        assert first.packs_tokens == ("packed" in first.schedule.name)
        assert names_of((first, down)) == f"{first.schedule.name} + {down.schedule.name}"
