"""Which kernels a layer call takes: the schedules chosen for a case, and compiling them ahead."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from samoyeds_gen.errors import SamoyedsError
from samoyeds_gen.formats import Format
from samoyeds_gen.kernel import grouped_kernel
from samoyeds_gen.kernel.experts import begins_early
from samoyeds_gen.kernel.routing_steps import order_of, order_of_combine
from samoyeds_gen.language import Routing, Schedule, Ssmm, Target, make_ssmm, target_named
from samoyeds_gen.tune.buckets import bucket
from samoyeds_gen.tune.experts import ExpertTask, expert_schedules
from samoyeds_gen.tune.layers.configs import Case
from samoyeds_gen.tune.machines import Machine


@dataclass(frozen=True, slots=True)
class Chosen:
    """One grouped launch of a layer call: what it computes, and the schedules that may."""

    problem: Ssmm
    schedules: tuple[Schedule, ...]

    @property
    def schedule(self) -> Schedule:
        """The one with the least predicted time."""
        return self.schedules[0]

    @property
    def packs_tokens(self) -> bool:
        """Whether chosen tokens are gathered into an array of their own before."""
        return self.problem.index is not None and self.schedule.pack.gather == "before"


@lru_cache(maxsize=256)
def chosen_kernels(
    case: Case, form: Format, machine: Machine, shared: int = 0
) -> tuple[Chosen, Chosen]:
    """The products of a call, gate and up first, then down. Raises TuneError where there is none.

    `shared` experts see every token.
    """
    config, count = case.config, case.config.experts + shared
    gated = make_ssmm(form, "bfloat16", index="int32", activation="silu", gated=True, grouped=True)
    down = make_ssmm(form, "bfloat16", grouped=True)
    found = []
    for problem, m, k in (
        (gated, 2 * config.inner, config.hidden),
        (down, config.hidden, config.inner),
    ):
        task = ExpertTask(m, k, count, config.top, bucket(case.tokens), shared)
        found.append(Chosen(problem, tuple(expert_schedules(task, problem, machine))))
    return found[0], found[1]


def names_of(kernels: Sequence[Chosen]) -> str:
    """The schedules in a few words, for a row."""
    return " + ".join(each.schedule.name for each in kernels)


def compile_ahead(cases: Sequence[Case], formats: Sequence[Format], machine: Machine) -> int:
    """Compile what the cases will take into the cache, several at a time; returns how many.

    A kernel that does not compile is left to the call that wants it.
    """
    target = target_named(machine.target)
    wanted: dict[tuple[Any, ...], None] = {}  # a function and its arguments, each once
    for case in cases:
        for form in formats:
            try:
                pair = chosen_kernels(case, form, machine)
            except SamoyedsError:
                continue
            early = begins_early(each.schedule for each in pair)
            wanted[_compile_routing, case, target, early] = None
            wanted.update(
                {(grouped_kernel, each.schedule, each.problem, target): None for each in pair}
            )

    def compile_one(each: tuple[Any, ...]) -> bool:
        compile_it, *arguments = each
        try:
            compile_it(*arguments)
        except SamoyedsError:
            return False
        return True

    with ThreadPoolExecutor(thread_name_prefix="bench-compile") as pool:
        return sum(pool.map(compile_one, wanted))


def _compile_routing(case: Case, target: Target, early: bool) -> None:
    """What sorts tokens, gathers them and combines what experts computed."""
    config, top = case.config, case.config.top
    routing = Routing(config.experts, top, "softmax_topk", False)
    order_of(
        routing,
        target,
        case.tokens,
        chooses=False,
        values="float32",
        index="int64",
        early=early,
    )
    for choices, rows in ((top, case.tokens), (1, case.tokens * top)):
        weighted = rows == case.tokens  # else it gathers
        options = {"weighted": weighted, "early": early}
        order_of_combine(target, "bfloat16", choices, rows, config.hidden, 0, **options)
