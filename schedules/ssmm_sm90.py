"""Every weight format on Hopper: a TMA producer and warpgroups of sparse wgmma, persistent."""

from samoyeds_gen.language import atoms, layouts, schedule
from samoyeds_gen.language.kernels import ssmm


@schedule(ssmm, target="sm_90a")
def ssmm_sm90(s, weight, tokens, out):
    f = weight.format
    plain = f.n == f.m
    prefix = not plain and f.n == 1 and f.m in (2, 4) and f.v % 128 in (0, 32, 64)

    if plain:  # accumulators are output rows: four warpgroups share the tokens
        s.tile(m=256, n=128, k=128)
        s.warps(m=16, n=1)
    elif prefix:  # M sets of accumulators, as wide as registers allow beside any epilogue
        n = {2: 184, 4: 80} if f.v == 32 else {2: 200, 4: 96}
        s.tile(m=128 * f.m, n=n[f.m], k=128)
        s.warps(m=8, n=1)
    else:  # weight fragments take registers, too
        s.tile(m=128, n=192, k=128)
        s.warps(m=8, n=1)
    s.tensorize(atoms.WGMMA_SP_M64K32)

    s.pack(weight.metadata, order="fragment")
    s.pack(tokens, gather="on_load")

    s.layout(weight.data, space="shared", swizzle=layouts.XOR_128B)
    s.layout(tokens, space="shared", swizzle=layouts.XOR_128B)
    s.layout(out, order="token_major")

    s.stationary(out, space="registers", fold="prefix" if prefix else "expand")
    s.stationary(weight.metadata, space="registers")

    s.pipeline(stages=3, copy=atoms.TMA)
    s.overlap(turns=plain or prefix)
    s.epilogue(tokens=8)
    s.raster(group=16)
