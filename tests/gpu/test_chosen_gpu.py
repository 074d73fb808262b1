"""Every schedule that compile may choose, and every directive of Hopper's schedules, on a GPU.

A ragged product whose tiles, V-blocks and tokens are all cut, k long enough for many rounds of the
ring; all elements are compared with a float64 product and the output is poisoned.
"""

from dataclasses import replace
from functools import cache

import pytest

import samoyeds_gen as sg
from samoyeds_gen.compiler import first_violation
from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm, target_named
from samoyeds_gen.language.layouts import swizzle_for_row
from samoyeds_gen.language.schedule import Cluster, Epilogue, Overlap, Split, Tile, Warps
from samoyeds_gen.runtime import device_target, driver_present, driver_problem
from samoyeds_gen.tune.tables import read_table, shipped_tables

torch = pytest.importorskip("torch", reason="the comparison runs on the GPU with torch")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
]

M, K, N = 1104, 2200, 333


def tuned():
    for path in shipped_tables():
        for record in read_table(path.read_text(), path.name):
            if record.schedule is not None:
                yield record.schedule, Format(*map(int, record.format.split(","))), record.dtype


def directed():
    """Directives beside those that tables hold, with warpgroups that run apart for long."""
    wide = {"tile": (256, 64), "stages": 5}
    streamed = {"fragments": 1, "tile": (192, 128)}
    for format, consumers, words in (
        (Format(1, 1, 32), 2, {"overlap": Overlap(ahead=True), **wide}),
        (Format(1, 1, 32), 2, {"overlap": Overlap(ahead=True, skew=2), "cluster": 2, **wide}),
        (Format(1, 1, 32), 4, {"overlap": Overlap(turns=True, ahead=True), "slices": 8}),
        (Format(1, 1, 32), 2, {"overlap": Overlap(skew=1), **wide}),
        (Format(1, 1, 32), 2, {"overlap": Overlap(ahead=True), "by": "warpgroup", **wide}),
        (Format(1, 1, 32), 2, {"overlap": Overlap(ahead=True), "fragments": 3, **wide}),
        (Format(1, 1, 32), 2, {"overlap": Overlap(ahead=True), "fragments": 2, "tile": (64, 128)}),
        (
            Format(1, 1, 32),
            2,
            {"overlap": Overlap(ahead=True), "fragments": 4, "cluster": 2, **wide},
        ),
        (Format(1, 2, 64), 2, {"overlap": Overlap(turns=True), "by": "warpgroup"}),
        (Format(1, 2, 128), 2, {"overlap": Overlap(turns=True), "by": "warpgroup", **streamed}),
        (Format(1, 2, 32), 2, {"overlap": Overlap(turns=True), "fragments": 2, "tile": (96, 128)}),
        (Format(1, 4, 64), 2, {"overlap": Overlap(), "fragments": 1, "tile": (80, 64)}),
        (Format(1, 2, 16), 2, {"overlap": Overlap(), "by": "warpgroup"}),
        (Format(1, 2, 64), 2, {"overlap": Overlap(skew=2)}),
        (Format(1, 2, 128), 2, {"overlap": Overlap(split=2, turns=True), "tile": (128, 128)}),
        (Format(1, 2, 128), 2, {"overlap": Overlap(), "cluster": 2}),
        (Format(1, 2, 128), 2, {"overlap": Overlap(), "pieces": 3, "tile": (64, 128)}),
    ):
        base = load_schedule("ssmm_sm90", format, make_ssmm(format, "bfloat16").dtype)
        n, k = words.get("tile", (128, 128))
        rows = format.m if base.stationary.fold == "prefix" and not format.plain else 1
        schedule = replace(
            base,
            where=(),
            tile=Tile(64 * rows * consumers, n, k),
            warps=Warps(4 * consumers, 1),
            **weight_from(base, words.get("fragments", 0), k),
            pipeline=replace(
                base.pipeline,
                stages=words.get("stages", 3),
                fragments=words.get("fragments", 2),
            ),
            overlap=words["overlap"],
            cluster=Cluster(words.get("cluster", 1)),
            split=Split(words.get("pieces", 1)),
            epilogue=Epilogue(words.get("slices", 16), words.get("by", "warp")),
        )
        yield schedule, format, "bfloat16"


def weight_from(base, fragments, k):
    """The directives of a weight that comes from memory as fragments, or through shared memory."""
    return {
        "pack": replace(base.pack, data="fragment" if fragments else "rows"),
        "layout": replace(base.layout, weight="linear" if fragments else swizzle_for_row(k).name),
        "stationary": replace(
            base.stationary, weight="registers" if fragments else base.stationary.weight
        ),
    }


def named(cases):
    different = {f"{each[0].name} {each[0].digest} {each[1]} {each[2]}": each for each in cases}
    return [pytest.param(*case, id=name.replace(" ", "-")) for name, case in different.items()]


@cache
def product(format, dtype):
    """Weight, tokens and their float64 product."""
    from samoyeds_gen.tune.gate import expected

    generator = torch.Generator(device="cuda").manual_seed(format.v + format.m)
    dense = torch.randn(M, K, device="cuda", generator=generator) * 0.05
    w = sg.encode(dense, n=format.n, m=format.m, v=format.v, dtype=dtype)
    tokens = torch.randn(N, K, device="cuda", generator=generator).to(getattr(torch, dtype))
    return w, tokens, expected(w, tokens)


@pytest.mark.parametrize(("schedule", "format", "dtype"), named([*directed(), *tuned()]))
def test_every_element_of_what_may_be_chosen(schedule, format, dtype):
    target = device_target()
    if why := first_violation(schedule, make_ssmm(format, dtype), target_named(target)):
        pytest.skip(str(why))
    w, tokens, reference = product(format, dtype)
    kernel = sg.compile(schedule, n=format.n, m=format.m, v=format.v, dtype=dtype, target=target)
    out = torch.full((N, M), float("nan"), device="cuda", dtype=tokens.dtype)
    kernel(w, tokens, out=out)
    prefix = schedule.stationary.fold == "prefix"
    verdict = reference.compare(out, block_rows=format.m if prefix else 1)
    assert verdict.passed, str(verdict)
