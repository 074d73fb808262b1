"""(N, M, V) weights x routed tokens on any GPU since Ampere: 256 x 64 output tile, eight warps."""

from samoyeds_gen.language import atoms, layouts, schedule
from samoyeds_gen.language.kernels import ssmm


@schedule(ssmm, target="sm_80")
def ssmm_sm80(s, weight, tokens, out):
    f = weight.format
    fold = "exchange" if f.n == 1 else "expand"
    short = f.v == 16 and fold == "exchange"  # a k32 step would span two sub-rows

    s.tile(m=256, n=64, k=64)
    s.warps(m=4, n=2)
    s.tensorize(atoms.MMA_SP_M16N8K16 if short else atoms.MMA_SP_M16N8K32)

    s.pack(weight.metadata, order="fragment")
    s.pack(tokens, gather="on_load")

    s.layout(weight.data, space="shared", swizzle=layouts.XOR_64B)
    s.layout(tokens, space="shared", swizzle=layouts.XOR_128B)
    s.layout(out, order="token_major")

    s.stationary(out, space="registers", fold=fold)
    s.stationary(weight.metadata, space="registers")

    # A stage holds the stored rows: all 256 of them without sub-row sparsity, half at (1, 2, V).
    s.pipeline(stages=3 if f.n == f.m else 4, copy=atoms.CP_ASYNC_16B)
