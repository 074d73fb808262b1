"""Figures of layers as tables: every row of a file is a cell, and other files are refused."""

import json

import pytest
from layer_cases import SMALL, TINY, InventedLayerRig

from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.language import Routing
from samoyeds_gen.tune.layers import cases_of
from samoyeds_gen.tune.layers.best import Best
from samoyeds_gen.tune.layers.markdown import (
    layers_markdown,
    memory_markdown,
    models_markdown,
)
from samoyeds_gen.tune.layers.memory_rows import MemoryRow, memory_json, memory_rows
from samoyeds_gen.tune.layers.model_rows import ModelRow, model_rows, models_json
from samoyeds_gen.tune.layers.models import ModelLayer, model_cases
from samoyeds_gen.tune.layers.rows import LayerRow, layer_rows, layers_json, read_rows
from samoyeds_gen.tune.layers.run import run_layers
from samoyeds_gen.tune.machines import machine_named
from samoyeds_gen.tune.timing import Effort

EFFORT = Effort(rounds=3, sample_ms=1.0, settle_ms=1.0, warmup_s=0.01)
ABOUT = {
    "gpu": "NVIDIA H200", "driver": "580", "torch": "2.11", "date": "2026-11-21",
    "effort": {"rounds": 5, "sample_ms": 20.0},
}  # fmt: skip
MADE = "NVIDIA H200, driver 580, torch 2.11, 2026-11-21, 5 rounds of 20 ms.\n"


def run(cases):
    def rows_of(case, ready, timings):
        best = Best("vllm", 45.0, 50.0) if case.tokens == 16 else None
        return layer_rows(case, ready, timings, best)

    return run_layers(cases, InventedLayerRig(), EFFORT, rows_of)


def test_layers_are_a_line_each_with_a_column_for_tokens(tmp_path):
    cases = cases_of([TINY, SMALL], [4096, 16]) + cases_of([TINY], [16], "zipf")
    results = run(cases)
    path = tmp_path / "moe.json"
    path.write_text(layers_json(results.rows, results.failed, {**ABOUT, "suite": "moe"}))
    rows, about = read_rows(path, LayerRow, "moe")
    assert rows == results.rows
    text = layers_markdown(rows, about)
    lines = text.splitlines()
    assert "| layer | 16 tokens | 4096 tokens |" in lines
    assert "| tiny | 40.0 (2.25x, 2.50x) | 40.0 (-, 2.50x) |" in lines
    assert "| small | 40.0 (2.25x, 2.50x) | 40.0 (-, 2.50x) |" in lines
    assert "**ours (1,2,128), zipf routing**, microseconds (of best, of grouped_mm)" in lines
    assert "| tokens <= 128 | uniform | ours (1,2,128) | 2.25x | 2.25x | 2.50x | 2.50x |" in lines
    assert "| tokens > 1024 | uniform | hf_eager |  |  | 0.20x | 0.20x |" in lines
    assert "| tiny | 0.0 (0.0) | 0.0 (0.0) |" in lines
    assert text.endswith(MADE)


def test_models_are_a_line_a_call(tmp_path):
    layer = ModelLayer(TINY, Routing(4, 2, "softmax_topk", True), 2, 2, 16)
    results = run_layers(model_cases([layer]), InventedLayerRig(), EFFORT, model_rows)
    path = tmp_path / "model.json"
    path.write_text(models_json(results.rows, results.failed, {**ABOUT, "suite": "model"}))
    text = models_markdown(*read_rows(path, ModelRow, "model"))
    assert "| tiny | decode 64 | ours (1,2,128) | 40.0 | 1600000 | 2.50x | 0 | 0.0 |" in text
    assert "| decode | ours (1,2,128) | 2.50x | 2.50x | 2 |" in text
    assert text.endswith(MADE)


def test_memory_says_who_tried_it(tmp_path):
    from dataclasses import replace

    rows = memory_rows(TINY, Format(1, 2, 32), machine_named("H200"), (24,))
    path = tmp_path / "memory.json"
    path.write_text(memory_json(rows, [], {**ABOUT, "suite": "memory"}))
    plain = memory_markdown(*read_rows(path, MemoryRow, "memory"))
    assert "ours did" not in plain
    assert plain.endswith("By formula alone, for one NVIDIA H200.\n")
    assert f"| {rows[0].dense_tokens} | {rows[0].tokens} |" in plain
    tried = memory_markdown([replace(rows[0], measured="fits")], ABOUT)
    assert "ours did" in tried
    assert " |  | fits |" in tried
    assert tried.endswith(MADE)


def test_nothing_is_measured_without_a_file(tmp_path):
    for kind, suite, markdown in (
        (LayerRow, "moe", layers_markdown),
        (ModelRow, "model", models_markdown),
        (MemoryRow, "memory", memory_markdown),
    ):
        assert markdown(*read_rows(tmp_path / "none.json", kind, suite)) == "Not measured yet.\n"


@pytest.mark.parametrize(
    "text",
    ["[1]", "{", json.dumps({"suite": "model", "rows": []}), '{"suite": "moe", "rows": [{}]}'],
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "moe.json"
    path.write_text(text)
    with pytest.raises(TuneError, match=r"moe.json does not hold the figures of the suite moe; wr"):
        read_rows(path, LayerRow, "moe")
