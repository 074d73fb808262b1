"""Streams on a GPU: CTAs that split k give the same bits every time, on any stream, in graphs."""

from dataclasses import replace

import pytest

import samoyeds_gen as sg
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm
from samoyeds_gen.language.schedule import Split
from samoyeds_gen.runtime import driver_present, driver_problem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=str(driver_problem())),
]
M, K, N = 2048, 4096, 13


@pytest.fixture(scope="module")
def problem():
    torch = pytest.importorskip("torch")
    generator = torch.Generator(device="cuda").manual_seed(0)
    format = Format(1, 2, 128)
    dense = torch.randn(M, K, device="cuda", generator=generator)
    w = sg.encode(dense, n=1, m=2, v=128)
    x = torch.randn(N, K, device="cuda", generator=generator).bfloat16()
    base = load_schedule("decode_sm80", format, make_ssmm(format, "bfloat16").dtype)
    kernel = sg.compile(replace(base, split=Split(7)), n=1, m=2, v=128)
    return torch, kernel, w, x


def test_results_repeat_bit_by_bit(problem):
    torch, kernel, w, x = problem
    first = kernel(w, x).clone()
    assert all(torch.equal(kernel(w, x), first) for _ in range(200))


def test_every_element_is_right_and_written(problem):
    from samoyeds_gen.tune.gate import expected

    torch, kernel, w, x = problem
    out = torch.full((N, M), float("nan"), device="cuda", dtype=torch.bfloat16)
    kernel(w, x, out=out)
    assert expected(w, x).compare(out, block_rows=2).passed


def test_streams_at_once_do_not_meet(problem):
    torch, kernel, w, x = problem
    expected = kernel(w, x).clone()
    streams = [torch.cuda.Stream() for _ in range(4)]
    torch.cuda.synchronize()
    results = []
    for turn in range(100):
        with torch.cuda.stream(streams[turn % 4]):
            results.append(kernel(w, x))
    torch.cuda.synchronize()
    assert all(torch.equal(each, expected) for each in results)


def test_a_graph_replays(problem):
    torch, kernel, w, x = problem
    expected = kernel(w, x).clone()
    out = torch.empty_like(expected)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kernel(w, x, out=out)
    for _ in range(5):
        out.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(out, expected)
