"""Cases: sizes in scope, data exact or special as announced, the same arrays every time."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from samoyeds_gen import reference
from samoyeds_gen.check.cases import LARGEST_INTEGER, Case, make_inputs
from samoyeds_gen.check.groups import grouped_cases, grouped_corners
from samoyeds_gen.check.strategies import (
    CORNER_STEPS,
    ODD,
    SHIPPED,
    Scope,
    cases,
    corners,
    formats,
    problems,
)
from samoyeds_gen.check.trial import origin_of
from samoyeds_gen.formats import Format
from samoyeds_gen.language import make_ssmm

SCOPE = Scope((64, 32, 64), (32, 64, 128, 192, 512), True)
PROBLEM = make_ssmm(Format(1, 2, 32), "bfloat16", index="int64", bias=True, scale=True)


@given(cases(SCOPE))
def test_arrays_have_the_shapes_that_the_case_names(case):
    arrays = make_inputs(case, PROBLEM)
    assert arrays.dense.shape == arrays.w.shape == (case.m, case.k)
    assert arrays.tokens.shape == (case.tokens, case.k)
    assert arrays.selection.shape == arrays.scale.shape == (case.chosen,)
    assert arrays.selection.dtype == np.int64
    assert arrays.bias.shape == (case.m,)
    assert SCOPE.affordable(case.m, case.k, max(case.tokens, case.chosen))
    assert ((arrays.selection >= 0) & (arrays.selection < case.tokens)).all()
    arrays.w.validate()


@given(cases(SCOPE))
@settings(max_examples=30)
def test_arrays_are_the_same_every_time(case):
    first, again = make_inputs(case, PROBLEM), make_inputs(case, PROBLEM)
    for name in ("dense", "tokens", "selection", "bias", "scale"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()


@given(cases(SCOPE).filter(lambda case: case.values == "integers"))
@settings(max_examples=50)
def test_sums_of_integers_are_exact_in_float32(case):
    arrays = make_inputs(case, PROBLEM)
    selected = arrays.tokens[arrays.selection]
    assert np.isfinite(selected.astype(np.float32)).all(), "only rows that are not selected hide"
    sums = reference.ssmm(arrays.w, arrays.tokens, arrays.selection)
    assert (sums == np.round(sums)).all()
    assert (np.abs(sums) <= LARGEST_INTEGER**2 * case.k).all()
    full = reference.ssmm(
        arrays.w, arrays.tokens, arrays.selection, bias=arrays.bias, scale=arrays.scale
    )
    assert (full == full.astype(np.float32)).all()


@pytest.mark.parametrize("rows", ["aligned", "ragged"])
def test_rows_apart_have_nan_between(rows):
    tokens = make_inputs(Case(2, 7, 3, 0, rows=rows), PROBLEM).tokens
    storage = tokens.base
    assert storage.shape[1] > 7
    assert np.isnan(storage[:, 7:].astype(np.float32)).all()
    assert (storage.shape[1] % 8 == 0) == (rows == "aligned")


def test_hidden_rows_are_those_not_selected():
    arrays = make_inputs(Case(2, 7, 9, 4, "repeated", hidden=True), PROBLEM)
    hidden = np.isnan(arrays.tokens.astype(np.float32)).all(axis=1)
    assert sorted(np.flatnonzero(~hidden)) == sorted(set(arrays.selection.tolist()))


@pytest.mark.parametrize(
    ("order", "expected"), [("ordered", [0, 1, 2, 0, 1]), ("reversed", [2, 1, 0, 2, 1])]
)
def test_orders(order, expected):
    assert make_inputs(Case(1, 1, 3, 5, order), PROBLEM).selection.tolist() == expected


def test_specials_reach_weight_and_tokens_in_turn():
    found = set()
    for seed in range(20):
        arrays = make_inputs(Case(8, 8, 8, 0, values="specials", seed=seed), PROBLEM)
        found |= {
            name
            for name in ("dense", "tokens")
            if not np.isfinite(getattr(arrays, name).astype(np.float32)).all()
        }
    assert found == {"dense", "tokens"}


@given(formats())
def test_formats_are_legal_and_varied(format):
    assert 1 <= format.n <= format.m <= 16
    assert format.v % 16 == 0


def test_shipped_and_odd_formats_do_not_overlap():
    assert len(SHIPPED) == 24
    assert not set(SHIPPED) & set(ODD)


def test_the_simplest_problem_is_the_plainest():
    simplest = problems(st.just(Format(1, 2, 64)))
    from hypothesis import find

    problem = find(simplest, lambda problem: True)
    assert problem == make_ssmm(Format(1, 2, 64), "bfloat16")


EXPERTS = Scope((256, 16, 64), (64, 128, 192), True, unit=4)
SHARED = make_ssmm(Format(2, 4, 32), "bfloat16", index="int32", bias=True, grouped=True)


@given(grouped_cases(EXPERTS))
def test_experts_own_rows_one_behind_the_other(case):
    arrays = make_inputs(case, SHARED)
    assert arrays.w.shape == (len(case.counts) * case.m, case.k)
    assert case.m % EXPERTS.unit == 0
    assert arrays.bias.shape == (len(case.counts) * case.m,)
    assert arrays.offsets.dtype == np.int32
    assert np.diff(arrays.offsets).tolist() == list(case.counts)
    assert arrays.offsets[0] == 0
    assert abs(int(arrays.offsets[-1]) - case.chosen) <= 3
    away = (arrays.selection < 0) | (arrays.selection >= case.tokens)
    assert case.order == "outlying" or not away.any()


def test_counts_of_every_kind_are_drawn():
    kinds = {
        "none": lambda case: sum(case.counts) == 0,
        "one expert has all": lambda case: case.counts[1:] == (32, 0),
        "one token": lambda case: sum(case.counts) == 1 and len(case.counts) > 2,
        "a whole tile": lambda case: 16 in case.counts and 17 in case.counts,
        "two turns of a warp": lambda case: len(case.counts) > 32 and case.counts[-1] > 0,
        "rows of nobody": lambda case: case.chosen > sum(case.counts) > 0,
        "rows behind the end": lambda case: case.chosen < sum(case.counts),
    }
    seen = set()

    @settings(max_examples=300, phases=[Phase.generate], derandomize=True)
    @given(grouped_cases(EXPERTS))
    def draw(case):
        seen.update(name for name, wanted in kinds.items() if wanted(case))

    draw()
    assert seen == set(kinds)


def test_grouped_corners_reach_every_edge():
    made = grouped_corners(EXPERTS)
    every = {count for case in made for count in case.counts}
    assert {0, 1, 15, 16, 17, 32, 33} <= every
    assert max(len(case.counts) for case in made) > 64
    assert any(sum(case.counts) == 0 and case.chosen > 0 for case in made)
    assert any(sum(case.counts) > case.chosen > 0 for case in made)
    assert any(case.m > 2 * EXPERTS.tile[0] for case in made)
    assert "outlying" in {case.order for case in made}
    assert {case.values for case in made} == {"integers", "reals", "specials"}


def test_corners_reach_every_column_at_which_something_changes():
    made = corners(SCOPE)
    assert len(set(made)) == len(made)
    tile_m, tile_n, tile_k = SCOPE.tile
    assert max(case.k for case in made) > SCOPE.columns[-1]
    assert max(case.m for case in made) > tile_m
    assert max(case.tokens for case in made) > tile_n
    assert min(case.chosen for case in made) == 0
    assert {case.values for case in made} == {"integers", "reals", "specials"}
    assert all(case.k <= CORNER_STEPS * tile_k + 1 for case in made)


@given(cases(SCOPE))
@settings(max_examples=40)
def test_origin_names_the_rows_that_made_an_element(case):
    if not case.chosen:
        return
    arrays = make_inputs(case, PROBLEM)
    selected, feature = case.seed % case.chosen, case.seed % case.m
    origin = origin_of(arrays.w, PROBLEM, arrays.selection, selected, feature)
    f = PROBLEM.format
    assert feature == origin.group * f.m + origin.sub_row
    assert origin.token == arrays.selection[selected]
    kept = np.zeros((f.padded_k(case.k),), bool)
    for block, row in enumerate(origin.stored):
        if row is not None:
            assert arrays.w.indices[row, block] == origin.sub_row
            kept[block * f.v : (block + 1) * f.v] = True
    assert not arrays.w.decode()[feature][~kept[: case.k]].any()
