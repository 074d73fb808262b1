"""(1, M, V) weights by prefix sums: 256 x 56 output tile, one column of four warps, two CTAs."""

from samoyeds_gen.language import atoms, layouts, schedule
from samoyeds_gen.language.kernels import ssmm


@schedule(ssmm, target="sm_80")
def ssmm_sm80_prefix(s, weight, tokens, out):
    f = weight.format
    short = f.v == 16  # a k32 step would span two sub-rows

    # Frequent prefix sums take registers that accumulators then cannot have.
    s.tile(m=256 if f.m > 1 else 128, n=56 if f.v >= 64 else 48, k=128)
    s.warps(m=4, n=1)
    s.resident(ctas=2)
    s.tensorize(atoms.MMA_SP_M16N8K16 if short else atoms.MMA_SP_M16N8K32)

    s.pack(weight.metadata, order="fragment")
    s.pack(tokens, gather="on_load")

    s.layout(weight.data, space="shared", swizzle=layouts.XOR_128B)
    s.layout(tokens, space="shared", swizzle=layouts.XOR_256B)
    s.layout(out, order="token_major")

    s.stationary(out, space="registers", fold="prefix")
    s.stationary(weight.metadata, space="registers")

    s.pipeline(stages=3, copy=atoms.CP_ASYNC_16B)
