"""Refused schedules: each legality rule, what breaks it, and its exact sentence."""
# ruff: noqa: E501 - sentences are compared whole, so they are written whole

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from samoyeds_gen.compiler import compile_plan, first_violation
from samoyeds_gen.formats import Format
from samoyeds_gen.language import make_ssmm, target_named
from samoyeds_gen.language.schedule import (
    Cluster,
    Epilogue,
    Launch,
    Layout,
    Overlap,
    Pack,
    Pipeline,
    Raster,
    Resident,
    Schedule,
    Split,
    Stationary,
    Tile,
    Warps,
)

FORMAT = Format(1, 2, 64)
BASE = Schedule(
    name="refused",
    algorithm="ssmm",
    target="sm_80",
    tile=Tile(256, 64, 64),
    warps=Warps(4, 2),
    tensorize="mma_sp_m16n8k32",
    pack=Pack(),
    layout=Layout("xor_64b", "xor_128b"),
    stationary=Stationary("exchange"),
    pipeline=Pipeline(4, "cp_async_16b"),
)


@dataclass(frozen=True)
class Refusal:
    """`call(path)` must raise a SamoyedsError whose whole text is `message`."""

    name: str
    call: Callable[[Path], object]
    message: str


def pipeline(**changes):
    return replace(BASE, pipeline=replace(BASE.pipeline, **changes))


def rule(name, message, schedule, *, format=FORMAT, target="sm_80", **problem):
    def call(path):
        made = make_ssmm(format, "bfloat16", **problem)
        assert first_violation(schedule, made, target_named(target)) == name
        compile_plan(schedule, made, target_named(target))

    return Refusal(f"rule {name}: {message}", call, f"{name}: {message}")


HOPPER = Schedule(
    name="refused",
    algorithm="ssmm",
    target="sm_90a",
    tile=Tile(256, 192, 128),
    warps=Warps(8, 1),
    tensorize="wgmma_sp_m64k32",
    pack=Pack(),
    layout=Layout("xor_128b", "xor_128b"),
    stationary=Stationary("prefix"),
    pipeline=Pipeline(3, "tma"),
)


def hopper(name, message, *, format=FORMAT, on="sm_90a", **changes):
    return rule(name, message, replace(HOPPER, **changes), format=format, target=on)


STREAM = replace(
    BASE,
    tile=Tile(128, 16, 512),
    warps=Warps(4, 1, 2),
    pack=Pack(data="fragment"),
    layout=Layout("linear", "xor_128b"),
    stationary=Stationary("prefix"),
    pipeline=Pipeline(8, "ldg_stream_16b", 4),
)
EXPAND = replace(BASE, stationary=Stationary("expand"))
PREFIX = replace(BASE, stationary=Stationary("prefix"))

