"""Products of experts for tests: weights of small integers, and what a grouped kernel must give."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

import samoyeds_gen as sg
from samoyeds_gen.formats import interleave_rows, stack_weights, take_rows
from samoyeds_gen.kernel.simulated import simulate
from samoyeds_gen.reference import grouped_with_bound
from samoyeds_gen.runtime import describe


def integers(rng, *shape):
    """Small integers, whose products and sums are exact in float32 and mostly in bfloat16."""
    return rng.integers(-2, 3, shape).astype(np.float32)


def experts_of(form, count, rows, k, rng, gate_block=0):
    """A stack of experts of `rows` rows each; with a gate block, of as many gates and ups."""
    made = []
    for _ in range(count):
        halves = [
            sg.encode(integers(rng, rows, k), n=form.n, m=form.m, v=form.v)
            for _ in range(2 if gate_block else 1)
        ]
        made.append(interleave_rows(*halves, gate_block) if gate_block else halves[0])
    return stack_weights(made)


def device_run(kernel, w, tokens, ends, selection=None, bias=None, scale=None):
    """The rows a kernel writes for counts that lie on a GPU, where no host checks them: [n, m]."""
    count = len(tokens) if selection is None else len(selection)
    rising = np.minimum(np.arange(len(ends), dtype=np.int32), count)
    rising[-1] = count
    call = kernel.describe(w, tokens, rising, selection, bias, scale)
    call = replace(call, offsets=describe(np.array(ends, np.int32)))
    out, _ = simulate(kernel.variant.plan, kernel.variant.build, call)
    return out


def within(kernel, out, w, tokens, ends, selection=None, bias=None, scale=None):
    """Whether every row of an expert is its product within the bound, and no other one is written.

    Rows of expert e are ends[e] <= i < min(ends[e + 1], n). What was never written is NaN.
    """
    m = w.shape[0] // (len(ends) - 1)
    free = np.ones(len(out), np.bool_)
    for expert, (first, last) in enumerate(pairwise(np.minimum(ends, len(out)).tolist())):
        if first >= last:
            continue
        own, rows = slice(first, last), slice(expert * m, (expert + 1) * m)
        free[own] = False
        value, bound = grouped_with_bound(
            take_rows(w.numpy(), rows.start, rows.stop),
            tokens[own] if selection is None else tokens,
            np.array([0, last - first]),
            None if selection is None else selection[own],
            gate_block=kernel.gate_block,
            fold=kernel.variant.plan.schedule.stationary.fold,
            activation=kernel.problem.activation,
            bias=None if bias is None else bias[rows],
            scale=None if scale is None else scale[own],
        )
        if not (np.abs(out[own].astype(np.float64) - value) <= bound).all():
            return False
    return bool(np.isnan(out[free].astype(np.float32)).all())
