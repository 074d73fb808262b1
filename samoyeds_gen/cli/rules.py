"""Every rule a refusal can name, with the stage that holds it. Tested to be complete.

Legality rules carry their own sentence; the others, raised where a file is read or a kernel is
built, are described here.
"""

from dataclasses import dataclass

from samoyeds_gen.compiler import RULES
from samoyeds_gen.language import Directives

FILE_RULES = {
    "schedule-file": "The schedule file exists, is Python or JSON, runs, and defines one schedule.",
    "json": "A JSON schedule is whole: every key, no other key, each of its type.",
    "directive-missing": "tile, warps, tensorize, stationary and pipeline are given.",
    "target-known": "The target is one of the list.",
    "atom-known": "The instruction atom is one of the list.",
    "swizzle": "The swizzle is one of the list, and one is defined for the row's length.",
    "dtype": "Operands are float16 or bfloat16; outputs may be float32 too.",
    "activation": "The activation is one of the list.",
}
ROUTING_RULES = {
    "routing-names": "The kind of a routing, and of its group scores, is one of the list.",
    "routing-counts": "Experts, choices, groups and shared experts are whole numbers in range.",
    "routing-groups": "Groups are equal, and those that are kept have experts enough.",
    "routing-weights": "Weights are what the kind of routing gives, scaled by a finite number.",
}
PLAN_RULES = {
    "dependence-cycle": "The operations of the loop have an order.",
    "missing-wait": "A wait covers every copy before it is read.",
    "missing-barrier": "A barrier stands between a wait and other warps' reads, and before reuse.",
}
BUILD_RULES = {
    "no-spills": "ptxas keeps every value in registers, unless the schedule allows spills.",
    "no-stack": "No array lies in local memory, unless the schedule allows spills.",
    "no-advice": "ptxas has no C75xx advice, such as serialised matrix work.",
}


@dataclass(frozen=True, slots=True)
class NamedRule:
    """A rule as `list --rules` prints it."""

    stage: str
    name: str
    sentence: str


def directives() -> list[str]:
    """The names of the directives, in the order of their definition."""
    return [
        name
        for name, value in vars(Directives).items()
        if callable(value) and not name.startswith("_") and name != "finish"
    ]


def every_rule() -> list[NamedRule]:
    """All rules in the order in which a schedule meets them."""
    rules = [NamedRule("file", name, sentence) for name, sentence in FILE_RULES.items()]
    for name in directives():
        sentence = f"{name}(...) is given once an operand, with arguments of the right kind."
        rules.append(NamedRule("directive", name, sentence))
    for name, rule in RULES.items():
        rules.append(NamedRule("legality", name, (rule.__doc__ or "").strip()))
    rules += [NamedRule("routing", name, sentence) for name, sentence in ROUTING_RULES.items()]
    rules += [NamedRule("plan", name, sentence) for name, sentence in PLAN_RULES.items()]
    rules += [NamedRule("build", name, sentence) for name, sentence in BUILD_RULES.items()]
    return rules
