"""Templates arrange and do not decide: what they may contain is held here, over their syntax."""

import re
from dataclasses import replace

import pytest
from jinja2 import StrictUndefined, UndefinedError, nodes

from samoyeds_gen.assets import asset_directory
from samoyeds_gen.check.covering import covering
from samoyeds_gen.compiler import (
    Combine,
    Step,
    compile_plan,
    emit,
    emit_routing,
    first_violation,
    lower_combine,
    lower_step,
)
from samoyeds_gen.compiler.emit import environment
from samoyeds_gen.formats import Format
from samoyeds_gen.language import (
    ACTIVATIONS,
    FOLDS,
    Routing,
    layouts,
    load_schedule,
    make_ssmm,
    target_named,
)
from samoyeds_gen.language.dtypes import BFLOAT16, OUTPUT_TYPES
from samoyeds_gen.language.schedule import (
    Cluster,
    Epilogue,
    Launch,
    Layout,
    Pack,
    Split,
    Stationary,
    Tile,
    Warps,
)

FILES = sorted(asset_directory("templates").glob("*.jinja"))
NAMES = [path.name for path in FILES]
MOST_ARGUMENTS = 6
SHARE_OF_CONTROL = 0.10
FIELD = "\0"
FORBIDDEN = (
    nodes.Assign, nodes.AssignBlock, nodes.BinExpr, nodes.Not, nodes.Neg, nodes.Compare,
    nodes.CondExpr, nodes.Concat, nodes.Test, nodes.Slice, nodes.Include, nodes.Extends,
)  # fmt: skip


def tree(name):
    env = environment()
    return env.parse(env.loader.get_source(env, name)[0])


@pytest.mark.parametrize("name", NAMES)
def test_no_arithmetic_no_comparison_no_assignment(name):
    for kind in FORBIDDEN:
        found = [node.lineno for node in tree(name).find_all(kind)]
        assert not found, f"{kind.__name__} at lines {found}"


@pytest.mark.parametrize("name", NAMES)
def test_no_constant_is_printed(name):
    """`= {{0}}` in C++ would silently become `= 0`."""
    for output in tree(name).find_all(nodes.Output):
        for node in output.nodes:
            assert not isinstance(node, nodes.Const), f"line {node.lineno}"
            assert isinstance(
                node, nodes.TemplateData | nodes.Getattr | nodes.Name | nodes.Call | nodes.Filter
            )


@pytest.mark.parametrize("name", NAMES)
def test_only_indent_filters(name):
    assert {node.name for node in tree(name).find_all(nodes.Filter)} <= {"indent"}


@pytest.mark.parametrize("name", NAMES)
def test_conditions_are_plain_fields_and_do_not_nest(name):
    for node in tree(name).find_all(nodes.If):
        assert isinstance(node.test, nodes.Getattr | nodes.Name), f"line {node.lineno}"
        assert not node.elif_
        inner = [each for part in node.body for each in part.find_all(nodes.If)]
        assert not inner, f"an if inside the if of line {node.lineno}"


@pytest.mark.parametrize("name", NAMES)
def test_loops_run_over_sequences_of_the_plan(name):
    for node in tree(name).find_all(nodes.For):
        source = node.iter
        counted = isinstance(source, nodes.Call) and source.node.name == "range"
        assert counted or isinstance(source, nodes.Getattr), f"line {node.lineno}"


@pytest.mark.parametrize("name", NAMES)
def test_macros_take_few_arguments(name):
    for macro in tree(name).find_all(nodes.Macro):
        assert len(macro.args) <= MOST_ARGUMENTS, macro.name


def test_control_lines_are_few():
    text = "".join(path.read_text() for path in FILES)
    control = re.findall(r"^\s*//%\s*(?:if|else|endif|for|endfor)\b", text, re.MULTILINE)
    assert len(control) <= SHARE_OF_CONTROL * text.count("\n")


FACTORS = {
    "format": (Format(1, 1, 64), Format(1, 2, 16), Format(1, 2, 128), Format(3, 7, 48)),
    "fold": FOLDS,
    "k": (64, 128),
    "fragments": (1, 2),
    "index": (None, "int64"),
    "bias": (False, True),
    "scale": (False, True),
    "activation": (None, *ACTIVATIONS),
    "output": ("bfloat16", "float32"),
}


