"""Mixture-of-Experts layers on Samoyeds weights: modules, pruning, and models that use them.

Needs torch, and is therefore imported only by those who ask for it; transformers is imported only
where a model is built or its files are read.
"""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ImportError(
        "samoyeds_gen.moe needs torch, which is not installed; pip install 'samoyeds-gen[torch]'"
    )

from samoyeds_gen.language import Routing
from samoyeds_gen.moe.backend import use_backend
from samoyeds_gen.moe.calibration import Calibration, layer_error
from samoyeds_gen.moe.convert import convert
from samoyeds_gen.moe.experts import SparseExperts
from samoyeds_gen.moe.layer import SparseMoE
from samoyeds_gen.moe.linear import SparseLinear, SparseMLP
from samoyeds_gen.moe.load import load, save
from samoyeds_gen.moe.pruning import METHODS, prune
from samoyeds_gen.moe.report import LayerReport, Report
from samoyeds_gen.moe.samples import read_samples
from samoyeds_gen.moe.sparsify import sparsify
from samoyeds_gen.moe.stored import StoredWeight

__all__ = [
    "METHODS",
    "Calibration",
    "LayerReport",
    "Report",
    "Routing",
    "SparseExperts",
    "SparseLinear",
    "SparseMLP",
    "SparseMoE",
    "StoredWeight",
    "convert",
    "layer_error",
    "load",
    "prune",
    "read_samples",
    "save",
    "sparsify",
    "use_backend",
]
