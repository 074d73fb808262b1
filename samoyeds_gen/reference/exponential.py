"""The exponential of the routing kernels, in float32 steps that round alike everywhere.

Decides the steps: products and sums rounded one by one, no fused multiply-add, so that numpy, the
simulator and every GPU give the same bits.
"""

import math

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]

LOG2_E = np.float32(1 / math.log(2))
LN2_HIGH = np.float32(2839 / 4096)
"""12 bits of ln 2, so that its product with a whole number of 7 bits is exact."""
LN2_LOW = np.float32(math.log(2) - 2839 / 4096)
TERMS = tuple(np.float32(1 / math.factorial(power)) for power in range(7, -1, -1))
"""Taylor coefficients; the first one left out is worth 0.09 units in the last place."""
LEAST = np.float32(-87)
"""Below it the result is zero: e ** -87.4 is the least normal number."""


def exponential(x: Singles) -> Singles:
    """e ** x for x <= 0, float32 of any shape, within 1.5 units in the last place above LEAST.

    x = n ln 2 + r with |r| <= ln 2 / 2; NaN gives NaN.
    """
    with np.errstate(all="ignore"):
        inside = x >= LEAST
        n = np.rint(np.where(inside, x * LOG2_E, np.float32(0)))
        r = (x - n * LN2_HIGH) - n * LN2_LOW
        p: Singles = np.full_like(x, TERMS[0])
        for term in TERMS[1:]:
            p = np.asarray(p * r + term, np.float32)
        power = ((n.astype(np.int32) + 127) << 23).view(np.float32)
        return np.where(x < LEAST, np.float32(0), p * power)


def sigmoid(x: Singles) -> Singles:
    """1 / (1 + e ** -x), float32 of any shape, without overflow on either side."""
    with np.errstate(all="ignore"):
        t = exponential(-np.abs(x))
        return np.asarray(np.where(x < 0, t, np.float32(1)) / (np.float32(1) + t))


def lane_sum(values: Singles) -> Singles:
    """Sums of the rows [T, E] as a warp adds them: float32 [T].

    Lane l adds the entries l, l + 32, l + 64, ... in order; then lanes 16, 8, 4, 2 and 1 apart add
    each other's sums.
    """
    rows, columns = values.shape
    whole = np.zeros((rows, -(-columns // 32) * 32), np.float32)
    whole[:, :columns] = values
    lanes = np.zeros((rows, 32), np.float32)
    with np.errstate(all="ignore"):
        for turn in np.split(whole, whole.shape[1] // 32, axis=1):
            lanes = lanes + turn
        for apart in (16, 8, 4, 2, 1):
            lanes = lanes[:, :apart] + lanes[:, apart:]
    return lanes[:, 0]
