"""Sums over a layer's inputs: the same for every split into batches, and what is refused."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

from pruning_cases import SEEDS, calibrated, normal  # noqa: E402

from samoyeds_gen import ModelError  # noqa: E402
from samoyeds_gen.moe import Calibration, calibration, layer_error  # noqa: E402

pytestmark = pytest.mark.torch


@given(seed=SEEDS, k=st.integers(1, 20), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_any_split_into_batches_gives_the_same_sums(seed, k, cuts):
    inputs = normal(seed, 30, k)
    whole, split = calibrated(inputs), Calibration(k)
    edges = [0, *sorted(cuts), 30]
    for first, last in pairwise(edges):
        split.update(inputs[first:last])
    exact = inputs.double()
    assert split.tokens == whole.tokens == 30
    for each in (whole, split):
        torch.testing.assert_close(each.hessian, exact.T @ exact)
        torch.testing.assert_close(each.norms(), exact.norm(dim=0))


@given(seed=SEEDS, dtype=st.sampled_from(calibration.FLOATS))
def test_small_integers_are_summed_exactly(seed, dtype):
    inputs = (2 * normal(seed, 3, 5, 6)).round()
    for sums in calibration.SUMS:
        seen = Calibration(6, dtype=sums)
        seen.update(inputs.to(dtype))
        rows = inputs.reshape(15, 6).to(sums)
        assert seen.tokens == 15
        assert torch.equal(seen.hessian, rows.T @ rows)
        assert torch.equal(seen.squares, seen.hessian.diagonal())


def test_pieces_of_a_batch(monkeypatch):
    inputs = (2 * normal(0, 50, 8)).round()
    want = calibrated(inputs)
    monkeypatch.setattr(calibration, "CHUNK", 24)
    got = calibrated(inputs)
    assert torch.equal(got.hessian, want.hessian)
    assert torch.equal(got.squares, want.squares)
    assert layer_error(inputs, 2 * inputs, got) == 1.0


def test_norms_only_spare_the_hessian():
    inputs = normal(0, 50, 8)
    seen = calibrated(inputs, hessian=False)
    assert seen.hessian is None
    assert torch.equal(seen.norms(), calibrated(inputs).norms())
    assert repr(seen) == "Calibration(k=8, norms, 50 tokens, cpu)"


@given(seed=SEEDS)
def test_layer_error_is_that_of_the_outputs(seed):
    inputs, weight, pruned = normal(seed, 40, 12), normal(seed + 1, 5, 12), normal(seed + 2, 5, 12)
    want = float((inputs @ (weight - pruned).T).norm() / (inputs @ weight.T).norm())
    seen = calibrated(inputs)
    assert math.isclose(layer_error(weight, pruned, seen), want, rel_tol=1e-4)
    assert layer_error(weight, weight, seen) == 0.0
    assert layer_error(torch.zeros_like(weight), pruned, seen) == math.inf


def spoiled(value):
    inputs = torch.ones(3, 2, 4)
    inputs[1, 1, 2] = value
    return inputs


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            torch.ones(3, 5),
            "inputs has shape [3, 5], but [..., 4] is required; "
            "pass what the layer itself is given",
        ),
        (
            torch.tensor(1.0),
            "inputs has shape [], but [..., 4] is required; pass what the layer itself is given",
        ),
        (
            [[1.0] * 4],
            "inputs is a list, but a torch tensor is required; pass torch.as_tensor(inputs)",
        ),
        (
            torch.ones(3, 4, dtype=torch.int64),
            "inputs has dtype torch.int64, but a floating-point type is required; "
            "convert it to float32",
        ),
        (
            spoiled(math.nan),
            "inputs[3, 2] is nan, but finite values are required; "
            "leave out the text whose activations overflow",
        ),
        (
            spoiled(-math.inf),
            "inputs[3, 2] is -inf, but finite values are required; "
            "leave out the text whose activations overflow",
        ),
    ],
)
def test_refused_inputs_change_nothing(inputs, message):
    seen = calibrated(torch.ones(2, 4))
    with pytest.raises(ModelError) as refused:
        seen.update(inputs)
    assert str(refused.value) == message
    assert seen.tokens == 2
    assert torch.equal(seen.hessian, torch.full((4, 4), 2.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Calibration(0),
            "k=0 is not a positive integer; pass the layer's in_features",
        ),
        (
            lambda: Calibration(4, dtype=torch.float16),
            "sums of torch.float16 are asked for, but torch.float64 or torch.float32 is required; "
            "leave dtype out",
        ),
        (
            lambda: layer_error(torch.ones(2, 4), torch.ones(3, 4), Calibration(4)),
            "the weight has shape [2, 4] and the pruned weight [3, 4], "
            "but one shape [m, k] is required; compare a weight with its own pruned form",
        ),
        (
            lambda: layer_error(
                torch.ones(2, 4), torch.ones(2, 4), calibrated(torch.ones(2, 4), hessian=False)
            ),
            "the calibration holds norms only, but a Hessian is required; "
            "make it without hessian=False",
        ),
        (
            lambda: layer_error(
                torch.ones(2, 4, device="meta"),
                torch.ones(2, 4, device="meta"),
                calibrated(torch.ones(2, 4)),
            ),
            "the calibration is on cpu, but the weight is on meta; "
            "move the weight there, or calibrate on its device",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ModelError) as refused:
        make()
    assert str(refused.value) == message