STREAM_FACTORS = {
    "format": (Format(1, 1, 64), Format(1, 2, 16), Format(1, 2, 128), Format(3, 7, 48)),
    "fold": ("prefix", "expand"),
    "split": (1, 3),
    "chunks": (1, 3),
    "groups": (1, 2, 4),
    "index": (None, "int64"),
    "bias": (False, True),
    "scale": (False, True),
    "activation": (None, *ACTIVATIONS),
    "output": ("bfloat16", "float32"),
}


def problem_of(row):
    """What a combination computes."""
    return make_ssmm(
        row["format"],
        "bfloat16",
        out_dtype=row["output"],
        index=row["index"],
        bias=row["bias"],
        scale=row["scale"],
        activation=row["activation"],
    )


def streamed(row):
    """The stream of one combination, or None where it is not legal."""
    made = problem_of(row)
    base = load_schedule("decode_sm80", row["format"], made.dtype)
    schedule = replace(
        base,
        tile=replace(base.tile, k=128 * base.warps.k * row["groups"]),
        stationary=Stationary(row["fold"]),
        pipeline=replace(base.pipeline, fragments=row["chunks"]),
        split=Split(row["split"]),
    )
    legal = first_violation(schedule, made, target_named("sm_80")) is None
    return emit(compile_plan(schedule, made)) if legal else None


def emitted(row):
    """The ring of one combination, or None where it is not legal."""
    made = problem_of(row)
    base = load_schedule("ssmm_sm80", row["format"], made.dtype)
    layout = (layouts.swizzle_for_row(row["k"]).name, layouts.swizzle_for_row(2 * row["k"]).name)
    schedule = replace(
        base,
        tile=replace(base.tile, k=row["k"]),
        layout=Layout(*layout),
        stationary=Stationary(row["fold"]),
        pipeline=replace(base.pipeline, stages=2, fragments=row["fragments"]),
    )
    legal = first_violation(schedule, made, target_named("sm_80")) is None
    return emit(compile_plan(schedule, made)) if legal else None


def warpgroup_kernels():
    """Hopper kernels that contain, together, all that the warp-specialised templates say."""
    for format in (Format(1, 1, 64), Format(1, 2, 256), Format(3, 7, 48)):
        for index, cluster, output in (
            (None, 1, "bfloat16"),
            (None, 2, "float32"),
            ("int64", 1, "bfloat16"),
        ):
            made = make_ssmm(
                format, "bfloat16", index=index, out_dtype=output, bias=True, scale=True
            )
            base = load_schedule("ssmm_sm90", format, made.dtype)
            tile = replace(base.tile, n=96)
            for split in (1, 2) if cluster == 1 else (1,):
                schedule = replace(base, tile=tile, cluster=Cluster(cluster), split=Split(split))
                yield emit(compile_plan(schedule, made))
                if format.plain:
                    ahead = replace(schedule.overlap, ahead=True, turns=False)
                    skewed = replace(ahead, skew=1 if split == 1 and cluster == 1 else 0)
                    warps = replace(schedule.warps, m=8)
                    few = replace(schedule, warps=warps, tile=replace(tile, m=128))
                    yield emit(compile_plan(replace(few, overlap=skewed), made))
                    yield emit(compile_plan(replace(schedule, overlap=ahead), made))
                    weight = replace(schedule.stationary, weight="registers")
                    from_ring = replace(schedule, stationary=weight)
                    yield emit(compile_plan(from_ring, made))
                    layout, pack = replace(base.layout, weight="linear"), Pack(data="fragment")
                    streamed = replace(
                        from_ring,
                        tile=replace(tile, n=80),
                        layout=layout,
                        pack=pack,
                        pipeline=replace(base.pipeline, stages=4),
                    )
                    yield emit(compile_plan(streamed, made))
                    yield emit(compile_plan(replace(streamed, overlap=ahead), made))
    for format in (Format(1, 1, 64), Format(3, 7, 48)):
        made = make_ssmm(format, "bfloat16")
        base = load_schedule("ssmm_sm90", format, made.dtype)
        tall = Tile(256, 96, 128)
        by_groups = replace(base, tile=tall, warps=Warps(8, 1), epilogue=Epilogue(8, "warpgroup"))
        yield emit(compile_plan(by_groups, made))
    for format in (Format(1, 1, 64), Format(1, 2, 64)):
        for options in ({"gated": True, "activation": "silu", "index": "int32"}, {"bias": True}):
            made = make_ssmm(format, "bfloat16", grouped=True, **options)
            yield emit(compile_plan(load_schedule("ssmm_sm90", format, made.dtype), made))


