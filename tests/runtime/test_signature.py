"""Kernel parameters read from real PTX, and Python values packed into them."""

import ctypes
import struct

import numpy as np
import pytest
from cuda_sources import ALL_KINDS, SAXPY, TARGETS, WILD_WRITE
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime import ArrayView
from samoyeds_gen.runtime.nvrtc import translate
from samoyeds_gen.runtime.signature import Arguments, Parameter, Signature, read_signature

INT32 = Parameter("integer", 4, 4, "i")
INT64 = Parameter("integer", 8, 8, "q")
FLOAT32 = Parameter("float", 4, 4, "f")
FLOAT64 = Parameter("float", 8, 8, "d")
INT16 = Parameter("integer", 2, 2, "h")
INT8 = Parameter("integer", 1, 1, "b")
MAP = Parameter("bytes", 128, 64, "128s")
SMALL = Parameter("bytes", 4, 2, "4s")

VIEW = ArrayView("device", 2**40, (), (), "float32", 0, "torch", None)
VALUES = {
    INT8: st.integers(-(2**7), 2**7 - 1),
    INT16: st.integers(-(2**15), 2**15 - 1),
    INT32: st.integers(-(2**31), 2**31 - 1),
    INT64: st.integers(-(2**63), 2**63 - 1),
    FLOAT32: st.floats(width=32, allow_nan=False),
    FLOAT64: st.floats(allow_nan=False),
    MAP: st.binary(min_size=128, max_size=128),
    SMALL: st.binary(min_size=4, max_size=4),
}
parameters = st.lists(st.sampled_from(list(VALUES)), max_size=12).map(tuple)


@pytest.mark.parametrize("target", TARGETS)
def test_signatures_of_real_kernels(target):
    ptx = translate(ALL_KINDS + SAXPY + WILD_WRITE, name="k.cu", target=target).ptx
    assert read_signature(ptx, "saxpy").parameters == (INT64, INT64, FLOAT32, INT32)
    assert read_signature(ptx, "wild_write").parameters == (INT64,)
    kinds = (INT64, MAP, INT32, INT64, FLOAT32, INT8, FLOAT64, INT16, INT32, SMALL, INT64, INT8)
    assert read_signature(ptx, "all_kinds").parameters == kinds


def test_a_kernel_without_parameters():
    ptx = translate('extern "C" __global__ void none() {}', name="k.cu", target="sm_80").ptx
    signature = read_signature(ptx, "none")
    assert signature.parameters == ()
    Arguments(signature).pack(())


@given(st.data())
def test_packed_values_lie_where_the_driver_reads_them(data):
    chosen = data.draw(parameters)
    values = tuple(data.draw(VALUES[parameter]) for parameter in chosen)
    signature = Signature("k", chosen)
    packed = Arguments(signature)
    packed.pack(tuple(data.draw(VALUES[parameter]) for parameter in chosen))
    packed.pack(values)
    addresses = (ctypes.c_void_p * max(len(chosen), 1)).from_address(packed.pointers)
    for parameter, value, address in zip(chosen, values, addresses, strict=False):
        assert address % parameter.align == 0
        raw = ctypes.string_at(address, parameter.nbytes)
        assert struct.unpack(parameter.code, raw) == (value,)


@given(parameters)
def test_parameters_do_not_overlap(chosen):
    signature = Signature("k", chosen)
    ends = [0]
    for offset, parameter in zip(signature.offsets, chosen, strict=True):
        assert offset >= ends[-1]
        assert offset % parameter.align == 0
        ends.append(offset + parameter.nbytes)
    assert signature.packer().size == ends[-1]


