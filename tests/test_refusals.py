"""Every refused input with its exact one-sentence error, in one place.

Rows are grouped by what is refused: rules of the compiler, schedule files, JSON, formats and dtypes,
weights and their files, calls, checks. `{path}` stands for the test's own directory and `{shipped}`
for the names of the shipped schedules.
"""
# ruff: noqa: E501 - sentences are compared whole, so they are written whole

import json

import ml_dtypes
import numpy as np
import pytest
from rule_refusals import BASE, FORMAT, HOPPER_ROWS, RULE_ROWS, Refusal

import samoyeds_gen as sg
from samoyeds_gen.assets import asset_directory
from samoyeds_gen.check import check_schedule
from samoyeds_gen.compiler import RULES
from samoyeds_gen.compiler.legality import Case
from samoyeds_gen.formats import Format
from samoyeds_gen.language import Target, make_ssmm
from samoyeds_gen.language.schedule import (
    Schedule,
)
from samoyeds_gen.runtime import compile_source

SHIPPED = ", ".join(sorted(path.stem for path in asset_directory("schedules").glob("*.py")))


GOOD = """\
from samoyeds_gen.language import atoms, layouts, schedule
from samoyeds_gen.language.kernels import ssmm


@schedule(ssmm, target="sm_80")
def mine(s, weight, tokens, out):
    s.tile(m=256, n=64, k=64)
    s.warps(m=4, n=2)
    s.tensorize(atoms.MMA_SP_M16N8K32)
    s.stationary(out, space="registers", fold="exchange")
    s.pipeline(stages=4, copy=atoms.CP_ASYNC_16B)
"""


def file_row(name, message, old, new, *, suffix=".py"):
    """A schedule file in which `old` is replaced by `new`."""

    def call(path):
        assert GOOD.count(old) == 1
        (path / f"mine{suffix}").write_text(GOOD.replace(old, new))
        sg.compile(path / f"mine{suffix}", n=1, m=2, v=64)

    return Refusal(f"file {name}", call, message)


