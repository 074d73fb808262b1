"""Benchmarks and searches on a GPU: everybody is right, and replayed from graphs."""

import pytest

import samoyeds_gen as sg
from samoyeds_gen.formats import Format
from samoyeds_gen.language import make_ssmm, target_named
from samoyeds_gen.runtime import device_info, driver_present, driver_problem

torch = pytest.importorskip("torch", reason="peers and checks are torch's")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
    pytest.mark.timeout(600),
]

FORM = Format(1, 2, 128)


@pytest.fixture(autouse=True)
def _own_database(tmp_path, monkeypatch):
    from samoyeds_gen.runtime import default_directory
    from samoyeds_gen.tune.database import FILE

    builds = default_directory() / "kernels"
    monkeypatch.setenv("SAMOYEDS_CACHE_DIR", str(tmp_path))
    if builds.is_dir():
        (tmp_path / "kernels").symlink_to(builds)
    assert not (tmp_path / FILE).exists()


def rig(*ours, **options):
    from samoyeds_gen.tune.machines import machine_of
    from samoyeds_gen.tune.rig import TorchRig

    return TorchRig(machine_of(device_info()), ours, **options)


def automatic(format):
    kernel = sg.compile(n=format.n, m=format.m, v=format.v)
    return f"auto ({format})", format, lambda shape: kernel.kernel_for(*shape)


@pytest.mark.parametrize("shape", [(1408, 2048, 4096), (2048, 1408, 1), (4096, 4096, 24)])
def test_everybody_is_checked_captured_and_timed(shape):
    from samoyeds_gen.tune.bench import run_bench
    from samoyeds_gen.tune.timing import QUICK

    bench = rig(automatic(FORM), automatic(Format(4, 8, 32)))
    results = run_bench([("given", shape)], bench, QUICK)
    for row in results.rows:
        print(row)
    print(results.failed)
    names = [row.contender for row in results.rows]
    assert names[:2] == ["cuBLAS out[n,m]", "cuBLAS out[m,n]"]
    assert {"auto (1,2,128)", "auto (4,8,32)"} <= set(names)
    assert all(row.contender.startswith("cuSPARSELt") for row in results.failed)
    assert all(row.replay == "graph" for row in results.rows if row.kind == "ours")
    assert all(row.least_us <= row.median_us <= row.most_us for row in results.rows)


def test_a_wrong_kernel_is_not_timed(monkeypatch):
    from samoyeds_gen.tune.contender import Failure

    kernel = sg.compile("ssmm_sm80_prefix", n=1, m=2, v=128)

    class Wrong:
        schedule, choice, variant = kernel.schedule, kernel.choice, kernel.variant

        def __call__(self, w, tokens, *, out):
            kernel(w, tokens, out=out)
            out[-1, -1] += 1
            return out

    found = rig().prepare("wrong", FORM, Wrong(), (300, 256, 40))
    assert isinstance(found, Failure)
    assert found.error.startswith("wrong: 12000 elements, 0 unwritten, 1 wrong")


def test_an_unwritten_element_is_found():
    from samoyeds_gen.tune.contender import Failure

    kernel = sg.compile("ssmm_sm80_prefix", n=1, m=2, v=128)

    class Lazy:
        schedule, choice, variant = kernel.schedule, kernel.choice, kernel.variant

        def __call__(self, w, tokens, *, out):
            return out

    found = rig().prepare("lazy", FORM, Lazy(), (300, 256, 40))
    assert isinstance(found, Failure)
    assert "12000 unwritten" in found.error


def test_decode_rotates_more_bytes_than_any_cache_holds():
    from samoyeds_gen.tune.buffers import ROTATED_BYTES, weight_sets

    shape = (2048, 1408, 8)
    bench = rig()
    kernel = sg.compile("ssmm_sm80_prefix", n=1, m=2, v=128)
    found = bench.prepare("ours", FORM, kernel, shape)
    sets = weight_sets(shape, found.weight_bytes)
    assert sets * found.weight_bytes > ROTATED_BYTES
    assert found.timed.launches % sets == 0
    copies = bench.weights(shape).copies(FORM, kernel.variant().plan, sets)
    assert len({each.data.data_ptr() for each in copies}) == sets


def test_a_search_ends_with_a_right_kernel_and_is_not_repeated(tmp_path):
    from functools import partial

    from samoyeds_gen.tune.building import build_all
    from samoyeds_gen.tune.choice import Task
    from samoyeds_gen.tune.database import Database
    from samoyeds_gen.tune.machines import machine_of
    from samoyeds_gen.tune.measuring import Measuring
    from samoyeds_gen.tune.search import QUICK_RUNGS, search

    machine = machine_of(device_info())
    task = Task(machine, target_named(machine.target), make_ssmm(FORM, "bf16"), (2048, 2048, 512))
    opened = Database(tmp_path / "own.sqlite")
    found = search(task, opened, partial(build_all, task), Measuring(task), rungs=QUICK_RUNGS)
    print(found)
    assert found.winner.us == min(each.us for each in found.final)
    assert found.winner.status == "ok"
    again = search(task, opened, partial(build_all, task), Measuring(task), rungs=QUICK_RUNGS)
    assert (again.winner, again.measured) == (found.winner, 0)
    dense = Measuring(task).dense(QUICK_RUNGS[-1].effort)
    assert 0 < dense.us < 1000


@pytest.mark.host_time
def test_an_automatic_call_is_right_and_quick_to_repeat(slowness):
    import time

    kernel = sg.compile(n=1, m=2, v=128)
    w = sg.encode(torch.randn(512, 256, device="cuda"), n=1, m=2, v=128)
    x = torch.randn(64, 256, device="cuda").bfloat16()
    dense = w.decode().double()
    got = kernel(w, x).double()
    assert (got - x.double() @ dense.T).abs().max() < 0.5
    best = 1.0
    for _ in range(100):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(50):
            kernel(w, x)
        best = min(best, (time.perf_counter() - began) / 50)
    print(f"host overhead of a repeated automatic call: {1e6 * best:.1f} us")
    assert best < 14e-6 * slowness
