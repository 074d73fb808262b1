"""A failing case as Python text that can be pasted and run.

Decides how arrays are written: small ones in full, others by the recipe that makes them.
"""

import json

import numpy as np

from samoyeds_gen.check.cases import Array, Case, Inputs, make_inputs
from samoyeds_gen.check.subjects import Subject
from samoyeds_gen.language import Ssmm

VECTORS = ("selection", "bias", "scale", "offsets")
WRITTEN_OUT = 64
"""Arrays of up to this many elements are written out."""


def snippet(
    subject: Subject, case: Case, device: str, element: tuple[int, int] | None = None
) -> str:
    """Python that makes the arrays of the case, runs the kernel and the reference, and prints.

    What a call refuses, such as offsets that do not end with the output, is left to `try_case`.
    """
    problem = subject.problem
    inputs = make_inputs(case, problem)
    if _refused(case, inputs):
        body = [
            f"schedule = {_schedule(subject)}",
            f"case = {case!r}",
            f"kernel = {_compiled(subject)}",
            f'print(try_case(kernel.variant, case, "{device}")[0])',
        ]
        return "\n".join([*_imports("\n".join(body)), "", *body]) + "\n"
    written_out = max(inputs.dense.size, inputs.tokens.size, case.n(problem)) <= WRITTEN_OUT
    at = "" if element is None else f"[{element[0]}, {element[1]}]"
    body = [
        *(_arrays(problem, case, inputs) if written_out else _recipe(problem, case)),
        "",
        f"schedule = {_schedule(subject)}",
        f"kernel = {_compiled(subject)}",
        *_calls(problem, device),
        f"print(got{at}, expected{at})",
    ]
    return "\n".join([*_imports("\n".join(body)), "", *body]) + "\n"


def _refused(case: Case, inputs: Inputs) -> bool:
    """Whether host arrays like these are refused by a kernel's checks of a call."""
    rows = () if inputs.selection is None else inputs.selection
    lost = any(not 0 <= row < case.tokens for row in rows)
    return lost or (inputs.offsets is not None and inputs.offsets[-1] != _rows(inputs))


def _rows(inputs: Inputs) -> int:
    return len(inputs.tokens if inputs.selection is None else inputs.selection)


def _compiled(subject: Subject) -> str:
    """The expression that compiles the subject's kernel."""
    problem = subject.problem
    f = problem.format
    options = [
        "schedule",
        f"n={f.n}, m={f.m}, v={f.v}",
        f'dtype="{problem.dtype.name}"',
        f'target="{subject.target.name}"',
    ]
    if not problem.grouped:
        return f"sg.compile({', '.join(options)})"
    options += [f'out_dtype="{problem.out_dtype.name}"']
    options += [f'index="{problem.index}"'] if problem.index else []
    options += [f'activation="{problem.activation}"'] if problem.activation else []
    flags = ("gated", "bias", "scale")
    options += [f"{name}=True" for name in flags if getattr(problem, name)]
    return f"sg.compile_grouped({', '.join(options)})"


def _calls(problem: Ssmm, device: str) -> list[str]:
    """The calls of the kernel and of its reference."""
    vectors = [f"{name}={name}" for name in ("bias", "scale") if getattr(problem, name)]
    act = [f'activation="{problem.activation}"'] if problem.activation else []
    chosen = ["selection"] if problem.index else []
    if not problem.grouped:
        call = ["w", "tokens", *chosen, *vectors, *act]
        got = [*call, f'out_dtype="{problem.out_dtype.name}"', f'device="{device}"']
        return [
            f"got = kernel({', '.join(got)})",
            f"expected = sg.reference.ssmm({', '.join(call)})",
        ]
    call = ["w", "tokens", "offsets", *chosen, *vectors]
    block = ["gate_block=kernel.gate_block"] if problem.gated else []
    wanted = [*call, *act, *block]
    return [
        f'got = kernel({", ".join(call)}, device="{device}")',
        f"expected, _ = sg.reference.grouped_with_bound({', '.join(wanted)})",
    ]


def _imports(body: str) -> list[str]:
    """The imports that `body` needs."""
    numeric = [
        line
        for name, line in (("ml_dtypes.", "import ml_dtypes"), ("np.", "import numpy as np"))
        if name in body
    ]
    own = ["import samoyeds_gen as sg"]
    if "make_inputs" in body:
        own += [
            "from samoyeds_gen.check import Case, make_inputs",
            "from samoyeds_gen.language import make_ssmm",
        ]
    elif "try_case" in body:
        own.append("from samoyeds_gen.check import Case, try_case")
    return [*numeric, "", *own] if numeric else own


def _schedule(subject: Subject) -> str:
    if subject.origin is not None:
        return f'"{subject.origin}"'
    return f"sg.Schedule.from_json({json.dumps(subject.schedule.as_dict())!r})"


def _encode(problem: Ssmm) -> str:
    f = problem.format
    return f'sg.encode(dense, n={f.n}, m={f.m}, v={f.v}, dtype="{problem.dtype.name}")'


def _arrays(problem: Ssmm, case: Case, inputs: Inputs) -> list[str]:
    lines = [
        f"dense = {_text(inputs.dense)}",
        f"w = {_encode(problem)}",
        f"tokens = {_text(inputs.tokens)}",
    ]
    storage = inputs.tokens.base
    if storage is not None and storage.shape != inputs.tokens.shape:
        rows, columns = storage.shape
        lines += [
            "# The rows lie apart, with NaN between them.",
            f"storage = np.full(({rows}, {columns}), np.nan, tokens.dtype)",
            f"storage[:, :{case.k}] = tokens",
            f"tokens = storage[:, :{case.k}]",
        ]
    for name in VECTORS:
        array = getattr(inputs, name)
        if array is not None:
            lines.append(f"{name} = {_text(array)}")
    return lines


def _recipe(problem: Ssmm, case: Case) -> list[str]:
    f = problem.format
    lines = [
        f"problem = make_ssmm(sg.Format({f.n}, {f.m}, {f.v}), {problem.dtype.name!r}, "
        f"index={problem.index!r}, bias={problem.bias}, scale={problem.scale}"
        + (", grouped=True)" if problem.grouped else ")"),
        f"case = {case!r}",
        "arrays = make_inputs(case, problem)",
        "dense, tokens = arrays.dense, arrays.tokens",
        f"w = {_encode(problem)}",
    ]
    inputs = make_inputs(case, problem)
    given = [name for name in VECTORS if getattr(inputs, name) is not None]
    return lines + [f"{name} = arrays.{name}" for name in given]


def _text(array: Array) -> str:
    """`array` as an expression that gives it back, one row a line."""
    if array.size == 0:
        return f"np.zeros({array.shape}, {_type(array)})"
    if array.ndim == 1:
        return f"np.array({_row(array)}, {_type(array)})"
    rows = ",\n    ".join(_row(row) for row in array)
    return f"np.array([\n    {rows},\n], {_type(array)})"


def _row(row: Array) -> str:
    return "[" + ", ".join(_number(each) for each in row) + "]"


def _number(value: object) -> str:
    if isinstance(value, np.integer):
        return str(int(value))
    number = float(value)  # type: ignore[arg-type]
    if np.isfinite(number):
        return repr(number)
    return {np.inf: "np.inf", -np.inf: "-np.inf"}.get(number, "np.nan")


def _type(array: Array) -> str:
    name = array.dtype.name
    return f"ml_dtypes.{name}" if name == "bfloat16" else f"np.{name}"