# fmt: off
RULE_ROWS = [
    rule("algorithm-known", "algorithm 'gemm' is not one of ssmm; schedule one of these", replace(BASE, algorithm="gemm")),
    rule("target-order", "a schedule for sm_89 cannot be compiled for sm_80; compile for sm_89 or a later target", replace(BASE, target="sm_89")),
    rule("target-order", "a schedule for sm_90a cannot be compiled for sm_100a; compile for sm_90a", replace(BASE, target="sm_90a"), target="sm_100a"),
    rule("warps-count", "8 x 8 warps are 64, more than 32; use fewer warps", replace(BASE, warps=Warps(8, 8))),
    rule("tile-k", "tile k=32 is not 64 or 128; use k=64 or k=128", replace(BASE, tile=Tile(256, 64, 32))),
    rule("tile-k", "tile k=256 is not 64 or 128; use k=64 or k=128", replace(BASE, tile=Tile(256, 64, 256))),
    rule("fold-format", "fold exchange needs N = 1, the format is (2,4,64); use fold='expand'", BASE, format=Format(2, 4, 64)),
    rule("fold-format", "fold prefix needs M <= 8, the format is (1,16,64); use fold='expand'", PREFIX, format=Format(1, 16, 64)),
    rule("fold-period", "fold exchange with V=96 changes rows at places that differ from tile to tile of k=64; use fold='expand', or a V that divides tile k or is a multiple of it", BASE, format=Format(1, 2, 96)),
    rule("fold-period", "fold prefix with V=48 changes rows at places that differ from tile to tile of k=64; use fold='expand', or a V that divides tile k or is a multiple of it", PREFIX, format=Format(1, 2, 48)),
    rule("fold-atom", "one mma_sp_m16n8k32 step of k=32 would span 2 sub-rows of V=16; use atoms.MMA_SP_M16N8K16, or fold='expand'", BASE, format=Format(1, 2, 16)),
    rule("fold-step", "fold expand needs a k32 step, mma_sp_m16n8k16 has k=16; use atoms.MMA_SP_M16N8K32", replace(EXPAND, tensorize="mma_sp_m16n8k16")),
    rule("tile-m", "tile m=200 is not a multiple of 128 = 16 rows x 2 features x 4 warps; use m=128 or m=256, or other warps", replace(BASE, tile=Tile(200, 64, 64))),
    rule("tile-m", "tile m=64 is not a multiple of 128 = 16 rows x 2 features x 4 warps; use m=128, or other warps", replace(BASE, tile=Tile(64, 64, 64))),
    rule("tile-m", "tile m=72 is not a multiple of 64 = 16 rows x 1 features x 4 warps; use m=64 or m=128, or other warps", replace(EXPAND, tile=Tile(72, 64, 64))),
    rule("tile-n", "tile n=60 is not a multiple of 16 = 8 tokens x 2 warps; use n=64, or other warps", replace(BASE, tile=Tile(256, 60, 64))),
    rule("copy-rows", "32 threads do not copy whole groups of 8 token rows of 128 bytes, which takes a multiple of 64; use 2 warps, or a smaller tile k", replace(BASE, warps=Warps(1, 1), tile=Tile(32, 8, 64))),
    rule("copy-rows", "64 threads do not copy whole groups of 8 token rows of 256 bytes, which takes a multiple of 128; use 4 warps, or a smaller tile k", replace(BASE, warps=Warps(1, 2), tile=Tile(32, 16, 128))),
    rule("ring-depth", "pipeline stages=1 is outside 2..12; use at least two stages", pipeline(stages=1)),
    rule("ring-depth", "pipeline stages=13 is outside 2..12; use fewer stages", pipeline(stages=13)),
    rule("fragment-buffers", "pipeline fragments=3 is not 1 or 2; use fragments=2, or fragments=1 to save registers", pipeline(fragments=3)),
    rule("swizzle-row", "weight.data rows take 64 bytes at tile k=64, xor_128b is for rows of 128; use layouts.XOR_64B", replace(BASE, layout=Layout("xor_128b", "xor_128b"))),
    rule("swizzle-row", "tokens rows take 128 bytes at tile k=64, xor_64b is for rows of 64; use layouts.XOR_128B", replace(BASE, layout=Layout("xor_64b", "xor_64b"))),
    rule("resident-threads", "9 resident CTAs of 256 threads exceed the 2048 of a sm_80 SM; ask for fewer CTAs", replace(BASE, resident=replace(BASE.resident, ctas=9))),
    rule("registers", "about 398 registers a thread are needed, 255 are there for 64 threads x 1 CTAs; use a smaller tile or more warps", replace(BASE, warps=Warps(1, 2))),
    rule("registers", "about 134 registers a thread are needed, 64 are there for 256 threads x 4 CTAs; use a smaller tile or more warps", replace(BASE, resident=replace(BASE.resident, ctas=4))),
    rule("shared-limit", "12 stages of 17920 bytes take 215040, sm_80 has 165888 for the ring of a CTA; use stages=9", pipeline(stages=12)),
    rule("warp-matrix", "wgmma_sp_m64k32 is a warpgroup's matrix step, cp_async_16b copies feed warps; use atoms.MMA_SP_M16N8K32, or copy=atoms.TMA", replace(BASE, target="sm_90a", tensorize="wgmma_sp_m64k32"), target="sm_90a"),
    rule("shared-limit", "7 stages of 17920 bytes take 125440, sm_86 has 100352 for the ring of a CTA; use stages=5", pipeline(stages=7), target="sm_86"),
    rule("whole-k", "split k=4 is the stream's, the ring has one CTA along k; leave it out, or use copy=atoms.LDG_STREAM_16B", replace(BASE, split=Split(4))),
    rule("whole-k", "warps k=2 is the stream's, the ring has one warp along k; leave it out, or use copy=atoms.LDG_STREAM_16B", replace(BASE, warps=Warps(2, 2, 2))),
    rule("weight-space", "stationary(weight.data) is for warpgroups, a warp has its values in registers anyway; leave it out, or use copy=atoms.TMA", replace(BASE, stationary=Stationary("exchange", weight="registers"))),
    rule("pack-data", "weight.data is packed in fragment order, the ring copies rows; leave pack(weight.data) out, or use copy=atoms.LDG_STREAM_16B", replace(BASE, pack=Pack(data="fragment"))),
    rule("warps-count", "4 x 4 x 4 warps are 64, more than 32; use fewer warps", replace(BASE, warps=Warps(4, 4, 4))),
    rule("stream-step", "the stream loads registers of mma_sp_m16n8k32, the schedule has mma_sp_m16n8k16; use atoms.MMA_SP_M16N8K32", replace(STREAM, tensorize="mma_sp_m16n8k16")),
    rule("pack-data", "weight.data lies in rows, the stream reads it in fragment order; add s.pack(weight.data, order='fragment')", replace(STREAM, pack=Pack())),
    rule("stream-layout", "layout(weight.data) asks for xor_128b, the stream keeps weights in registers; leave layout(weight.data) out", replace(STREAM, layout=Layout("xor_128b", "xor_128b"))),
    rule("stream-layout", "tokens lie in rows of 128 bytes, xor_64b is for other rows; use layouts.XOR_128B", replace(STREAM, layout=Layout("linear", "xor_64b"))),
    rule("stream-order", "raster group=4 is the ring's, the stream has one order; leave raster out", replace(STREAM, raster=Raster(4))),
    rule("stream-fold", "the stream has no fold exchange; use fold='prefix' or fold='expand'", replace(STREAM, stationary=Stationary("exchange"))),
    rule("stream-fold", "fold prefix needs N = 1, the format is (2,4,64); use fold='expand'", STREAM, format=Format(2, 4, 64)),
    rule("stream-fold", "one step of k=32 would span parts of sub-rows of V=48; use fold='expand'", STREAM, format=Format(1, 2, 48)),
    rule("stream-warps", "warps n=2 would read every weight 2 times; use n=1 and more warps along m or k", replace(STREAM, warps=Warps(2, 2, 2))),
    rule("stream-tile-m", "tile m=96 is not a multiple of 128, the features of 16 stored rows for each of 4 warps in whole bands of (1,2,64); use m=128, or other warps", replace(STREAM, tile=Tile(96, 16, 512))),
    rule("stream-tile-m", "tile m=192 is not a multiple of 128, the features of 16 stored rows for each of 4 warps in whole bands of (1,2,64); use m=128 or m=256, or other warps", replace(STREAM, tile=Tile(192, 16, 512))),
    rule("stream-tile-m", "tile m=128 is not a multiple of 448, the features of 16 stored rows for each of 4 warps in whole bands of (3,7,64); use m=448, or other warps", replace(STREAM, tile=Tile(128, 16, 512), stationary=Stationary("expand")), format=Format(3, 7, 64)),
    rule("stream-tile-m", "tile m=18 is not a multiple of 36, the features of 16 stored rows for each of 1 warps in whole bands of (8,9,64); use m=36, or other warps", replace(STREAM, tile=Tile(18, 16, 512), warps=Warps(1, 1, 2), stationary=Stationary("expand")), format=Format(8, 9, 64)),
    rule("stream-tile-n", "tile n=20 is not a multiple of 8 up to 64; use n=24", replace(STREAM, tile=Tile(128, 20, 512))),
    rule("stream-tile-n", "tile n=72 is not a multiple of 8 up to 64; use n=64", replace(STREAM, tile=Tile(128, 72, 512))),
    rule("stream-stages", "pipeline stages=6 is not a multiple of 4 steps up to 32; use stages=8", replace(STREAM, pipeline=Pipeline(6, "ldg_stream_16b", 4))),
    rule("stream-stages", "pipeline stages=64 is not a multiple of 4 steps up to 32; use stages=32", replace(STREAM, pipeline=Pipeline(64, "ldg_stream_16b", 4))),
    rule("stream-tile-k", "tile k=128 is not a multiple or a whole part of 512, 128 columns for each of 2 warps along k and 2 groups in flight; use k=512", replace(STREAM, tile=Tile(128, 16, 128))),
    rule("stream-tile-k", "tile k=768 is not a multiple or a whole part of 512, 128 columns for each of 2 warps along k and 2 groups in flight; use k=1024", replace(STREAM, tile=Tile(128, 16, 768))),
    rule("stream-chunks", "pipeline fragments=9 chunks of tokens is more than 8; use fewer chunks, or a larger tile k", replace(STREAM, pipeline=Pipeline(8, "ldg_stream_16b", 9))),
    rule("split-count", "split k=65 is more than 64; use fewer CTAs along k", replace(STREAM, split=Split(65))),
    rule("numbers-positive", "split k=0 is not a positive integer; give k as an integer from 1", replace(STREAM, split=Split(0))),
    rule("registers", "about 364 registers a thread are needed, 288 of them for 9 sums of each output part, 255 are there for 256 threads x 1 CTAs; use a smaller tile n, fewer stages or fewer warps", replace(STREAM, tile=Tile(128, 64, 512), stationary=Stationary("expand")), format=Format(8, 16, 32)),
    rule("registers", "about 88 registers a thread are needed, 16 of them for 2 sums of each output part, 64 are there for 256 threads x 4 CTAs; use a smaller tile n, fewer stages or fewer warps", replace(STREAM, resident=Resident(4))),
    rule("shared-limit", "4 chunks of 65536 bytes take 262144, sm_80 has 165888 for the tokens of a CTA; use fewer chunks, or a smaller tile n or k", replace(STREAM, tile=Tile(128, 64, 512), warps=Warps(4, 1, 1), pipeline=Pipeline(16, "ldg_stream_16b", 4))),
    rule("shared-limit", "the sums of 2 warps along k take 131328 bytes, sm_86 has 100352 for a CTA; use a smaller tile m or fewer warps along k", replace(STREAM, tile=Tile(2048, 8, 256), warps=Warps(8, 1, 2), pipeline=Pipeline(4, "ldg_stream_16b", 2), stationary=Stationary("expand")), format=Format(1, 16, 32), target="sm_86"),
]
HOPPER_ROWS = [
    rule("launch-dependent", "launch dependent=True needs sm_90, the target is sm_89; leave it out, or choose a later target", replace(STREAM, launch=Launch(True)), target="sm_89"),
    rule("launch-dependent", "launch prefetch=True asks for weight before the wait that dependent=True makes; add dependent=True, or leave it out", replace(STREAM, launch=Launch(prefetch=True)), target="sm_90a"),
    rule("launch-warpgroups", "launch prefetch=True is the stream's, a ring of warpgroups is filled after the wait; leave it out", replace(HOPPER, launch=Launch(True, True)), target="sm_90a"),
    rule("launch-waits", "launch dependent=True is the stream's and warpgroups', the ring begins when it may; leave it out, or use copy=atoms.LDG_STREAM_16B or atoms.TMA", replace(BASE, launch=Launch(True)), target="sm_90a"),
    hopper("warpgroup-matrix", "copies by tma feed warpgroups, mma_sp_m16n8k32 is a warp's matrix step; use atoms.WGMMA_SP_M64K32, or copy=atoms.CP_ASYNC_16B", tensorize="mma_sp_m16n8k32"),
    hopper("atom-target", "wgmma_sp_m64k32 exists on sm_90a alone, the target is sm_100a; choose the target sm_90a, or another atom", on="sm_100a", target="sm_80"),
    hopper("warpgroups", "6 x 1 warps are not one to four warpgroups of 4 x 1 warps; use warps(m=4, 8, 12 or 16, n=1)", warps=Warps(6, 1)),
    hopper("warpgroups", "4 x 2 warps are not one to four warpgroups of 4 x 1 warps; use warps(m=4, 8, 12 or 16, n=1)", warps=Warps(4, 2)),
    hopper("warpgroups", "20 x 1 warps are not one to four warpgroups of 4 x 1 warps; use warps(m=4, 8, 12 or 16, n=1)", warps=Warps(20, 1)),
    hopper("warpgroup-turns", "overlap turns=True with one warpgroup, which has nobody to take turns with; leave turns out, or use more warps", warps=Warps(4, 1), tile=Tile(128, 192, 128), overlap=Overlap(1, True)),
    hopper("warpgroup-registers", "about 280 registers a thread are needed, 255 are there for 1 warpgroup beside a producer; use a smaller tile n", warps=Warps(4, 1), tile=Tile(128, 256, 128)),
    hopper("warpgroup-fold", "fold exchange moves accumulators, which wgmma keeps in place; use fold='prefix' or fold='expand'", stationary=Stationary("exchange")),
    hopper("warpgroup-fold", "fold prefix needs N = 1, the format is (2,4,64); use fold='expand'", format=Format(2, 4, 64)),
    hopper("warpgroup-tile-k", "tile k=192 is not 64 or 128; use k=64 or k=128", tile=Tile(256, 192, 192)),
    hopper("warpgroup-period", "fold prefix with V=96 changes rows inside a step of k=32 or at places that differ from tile to tile of k=128; use fold='expand'", format=Format(1, 2, 96)),
    hopper("warpgroup-period", "fold prefix with V=16 changes rows inside a step of k=32 or at places that differ from tile to tile of k=128; use fold='expand'", format=Format(1, 2, 16)),
    hopper("warpgroup-tile-m", "tile m=128 is not 256 = 64 rows x 2 features x 2 warpgroups; use m=256, or other warps", tile=Tile(128, 192, 128)),
    hopper("warpgroup-tile-m", "tile m=512 gives 2 warpgroups two matrices of 64 rows each, fold prefix has no registers for the sums of a second; use m=256", tile=Tile(512, 96, 128)),
    hopper("warpgroup-tile-m", "tile m=256 gives 2 warpgroups two matrices of 64 rows each, which weight in fragment order has no registers for; use m=128", format=Format(1, 1, 32), tile=Tile(256, 96, 128), stationary=Stationary("expand", weight="registers"), pack=Pack(data="fragment"), layout=Layout("linear", "xor_128b"), epilogue=Epilogue(8, "warpgroup")),
    hopper("warpgroup-tile-m", "tile m=256 gives 2 warpgroups two matrices of 64 rows each, whose rows leave together by epilogue(by='warpgroup') only; use m=128", format=Format(1, 1, 32), tile=Tile(256, 96, 128), stationary=Stationary("expand")),
    hopper("warpgroup-tile-m", "tile m=512 takes 512 stored rows, a TMA box has at most 256; use fewer warpgroups", format=Format(1, 1, 32), tile=Tile(512, 96, 128), warps=Warps(16, 1), stationary=Stationary("expand"), epilogue=Epilogue(8, "warpgroup")),
    hopper("warpgroup-tile-n", "tile n=264 is not a multiple of 8 x 1 parts up to 256; use another tile n or split", tile=Tile(256, 264, 128)),
    hopper("warpgroup-tile-n", "tile n=200 is not a multiple of 8 x 2 parts up to 256; use another tile n or split", tile=Tile(256, 200, 128), overlap=Overlap(2)),
    hopper("warpgroup-tile-n", "epilogue tokens=12 is not a multiple of 8; use epilogue(tokens=16)", epilogue=Epilogue(12)),
    hopper("warpgroup-layout", "weight.data has the swizzle xor_64b, TMA and wgmma share xor_128b at tile k=128; use layouts.XOR_128B", layout=Layout("xor_64b", "xor_128b")),
    hopper("warpgroup-layout", "tokens has the swizzle xor_256b, TMA and wgmma share xor_128b at tile k=128; use layouts.XOR_128B", layout=Layout("xor_128b", "xor_256b")),
    hopper("one-cta", "resident ctas=2, a warp-specialised CTA takes an SM for itself; use resident(ctas=1)", resident=Resident(2)),
    hopper("cluster-shares", "cluster m=3 is not 1, 2 or 4 with 192 tokens in 3 shares of 8; use another cluster or tile n", cluster=Cluster(3)),
    hopper("cluster-split", "split k=2 makes a cluster of its own, cluster m=2 is another; leave one of them out", split=Split(2), cluster=Cluster(2)),
    hopper("cluster-split", "split k=2 deals slices of warps to a cluster, epilogue by='warpgroup' has none; leave by out", split=Split(2), epilogue=Epilogue(16, "warpgroup")),
    hopper("cluster-split", "split k=9 is more than the 8 CTAs of a cluster; use split(k=8)", split=Split(9)),
    hopper("cluster-split", "epilogue tokens=80 does not divide the 192 tokens of a part, whose slices are dealt to a cluster; use epilogue(tokens=8)", split=Split(2), epilogue=Epilogue(80)),
    hopper("whole-warps", "warps k=2 is the stream's, warpgroups have one warp along k; leave it out, or use copy=atoms.LDG_STREAM_16B", warps=Warps(8, 1, 2)),
    hopper("weight-fragments", "weight.data is packed in fragment order, TMA copies rows; add s.stationary(weight.data, space='registers'), or leave pack(weight.data) out", pack=Pack(data="fragment")),
    hopper("weight-fragments", "fragments hold stored rows, the fold expand multiplies output rows; leave pack(weight.data) out", pack=Pack(data="fragment"), stationary=Stationary("expand", weight="registers"), format=Format(8, 16, 32)),
    hopper("weight-fragments", "pipeline fragments=5 stages of weight in registers is more than 4; use fragments=4 or fewer", pack=Pack(data="fragment"), stationary=Stationary("expand", weight="registers"), pipeline=Pipeline(3, "tma", 5), format=Format(1, 1, 32)),
    hopper("warpgroup-layout", "layout(weight.data) asks for xor_128b, fragments go to registers; leave layout(weight.data) out", pack=Pack(data="fragment"), stationary=Stationary("expand", weight="registers"), tile=Tile(128, 192, 128), format=Format(1, 1, 32)),
    hopper("warpgroup-registers", "about 188 registers a thread are needed, 160 are there for 3 warpgroups beside a producer; use a smaller tile n, or fewer fragments", pack=Pack(data="fragment"), layout=Layout("linear", "xor_128b"), stationary=Stationary("expand", weight="registers"), pipeline=Pipeline(2, "tma", 2), tile=Tile(192, 256, 128), warps=Warps(12, 1), format=Format(1, 1, 32)),
    hopper("warpgroup-shared", "the parts of sums take 196608 bytes, the ring they lie in has 135424; use more stages, or a smaller tile n", split=Split(2), pipeline=Pipeline(2, "tma")),
    hopper("warpgroup-registers", "about 280 registers a thread are needed, 240 are there for 2 warpgroups beside a producer; use a smaller tile n", tile=Tile(256, 256, 128)),
    hopper("warpgroup-shared", "4 stages of 67712 bytes take 270848, sm_90a has 220160 beside 10240 bytes of output slices; use stages=3", pipeline=Pipeline(4, "tma")),
    hopper("warpgroup-ahead", "overlap ahead=True leaves sums and operands in flight, which only formats with N = M never touch, with weight in shared memory or fragments of several stages, and split=1; leave ahead out", overlap=Overlap(1, True, True)),
    hopper("warpgroup-skew", "overlap skew=1 needs several warpgroups, without turns, on all columns; leave skew out", overlap=Overlap(1, True, skew=1)),
    hopper("warpgroup-skew", "overlap skew=3 lets the last of 2 warpgroups begin 3 stages behind the first, the ring has 3; use more than 3 stages, or a smaller skew", overlap=Overlap(skew=3)),
    rule("gather-place", "tokens are gathered before the launch, which only products of several experts do; use pack(tokens, gather='on_load')", replace(HOPPER, pack=Pack(gather="before")), target="sm_90a"),
    rule("one-weight", "ldg_stream_16b kernels multiply one weight, without a gate; use copy=atoms.CP_ASYNC_16B, or copy=atoms.TMA", STREAM, grouped=True),
    rule("gate-rows", "gate and up rows alternate by 8, the format (4,16,32) has blocks of 16; use a format whose M divides 8", EXPAND, format=Format(4, 16, 32), activation="silu", gated=True),
    rule("gate-rows", "gate and up rows of (1,2,64) alternate by 16, fold expand takes them by 8; use fold='prefix' or fold='exchange'", EXPAND, activation="silu", gated=True),
    rule("gate-rows", "gate and up rows of (1,8,64) alternate by 8, fold prefix takes them by 64; use fold='expand'", replace(PREFIX, tile=Tile(512, 8, 64), warps=Warps(4, 1)), format=Format(1, 8, 64), activation="silu", gated=True),
    rule("grouped-alone", "cluster m=2 makes clusters, tiles of experts are dealt to single CTAs; leave it out", replace(HOPPER, cluster=Cluster(2)), target="sm_90a", grouped=True),
    rule("grouped-alone", "split k=2 makes clusters, tiles of experts are dealt to single CTAs; leave it out", replace(HOPPER, split=Split(2)), target="sm_90a", grouped=True),
    rule("gate-rows", "gate and up rows alternate by 8, the format (8,16,32) has blocks of 16; use a format whose M divides 8", replace(HOPPER, tile=Tile(128, 64, 128), stationary=Stationary("expand")), target="sm_90a", format=Format(8, 16, 32), activation="silu", gated=True),
]
# fmt: on
