"""The comparison of layers on a GPU: a small layer with everybody, checked, captured and timed."""

import pytest

from samoyeds_gen.formats import Format
from samoyeds_gen.language import Routing
from samoyeds_gen.runtime import device_info, device_target, driver_present, driver_problem
from samoyeds_gen.tune.layers import ROUTINGS, LayerConfig, cases_of
from samoyeds_gen.tune.layers.memory_rows import memory_rows
from samoyeds_gen.tune.layers.model_rows import model_rows
from samoyeds_gen.tune.layers.models import ModelLayer, model_cases
from samoyeds_gen.tune.layers.rows import layer_rows
from samoyeds_gen.tune.layers.run import run_layers
from samoyeds_gen.tune.machines import machine_of
from samoyeds_gen.tune.timing import Effort

torch = pytest.importorskip("torch", reason="buffers and checks are torch's")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
    pytest.mark.skipif(
        driver_present() and device_target() != "sm_90a", reason="experts share a launch on Hopper"
    ),
    pytest.mark.timeout(300),
]

SMALL = LayerConfig("small", 512, 384, 8, 2)
FORMATS = (Format(1, 2, 128), Format(1, 1, 32))
EFFORT = Effort(rounds=3, sample_ms=2.0, settle_ms=2.0, warmup_s=0.02)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_everybody_is_right_and_captured(routing):
    from samoyeds_gen.moe.bench.rig import TorchLayerRig

    rig = TorchLayerRig(machine_of(device_info()), FORMATS)
    cases = cases_of([SMALL], [1, 16, 1000], routing)
    results = run_layers(cases, rig, EFFORT, layer_rows)
    wrong = [each for each in results.failed if each.contender != "transformers"]
    assert wrong == []
    for tokens in (1, 16, 1000):
        rows = {row.contender: row for row in results.rows if row.tokens == tokens}
        assert {"grouped_mm", "ours (1,2,128)", "ours (1,1,32)"} <= set(rows)
        for name in ("grouped_mm", "ours (1,2,128)"):
            row = rows[name]
            assert row.replay == "graph"
            assert 0 < row.least_us <= row.us
            assert 0 < row.host_us < 5000
            assert row.relative < 0.01
        ours, dense = rows["ours (1,2,128)"], rows["grouped_mm"]
        assert 0 < ours.share < 0.3
        if tokens == 1000:
            assert 0 < ours.peak_bytes < dense.peak_bytes


def test_decoder_layers_are_right_and_captured():
    from samoyeds_gen.moe.bench.model_rig import TorchModelRig

    plain = ModelLayer(SMALL, Routing(8, 2, "softmax_topk", True), 8, 2, 64, normed=True)
    shared = ModelLayer(SMALL, Routing(8, 2, "softmax_topk", False, shared=2), 8, 8, 64, shared=2)
    rig = TorchModelRig(FORMATS[:1])
    results = run_layers(model_cases([plain, shared], 256), rig, EFFORT, model_rows)
    assert results.failed == []
    assert len(results.rows) == 2 * 3 * 2
    assert {row.replay for row in results.rows} == {"graph"}
    for dense, ours in zip(results.rows[::2], results.rows[1::2], strict=True):
        assert (dense.contender, ours.contender) == ("grouped_mm", "ours (1,2,128)")
        assert ours.held_bytes < dense.held_bytes


def test_peaks_are_those_of_the_formula():
    from samoyeds_gen.moe.bench.memory import measure_memory

    machine = machine_of(device_info())
    rows = memory_rows(SMALL, FORMATS[0], machine, (24,))
    (row,), peaks = measure_memory(SMALL, FORMATS[0], rows, machine)
    for each in peaks:
        slack = 2**20 + 4096  # what torch may leave of a block rather than split it
        if not each.contender.startswith("ours"):
            slack += 0.05 * each.formula_bytes
        assert abs(each.peak_bytes - each.formula_bytes) <= slack, each
    assert row.measured == row.dense_measured == "fits; 1.03 times as many: does not fit"


def test_poisoned_memory_is_what_is_allocated_next():
    from samoyeds_gen.moe.bench.gpu import peak_bytes, poison

    for elements in (2**22, 2**16):
        poison(2 * elements)
        assert torch.empty(elements, dtype=torch.bfloat16, device="cuda").isnan().all()
    held = peak_bytes(lambda: torch.ones(2**20, device="cuda") + torch.ones(2**20, device="cuda"))
    assert held == 12 * 2**20
