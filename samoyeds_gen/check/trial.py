"""One kernel on one case: run it, compare every element, say where the first bad one came from.

Decides what counts as wrong (Semantics of the docs: exact on small integers, elementwise bound on
reals, agreement on NaN and infinity where the fold promises it) and the name of the failure.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from samoyeds_gen import reference
from samoyeds_gen.check.cases import Array, Case, Inputs, make_inputs
from samoyeds_gen.compiler import MAX_EXPERTS
from samoyeds_gen.errors import CompileError, LaunchError
from samoyeds_gen.formats import ELEMENTS, SparseWeight, take_rows
from samoyeds_gen.kernel import Variant
from samoyeds_gen.kernel.arguments import Call, describe_call, describe_experts
from samoyeds_gen.kernel.simulated import simulate
from samoyeds_gen.language import Ssmm
from samoyeds_gen.runtime import compile_source, current_device, fetch, stage
from samoyeds_gen.simulator import Report, SimulationFault

Device = Literal["cpu", "gpu"]
POISONS = (0xFF, 0x5A)
LAUNCH_FAILED = "launch failed"
OVERWRITTEN = "overwritten"
WHOLE_CHUNK = 8  # elements of 16 bits in 16 bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Where output element [selected, feature] came from.

    `group` is the block of M output rows, `sub_row` the row's place in it, `stored` the stored row
    of each V-block that keeps it (None where it is not kept), `token` the row of the tokens. Of a
    grouped kernel they are those of the weight of `expert`, and of the gate where there is one.
    """

    selected: int
    feature: int
    group: int
    sub_row: int
    stored: tuple[int | None, ...]
    token: int
    expert: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one run: its `kind`, a sentence, and the first bad element if it ended.

    `kind` is "wrong value", "unwritten", "overwritten", one of the simulator's, or "launch failed"
    after which a GPU cannot be used any more. `wrong` of `total` elements are bad.
    """

    kind: str
    sentence: str
    origin: Origin | None = None
    expected: float | None = None
    got: float | None = None
    bound: float | None = None
    wrong: int = 0
    total: int = 0
    hint: str | None = None


def try_case(
    variant: Variant, case: Case, device: Device = "cpu"
) -> tuple[Finding | None, Report | None]:
    """Run one case; what is wrong with it, if anything, and what the simulator counted."""
    problem = variant.plan.problem
    inputs = make_inputs(case, problem)
    try:
        got, report = run_kernel(variant, inputs, device)
    except SimulationFault as fault:
        return Finding(fault.kind, fault.sentence.removeprefix(f"{fault.kind}: ")), None
    except LaunchError as error:
        if device == "cpu":
            raise
        return Finding(LAUNCH_FAILED, str(error)), None
    expected, bound = _reference(variant, inputs)
    exact = case.values != "reals" and problem.activation in (None, "relu") and not problem.gated
    owned = len(expected)
    bad = wrong_elements(variant, got[:owned], expected, bound, exact=exact)
    if not bad.any() and owned < len(got):
        return _written_by_nobody(got, owned), report
    if not bad.any():
        return None, report
    blank = bad & is_poison(got[:owned], POISONS[0])
    if blank.any():
        again, _ = run_kernel(variant, inputs, device, POISONS[1])
        blank &= is_poison(again[:owned], POISONS[1])
    return _finding(variant, inputs, got[:owned], expected, bound, bad, blank), report


def name_line(variant: Variant, case: Case, finding: Finding, device: Device) -> Finding:
    """The same finding with the line of the emitted file, where the simulator named one of PTX."""
    if device == "gpu" or finding.origin is not None:
        return finding
    build = variant.build
    try:
        lined = compile_source(
            variant.source, name=build.name, target=build.target, options=("-lineinfo",)
        )
    except CompileError:
        return finding
    again, _ = try_case(replace(variant, build=lined), case, device)
    return again if again is not None and again.kind == finding.kind else finding


def run_kernel(
    variant: Variant, inputs: Inputs, device: Device, poison: int = POISONS[0]
) -> tuple[Array, Report | None]:
    """Out [n, m] of the kernel, every byte of which started as `poison`."""
    if device == "cpu":
        call = _call(variant, inputs, inputs.tokens, inputs.selection)
        return simulate(variant.plan, variant.build, call, check=False, poison=poison)
    return _launch(variant, inputs, poison), None


def gate_block(variant: Variant) -> int:
    """Rows of gate, then of up, that alternate in the weight of a gated kernel; else 0."""
    plan = variant.plan
    return 8 * plan.geometry.features_per_row if plan.problem.gated else 0


def _call(variant: Variant, inputs: Inputs, tokens: Any, selection: Any) -> Call:
    problem = variant.plan.problem
    call = describe_call(
        inputs.w,
        problem.format,
        problem.dtype.name,
        tokens,
        selection,
        inputs.bias,
        inputs.scale,
    )
    if inputs.offsets is None:
        return call
    block = gate_block(variant)
    return describe_experts(call, inputs.offsets, block, MAX_EXPERTS, check=False)


def _reference(variant: Variant, inputs: Inputs) -> tuple[Array, Array]:
    """What out should hold and how far from it it may be; only the rows that an expert owns.

    Rows whose token is not there are NaN.
    """
    problem, fold = variant.plan.problem, variant.plan.schedule.stationary.fold
    options: dict[str, Any] = {
        "fold": fold,
        "out_dtype": problem.out_dtype.name,
        "bias": inputs.bias,
        "activation": problem.activation,
        "scale": inputs.scale,
    }
    rows = np.arange(len(inputs.tokens)) if inputs.selection is None else inputs.selection
    lost = (rows < 0) | (rows >= len(inputs.tokens))
    rows = np.where(lost, 0, rows)
    if inputs.offsets is None:
        value, bound = reference.ssmm_with_bound(inputs.w, inputs.tokens, rows, **options)
    else:
        offsets = np.minimum(inputs.offsets, len(rows))
        rows, lost = rows[: offsets[-1]], lost[: offsets[-1]]
        if inputs.scale is not None:
            options["scale"] = inputs.scale[: offsets[-1]]
        block = gate_block(variant)
        value, bound = reference.grouped_with_bound(
            inputs.w, inputs.tokens, offsets, rows, gate_block=block, **options
        )
    value[lost], bound[lost] = np.nan, np.inf
    return value, bound


def _written_by_nobody(got: Array, owned: int) -> Finding | None:
    """What is wrong with the rows behind those of the experts, which nobody may write."""
    bad = ~is_poison(got[owned:], POISONS[0])
    if not bad.any():
        return None
    row, feature = (int(x) for x in np.argwhere(bad)[0])
    sentence = f"out[{owned + row}, {feature}] was written, the experts own rows 0 to {owned - 1}"
    return Finding(OVERWRITTEN, sentence, wrong=int(bad.sum()), total=bad.size)


def wrong_elements(
    variant: Variant, got: Array, expected: Array, bound: Array, *, exact: bool
) -> Array:
    """Where `got` [n, m] is not what the reference allows; `exact` asks for equality.

    Where the bound is infinite nothing is asked of the value, but a result that the reference says
    is not finite must not be finite, and under the exchange fold must be the same infinity or NaN.
    """
    plan = variant.plan
    value = got.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = expected.astype(got.dtype).astype(np.float64)
        close = (value == rounded) if exact else np.abs(value - expected) <= bound
    anything = np.isposinf(bound)
    lost = anything & ~np.isfinite(expected)
    if plan.geometry.fold in ("exchange", "direct") and plan.problem.activation is None:
        missed = (value != expected) & ~(np.isnan(value) & np.isnan(expected))
    else:
        missed = np.isfinite(value)
    return np.asarray(~(close | anything) | (lost & missed))


def is_poison(array: Array, poison: int) -> Array:
    """Where every byte of an element is `poison`."""
    shape = (*array.shape, array.itemsize)
    return np.asarray((array.view(np.uint8).reshape(shape) == poison).all(axis=-1))


def origin_of(
    w: SparseWeight, problem: Ssmm, selection: Array | None, selected: int, feature: int
) -> Origin:
    """Trace an output element back to the weight's blocks and to the tokens."""
    f = problem.format
    group, sub_row = divmod(feature, f.m)
    positions = w.numpy().positions[group * f.n : (group + 1) * f.n]
    stored = tuple(
        group * f.n + int(np.flatnonzero(column == sub_row)[0]) if sub_row in column else None
        for column in positions.T
    )
    token = selected if selection is None else int(selection[selected])
    return Origin(selected, feature, group, sub_row, stored, token)


