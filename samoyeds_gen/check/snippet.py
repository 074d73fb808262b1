"""A failing case as Python text that can be pasted and run.

Decides how arrays are written: small ones in full, others by the recipe that makes them.
"""

import json

import numpy as np

from samoyeds_gen.check.cases import Array, Case, Inputs, make_inputs
from samoyeds_gen.check.subjects import Subject
from samoyeds_gen.language import Ssmm

WRITTEN_OUT = 64
"""Arrays of up to this many elements are written out."""


def snippet(
    subject: Subject, case: Case, device: str, element: tuple[int, int] | None = None
) -> str:
    """Python that makes the arrays of the case, runs the kernel and the reference, and prints."""
    problem = subject.problem
    inputs = make_inputs(case, problem)
    f = problem.format
    written_out = max(inputs.dense.size, inputs.tokens.size, case.n(problem)) <= WRITTEN_OUT
    call = ["w", "tokens"] + (["selection"] if problem.index else [])
    call += [f"{name}={name}" for name in ("bias", "scale") if getattr(problem, name)]
    if problem.activation:
        call.append(f'activation="{problem.activation}"')
    got = [*call, f'out_dtype="{problem.out_dtype.name}"', f'device="{device}"']
    at = "" if element is None else f"[{element[0]}, {element[1]}]"
    body = [
        *(_arrays(problem, case, inputs) if written_out else _recipe(problem, case)),
        "",
        f"schedule = {_schedule(subject)}",
        f"kernel = sg.compile(schedule, n={f.n}, m={f.m}, v={f.v}, "
        f'dtype="{problem.dtype.name}", target="{subject.target.name}")',
        f"got = kernel({', '.join(got)})",
        f"expected = sg.reference.ssmm({', '.join(call)})",
        f"print(got{at}, expected{at})",
    ]
    return "\n".join([*_imports("\n".join(body)), "", *body]) + "\n"


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
    for name in ("selection", "bias", "scale"):
        array = getattr(inputs, name)
        if array is not None:
            lines.append(f"{name} = {_text(array)}")
    return lines


def _recipe(problem: Ssmm, case: Case) -> list[str]:
    f = problem.format
    lines = [
        f"problem = make_ssmm(sg.Format({f.n}, {f.m}, {f.v}), {problem.dtype.name!r}, "
        f"index={problem.index!r}, bias={problem.bias}, scale={problem.scale})",
        f"case = {case!r}",
        "arrays = make_inputs(case, problem)",
        "dense, tokens = arrays.dense, arrays.tokens",
        f"w = {_encode(problem)}",
    ]
    given = {"selection": problem.index, "bias": problem.bias, "scale": problem.scale}
    return lines + [f"{name} = arrays.{name}" for name, present in given.items() if present]


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
