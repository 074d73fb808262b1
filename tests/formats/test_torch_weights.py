"""Tensors: the same bits as numpy, on the tensor's own device, and torch only when asked for."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_cases import DTYPES, bits, formats, matrices, same_bits, shapes, weights

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats import encode, load
from samoyeds_gen.formats.arrays import to_numpy, to_torch


def test_numpy_users_never_import_torch():
    program = (
        "import sys, numpy, samoyeds_gen.formats as f, samoyeds_gen.reference as r\n"
        "w = f.encode(numpy.ones((8, 64), 'float32'), n=1, m=2, v=16, dtype='fp16')\n"
        "w.validate(); w.decode(); f.canonical_dtype('bf16'); repr(w); w == w\n"
        "r.ssmm(w, numpy.ones((3, 64), 'float16'), [0, 2])\n"
        "f.fragment_metadata(w, rows='output', row_multiple=16, k_multiple=64)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def devices():
    """Every device this machine has."""
    torch = sys.modules["torch"]
    return ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@st.composite
def cases(draw):
    form = draw(formats())
    source = draw(st.sampled_from([np.float64, np.float32, np.float16]))
    matrix = draw(matrices(draw(shapes(form)), dtype=source, special=True))
    return form, matrix, draw(DTYPES)


@pytest.mark.torch
@settings(deadline=None)
@given(case=cases())
def test_encode_and_decode_give_the_bits_of_numpy(torch, case):
    form, matrix, dtype = case
    options = {"n": form.n, "m": form.m, "v": form.v, "dtype": dtype}
    want = encode(matrix, **options)
    for device in devices():
        dense = torch.from_numpy(matrix).to(device)
        w = encode(dense, **options)
        assert w.data.device == w.metadata.device == dense.device
        assert w.data.dtype == getattr(torch, dtype)
        assert w.metadata.dtype == torch.uint32
        w.validate()
        assert w.nbytes == want.nbytes
        assert w == want
        assert w.decode().device == dense.device
        assert w.decode().dtype == getattr(torch, dtype)
        assert same_bits(to_numpy(w.decode()), want.decode())
        assert encode(w.decode(), **options) == want


@pytest.mark.torch
@settings(deadline=None)
@given(case=cases())
def test_bfloat16_sources(torch, case):
    form, matrix, dtype = case
    options = {"n": form.n, "m": form.m, "v": form.v, "dtype": dtype}
    dense = torch.from_numpy(matrix).to(torch.bfloat16)
    assert encode(dense, **options) == encode(to_numpy(dense), **options)


@pytest.mark.torch
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), DTYPES)
def test_rounding_of_any_bit_pattern(torch, seed, dtype):
    """Float64 values of every size, subnormals and underflow included."""
    rng = np.random.default_rng(seed)
    exponents = (
        rng.integers(-30, 15, (4, 64)) if dtype == "float16" else rng.integers(-160, 127, (4, 64))
    )
    raw = np.ldexp(rng.uniform(-2, 2, (4, 64)), exponents)
    options = {"n": 1, "m": 2, "v": 16, "dtype": dtype}
    assert encode(torch.from_numpy(raw), **options) == encode(raw, **options)


@pytest.mark.torch
def test_strides_gradients_and_pieces(torch, monkeypatch):
    from samoyeds_gen.formats.torch_arrays import TorchArrays

    dense = torch.randn(50, 90, generator=torch.Generator().manual_seed(0)).T
    want = encode(dense.numpy(), n=3, m=7, v=48)
    assert encode(dense.requires_grad_(), n=3, m=7, v=48) == want
    assert encode(torch.nn.Parameter(dense), n=3, m=7, v=48) == want
    for chunk in (1, 700, 5000):
        monkeypatch.setattr(TorchArrays, "chunk", chunk)
        w = encode(dense, n=3, m=7, v=48)
        assert w == want
        assert same_bits(to_numpy(w.decode()), want.decode())


@pytest.mark.torch
@settings(deadline=None)
@given(w=weights(special=True))
def test_there_and_back(torch, w):
    t = w.torch()
    assert t == w
    assert t.numpy() == w
    assert t.torch() == w
    before = bits(w.data).copy()
    t.data.zero_()
    assert np.array_equal(bits(w.data), before)


@pytest.mark.torch
def test_files(torch, tmp_path):
    w = encode(torch.randn(30, 70), n=2, m=4, v=32, dtype=torch.float16)
    w.save(tmp_path / "w")
    assert load(tmp_path / "w") == w
    assert "cpu" in repr(w)


@pytest.mark.torch
def test_faults_are_found_in_tensors_too(torch):
    w = encode(torch.randn(5, 40), n=2, m=4, v=16)
    w.indices[1, 2] = 200
    with pytest.raises(FormatError, match=r"indices\[1, 2\] = 200, but positions lie in 0\.\.3"):
        w.validate()
    with pytest.raises(FormatError, match="lie in different libraries or on different devices"):
        type(w)(w.format, w.dtype, w.shape, w.data, w.metadata, to_numpy(w.indices))


@pytest.mark.torch
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: t.zeros(2, 2, dtype=t.int32), "dense has dtype int32, but one of float64,"),
        (lambda t: t.zeros(2), r"dense has shape \(2,\), but \[m, k\]"),
        (lambda t: t.zeros(0, 2), r"dense has shape \(0, 2\), but \[m, k\]"),
        (lambda t: t.full((1, 1), 1e6), r"dense\[0, 0\] = 1000000\.0 overflows float16"),
        (lambda t: t.eye(2).to_sparse(), "dense is a sparse_coo tensor, but a strided one is"),
    ],
)
def test_refused_tensors(torch, make, message):
    with pytest.raises(FormatError, match=message):
        encode(make(torch), n=1, m=2, v=16, dtype="fp16")


@pytest.mark.torch
def test_to_torch_copies(torch):
    array = np.ones((2, 2), np.uint32)
    tensor = to_torch(array, "cpu")
    array[:] = 0
    assert tensor.to(torch.int64).sum() == 4
