"""How long the host takes: to emit, to compile, to load a cached kernel, to repeat a call."""

import time

import pytest

import samoyeds_gen as sg
from samoyeds_gen.compiler import compile_plan, emit
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm, target_named
from samoyeds_gen.runtime import (
    Cache,
    compile_source,
    device_target,
    driver_present,
    driver_problem,
    forget_builds,
    load,
)

torch = pytest.importorskip("torch", reason="repeated calls are measured with torch tensors")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.host_time,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
]

NAMES = ("ssmm_sm80", "ssmm_sm80_exchange", "ssmm_sm80_prefix", "ssmm_sm80_expand")
FORM = Format(1, 2, 128)


def seconds(act):
    began = time.perf_counter()
    result = act()
    return time.perf_counter() - began, result


@pytest.mark.parametrize("name", NAMES)
def test_from_schedule_to_loaded_kernel(name, tmp_path):
    target = target_named(device_target())
    problem = make_ssmm(FORM, "bfloat16", index="int64")
    schedule = load_schedule(name, FORM, problem.dtype)
    emit(compile_plan(schedule, problem, target))  # the first emission reads the templates
    emissions = [seconds(lambda: emit(compile_plan(schedule, problem, target))) for _ in range(5)]
    emitting, source = sorted(emissions)[2]
    plan = compile_plan(schedule, problem, target)
    cache = Cache(tmp_path)
    compile_source(source + "// warm\n", name=plan.source_name, target=target.name, cache=cache)

    def build():
        return compile_source(source, name=plan.source_name, target=target.name, cache=cache)

    compiling, _ = seconds(build)
    torch.zeros(1, device="cuda")  # the context exists
    forget_builds()
    loading, _ = seconds(lambda: load(build(), plan.entry, shared_bytes=plan.shared_bytes))
    print(
        f"{name}: emission {1e3 * emitting:.1f} ms, compile {compiling:.2f} s, "
        f"cached source to loaded kernel {1e3 * loading:.1f} ms"
    )
    assert emitting < 0.050
    assert compiling < 1.0
    assert loading < 0.020


@pytest.mark.parametrize("selected", [False, True])
def test_host_overhead_of_a_repeated_call(selected, slowness):
    kernel = sg.compile("ssmm_sm80_prefix", n=1, m=2, v=128)
    w = sg.encode(torch.randn(512, 128, device="cuda"), n=1, m=2, v=128)
    tokens = torch.randn(64, 128, device="cuda").bfloat16()
    arguments = (w, tokens, torch.arange(64, device="cuda")) if selected else (w, tokens)
    best = 1.0
    for _ in range(100):
        torch.cuda.synchronize()
        spent, _ = seconds(lambda: [kernel(*arguments) for _ in range(50)])
        best = min(best, spent / 50)
    print(f"host overhead of a repeated call, selected={selected}: {1e6 * best:.1f} us")
    assert best < 10e-6 * slowness


def test_a_repeated_call_sees_new_contents_and_new_places():
    kernel = sg.compile("ssmm_sm80", n=1, m=2, v=64)
    generator = torch.Generator(device="cuda").manual_seed(0)

    def integers(*shape):
        drawn = torch.randint(-3, 4, shape, device="cuda", generator=generator)
        return drawn.to(torch.bfloat16)

    w = sg.encode(integers(300, 200).float(), n=1, m=2, v=64)
    dense = w.decode().double()
    tokens, selection = integers(90, 200), torch.arange(70, device="cuda")
    for _ in range(3):
        tokens.copy_(integers(90, 200))
        selection.copy_(torch.randperm(90, device="cuda")[:70])
        y = kernel(w, tokens, selection)
        assert torch.equal(y.double(), (tokens[selection].double() @ dense.T).bfloat16().double())
    tokens.resize_(80, 200).copy_(integers(80, 200))
    selection.copy_(torch.arange(70, device="cuda"))
    y = kernel(w, tokens, selection)
    assert torch.equal(y.double(), (tokens[selection].double() @ dense.T).bfloat16().double())
    other = sg.encode(integers(300, 200).float(), n=1, m=2, v=64)
    y = kernel(other, tokens, selection)
    expected = tokens[selection].double() @ other.decode().double().T
    assert torch.equal(y.double(), expected.bfloat16().double())
