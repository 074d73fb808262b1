"""`compile` without a schedule: it computes the same, chooses once a shape, and says what."""

import sys
import time

import numpy as np
import pytest
from tune_cases import PAIRS, database, record, shipped

import samoyeds_gen as sg
from samoyeds_gen.formats import Format
from samoyeds_gen.language import make_ssmm
from samoyeds_gen.runtime import driver_present
from samoyeds_gen.tune import auto
from samoyeds_gen.tune.auto import AutoKernel, present_machine
from samoyeds_gen.tune.machines import machine_named

FORM = Format(1, 2, 32)
NO_DRIVER = pytest.mark.skipif(driver_present(), reason="a GPU is present")


def integers(shape, seed=0):
    import ml_dtypes

    return np.random.default_rng(seed).integers(-3, 4, shape).astype(ml_dtypes.bfloat16)


W = sg.encode(integers((37, 75), 1), n=1, m=2, v=32)
X = integers((11, 75), 2)


def exactly(got, expected):
    rounded = expected.astype(got.dtype).astype(np.float64)
    return np.array_equal(got.astype(np.float64), rounded, equal_nan=True)


@pytest.fixture
def kernel():
    return AutoKernel(make_ssmm(FORM, "bf16"), machine_named("A100"), database=database)


def test_it_computes_what_any_kernel_computes(kernel):
    assert kernel.choice is None
    assert exactly(kernel(W, X, device="cpu"), sg.reference.ssmm(W, X))
    assert kernel.choice.source == "model"
    rows = [3, 0, 10, 3]
    assert exactly(kernel(W, X, rows, device="cpu"), sg.reference.ssmm(W, X, rows))
    bias, scale = np.arange(37, dtype=np.float32), np.ones(11, np.float32)
    got = kernel(W, X, bias=bias, scale=scale, activation="relu", out_dtype="float32", device="cpu")
    assert got.dtype == np.float32
    assert exactly(got, sg.reference.ssmm(W, X, bias=bias, scale=scale, activation="relu"))
    assert kernel.last_report.counters.opcodes["mma.sp"] > 0


def test_compile_with_and_without_a_schedule():
    chosen = sg.compile(n=1, m=2, v=32, target="sm_80")
    assert isinstance(chosen, sg.AutoKernel)
    assert repr(chosen) == "AutoKernel((1,2,32) bfloat16, sm_80, A100)"
    assert isinstance(sg.compile("ssmm_sm80", n=1, m=2, v=32, target="sm_80"), sg.Kernel)


def test_defaults_of_compile_are_those_of_the_calls():
    kernel = sg.compile(n=1, m=2, v=32, target="sm_80", activation="relu", out_dtype="float32")
    y = kernel(W, X, device="cpu")
    assert y.dtype == np.float32
    assert exactly(y, sg.reference.ssmm(W, X, activation="relu"))


def test_a_shape_is_chosen_and_compiled_once(kernel, monkeypatch):
    asked = []
    real = auto.rank
    monkeypatch.setattr(auto, "rank", lambda *given: asked.append(given) or real(*given))
    for _ in range(3):
        kernel(W, X, device="cpu")
        kernel(W, X[:9], device="cpu")  # the same bucket of 16 tokens
    assert len(asked) == 1
    kernel(W, X[:8], device="cpu")
    kernel(W, X, [1, 2], device="cpu")
    kernel(W, X, bias=np.ones(37, np.float32), device="cpu")
    assert len(asked) == 4


def test_the_table_decides_by_tokens():
    prefix, exchange = shipped(format=FORM), shipped("ssmm_sm80_exchange", FORM)

    def tables():
        return database(
            record(prefix, 5.0, (37, 75, 8), format=FORM, gpu="A100"),
            record(exchange, 5.0, (37, 75, 64), format=FORM, gpu="A100"),
        )

    kernel = AutoKernel(make_ssmm(FORM, "bf16"), machine_named("A100"), database=tables)
    kernel(W, X[:5], device="cpu")
    assert (kernel.choice.schedule, kernel.choice.source) == (prefix, "table")
    kernel(W, integers((60, 75)), device="cpu")
    assert (kernel.choice.schedule, kernel.choice.source) == (exchange, "table")
    assert kernel.choose(37, 75, 60) == kernel.choice
    assert kernel.kernel_for(37, 75, 60).schedule == exchange


def test_a_choice_does_not_depend_on_the_order_of_calls():
    def chosen(counts):
        kernel = AutoKernel(make_ssmm(FORM, "bf16"), machine_named("A100"), database=database)
        found = {}
        for count in counts:
            kernel(W, integers((count, 75)), device="cpu")
            found[count] = kernel.choice
        return found

    assert chosen([9, 16, 12]) == chosen([16, 12, 9])