TILE = "    s.tile(m=256, n=64, k=64)\n"
FOLD = '    s.stationary(out, space="registers", fold="exchange")\n'
END = "copy=atoms.CP_ASYNC_16B)\n"
MORE = END + "    s."
# fmt: off
FILE_ROWS = [
    file_row("zero tile", "{path}/mine.py:7: tile: tile m=0 is not a positive integer; give m as an integer from 1", "m=256", "m=0"),
    file_row("boolean warps", "{path}/mine.py:8: warps: warps m=True is not a positive integer; give m as an integer from 1", "warps(m=4", "warps(m=True"),
    file_row("tile twice", "{path}/mine.py:8: tile: tile is given twice; keep one of them", TILE, TILE + TILE),
    file_row("no tile", "{path}/mine.py:1: directive-missing: schedule mine has no tile directive; add s.tile(...)", TILE, ""),
    file_row("no fold", "{path}/mine.py:1: directive-missing: schedule mine has no stationary directive; add s.stationary(...)", FOLD, ""),
    file_row("unknown fold", "{path}/mine.py:10: stationary: fold 'rotate' is not one of exchange, prefix, expand; use one of exchange, prefix, expand", 'fold="exchange"', 'fold="rotate"'),
    file_row("fold of metadata", "{path}/mine.py:11: stationary: stationary(weight.metadata) takes no fold; give fold= to stationary(out)", FOLD, FOLD + '    s.stationary(weight.metadata, space="registers", fold="expand")\n'),
    file_row("stationary in shared memory", "{path}/mine.py:10: stationary: stationary(out) got space='shared'; use space='registers'", 'space="registers"', 'space="shared"'),
    file_row("stationary tokens", "{path}/mine.py:10: stationary: stationary does not apply to 'tokens'; apply it to one of out, weight.metadata, weight.data", "stationary(out", "stationary(tokens"),
    file_row("atom by name", "{path}/mine.py:9: tensorize: tensorize takes a matrix atom, not 'mma_sp_m16n8k32'; use atoms.MMA_SP_M16N8K32, atoms.MMA_SP_M16N8K16 or atoms.WGMMA_SP_M64K32", "atoms.MMA_SP_M16N8K32", '"mma_sp_m16n8k32"'),
    file_row("copy by name", "{path}/mine.py:11: pipeline: pipeline takes a copy atom, not 'cp.async'; use copy=atoms.CP_ASYNC_16B, atoms.TMA or atoms.LDG_STREAM_16B", "copy=atoms.CP_ASYNC_16B", 'copy="cp.async"'),
    file_row("pack order", "{path}/mine.py:12: pack: pack(weight.metadata) got order='row', gather=None; use order='fragment'", END, MORE + 'pack(weight.metadata, order="row")\n'),
    file_row("pack of out", "{path}/mine.py:12: pack: pack does not apply to 'out'; apply it to one of weight.metadata, weight.data, tokens", END, MORE + 'pack(out, order="fragment")\n'),
    file_row("layout of out", "{path}/mine.py:12: layout: layout(out) got order='feature_major', space=None, swizzle=None; use order='token_major'", END, MORE + 'layout(out, order="feature_major")\n'),
    file_row("layout space", "{path}/mine.py:12: layout: layout(tokens) got space='local', swizzle=Swizzle(name='xor_128b', bits=3, shift=3, row_bytes=128), order=None; use space='shared' and a swizzle of language.layouts", END, MORE + 'layout(tokens, space="local", swizzle=layouts.XOR_128B)\n'),
    file_row("layout without swizzle", "{path}/mine.py:12: layout: layout(weight.data) got space='shared', swizzle=None, order=None; use space='shared' and a swizzle of language.layouts", END, MORE + 'layout(weight.data, space="shared")\n'),
    file_row("raster", "{path}/mine.py:12: raster: raster group=-1 is not a positive integer; give group as an integer from 1", END, MORE + "raster(group=-1)\n"),
    file_row("unknown target", "{path}/mine.py:5: target-known: target 'sm_70' is not one of sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_120a; use one of sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_120a", '"sm_80"', '"sm_70"'),
    file_row("rule with its line", "{path}/mine.py:7: tile-k: tile k=96 is not 64 or 128; use k=64 or k=128", "k=64", "k=96"),
    file_row("syntax", "{path}/mine.py:7: schedule-file: the file is not Python: invalid syntax; correct the line", "s.tile(m=256", "s.tile(m=256,,"),
    file_row("exception", "{path}/mine.py:8: schedule-file: the file raised ZeroDivisionError: integer division or modulo by zero; correct the line", "s.warps(m=4, n=2)", "s.warps(m=4 // 0, n=2)"),
    file_row("two schedules", "{path}/mine.py:1: schedule-file: the file defines 2 schedules (other, mine), not one; decorate exactly one function with @schedule", "def mine(s, weight, tokens, out):\n", 'def other(s, weight, tokens, out):\n    pass\n\n\n@schedule(ssmm, target="sm_80")\ndef mine(s, weight, tokens, out):\n'),
    file_row("no schedule", "{path}/mine.py:1: schedule-file: the file defines 0 schedules (none), not one; decorate exactly one function with @schedule", '@schedule(ssmm, target="sm_80")\n', ""),
    file_row("other suffix", "schedule-file: mine.txt is neither a .py nor a .json file; give the path of a schedule file", "k=64", "k=64 ", suffix=".txt"),
    Refusal("file missing", lambda path: sg.compile(path / "none.py", n=1, m=2, v=64), "schedule-file: no schedule file '{path}/none.py'; give the path of a .py or .json file, or one of the shipped names {shipped}"),
    Refusal("name missing", lambda path: sg.compile("ssmm_sm75", n=1, m=2, v=64), "schedule-file: no schedule file 'ssmm_sm75'; give the path of a .py or .json file, or one of the shipped names {shipped}"),
]
# fmt: on


def json_row(name, message, change):
    def call(path):
        data = BASE.as_dict()
        change(data)
        (path / "s.json").write_text(json.dumps(data))
        sg.compile(path / "s.json", n=1, m=2, v=64)

    return Refusal(f"json {name}", call, message)


