"""Pruning: exactly the structure, each method's choices, and which loses least."""

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

from pruning_cases import SEEDS, calibrated, cases, correlated, normal  # noqa: E402

from samoyeds_gen import Format, FormatError, ModelError, encode  # noqa: E402
from samoyeds_gen.moe import METHODS, Calibration, layer_error, prune, second_order  # noqa: E402

pytestmark = pytest.mark.torch


def options(form, dtype="bfloat16"):
    return {"n": form.n, "m": form.m, "v": form.v, "dtype": dtype}


def same(left, right):
    return left.dtype == right.dtype and torch.equal(
        left.view(torch.int16), right.view(torch.int16)
    )


def stored(pruned, form):
    """Most non-zeros of a group of four, and most sub-rows with non-zeros of a block."""
    bands, blocks = form.bands(pruned.shape[0]), form.blocks(pruned.shape[1])
    padded = torch.zeros(bands * form.m, form.padded_k(pruned.shape[1]))
    padded[: pruned.shape[0], : pruned.shape[1]] = pruned != 0
    groups = padded.reshape(bands, form.m, blocks, form.v // 4, 4)
    return int(groups.sum(-1).max()), int(groups.any(-1).any(-1).sum(1).max())


@settings(max_examples=60)
@given(case=cases(), method=st.sampled_from(METHODS), seed=SEEDS)
def test_every_method_reaches_the_structure_exactly(case, method, seed):
    form, weight, dtype = case
    calibration = calibrated(normal(seed, 7, weight.shape[1]))
    pruned = prune(weight, method=method, calibration=calibration, **options(form, dtype))
    assert pruned.shape == weight.shape
    assert pruned.dtype == getattr(torch, dtype)
    in_group, in_block = stored(pruned, form)
    assert in_group <= 2
    assert in_block <= form.n
    assert same(encode(pruned, **options(form, dtype)).decode(), pruned)
    again = prune(weight, method=method, calibration=calibration, **options(form, dtype))
    assert same(again, pruned)


@given(case=cases())
def test_magnitude_is_what_encode_chooses(case):
    form, weight, dtype = case
    want = encode(weight, **options(form, dtype)).decode()
    assert same(prune(weight, **options(form, dtype)), want)


@given(case=cases(), seed=SEEDS)
def test_wanda_changes_no_value_that_stays(case, seed):
    form, weight, dtype = case
    calibration = calibrated(normal(seed, 7, weight.shape[1]), hessian=False)
    pruned = prune(weight, method="wanda", calibration=calibration, **options(form, dtype))
    rounded = weight.to(pruned.dtype)
    assert bool(((pruned == rounded) | (pruned == 0)).all())


@given(case=cases(), norm=st.sampled_from([1.0, 3.0, 0.1]))
def test_wanda_with_equal_norms_is_magnitude(case, norm):
    form, weight, dtype = case
    calibration = calibrated(torch.full((5, weight.shape[1]), norm), hessian=False)
    pruned = prune(weight, method="wanda", calibration=calibration, **options(form, dtype))
    assert same(pruned, prune(weight, **options(form, dtype)))


@given(case=cases(), scale=st.sampled_from([1.0, 3.0, 0.25]), damping=st.sampled_from([0.0, 0.01]))
def test_second_order_with_unrelated_inputs_is_magnitude(case, scale, damping):
    form, weight, dtype = case
    calibration = calibrated(scale * torch.eye(weight.shape[1]))
    pruned = prune(
        weight,
        method="second_order",
        calibration=calibration,
        damping=damping,
        **options(form, dtype),
    )
    assert same(pruned, prune(weight, **options(form, dtype)))


def test_wanda_scores_by_the_size_of_the_input():
    weight = torch.tensor([[4.0, 3.0, 2.0, 1.0] + [0.0] * 12, [1.0] + [0.0] * 15])
    inputs = torch.ones(1, 16)
    inputs[0, 3] = 100.0
    pruned = prune(weight, n=1, m=2, v=16, method="wanda", calibration=calibrated(inputs))
    assert pruned[0, :4].tolist() == [4.0, 0.0, 0.0, 1.0]
    weight[1, 3] = 5.0  # larger times its input than all of the first row
    pruned = prune(weight, n=1, m=2, v=16, method="wanda", calibration=calibrated(inputs))
    assert pruned[0].tolist() == [0.0] * 16
    assert pruned[1, :4].tolist() == [1.0, 0.0, 0.0, 5.0]


def test_second_order_moves_what_it_removes_to_a_column_that_says_the_same():
    """Columns 0 and 5 carry the same input; what is lost in 0 is put on 5."""
    weight = torch.zeros(1, 16)
    weight[0, :3] = torch.tensor([1.0, 8.0, 8.0])
    weight[0, 5] = 2.0
    inputs = normal(3, 400, 16)
    inputs[:, 5] = inputs[:, 0]
    calibration = calibrated(inputs)
    pruned = prune(
        weight, n=1, m=1, v=16, method="second_order", calibration=calibration, damping=1e-6
    )
    assert pruned[0, 0] == 0.0
    assert abs(float(pruned[0, 5]) - 3.0) < 0.02
    assert layer_error(weight, pruned, calibration) < 0.01


@pytest.mark.parametrize(
    "form", [(1, 2, 128), (1, 2, 32), (1, 2, 64), (4, 8, 32), (1, 4, 32), (3, 7, 48), (1, 1, 64)]
)
@pytest.mark.parametrize("seed", [0, 10])
def test_second_order_beats_wanda_beats_magnitude(form, seed):
    """On correlated inputs, and on held-out tokens of the same kind too."""
    k = 320
    inputs = correlated(seed, 3000, k)
    calibration, fresh = calibrated(inputs[:2000]), calibrated(inputs[2000:])
    weight = normal(seed + 4, 72, k)
    n, m, v = form
    pruned = {
        method: prune(weight, n=n, m=m, v=v, method=method, calibration=calibration)
        for method in METHODS
    }
    for statistics in (calibration, fresh):
        magnitude, wanda, second = (
            layer_error(weight, pruned[method], statistics) for method in METHODS
        )
        assert second < 0.9 * wanda
        assert wanda < 0.97 * magnitude


def test_the_walk_is_one_row_at_a_time(monkeypatch):
    """Pieces of the weight, and errors carried early or late, leave the same error."""
    weight, calibration = normal(1, 33, 200), calibrated(correlated(2, 500, 200))
    how = {"n": 2, "m": 4, "v": 160, "method": "second_order", "calibration": calibration}
    want = layer_error(weight, prune(weight, **how), calibration)
    for name, value in (("CHUNK", 1), ("LAZY", 16), ("LAZY", 1000)):
        with monkeypatch.context() as patch:
            patch.setattr(second_order, name, value)
            pruned = prune(weight, **how)
        assert math.isclose(layer_error(weight, pruned, calibration), want, rel_tol=0.01)


def test_pieces_of_the_weight_do_not_matter(monkeypatch):
    from samoyeds_gen.formats.torch_arrays import TorchArrays

    weight, calibration = normal(1, 33, 90), calibrated(correlated(2, 500, 90))
    how = {"n": 2, "m": 4, "v": 32, "method": "wanda", "calibration": calibration}
    want = prune(weight, **how)
    monkeypatch.setattr(TorchArrays, "chunk", 1)
    assert same(prune(weight, **how), want)


def test_kept_sub_rows_are_those_that_save_the_most():
    """The loss of a sub-row counts what its neighbours can make up for: the doubled one goes.

    Row 0 holds the larger values, on a pair of columns of which one is the other's copy with the
    opposite sign of weight, so that the layer hardly notices them.
    """
    inputs = normal(5, 600, 16)
    inputs[:, 4] = inputs[:, 0]
    weight = torch.zeros(2, 16)
    weight[0, 0], weight[0, 4] = 4.0, -4.0
    weight[1, 8] = 1.0
    calibration = calibrated(inputs)
    how = {"n": 1, "m": 2, "v": 16, "calibration": calibration, "damping": 1e-6}
    assert prune(weight, method="wanda", **how)[0, 0] == 4.0
    pruned = prune(weight, method="second_order", **how)
    assert pruned[0].tolist() == [0.0] * 16
    assert layer_error(weight, pruned, calibration) < 0.01


def test_wanda_weighs_the_norm_as_much_as_the_value():
    weight = torch.zeros(1, 16)
    weight[0, :3] = torch.tensor([3.0, 2.0, 5.0])
    inputs = torch.ones(1, 16)
    inputs[0, 1] = 2.0  # 2 * 2 is more than 3 * 1, though 2 * 2 * 2 is less than 3 * 3
    pruned = prune(weight, n=1, m=1, v=16, method="wanda", calibration=calibrated(inputs))
    assert pruned[0, :4].tolist() == [0.0, 2.0, 5.0, 0.0]


def test_equal_norms_of_any_size_leave_ties_as_they_are():
    weight = torch.zeros(2, 16)
    weight[0, 0], weight[0, 4], weight[1, 0] = 4.0, 3.0, 5.0
    for norm in range(1, 60):
        calibration = calibrated(torch.full((1, 16), norm / 7), hessian=False)
        pruned = prune(weight, n=1, m=2, v=16, method="wanda", calibration=calibration)
        assert torch.equal(pruned[0].float(), weight[0])


def test_the_factor_of_unrelated_inputs_is_the_identity():
    for damping in (0.0, 0.1):
        factor = second_order.error_factor(3.0 * torch.eye(7), damping)
        assert torch.equal(factor, torch.eye(7, dtype=torch.float64))


def test_the_error_of_rounding_is_carried_on_too():
    block, spread = torch.zeros(1, 16), torch.eye(16)
    block[0, 0], spread[0, 5] = 1 + 2**-10, -1.0
    kept, errors = second_order._thin(block, spread, torch.bfloat16)
    assert kept[0, 0] == 1.0
    assert errors[0, 0] == kept[0, 5] == 2**-10


def test_second_order_stores_no_negative_zero():
    out = second_order.prune_second_order(
        torch.full((2, 16), -0.0, dtype=torch.float16),
        Format(1, 1, 16),
        torch.eye(16, dtype=torch.float64),
        0.01,
    )
    assert not bool(out.view(torch.int16).any())


def test_parameters_and_strides():
    weight, calibration = normal(1, 40, 24).T, calibrated(correlated(2, 500, 40))
    for method in METHODS:
        how = {"n": 1, "m": 2, "v": 16, "method": method, "calibration": calibration}
        want = prune(weight.contiguous(), **how)
        got = prune(torch.nn.Parameter(weight), **how)
        assert same(got, want)
        assert not got.requires_grad


def test_without_torch_the_room_says_what_is_missing():
    program = (
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        "import samoyeds_gen.moe\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        "ImportError: samoyeds_gen.moe needs torch, which is not installed; "
        "pip install 'samoyeds-gen[torch]'"
    )


ONES = torch.ones(4, 32)
SEEN = calibrated(normal(0, 40, 32))
NORMS = calibrated(normal(0, 40, 32), hessian=False)
FEW = calibrated(normal(0, 4, 32))


@pytest.mark.parametrize(
    ("weight", "how", "message"),
    [
        (
            ONES,
            {"method": "random"},
            "method 'random' is not one of magnitude, wanda, second_order; choose one of them",
        ),
        (
            ONES,
            {"method": "wanda"},
            "method 'wanda' is asked for without a calibration; "
            "pass calibration=Calibration(k) after updating it with the layer's inputs",
        ),
        (
            ONES,
            {"method": "second_order", "calibration": NORMS},
            "the calibration holds norms only, but a Hessian is required; "
            "make it without hessian=False",
        ),
        (
            ONES,
            {"method": "wanda", "calibration": Calibration(32)},
            "the calibration saw 0 tokens and no input that is not zero; "
            "calibrate with more tokens, or prune with method='magnitude'",
        ),
        (
            ONES[:, :30],
            {"method": "wanda", "calibration": SEEN},
            "the calibration has 32 features, but the weight has 30 columns; "
            "pass the calibration of this layer's own inputs",
        ),
        (
            ONES.to("meta"),
            {"method": "wanda", "calibration": SEEN},
            "the weight is on meta and holds no values; load it first",
        ),
        (
            ONES,
            {"method": "second_order", "calibration": FEW, "damping": 0.0},
            "the calibration's Hessian with damping=0.0 is not positive definite; "
            "raise damping, or calibrate with more tokens",
        ),
        (
            ONES,
            {"method": "second_order", "calibration": SEEN, "damping": -1},
            "damping=-1 is not a finite number >= 0; leave it at 0.01",
        ),
        (
            ONES.numpy(),
            {},
            "the weight is a ndarray, but a dense torch tensor is required; "
            "pass the linear layer's own weight",
        ),
        (
            ONES.to_sparse(),
            {},
            "the weight is a torch.sparse_coo tensor, but a dense torch tensor is required; "
            "pass the linear layer's own weight",
        ),
        (
            ONES[None],
            {},
            "the weight has shape [1, 4, 32], but [m, k] with m, k >= 1 is required; "
            "prune one matrix of output features by input features at a time",
        ),
        (
            ONES.to(torch.int32),
            {},
            "the weight has dtype torch.int32, but a floating-point type is required; "
            "convert it to float32 or bfloat16 first",
        ),
        (
            torch.full((4, 32), math.nan),
            {},
            "weight[0, 0] is nan, but finite values are required; "
            "repair the checkpoint before pruning it",
        ),
    ],
)
def test_refusals(weight, how, message):
    with pytest.raises(ModelError) as refused:
        prune(weight, n=1, m=2, v=16, **how)
    assert str(refused.value) == message


def test_refused_formats_and_overflows():
    with pytest.raises(FormatError, match="keeps 3 of 2 sub-rows"):
        prune(ONES, n=3, m=2, v=16)
    with pytest.raises(FormatError, match=r"dense\[0, 0\] = 100000\.0 overflows float16"):
        prune(ONES * 1e5, n=1, m=2, v=16, dtype="float16")
    inputs = normal(3, 400, 16)
    inputs[:, 5] = inputs[:, 0]
    weight = torch.full((1, 16), 60000.0)
    weight[0, 0] = 50000.0  # goes, and what it did cannot be added to column 5
    with pytest.raises(FormatError) as refused:
        prune(
            weight,
            n=1,
            m=1,
            v=16,
            method="second_order",
            calibration=calibrated(inputs),
            damping=1e-6,
            dtype="float16",
        )
    assert "overflows float16; raise damping, or encode to bfloat16" in str(refused.value)