def test_a_schedule_that_does_not_compile_gives_way_to_the_next(kernel, monkeypatch):
    best = kernel.choose(37, 75, 11).schedule
    real = auto.Kernel.variant

    def variant(self, **options):
        if self.schedule == best:
            raise sg.CompileError("it spills", remedy="use a smaller tile")
        return real(self, **options)

    monkeypatch.setattr(auto.Kernel, "variant", variant)
    assert exactly(kernel(W, X, device="cpu"), sg.reference.ssmm(W, X))
    assert kernel.choice.schedule != best


def test_when_nothing_compiles_the_first_refusal_is_raised(kernel, monkeypatch):
    def variant(self, **options):
        raise sg.CompileError(f"{self.schedule.name} spills", remedy="use a smaller tile")

    monkeypatch.setattr(auto.Kernel, "variant", variant)
    first = kernel.choose(37, 75, 11).schedule.name
    with pytest.raises(sg.CompileError, match=f"{first} spills"):
        kernel(W, X, device="cpu")


REFUSED = [
    ("no weight", (X, X), {}, "the weight is a ndarray, not a SparseWeight"),
    ("no array", (W, "tokens"), {}, "a value of type str is not an array"),
    ("columns", (W, X[:, :7]), {}, "tokens are \\[11, 7\\], the weight has k=75 columns"),
    ("row", (W, X, [11]), {}, "selection\\[0\\] is 11, tokens have rows 0 to 10"),
    ("selection", (W, X, 3), {}, "a value of type int is not an array"),
    ("activation", (W, X), {"activation": "swish"}, "activation 'swish' is not one of"),
    ("out dtype", (W, X), {"out_dtype": "int8"}, "dtype 'int8' is not one of"),
    ("device", (W, X), {"device": "tpu"}, "device 'tpu' is not one of auto, cpu, gpu"),
    ("format", (sg.encode(X, n=1, m=2, v=64), X), {}, "the weight is \\(1,2,64\\) bfloat16"),
]


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    ("arguments", "options", "sentence"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_what_kernels_refuse_is_refused_with_their_sentence(
    kernel, arguments, options, sentence, warm
):
    if warm:
        kernel(W, X, device="cpu")
        kernel(W, X, [1], device="cpu")
    with pytest.raises(sg.SamoyedsError, match=sentence):
        kernel(*arguments, **({"device": "cpu"} | options))


def test_looking_a_call_up_takes_a_few_microseconds(kernel, monkeypatch):
    kernel(W, X, device="cpu")
    monkeypatch.setattr(auto.Kernel, "__call__", lambda self, w, tokens, selection, **options: None)
    best = 1.0
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(100):
            kernel(W, X, device="cpu")
        best = min(best, (time.perf_counter() - began) / 100)
    assert best < 10e-6


def test_calls_from_other_threads_choose_too(kernel):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        outs = list(pool.map(lambda count: kernel(W, X[:count], device="cpu"), (1, 9, 11)))
    assert [len(each) for each in outs] == [1, 9, 11]


@NO_DRIVER
def test_without_a_gpu_the_target_decides_the_machine():
    assert present_machine().name == "A100"
    assert present_machine("sm_90a").name == "H200"
    with pytest.raises(sg.ScheduleError, match="target 'sm_75' is not one of"):
        present_machine("sm_75")


def test_a_present_gpu_is_chosen_for_unless_another_target_is_asked_for(monkeypatch):
    class Present:
        name, target, multiprocessors = "NVIDIA H200", "sm_90a", 132

    monkeypatch.setattr(auto, "device_target", lambda: "sm_90a")
    monkeypatch.setattr(auto, "device_info", Present)
    assert present_machine().name == present_machine("sm_90a").name == "H200"
    assert present_machine("sm_80").name == "A100"
    monkeypatch.setattr(auto, "device_target", lambda: "sm_75")
    assert present_machine().name == "A100"


def test_importing_and_choosing_need_no_torch():
    import subprocess

    code = (
        "import sys, samoyeds_gen as sg; sg.compile(n=1, m=2, v=32, target='sm_90a')"
        ".choose(4096, 4096, 16); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_choosing_reads_the_users_own_database(tmp_path, monkeypatch):
    from samoyeds_gen.tune import open_database

    monkeypatch.setenv("SAMOYEDS_CACHE_DIR", str(tmp_path))
    expand = shipped("ssmm_sm80_expand")
    opened = open_database()
    opened.store([record(expand, 1.0, (4096, 4096, 16))])
    opened.close()
    best = sg.compile(n=1, m=2, v=128, target="sm_90a").choose(4096, 4096, 16)
    assert (best.schedule, best.source) == (expand, "table")
    assert str(PAIRS) == "1,2,128"
