"""Launches that begin while the one before ends, in chains where each needs what that one wrote."""

from dataclasses import replace

import pytest

import samoyeds_gen as sg
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm
from samoyeds_gen.language.schedule import Launch, Split, Tile
from samoyeds_gen.runtime import device_info, driver_present, driver_problem

torch = pytest.importorskip("torch", reason="buffers and checks are torch's")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
    pytest.mark.timeout(120),
]

WIDTH, LAYERS = 2048, 6


def kernels(name, form, split):
    """The kernel of a schedule that waits for launches to end, and one that begins early."""
    schedule = replace(load_schedule(name, form, make_ssmm(form, "bf16").dtype), where=())
    if name == "ssmm_sm90":
        schedule = replace(schedule, tile=Tile(schedule.tile.m, 16, schedule.tile.k))
    schedule = replace(schedule, split=Split(split))
    return [
        sg.compile(replace(schedule, launch=launch), n=form.n, m=form.m, v=form.v)
        for launch in (Launch(), Launch(True, prefetch=name == "decode_sm80"))
    ]


@pytest.mark.parametrize("split", [1, 2])
@pytest.mark.parametrize("form", [Format(1, 2, 128), Format(1, 1, 32)], ids=str)
@pytest.mark.parametrize("name", ["decode_sm80", "ssmm_sm90"])
def test_every_launch_reads_what_the_one_before_wrote(name, form, split):
    if device_info().capability < (9, 0):
        pytest.skip("launches that begin early take a GPU of compute capability 9.0 or later")
    torch.manual_seed(0)
    weights = [
        sg.encode(torch.randn(WIDTH, WIDTH, device="cuda") / WIDTH**0.5, **vars_of(form))
        for _ in range(LAYERS)
    ]
    late, early = kernels(name, form, split)

    def chain(kernel, x):
        for w in weights:
            x = kernel(w, x)
        return x

    given = torch.zeros(16, WIDTH, device="cuda", dtype=torch.bfloat16)
    chain(early, given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = chain(early, given)
    for _ in range(20):
        x = torch.randn(16, WIDTH, device="cuda").bfloat16()
        wanted = chain(late, x)
        found = chain(early, x * 1)  # behind a launch that is not ours
        assert torch.equal(found, wanted)
        given.copy_(x)
        graph.replay()
        assert torch.equal(captured, wanted)
        for y in (found, captured):
            y.fill_(float("nan"))


def vars_of(form):
    return {"n": form.n, "m": form.m, "v": form.v}


@pytest.mark.parametrize("name", ["decode_sm80", "ssmm_sm90"])
def test_a_launch_begins_early_behind_copies_zeros_and_other_streams(name):
    """In a graph, what stands before a launch may be no kernel, or several nodes."""
    if device_info().capability < (9, 0):
        pytest.skip("launches that begin early take a GPU of compute capability 9.0 or later")
    form = Format(1, 2, 128)
    w = sg.encode(torch.randn(WIDTH, WIDTH, device="cuda") / WIDTH**0.5, **vars_of(form))
    late, early = kernels(name, form, 1)
    given = torch.randn(16, WIDTH, device="cuda").bfloat16()
    copied, cleared = torch.empty_like(given), torch.ones_like(given)
    beside = torch.cuda.Stream()

    def work(kernel):
        here = torch.cuda.current_stream()
        copied.copy_(given)
        first = kernel(w, copied)
        cleared.zero_()
        zeros = kernel(w, cleared)
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            doubled = first * 2
        cleared.copy_(zeros)
        here.wait_stream(beside)
        return first, zeros, kernel(w, doubled)

    wanted = [each.clone() for each in work(late)]
    work(early)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = work(early)
    for _ in range(20):
        for each in (copied, *captured):
            each.fill_(float("nan"))
        cleared.fill_(1.0)
        graph.replay()
        assert all(torch.equal(*pair) for pair in zip(captured, wanted, strict=True))
        assert all(torch.equal(*pair) for pair in zip(work(early), wanted, strict=True))
