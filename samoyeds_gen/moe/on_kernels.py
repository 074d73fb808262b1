"""The steps of a layer on a GPU with the generated kernels; imported only when one is needed.

Decides which kernel takes a step; what it computes is said in backend.py.
"""

from functools import lru_cache
from typing import Any

from samoyeds_gen.formats import Format, SparseWeight
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.backend import Backend, Dispatch
from samoyeds_gen.moe.routing import Routing
from samoyeds_gen.tune import compile


class Kernels:
    """`Backend` of generated kernels: nothing waits for the GPU, so a CUDA graph may capture it."""

    def route(self, routing: Routing, logits: Array, bias: Array | None) -> tuple[Array, Array]:
        """See Backend."""
        return _routing().route(routing, logits, bias)  # type: ignore[no-any-return]

    def dispatch(
        self, experts: Array, weights: Array, count: int, shared: int, shared_weights: Array | None
    ) -> Dispatch:
        """See Backend."""
        arrays = _routing().dispatch(
            experts, weights, count, shared=shared, shared_weights=shared_weights
        )
        return Dispatch(*arrays)

    def multiply(
        self,
        w: SparseWeight,
        tokens: Array,
        *,
        experts: int = 1,
        dispatch: Dispatch | None = None,
        gathered: bool = False,
        scaled: bool = False,
        bias: Array | None = None,
        activation: str | None = None,
        gated: bool = False,
    ) -> Array:
        """See Backend."""
        options: dict[str, Any] = {"activation": activation}
        if gated:
            options["gated"] = True
        if bias is not None:
            options["bias"] = bias
        selection = None
        if dispatch is not None:
            options["offsets"] = dispatch.offsets
            selection = dispatch.selection if gathered else None
            if scaled:
                options["scale"] = dispatch.scale
        return _kernel(w.format, w.dtype)(w, tokens, selection, **options)

    def combine(self, y: Array, slots: Array) -> Array:
        """See Backend."""
        return _routing().combine(y, slots)


def _routing() -> Any:
    from importlib import import_module

    return import_module("samoyeds_gen.kernel.routing")


@lru_cache(maxsize=64)
def _kernel(form: Format, dtype: str) -> Any:
    return compile(n=form.n, m=form.m, v=form.v, dtype=dtype)


KERNELS: Backend = Kernels()