# fmt: off
JSON_ROWS = [
    Refusal("json text", lambda path: Schedule.from_json("{"), "json: the text is not JSON: Expecting property name enclosed in double quotes at line 1; write the schedule with Schedule.to_json()"),
    Refusal("json list", lambda path: Schedule.from_json("[]"), "json: schedule is list, not an object; write the schedule with Schedule.to_json()"),
    json_row("unknown key", "{path}/s.json:1: json: schedule has the unknown key 'colour'; write the schedule with Schedule.to_json()", lambda data: data.update(colour="red")),
    json_row("missing key", "{path}/s.json:1: json: schedule lacks the key 'tile'; write the schedule with Schedule.to_json()", lambda data: data.pop("tile")),
    json_row("nested missing", "{path}/s.json:1: json: schedule.tile lacks the key 'k'; write the schedule with Schedule.to_json()", lambda data: data["tile"].pop("k")),
    json_row("type", "{path}/s.json:1: json: schedule.tile.m is '256', not of type int; write the schedule with Schedule.to_json()", lambda data: data["tile"].update(m="256")),
    json_row("boolean", "{path}/s.json:1: json: schedule.warps.m is True, not of type int; write the schedule with Schedule.to_json()", lambda data: data["warps"].update(m=True)),
    json_row("word", "{path}/s.json:1: json: schedule.stationary.fold is 'rotate', not one of 'exchange', 'prefix', 'expand'; write the schedule with Schedule.to_json()", lambda data: data["stationary"].update(fold="rotate")),
    json_row("atom", "atom-known: matrix atom 'wgmma' is not one of mma_sp_m16n8k32, mma_sp_m16n8k16, wgmma_sp_m64k32; use one of mma_sp_m16n8k32, mma_sp_m16n8k16, wgmma_sp_m64k32", lambda data: data.update(tensorize="wgmma")),
    json_row("copy atom", "atom-known: copy atom 'bulk' is not one of cp_async_16b, tma, ldg_stream_16b; use one of cp_async_16b, tma, ldg_stream_16b", lambda data: data["pipeline"].update(copy="bulk")),
    json_row("swizzle", "swizzle: swizzle 'zigzag' is not one of linear, xor_32b, xor_64b, xor_128b, xor_256b; use one of linear, xor_32b, xor_64b, xor_128b, xor_256b", lambda data: data["layout"].update(tokens="zigzag")),
    json_row("target", "target-known: target 'sm_75' is not one of sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_120a; use one of sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_120a", lambda data: data.update(target="sm_75")),
    json_row("zero tile", "numbers-positive: tile m=0 is not a positive integer; give m as an integer from 1", lambda data: data["tile"].update(m=0)),
    file_row("epilogue by", "{path}/mine.py:12: epilogue: epilogue got by='cta'; use by='warp' or by='warpgroup'", END, MORE + 'epilogue(tokens=16, by="cta")\n'),
    json_row("negative n", "numbers-positive: tile n=-64 is not a positive integer; give n as an integer from 1", lambda data: data["tile"].update(n=-64)),
    json_row("zero warps", "numbers-positive: warps n=0 is not a positive integer; give n as an integer from 1", lambda data: data["warps"].update(n=0)),
    json_row("zero raster", "numbers-positive: raster group=0 is not a positive integer; give group as an integer from 1", lambda data: data["raster"].update(group=0)),
    json_row("zero ctas", "numbers-positive: resident ctas=0 is not a positive integer; give ctas as an integer from 1", lambda data: data["resident"].update(ctas=0)),
    json_row("zero split", "numbers-positive: overlap split=0 is not a positive integer; give split as an integer from 1", lambda data: data.update(overlap={"split": 0})),
    json_row("zero cluster", "numbers-positive: cluster m=0 is not a positive integer; give m as an integer from 1", lambda data: data.update(cluster={"m": 0})),
    json_row("zero slice", "numbers-positive: epilogue tokens=-8 is not a positive integer; give tokens as an integer from 1", lambda data: data.update(epilogue={"tokens": -8})),
    json_row("bad name", "name-usable: schedule name 'a b' is not an identifier; use letters, digits and underscores", lambda data: data.update(name="a b")),
    Refusal("json bytes", lambda path: ((path / "b.json").write_bytes(b"\xff"), sg.compile(path / "b.json", n=1, m=2, v=64)), "{path}/b.json:1: schedule-file: the file raised UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte; correct the line"),
]
# fmt: on

