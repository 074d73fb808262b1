"""Tensor maps: the 128-byte descriptions by which TMA walks an array on the GPU.

Decides what the driver is told; which boxes a kernel takes is its plan's business.
"""

from functools import lru_cache

from cuda.bindings import driver

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime.driver import call

_TYPES = {
    "float16": driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
    "bfloat16": driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
}
_SWIZZLES = {
    0: driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_NONE,
    32: driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_32B,
    64: driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_64B,
    128: driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
}
_ELEMENT_BYTES = 2


@lru_cache(maxsize=4096)
def tensor_map(
    address: int,
    dtype: str,
    shape: tuple[int, int],
    stride: int,
    box: tuple[int, int],
    swizzle: int,
) -> driver.CUtensorMap:
    """The map of a row-major matrix at `address`: shape (rows, columns) and stride in elements of
    `dtype` (float16, bfloat16), copied in boxes of (rows, columns) that a swizzle of 0, 32, 64 or
    128 bytes permutes in shared memory. What lies outside the shape is read as zero.

    Raises LaunchError when the driver refuses it: an address or a row that is not at a multiple of
    16 bytes, or a box of more than 256 rows. (CUDA driver API, cuTensorMapEncodeTiled.)
    """
    if dtype not in _TYPES:
        raise LaunchError(
            f"tensor maps are made of {', '.join(_TYPES)}, not of {dtype}",
            remedy="convert the array",
        )
    encoded: driver.CUtensorMap = call(
        driver.cuTensorMapEncodeTiled,
        _TYPES[dtype],
        2,
        address,
        [driver.cuuint64_t(shape[1]), driver.cuuint64_t(shape[0])],
        [driver.cuuint64_t(stride * _ELEMENT_BYTES)],
        [driver.cuuint32_t(box[1]), driver.cuuint32_t(box[0])],
        [driver.cuuint32_t(1), driver.cuuint32_t(1)],
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        _SWIZZLES[swizzle],
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        doing=f"describing a {shape[0]} x {shape[1]} {dtype} matrix of row stride {stride}",
    )
    return encoded
