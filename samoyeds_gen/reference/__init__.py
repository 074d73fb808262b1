"""What every algorithm computes, in numpy, and how far a kernel may be from it."""

from samoyeds_gen.reference.activations import ACTIVATIONS
from samoyeds_gen.reference.bound import bound, ssmm_with_bound
from samoyeds_gen.reference.grouped import grouped_with_bound
from samoyeds_gen.reference.routing import combine, dispatch, route
from samoyeds_gen.reference.ssmm import ssmm

__all__ = [
    "ACTIVATIONS",
    "bound",
    "combine",
    "dispatch",
    "grouped_with_bound",
    "route",
    "ssmm",
    "ssmm_with_bound",
]