DENSE = np.ones((5, 40), np.float32)
W = sg.encode(DENSE, n=1, m=2, v=64)
X = np.ones((3, 40), ml_dtypes.bfloat16)
# fmt: off
FORMAT_ROWS = [
    Refusal("format n above m", lambda path: sg.compile(BASE, n=3, m=2, v=64), "format 3,2,64 keeps 3 of 2 sub-rows, but 1 <= n <= m <= 16 is required; choose n and m in that range, for example 1,2,64"),
    Refusal("format m above 16", lambda path: Format(1, 17, 64), "format 1,17,64 keeps 1 of 17 sub-rows, but 1 <= n <= m <= 16 is required; choose n and m in that range, for example 1,2,64"),
    Refusal("format v", lambda path: Format(1, 2, 24), "format 1,2,24 has sub-rows of 24 columns, but v must be a positive multiple of 16; choose v = 16, 32, 64 or 128"),
    Refusal("format zero v", lambda path: Format(1, 2, 0), "format 1,2,0 has sub-rows of 0 columns, but v must be a positive multiple of 16; choose v = 16, 32, 64 or 128"),
    Refusal("format float", lambda path: Format(1.5, 2, 64), "n=1.5 is not an integer; pass n, m and v as integers"),
    Refusal("format text", lambda path: Format.parse("1:2:64"), "format '1:2:64' is not three integers n,m,v; write it as 1,2,64"),
    Refusal("dtype compiled", lambda path: sg.compile(BASE, n=1, m=2, v=64, dtype="float32"), "dtype: dtype 'float32' is not one of float16, bfloat16; use one of float16, bfloat16"),
    Refusal("dtype encoded", lambda path: sg.encode(DENSE, n=1, m=2, v=64, dtype="int8"), "dtype 'int8' is not one of float16, bfloat16; pass dtype='bfloat16' or convert the array"),
    Refusal("out dtype", lambda path: sg.compile(BASE, n=1, m=2, v=64, out_dtype="float64"), "dtype: dtype 'float64' is not one of float16, bfloat16, float32; use one of float16, bfloat16, float32"),
    Refusal("activation", lambda path: sg.compile(BASE, n=1, m=2, v=64, activation="tanh"), "activation: activation 'tanh' is not one of relu, silu, gelu, gelu_tanh; use None or one of relu, silu, gelu, gelu_tanh"),
    Refusal("target", lambda path: sg.compile(BASE, n=1, m=2, v=64, target="sm_70"), "target-known: target 'sm_70' is not one of sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_120a; use one of sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_120a"),
    Refusal("target case", lambda path: sg.compile(BASE, n=1, m=2, v=64, target="SM_80"), "target-known: target 'SM_80' is not one of sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_120a; use one of sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_120a"),
    Refusal("overflow", lambda path: sg.encode(np.full((2, 4), 7e4, np.float32), n=1, m=2, v=16, dtype="fp16"), "dense[0, 0] = 70000.0 overflows float16; scale the matrix down or encode to bfloat16"),
    Refusal("vector encoded", lambda path: sg.encode(np.ones(4), n=1, m=2, v=16), "dense has shape (4,), but [m, k] with m, k >= 1 is required; pass one matrix of output features by input features"),
    Refusal("integers encoded", lambda path: sg.encode(np.ones((2, 4), int), n=1, m=2, v=16), "dense has dtype int64, but one of float64, float32, float16, bfloat16 is required; convert it to float32 first"),
    Refusal("empty encoded", lambda path: sg.encode(np.ones((0, 4)), n=1, m=2, v=16), "dense has shape (0, 4), but [m, k] with m, k >= 1 is required; pass one matrix of output features by input features"),
    Refusal("weight file missing", lambda path: sg.load(path / "none.safetensors"), "{path}/none.safetensors cannot be read (No such file or directory); check the path"),
]
# fmt: on


