"""Few tokens x (N, M, V) weights, any GPU since Ampere: weights stream from memory to registers."""

from samoyeds_gen.language import atoms, layouts, schedule
from samoyeds_gen.language.kernels import ssmm


@schedule(ssmm, target="sm_80")
def decode_sm80(s, weight, tokens, out):
    f = weight.format
    fold = "prefix" if f.n == 1 and f.v % 32 == 0 else "expand"
    sets = f.m if fold == "prefix" else f.m - f.n + 1  # accumulators a stored row needs

    # 16 stored rows a warp, in whole bands of N: an odd factor of N is a factor of the warps.
    odd = f.n // (f.n & -f.n)
    along_m = 4 if odd == 1 else odd
    along_k = (16 if sets <= 2 else 8) // along_m or 1

    # 64 KB in flight an SM: 16 warps of 8 steps, or 8 warps of 16 where sums need the registers.
    stages = 16 if 2 < sets <= 9 and along_m <= 8 else 8

    s.tile(m=16 * along_m // f.n * f.m, n=16 if sets <= 4 else 8, k=256 * along_k)
    s.warps(m=along_m, n=1, k=along_k)
    s.split(k=2)
    s.tensorize(atoms.MMA_SP_M16N8K32)

    s.pack(weight.data, order="fragment")
    s.pack(weight.metadata, order="fragment")
    s.pack(tokens, gather="on_load")

    s.layout(tokens, space="shared", swizzle=layouts.XOR_128B)
    s.layout(out, order="token_major")

    s.stationary(out, space="registers", fold=fold)
    s.stationary(weight.metadata, space="registers")

    # Two groups of steps a warp to each chunk of tokens, of which two lie in shared memory.
    s.pipeline(stages=stages, copy=atoms.LDG_STREAM_16B, fragments=2)
