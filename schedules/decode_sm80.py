"""Few tokens: (N, M, V) weights stream once from memory to registers, k split among CTAs."""

from samoyeds_gen.language import atoms, layouts, schedule
from samoyeds_gen.language.kernels import ssmm


@schedule(ssmm, target="sm_80")
def decode_sm80(s, weight, tokens, out):
    f = weight.format
    fold = "prefix" if f.n == 1 and f.v % 32 == 0 and f.m <= 4 else "expand"

    s.tile(m=128, n=16, k=512)
    s.warps(m=4, n=1, k=2)
    s.tensorize(atoms.MMA_SP_M16N8K32)

    s.pack(weight.data, order="fragment")
    s.pack(weight.metadata, order="fragment")
    s.pack(tokens, gather="on_load")

    s.layout(tokens, space="shared", swizzle=layouts.XOR_128B)
    s.layout(out, order="token_major")

    s.stationary(out, space="registers", fold=fold)
    s.stationary(weight.metadata, space="registers")

    s.pipeline(stages=8, copy=atoms.LDG_STREAM_16B, fragments=3)
    s.split(k=2)