def call_row(name, message, *arguments, **options):
    """A call of a compiled kernel with these arguments, on the simulator."""

    def call(path):
        kernel = sg.compile(BASE, n=1, m=2, v=64, target="sm_80")
        kernel(*arguments, **{"device": "cpu", **options})

    return Refusal(f"call {name}", call, message)


# fmt: off
CALL_ROWS = [
    call_row("dense weight", "the weight is a ndarray, not a SparseWeight; encode it with samoyeds_gen.encode", DENSE, X),
    call_row("weight of another format", "the weight is (2,4,64) bfloat16, the kernel takes (1,2,64) bfloat16; compile the schedule for the weight's format and dtype", sg.encode(DENSE, n=2, m=4, v=64), X),
    call_row("weight of another dtype", "the weight is (1,2,64) float16, the kernel takes (1,2,64) bfloat16; compile the schedule for the weight's format and dtype", sg.encode(DENSE, n=1, m=2, v=64, dtype="fp16"), X),
    call_row("list of tokens", "a value of type list is not an array; pass a numpy array, a torch tensor or an object with __dlpack__", W, [[1.0]]),
    call_row("tokens dtype", "tokens has dtype float32, allowed is bfloat16; convert tokens before the call", W, X.astype(np.float32)),
    call_row("tokens fp16", "tokens has dtype float16, allowed is bfloat16; convert tokens before the call", W, X.astype(np.float16)),
    call_row("tokens int", "tokens has dtype int32, allowed is bfloat16; convert tokens before the call", W, X.astype(np.int32)),
    call_row("tokens vector", "tokens has 1 axes, [40], it must have 2; reshape it before the call", W, X[0]),
    call_row("tokens columns", "tokens are [3, 39], the weight has k=40 columns; give tokens [T, 40]", W, X[:, :39]),
    call_row("tokens transposed", "the last axis of tokens is not contiguous, its stride is 3 elements; pass a contiguous copy", W, np.asfortranarray(X)),
    call_row("tokens big endian", "an array has dtype >f2, which no kernel takes; convert it to one of bool, uint8, int8, uint16, int16, uint32, int32, uint64, int64, bfloat16, float16, float32, float64", W, np.ones((3, 40), ">f2")),
    call_row("selection beyond", "selection[1] is 3, tokens have rows 0 to 2; select only rows that exist", W, X, [0, 3]),
    call_row("selection negative", "selection[0] is -1, tokens have rows 0 to 2; select only rows that exist", W, X, np.array([-1])),
    call_row("selection float", "selection has dtype float64, allowed is int32 or int64; convert selection before the call", W, X, np.array([0.0])),
    call_row("selection mask", "selection has dtype bool, allowed is int32 or int64; convert selection before the call", W, X, np.array([True, False, True])),
    call_row("selection of fractions", "selection is a sequence of something else than integers; give token rows, such as [3, 0, 3]", W, X, [0.5]),
    call_row("selection ragged", "selection is a sequence of something else than integers; give token rows, such as [3, 0, 3]", W, X, [[0], [1, 2]]),
    call_row("selection matrix", "selection has 2 axes, [1, 1], it must have 1; reshape it before the call", W, X, np.array([[0]])),
    call_row("selection text", "a value of type str is not an array; pass a numpy array, a torch tensor or an object with __dlpack__", W, X, "01"),
    call_row("selection huge", "selection holds 9223372036854775808, tokens have rows 0 to 2; select only rows that exist", W, X, np.array([2**63], np.uint64)),
    call_row("selection of no tokens", "selection[0] is 0, tokens have no rows; select only rows that exist", W, X[:0], [0]),
    call_row("bias size", "bias has 4 entries, 5 are needed; give bias [5]", W, X, bias=np.ones(4, np.float32)),
    call_row("bias dtype", "bias has dtype float64, allowed is float32; convert bias before the call", W, X, bias=np.ones(5)),
    call_row("bias axes", "bias has 2 axes, [5, 1], it must have 1; reshape it before the call", W, X, bias=np.ones((5, 1), np.float32)),
    call_row("scale size", "scale has 3 entries, 2 are needed; give scale [2]", W, X, [0, 1], scale=np.ones(3, np.float32)),
    call_row("scale dtype", "scale has dtype bfloat16, allowed is float32; convert scale before the call", W, X, scale=np.ones(3, ml_dtypes.bfloat16)),
    call_row("activation", "activation: activation 'swish' is not one of relu, silu, gelu, gelu_tanh; use None or one of relu, silu, gelu, gelu_tanh", W, X, activation="swish"),
    call_row("out dtype", "dtype: dtype 'int8' is not one of float16, bfloat16, float32; use one of float16, bfloat16, float32", W, X, out_dtype="int8"),
    call_row("device", "device 'tpu' is not one of auto, cpu, gpu; use 'auto', 'cpu' or 'gpu'", W, X, device="tpu"),
    call_row("out without a GPU", "out is only taken on a GPU; leave it out for the simulator", W, X, out=np.ones((3, 5), ml_dtypes.bfloat16)),
    Refusal("reference tokens", lambda path: sg.reference.ssmm(W, X.astype(np.float32)), "tokens is float32 [3, 40], but bfloat16 [T, 40] is required; convert or reshape tokens"),
    Refusal("reference selection", lambda path: sg.reference.ssmm(W, X, [3]), "selection[0] = 3, but tokens have rows 0..2; select rows that exist"),
    Refusal("reference activation", lambda path: sg.reference.ssmm(W, X, activation="swish"), "activation 'swish' is not one of silu, gelu, gelu_tanh, relu; pass one of these or None"),
    Refusal("check profile", lambda path: check_schedule("ssmm_sm80", profile="weekly"), "profile 'weekly' is not one of quick, default, thorough, nightly; use one of quick, default, thorough, nightly"),
    Refusal("check examples", lambda path: check_schedule("ssmm_sm80", examples=0), "examples=0 is not a positive integer; ask for at least 1"),
    Refusal("check device", lambda path: check_schedule("ssmm_sm80", device="tpu"), "device 'tpu' is not one of auto, cpu, gpu; use 'auto', 'cpu' or 'gpu'"),
    Refusal("check format", lambda path: check_schedule(BASE, format=Format(2, 4, 64)), "fold-format: fold exchange needs N = 1, the format is (2,4,64); use fold='expand'"),
    Refusal("source name", lambda path: compile_source("", name="a/b.cu", target="sm_80"), "source name 'a/b.cu' is not a plain file name; pass the last part of the path only, for example 'ssmm_sm80.cu'"),
    Refusal("source option", lambda path: compile_source("", name="b.cu", target="sm_80", options=("-I/x",)), "NVRTC option '-I/x' is not allowed, files outside the source are not part of the cache key; leave it out of options"),
]
# fmt: on