@pytest.mark.parametrize(
    ("parameter", "value", "packed"),
    [
        (INT32, 2**32 - 1, b"\xff\xff\xff\xff"),
        (INT32, np.uint32(2**31), b"\0\0\0\x80"),
        (INT32, np.int64(-2), b"\xfe\xff\xff\xff"),
        (INT64, 2**64 - 2, b"\xfe" + b"\xff" * 7),
        (INT64, VIEW, struct.pack("<q", 2**40)),
        (INT8, True, b"\x01"),
        (INT8, 255, b"\xff"),
        (FLOAT32, 2, struct.pack("<f", 2.0)),
        (FLOAT32, np.float32(0.1), struct.pack("<f", np.float32(0.1))),
        (FLOAT32, -0.0, b"\0\0\0\x80"),
        (FLOAT32, float("inf"), b"\0\0\x80\x7f"),
        (FLOAT64, np.float64(0.1), struct.pack("<d", 0.1)),
        (SMALL, bytearray(b"abcd"), b"abcd"),
        (SMALL, np.arange(4, dtype=np.uint8), b"\0\1\2\3"),
    ],
)
def test_values_that_fit(parameter, value, packed):
    arguments = Arguments(Signature("k", (parameter,)))
    arguments.pack((value,))
    assert bytes(arguments) == packed


def test_a_tensor_map_of_the_driver_bindings_is_copied():
    from cuda.bindings import driver

    tensor_map = driver.CUtensorMap()
    tensor_map.opaque = [driver.cuuint64_t(2**63 + word) for word in range(16)]
    arguments = Arguments(Signature("k", (INT32, MAP)))
    arguments.pack((7, tensor_map))
    assert bytes(arguments)[64:] == struct.pack("<16Q", *(2**63 + word for word in range(16)))


SENTENCES = [
    (
        (INT32, INT32),
        (1,),
        "kernel k takes 2 arguments, 1 are given; pass them in the order of the kernel's "
        "parameters",
    ),
    (
        (INT32,),
        (1, 2, 3),
        "kernel k takes 1 arguments, 3 are given; pass them in the order of the kernel's "
        "parameters",
    ),
    (
        (INT64, INT32),
        (0, 1.5),
        "argument 1 of kernel k is the float 1.5, its parameter is a 32-bit integer; pass a "
        "value of that kind and size",
    ),
    (
        (INT32,),
        (2**32,),
        "argument 0 of kernel k is the int 4294967296, its parameter is a 32-bit integer; pass a "
        "value of that kind and size",
    ),
    (
        (INT32,),
        (-(2**31) - 1,),
        "argument 0 of kernel k is the int -2147483649, its parameter is a 32-bit integer; pass "
        "a value of that kind and size",
    ),
    (
        (INT8,),
        (256,),
        "argument 0 of kernel k is the int 256, its parameter is a 8-bit integer; pass a value "
        "of that kind and size",
    ),
    (
        (FLOAT32,),
        (np.zeros(3),),
        "argument 0 of kernel k is a value of type ndarray, its parameter is a 32-bit float; "
        "pass a value of that kind and size",
    ),
    (
        (FLOAT32,),
        (1e300,),
        "argument 0 of kernel k is the float 1e+300, its parameter is a 32-bit float; pass a "
        "value of that kind and size",
    ),
    (
        (INT64,),
        (None,),
        "argument 0 of kernel k is a value of type NoneType, its parameter is a 64-bit integer; "
        "pass a value of that kind and size",
    ),
    (
        (MAP,),
        (b"short",),
        "argument 0 of kernel k is 5 bytes, its parameter is a structure of 128 bytes; pass a "
        "value of that kind and size",
    ),
    (
        (MAP,),
        (3,),
        "argument 0 of kernel k is the int 3, its parameter is a structure of 128 bytes; pass a "
        "value of that kind and size",
    ),
]


@pytest.mark.parametrize(("chosen", "values", "sentence"), SENTENCES)
def test_values_that_do_not_fit(chosen, values, sentence):
    with pytest.raises(LaunchError) as caught:
        Arguments(Signature("k", chosen)).pack(values)
    assert str(caught.value) == sentence


def test_a_missing_kernel_names_the_others():
    ptx = translate(SAXPY, name="k.cu", target="sm_80").ptx
    with pytest.raises(LaunchError, match="has no kernel 'absent', it has saxpy; declare"):
        read_signature(ptx, "absent")
    with pytest.raises(LaunchError, match="has no kernel 'sax', it has saxpy; declare"):
        read_signature(ptx, "sax")
