"""A PTX simulator: executes what NVRTC emitted, in numpy, and says what the kernel did wrong.

`parse` and `run` are the whole interface. Instructions are rows in `instructions`.
"""

from samoyeds_gen.simulator.counters import Counters
from samoyeds_gen.simulator.fault import KINDS, SimulationFault
from samoyeds_gen.simulator.launch import Pointer, Report, run
from samoyeds_gen.simulator.parser import parse
from samoyeds_gen.simulator.program import Program
from samoyeds_gen.simulator.tensor_maps import TensorMap

__all__ = [
    "KINDS",
    "Counters",
    "Pointer",
    "Program",
    "Report",
    "SimulationFault",
    "TensorMap",
    "parse",
    "run",
]
