"""What the templates of routing kernels see as `kernel`."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from samoyeds_gen.compiler.ops import Op
from samoyeds_gen.compiler.plan import Parameter
from samoyeds_gen.compiler.routing.plan import RoutingPlan
from samoyeds_gen.compiler.routing.problem import Step
from samoyeds_gen.compiler.routing.words import score_of_choice, weighs_by

Macros = Callable[[str, tuple[str, ...]], Callable[..., str]]


class RoutingText:
    """The plan, and the words it implies."""

    files: ClassVar[tuple[str, ...]] = (
        "_routing_choice.cuh.jinja",
        "_routing_sort.cuh.jinja",
        "_combine.cuh.jinja",
    )

    def __init__(self, plan: RoutingPlan, macros: Macros) -> None:
        self.plan = plan
        self._macros = macros
        if isinstance(plan.problem, Step):
            self._words(plan.problem)
        else:
            value = f"widen_{plan.problem.dtype.short}(loaded[j][p].each[e])"
            self.weighted = plan.problem.weighted
            self.addend = f"__fmul_rn(weight[j], {value})" if self.weighted else value

    def __getattr__(self, name: str) -> object:
        return getattr(self.plan, name)

    def _words(self, step: Step) -> None:
        r = step.routing
        self.score, self.weigh = score_of_choice(r), weighs_by(r)
        scored = "logit" if self.score == "score_logit" else "score"
        self.choice_score = f"__fadd_rn({scored}[i], bias[at])" if r.bias else f"{scored}[i]"
        self.weighed = "score" if self.weigh in ("weigh_score", "weigh_share") else "logit"
        self.grouped, self.group_score = r.grouped, f"group_{r.group_score}"
        # Where a lane has one expert of every group, each group is known when it is compiled.
        self.group_pragma = "#pragma unroll" if r.group_size % 32 == 0 else "#pragma unroll 1"
        self.scaled, self.scaling = r.scaling != 1, f"{np.float32(r.scaling):.9e}f"
        bias = ("const float* bias", "bias") if r.bias else ()
        self.choose_parameters = ", ".join(
            ("const Logit* row", *bias[:1], "int& expert", "float& weight")
        )
        self.choose_arguments = ", ".join(
            ("logits + token * logits_stride", *bias[1:], "expert", "weight")
        )
        self.keep = "keep_count" if step.counts else "keep_bits"
        self.kept_expert = "kept_expert" if step.alone else "experts"
        self.kept_weight = "kept_weight" if step.alone else "weights"
        self.chunk_before = " + before[at]" if step.kind == "place" else ""
        self.widen = f"widen_{step.values.short}"
        gate = step.gate
        self.shared_weight = f"widen_{gate.short}(shared_weight[token])" if gate else "1.0f"

    def separator(self, parameter: Parameter) -> str:
        """A comma behind every parameter but the last."""
        return "" if parameter is self.plan.parameters[-1] else ","

    def render(self, op: Op) -> str:
        """The text of a function or section."""
        return self.part(op.macro)

    def part(self, name: str) -> str:
        """The text of the macro of this name."""
        return self._macros(name, self.files)(kernel=self)
