"""Any (N, M, V) weights by expansion: 256 x 56 output tile, one column of four warps, two CTAs."""

from samoyeds_gen.language import atoms, layouts, schedule
from samoyeds_gen.language.kernels import ssmm


@schedule(ssmm, target="sm_80")
def ssmm_sm80_expand(s, weight, tokens, out):
    f = weight.format

    # A stage holds the stored rows: all 256 of them without sub-row sparsity, half at (4, 8, V).
    s.tile(m=256, n=48 if f.n == f.m else 56, k=128)
    s.warps(m=4, n=1)
    s.resident(ctas=2)
    s.tensorize(atoms.MMA_SP_M16N8K32)

    s.pack(weight.metadata, order="fragment")
    s.pack(tokens, gather="on_load")

    s.layout(weight.data, space="shared", swizzle=layouts.XOR_128B)
    s.layout(tokens, space="shared", swizzle=layouts.XOR_256B)
    s.layout(out, order="token_major")

    s.stationary(out, space="registers", fold="expand")
    s.stationary(weight.metadata, space="registers")

    s.pipeline(stages=2, copy=atoms.CP_ASYNC_16B)
