"""What every algorithm computes, in float64 numpy, and how far a kernel may be from it."""

from samoyeds_gen.reference.activations import ACTIVATIONS
from samoyeds_gen.reference.bound import bound, ssmm_with_bound
from samoyeds_gen.reference.grouped import grouped_with_bound
from samoyeds_gen.reference.ssmm import ssmm

__all__ = ["ACTIVATIONS", "bound", "grouped_with_bound", "ssmm", "ssmm_with_bound"]