def ring_experts():
    """Grouped ring kernels of every fold, with gates and without."""
    for fold, format in (
        ("prefix", Format(1, 2, 64)),
        ("exchange", Format(1, 2, 64)),
        ("expand", Format(2, 4, 32)),
    ):
        for options in ({"gated": True, "activation": "silu", "index": "int32"}, {"bias": True}):
            made = make_ssmm(format, "bfloat16", grouped=True, **options)
            base = load_schedule("ssmm_sm80", format, made.dtype)
            yield emit(compile_plan(replace(base, stationary=Stationary(fold)), made))


def dependent_kernels():
    """Kernels of both pipelines that begin while the launch before them ends."""
    for name, format in (
        ("decode_sm80", Format(1, 2, 64)),
        ("ssmm_sm90", Format(1, 2, 64)),
        ("ssmm_sm90", Format(4, 8, 32)),
    ):
        made = make_ssmm(format, "bfloat16")
        launch = Launch(dependent=True, prefetch=name == "decode_sm80")
        schedule = replace(load_schedule(name, format, made.dtype), launch=launch)
        yield emit(compile_plan(schedule, made, target_named("sm_90a")))
    grouped = make_ssmm(format, "bfloat16", grouped=True)
    yield emit(compile_plan(schedule, grouped, target_named("sm_90a")))
    rule, target = Routing(8, 2, "softmax_topk", False), target_named("sm_90a")
    yield emit_routing(lower_step(Step(rule, "route", early=True), target))
    yield emit_routing(lower_combine(Combine(2, BFLOAT16, 8, early=True), target))


def routing_kernels():
    """Routing kernels that contain, together, all that their templates say."""
    target = target_named("sm_80")
    for routing in (
        Routing(8, 2, "softmax_topk", False, shared=1),
        Routing(8, 2, "softmax_topk", True, bias=True, groups=4, top_groups=2),
        Routing(8, 2, "softmax_topk", False, bias=True),
        Routing(8, 2, "sigmoid_grouped", True, groups=4, top_groups=2, scaling=2.0),
    ):
        for kind in ("route", "choose", "sort", "count", "place"):
            for dtype in OUTPUT_TYPES:
                yield emit_routing(lower_step(Step(routing, kind, dtype), target))
    for dtype in OUTPUT_TYPES:
        yield emit_routing(lower_combine(Combine(2, dtype, 1), target))


def test_no_warpgroup_kernel_hides_code_in_a_cpp_template():
    """test_emit.py says why; its drawn kernels seldom have matrix work that runs on."""
    kernels = tuple(warpgroup_kernels())
    assert any("keep_fragments(" in kernel for kernel in kernels)
    assert any("stmatrix_x4_trans(" in kernel for kernel in kernels)
    for kernel in kernels:
        assert "template <" not in kernel


def test_every_macro_is_used():
    """A macro that no kernel of a covering set contains is dead."""
    kernels = (*warpgroup_kernels(), *ring_experts(), *dependent_kernels(), *routing_kernels())
    lines = {line.strip() for kernel in kernels for line in kernel.splitlines()}
    for factors, text_of in ((FACTORS, emitted), (STREAM_FACTORS, streamed)):
        rows = covering(factors, legal=lambda row, text_of=text_of: text_of(row) is not None)
        lines |= {line.strip() for row in rows for line in text_of(row).splitlines()}
    for name in NAMES:
        for macro in tree(name).find_all(nodes.Macro):
            text = "".join(
                part.data if isinstance(part, nodes.TemplateData) else FIELD
                for output in macro.find_all(nodes.Output)
                for part in output.nodes
            )
            # Lines without a printed field stand in the kernel as they stand here.
            whole = {line.strip() for line in text.splitlines() if FIELD not in line}
            whole = {line for line in whole if len(line) > 4}
            assert not whole or whole & lines, f"{name}: {macro.name}"


@pytest.mark.parametrize("name", NAMES)
def test_ascii_without_tabs_or_trailing_blanks(name):
    text = (asset_directory("templates") / name).read_text()
    assert text.isascii()
    assert "\t" not in text
    assert not re.search(r"[ ]+$", text, re.MULTILINE)


def test_a_misspelt_field_is_an_error():
    env = environment()
    assert env.undefined is StrictUndefined
    with pytest.raises(UndefinedError):
        env.from_string("{{ kernel.nothing }}").render(kernel=object())


def test_operand_lists_of_inline_assembly_pass_untouched():
    text = '"{%0, %1}, [%2];" // {# not a comment #}'
    assert environment().from_string(text).render() == text
