"""Models on Samoyeds weights: for now, pruning one layer's weight by what its inputs look like.

Needs torch, and is therefore imported only by those who ask for it.
"""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ImportError(
        "samoyeds_gen.moe needs torch, which is not installed; pip install 'samoyeds-gen[torch]'"
    )

from samoyeds_gen.moe.calibration import Calibration, layer_error
from samoyeds_gen.moe.pruning import METHODS, prune

__all__ = ["METHODS", "Calibration", "layer_error", "prune"]
