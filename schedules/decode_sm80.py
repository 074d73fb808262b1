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
    along_k = (16 if sets <= 10 else 8) // along_m or 1

    s.tile(m=16 * along_m // f.n * f.m, n=16 if sets <= 5 else 8, k=128 * along_k)
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

    # Eight steps of 16 bytes in flight a lane, and four chunks of tokens that follow them.
    s.pipeline(stages=8, copy=atoms.LDG_STREAM_16B, fragments=4)