def _origin(variant: Variant, inputs: Inputs, selected: int, feature: int) -> Origin:
    """The origin of an element, of a grouped kernel in the weight of the expert that owns it."""
    problem, offsets = variant.plan.problem, inputs.offsets
    if offsets is None:
        return origin_of(inputs.w, problem, inputs.selection, selected, feature)
    expert = int(np.searchsorted(offsets, selected, side="right")) - 1
    m = inputs.w.shape[0] // (len(offsets) - 1)
    own = take_rows(inputs.w, expert * m, (expert + 1) * m)
    block = gate_block(variant)
    row = feature + feature // block * block if block else feature
    found = origin_of(own, problem, inputs.selection, selected, row)
    return replace(found, feature=feature, expert=expert)


def _launch(variant: Variant, inputs: Inputs, poison: int) -> Array:
    """Run on the GPU; tokens whose rows are strided stay strided there.

    The selection is staged, since the values of one on the host would be checked.
    """
    plan, device = variant.plan, current_device()
    selection = None if inputs.selection is None else stage(inputs.selection, device)
    call = _call(variant, inputs, inputs.tokens, selection)
    out = np.empty((call.n, call.features), ELEMENTS[plan.problem.out_dtype.name])
    out.view(np.uint8)[...] = poison
    target: Any = stage(out, device)
    storage = inputs.tokens.base
    if storage is not None and call.k % WHOLE_CHUNK == 0 and storage.shape[1] % WHOLE_CHUNK == 0:
        staged = stage(storage, device)
        tokens = staged._replace(shape=call.tokens.shape, strides=(storage.shape[1], 1))
        call = _call(variant, inputs, tokens, selection)
    variant.launcher(device)(call, None, target, False)
    result: Array = fetch(target)
    return result


