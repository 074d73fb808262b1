"""Calling a kernel: what it accepts, what it returns, what it leaves alone."""

import sys

import ml_dtypes
import numpy as np
import pytest
from tiny import compiled, exactly, integers, tiny, weight

import samoyeds_gen as sg
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import choose_target
from samoyeds_gen.kernel.simulated import require_simulable
from samoyeds_gen.language import make_ssmm

W = weight(37, 75)
X = integers((11, 75), 2)
NO_DRIVER = pytest.mark.skipif(sg.kernel.kernel.driver_present(), reason="a GPU is present")


@pytest.fixture(scope="module")
def kernel():
    return compiled()


def test_result_is_token_major_of_the_tokens_type(kernel):
    y = kernel(W, X, device="cpu")
    assert y.shape == (11, 37)
    assert y.dtype == ml_dtypes.bfloat16
    assert exactly(y, sg.reference.ssmm(W, X))


@pytest.mark.parametrize("kind", [list, tuple, np.int8, np.uint16, np.int32, np.uint32, np.int64])
def test_selections_of_any_integers(kernel, kind):
    rows = [3, 0, 10, 3]
    selection = kind(rows) if kind in (list, tuple) else np.array(rows, kind)
    assert exactly(kernel(W, X, selection, device="cpu"), sg.reference.ssmm(W, X, rows))


@pytest.mark.parametrize("selection", [range(0), range(11), range(10, -1, -1), [5] * 40])
def test_empty_whole_reversed_and_repeated_selections(kernel, selection):
    y = kernel(W, X, selection, device="cpu")
    assert y.shape == (len(selection), 37)
    assert exactly(y, sg.reference.ssmm(W, X, list(selection)))


def test_a_strided_selection(kernel):
    rows = (np.arange(22, dtype=np.int64) % 11)[::-2]
    assert not rows.flags.c_contiguous
    assert exactly(kernel(W, X, rows, device="cpu"), sg.reference.ssmm(W, X, rows))


STRIDED = {
    "every second row": lambda x: x[::2],
    "reversed rows": lambda x: x[::-1],
    "columns of a wider array": lambda x: np.pad(x, ((0, 0), (3, 8)))[:, 3:-8],
    "one row repeated": lambda x: np.broadcast_to(x[:1], x.shape),
    "read only": lambda x: _read_only(x),
    "one row": lambda x: x[:1],
    "no rows": lambda x: x[:0],
}


def _read_only(x):
    y = x.copy()
    y.flags.writeable = False
    return y


@pytest.mark.parametrize("name", STRIDED)
@pytest.mark.parametrize("k", [75, 72])
def test_tokens_of_any_row_stride(kernel, name, k):
    w, x = weight(37, k), STRIDED[name](integers((11, k), 2))
    assert exactly(kernel(w, x, device="cpu"), sg.reference.ssmm(w, np.ascontiguousarray(x)))


def test_arguments_are_not_written(kernel):
    selection, bias, scale = (
        np.array([1, 2], np.int32), np.ones(37, np.float32), np.ones(2, np.float32),
    )  # fmt: skip
    arrays = (W.data, W.metadata, W.indices, X, selection, bias, scale)
    before = [array.tobytes() for array in arrays]
    kernel(W, X, selection, bias=bias, scale=scale, device="cpu")
    assert [array.tobytes() for array in arrays] == before


def test_results_do_not_depend_on_earlier_calls(kernel):
    first = kernel(W, X, device="cpu")
    kernel(weight(5, 9), integers((2, 9)), device="cpu")
    assert kernel(W, X, device="cpu").tobytes() == first.tobytes()


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("out_dtype", ["bfloat16", "float16", "float32"])
def test_epilogue_order_is_bias_activation_scale_round(kernel, activation, out_dtype):
    bias = np.linspace(-2, 2, 37, dtype=np.float32)
    scale = np.linspace(-1, 1, 4, dtype=np.float32)
    options = {"bias": bias, "scale": scale, "activation": activation}
    y = kernel(W, X, [0, 5, 5, 2], out_dtype=out_dtype, device="cpu", **options)
    assert y.dtype.name == out_dtype
    expected, bound = sg.reference.ssmm_with_bound(
        W, X, [0, 5, 5, 2], fold="exchange", out_dtype=out_dtype, **options
    )
    assert (np.abs(y.astype(np.float64) - expected) <= bound).all()


def test_defaults_given_to_compile_are_used_by_calls():
    kernel = compiled(activation="relu", out_dtype="float32")
    y = kernel(W, X, device="cpu")
    assert y.dtype == np.float32
    assert exactly(y, sg.reference.ssmm(W, X, activation="relu"))


