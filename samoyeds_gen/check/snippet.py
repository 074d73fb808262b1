"""A failing case as Python text that can be pasted and run.

Decides how arrays are written: small ones in full, others by the recipe that makes them.
"""

import numpy as np

from samoyeds_gen.check.cases import Array, Case, Inputs, make_inputs
from samoyeds_gen.check.subjects import Subject

WRITTEN_OUT = 64
"""Arrays of up to this many elements are written out."""


def snippet(
    subject: Subject, case: Case, device: str, element: tuple[int, int] | None = None
) -> str:
    """Python that makes the arrays of the case, runs the kernel and the reference, and prints."""
    problem = subject.problem
    inputs = make_inputs(case, problem)
    f = problem.format
    call = ["w", "tokens"] + (["selection"] if problem.index else [])
    options = [name for name in ("bias", "scale") if getattr(problem, name)]
    common = [*call, *(f"{name}={name}" for name in options)]
    if problem.activation:
        common.append(f'activation="{problem.activation}"')
    got = [*common, f'out_dtype="{problem.out_dtype.name}"', f'device="{device}"']
    at = "" if element is None else f"[{element[0]}, {element[1]}]"
    lines = [
        "import ml_dtypes",
        "import numpy as np",
        "",
        "import samoyeds_gen as sg",
        "",
        *_arrays(subject, case, inputs),
        "",
        *_schedule(subject),
        f"kernel = sg.compile(schedule, n={f.n}, m={f.m}, v={f.v}, "
        f'dtype="{problem.dtype.name}", target="{subject.target.name}")',
        f"got = kernel({', '.join(got)})",
        f"expected = sg.reference.ssmm({', '.join(common)})",
        f"print(got{at}, expected{at})",
    ]
    return "\n".join(lines) + "\n"


def _schedule(subject: Subject) -> list[str]:
    if subject.origin is not None:
        return [f'schedule = "{subject.origin}"']
    return ['schedule = sg.Schedule.from_json("""', subject.schedule.to_json(), '""")']


def _arrays(subject: Subject, case: Case, inputs: Inputs) -> list[str]:
    problem = subject.problem
    f, dtype = problem.format, _type(inputs.tokens)
    encode = f'w = sg.encode(dense, n={f.n}, m={f.m}, v={f.v}, dtype="{problem.dtype.name}")'
    if max(inputs.dense.size, inputs.tokens.size, case.n(problem)) > WRITTEN_OUT:
        return _recipe(subject, case, inputs, encode)
    lines = [f"dense = {_text(inputs.dense)}", encode, f"tokens = {_text(inputs.tokens)}"]
    storage = inputs.tokens.base
    if storage is not None and storage.shape != inputs.tokens.shape:
        rows, columns = storage.shape
        lines += [
            f"apart = np.full(({rows}, {columns}), np.nan, {dtype})  # rows lie apart, NaN between",
            f"apart[:, :{case.k}] = tokens",
            f"tokens = apart[:, :{case.k}]",
        ]
    for name in ("selection", "bias", "scale"):
        array = getattr(inputs, name)
        if array is not None:
            lines.append(f"{name} = {_text(array)}")
    return lines


def _recipe(subject: Subject, case: Case, inputs: Inputs, encode: str) -> list[str]:
    problem = subject.problem
    f = problem.format
    lines = [
        "from samoyeds_gen.check import Case, make_inputs",
        "from samoyeds_gen.formats import Format",
        "from samoyeds_gen.language import make_ssmm",
        "",
        f"problem = make_ssmm(Format({f.n}, {f.m}, {f.v}), {problem.dtype.name!r}, "
        f"index={problem.index!r}, bias={problem.bias}, scale={problem.scale})",
        f"case = {case!r}",
        "arrays = make_inputs(case, problem)",
        "w, tokens = arrays.w, arrays.tokens  # w encodes arrays.dense",
    ]
    lines += [
        f"{name} = arrays.{name}"
        for name in ("selection", "bias", "scale")
        if getattr(inputs, name) is not None
    ]
    return lines


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