def _finding(
    variant: Variant,
    inputs: Inputs,
    got: Array,
    expected: Array,
    bound: Array,
    bad: Array,
    blank: Array,
) -> Finding:
    """Describe the first unwritten element, or else the first wrong one."""
    unwritten = bool(blank.any())
    places = np.argwhere(blank if unwritten else bad)
    selected, feature = (int(x) for x in places[0])
    origin = _origin(variant, inputs, selected, feature)
    wanted, value = float(expected[selected, feature]), float(got[selected, feature])
    kind = "unwritten" if unwritten else "wrong value"
    place = f"out[{selected}, {feature}]"
    sentence = (
        f"{place} was never written, expected {wanted:g}"
        if unwritten
        else f"{place} is {value:g}, expected {wanted:g}"
    )
    return Finding(
        kind,
        sentence,
        origin,
        wanted,
        value,
        float(bound[selected, feature]),
        len(places),
        bad.size,
        None if unwritten else _hint(got, expected, selected, feature),
    )


def _hint(got: Array, expected: Array, selected: int, feature: int) -> str | None:
    """Whose value a wrong row or column is, if it is another's."""
    value = got.astype(np.float64)
    rounded = expected.astype(got.dtype).astype(np.float64)
    n, m = value.shape
    if m > 1:
        rows = np.flatnonzero((rounded == value[selected]).all(axis=1))
        if rows.size and selected not in rows:
            return f"row {selected} of the output is what row {int(rows[0])} should be"
    if n > 1:
        columns = np.flatnonzero((rounded == value[:, feature, None]).all(axis=0))
        if columns.size and feature not in columns:
            return f"feature {feature} of the output is what feature {int(columns[0])} should be"
    return None