ROWS = [*RULE_ROWS, *HOPPER_ROWS, *FILE_ROWS, *JSON_ROWS, *FORMAT_ROWS, *CALL_ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-")[:48])
def test_refused_with_exactly_this_sentence(row, tmp_path):
    with pytest.raises(sg.SamoyedsError) as caught:
        row.call(tmp_path)
    places = {"{path}": str(tmp_path), "{shipped}": SHIPPED}
    expected = row.message
    for mark, text in places.items():
        expected = expected.replace(mark, text)
    assert str(caught.value) == expected


def test_there_are_enough_rows_and_each_is_one_sentence_with_a_remedy():
    assert len(ROWS) >= 40
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert "\n" not in row.message
        assert "; " in row.message, row.message
        assert not row.message.endswith(".")


def test_every_rule_refuses_something():
    refused = {row.message.split(": ")[0] for row in (*RULE_ROWS, *HOPPER_ROWS)}
    refused |= {row.message.split(": ")[0] for row in JSON_ROWS}
    refused |= {row.message.split(": ")[1] for row in JSON_ROWS if ": " in row.message}
    assert set(RULES) - refused == set()


def test_an_atom_newer_than_the_target_is_refused():
    old = Target("sm_75", 75, 64 * 1024, 64 * 1024, 1024)
    violation = RULES["atom-target"](Case(BASE, make_ssmm(FORMAT, "bf16"), old))
    assert violation.sentence == "mma_sp_m16n8k32 needs sm_80, the target is sm_75"
    assert violation.remedy == "choose a later target"
