"""The callable kernel: arguments checked, weights packed and cached, simulator or GPU chosen."""

from samoyeds_gen.kernel.kernel import Kernel, Variant, build_variant, choose_target, compile
from samoyeds_gen.kernel.simulated import WORK_LIMIT

__all__ = ["WORK_LIMIT", "Kernel", "Variant", "build_variant", "choose_target", "compile"]
