"""Names of element types."""

import ml_dtypes
import numpy as np
import pytest

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats import ELEMENTS, canonical_dtype


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *[(name, name) for name in ELEMENTS],
        *[(dtype, name) for name, dtype in ELEMENTS.items()],
        ("bf16", "bfloat16"),
        ("fp16", "float16"),
        ("f16", "float16"),
        ("half", "float16"),
        ("fp32", "float32"),
        (np.float16, "float16"),
        (ml_dtypes.bfloat16, "bfloat16"),
        ("torch.bfloat16", "bfloat16"),
    ],
)
def test_spellings(given, name):
    assert canonical_dtype(given) == name


@pytest.mark.torch
def test_torch_spellings():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert canonical_dtype(torch.bfloat16) == "bfloat16"
    assert canonical_dtype(torch.float16) == "float16"


@pytest.mark.parametrize("given", ["float64", "int8", "", np.int32, "e4m3", 3.5, object])
def test_refuses(given):
    with pytest.raises(FormatError, match="is not one of float16, bfloat16, float32"):
        canonical_dtype(given)


def test_refuses_outside_what_is_allowed():
    with pytest.raises(FormatError, match="dtype 'float32' is not one of float16, bfloat16"):
        canonical_dtype("fp32", allowed=("float16", "bfloat16"))
