"""Strategies and layers for pruning: small weights with ties, and inputs that hang together."""

import torch
from hypothesis import strategies as st

from samoyeds_gen.formats import Format
from samoyeds_gen.moe import Calibration

DTYPES = st.sampled_from(["bfloat16", "float16"])
SEEDS = st.integers(0, 2**32 - 1)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def formats(draw):
    m = draw(st.integers(1, 16))
    return Format(draw(st.integers(1, m)), m, draw(st.sampled_from([16, 32, 48, 160])))


@st.composite
def weights(draw, form):
    """Normal values, or small integers, which tie everywhere; whole blocks and ragged ones."""
    rows = draw(st.integers(1, 2 * form.m + 1))
    k = draw(st.integers(1, 2 * form.v + 3))
    weight = normal(draw(SEEDS), rows, k)
    return (2 * weight).round() if draw(st.booleans()) else weight


@st.composite
def cases(draw):
    """A format, a weight and a type to store."""
    form = draw(formats())
    return form, draw(weights(form)), draw(DTYPES)


def correlated(seed, tokens, k):
    """Inputs in which features mix a few causes and differ in size, as activations do."""
    causes = normal(seed, tokens, k // 4) @ normal(seed + 1, k // 4, k)
    return (causes + normal(seed + 2, tokens, k)) * (0.7 * normal(seed + 3, k)).exp()


def calibrated(inputs, **options):
    calibration = Calibration(inputs.shape[1], **options)
    calibration.update(inputs)
    return calibration