def test_variants_are_compiled_once(kernel):
    assert kernel.variant() is kernel.variant()
    assert kernel.variant(index="int32") is not kernel.variant(index="int64")
    assert kernel.variant(bias=True).plan.entry != kernel.variant().plan.entry


def test_last_report_counts_what_ran(kernel):
    kernel(W, X, device="cpu")
    counters = kernel.last_report.counters
    # 2 tiles of 64 features, 1 of 16 tokens, 2 of 64 columns; 2 warps of 1 x 2 fragments, 2 steps.
    assert counters.opcodes["mma.sp"] == 1 * 1 * 2 * 2 * 2 * 2
    actual, ideal = counters.shared_wavefronts["ldmatrix"]
    assert actual == ideal


def test_progress_is_reported(kernel):
    seen = []
    kernel(W, X, device="cpu", progress=lambda done, total: seen.append((done, total)))
    assert seen
    assert seen[-1][0] == seen[-1][1]


def test_repr_names_schedule_format_and_target(kernel):
    assert repr(kernel) == (
        f"Kernel(ssmm_sm80 {kernel.schedule.digest}, (1,2,32) bfloat16, {kernel.target.name})"
    )


def test_auto_refuses_work_that_would_take_minutes(kernel):
    plan = kernel.variant().plan
    require_simulable(plan, 1024, 1024, 1024)
    with pytest.raises(sg.LaunchError) as caught:
        require_simulable(plan, 1, 4096, 14336)
    # One feature costs a whole tile of them.
    assert str(caught.value) == (
        "m=1, k=14336, n=4096 is 3.76e+09 multiply-adds, the simulator is limited to 1.07e+09 by "
        "device='auto'; use a smaller problem, a GPU, or device='cpu' to wait for it"
    )


@NO_DRIVER
def test_auto_estimates_before_it_packs_anything(kernel):
    w = weight(2, 8192)
    x = np.zeros((8192, 8192), ml_dtypes.bfloat16)
    with pytest.raises(sg.LaunchError, match="multiply-adds"):
        kernel(w, x)


@NO_DRIVER
def test_without_a_gpu_auto_simulates_and_gpu_says_why(kernel):
    assert exactly(kernel(W, X), sg.reference.ssmm(W, X))
    with pytest.raises(sg.LaunchError, match="driver"):
        kernel(W, X, device="gpu")


def test_target_none_is_the_present_gpu_where_legal(monkeypatch):
    import samoyeds_gen.kernel.kernel as room

    problem = make_ssmm(Format(1, 2, 32), "bf16")
    schedule = tiny("exchange", Format(1, 2, 32))
    for present, expected in (
        (None, "sm_80"),
        ("sm_90a", "sm_90a"),
        ("sm_120a", "sm_120a"),
        ("sm_75", "sm_80"),
    ):
        monkeypatch.setattr(room, "device_target", lambda present=present: present)
        assert choose_target(schedule, problem, None).name == expected
        assert choose_target(schedule, problem, "sm_89").name == "sm_89"
    monkeypatch.setattr(room, "device_target", lambda: "sm_86")
    big = load_big()
    assert choose_target(big, problem, None).name == "sm_80", "the ring does not fit sm_86"


def load_big():
    from dataclasses import replace

    from samoyeds_gen.language.schedule import Tile

    schedule = tiny("exchange", Format(1, 2, 32))
    return replace(
        schedule,
        tile=Tile(256, 64, 64),
        warps=replace(schedule.warps, m=4, n=2),
        pipeline=replace(schedule.pipeline, stages=8),
    )


@pytest.mark.torch
def test_torch_tokens_give_torch_results(kernel):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.from_numpy(X.astype(np.float32)).to(torch.bfloat16)
    dense = torch.from_numpy(W.decode().astype(np.float32))
    w = sg.encode(dense, n=1, m=2, v=32)
    selection = torch.tensor([4, 0, 0], dtype=torch.int64)
    bias = torch.ones(37)
    y = kernel(w, x, selection, bias=bias, device="cpu")
    assert isinstance(y, torch.Tensor)
    assert y.dtype == torch.bfloat16
    expected = sg.reference.ssmm(W, X, [4, 0, 0], bias=np.ones(37, np.float32))
    assert exactly(y.float().numpy().astype(ml_dtypes.bfloat16), expected)
    assert kernel(w, x[:0], device="cpu").shape == (0, 37)
    strided = torch.zeros(11, 160, dtype=torch.bfloat16)[:, 5:80]
    strided.copy_(x)
    assert torch.equal(kernel(w, strided, device="cpu"), kernel(w, x, device="cpu"))


def test_nothing_imports_torch_by_itself():
    import subprocess

    code = "import sys, samoyeds_gen, samoyeds_gen.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
