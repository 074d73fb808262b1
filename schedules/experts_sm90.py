"""The experts of a Mixture-of-Experts layer on Hopper; tune/experts.py varies its tile."""

from samoyeds_gen.language import atoms, layouts, schedule
from samoyeds_gen.language.kernels import ssmm


@schedule(ssmm, target="sm_90a")
def experts_sm90(s, weight, tokens, out):
    f = weight.format
    plain = f.n == f.m
    prefix = not plain and f.n == 1 and f.m in (2, 4) and f.v % 128 in (0, 32, 64)

    # Experts seldom have whole tiles of tokens: with narrower tiles than those of one large weight
    # less matrix work is done for rows that are not there, and more stages fit.
    s.tile(m=128 * f.m if prefix else 128, n=64 if prefix and f.m == 4 else 144, k=128)
    s.warps(m=8, n=1)
    s.tensorize(atoms.WGMMA_SP_M64K32)

    s.pack(weight.metadata, order="fragment")
    s.pack(tokens, gather="on_load")  # "before" is legal, too, but for experts alone

    s.layout(weight.data, space="shared", swizzle=layouts.XOR_128B)
    s.layout(tokens, space="shared", swizzle=layouts.XOR_128B)
    s.layout(out, order="token_major")

    s.stationary(out, space="registers", fold="prefix" if prefix else "expand")
    s.stationary(weight.metadata, space="registers")

    s.pipeline(stages=3, copy=atoms.TMA)
    s.overlap(turns=plain or prefix)
    s.epilogue(tokens=16)
    s.raster(group=16)
