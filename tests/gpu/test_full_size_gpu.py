"""Every schedule, format and dtype at m, k, n = 14336, 4096, 4096, tokens selected from 8192.

All elements are compared with a float64 product of the decoded weight; the output is poisoned.
"""

import pytest

import samoyeds_gen as sg
from samoyeds_gen.compiler import first_violation
from samoyeds_gen.formats import Format
from samoyeds_gen.language import dtype_named, load_schedule, make_ssmm, target_named
from samoyeds_gen.runtime import device_target, driver_present, driver_problem

torch = pytest.importorskip("torch", reason="the comparison runs on the GPU with torch")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not driver_present(), reason=driver_problem() or "no GPU"),
    pytest.mark.timeout(900),
]

M, K, N, TOKENS = 14336, 4096, 4096, 8192
SCHEDULES = (
    "ssmm_sm80",
    "ssmm_sm80_exchange",
    "ssmm_sm80_prefix",
    "ssmm_sm80_expand",
    "ssmm_sm90",
)
FORMATS = [
    Format(n, m, v)
    for n, m in ((1, 1), (1, 2), (2, 4), (1, 4), (4, 8), (8, 16))
    for v in (16, 32, 64, 128)
]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_every_element_at_full_size(form, dtype):
    from samoyeds_gen.tune.gate import expected

    generator = torch.Generator(device="cuda").manual_seed(form.v + form.m)
    kind = getattr(torch, dtype)
    dense = torch.randn(M, K, device="cuda", generator=generator) * 0.05
    w = sg.encode(dense, n=form.n, m=form.m, v=form.v, dtype=dtype)
    tokens = torch.randn(TOKENS, K, device="cuda", generator=generator).to(kind)
    selection = torch.randint(0, TOKENS, (N,), device="cuda", generator=generator)
    reference = expected(w, tokens[selection])
    target = device_target()
    ran = []
    for name in SCHEDULES:
        schedule = load_schedule(name, form, dtype_named(dtype))
        if first_violation(schedule, make_ssmm(form, dtype), target_named(target)):
            continue
        kernel = sg.compile(schedule, n=form.n, m=form.m, v=form.v, dtype=dtype, target=target)
        out = torch.full((N, M), float("nan"), device="cuda", dtype=kind)
        kernel(w, tokens, selection, out=out)
        prefix = schedule.stationary.fold == "prefix"
        verdict = reference.compare(out, block_rows=form.m if prefix else 1)
        print(f"{name} ({form}) {dtype}: {verdict}")
        assert verdict.passed, f"{name}: {verdict}"
        ran.append(name)
    unfit = set() if form.n == 1 else {"ssmm_sm80_prefix", "ssmm_sm80_exchange"}
    unfit |= set() if target == "sm_90a" else {"ssmm_sm90"}
    assert ran == [name for name in SCHEDULES if name not in unfit]
