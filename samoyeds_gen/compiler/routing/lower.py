"""From a step of a routing to its plan: which sections it has, and every number they use."""

from samoyeds_gen.compiler.ops import State
from samoyeds_gen.compiler.plan import (
    DEPENDENT_LAUNCH,
    Constant,
    ConstantGroup,
    Parameter,
    Wrapper,
)
from samoyeds_gen.compiler.routing.plan import Claim, RoutingPlan, TypeName
from samoyeds_gen.compiler.routing.problem import Step
from samoyeds_gen.compiler.routing.words import score_of_choice, weighs_by
from samoyeds_gen.compiler.rules import DEPENDENT_FROM
from samoyeds_gen.errors import ScheduleError
from samoyeds_gen.language.dtypes import DType
from samoyeds_gen.language.targets import Target

THREADS = 1024
HALF = 512
"""Threads where lanes have more than 8 experts, which take more registers than 1024 share."""
WARP = 32
MOST_ALONE = 256
"""Most tokens that one CTA takes."""
CHUNKS = 128
"""Chunks that tokens are cut into where there are enough of them: about one a processor."""
MOST_CHUNK = 1024
"""Most tokens in a chunk, so that its bits fit in shared memory."""

FUNCTIONS = {
    "widen_bf16": "the value of a bfloat16",
    "widen_f16": "the value of a float16",
    "widen_f32": "the value of a float32",
    "minus_infinity": "minus infinity",
    "rank_of": "scores as whole numbers in their order",
    "score_of": "and back",
    "exponential": "e to the power of x <= 0, to the bit",
    "sigmoid": "the sigmoid, to the bit",
    "lane_sum": "the sum over a warp",
    "choose": "experts and weights of one token",
    "earlier": "tokens before one that have their bit set",
}
EARLY = {
    "begin_early": "let the launch behind begin",
    "await_before": "wait until the launch before has ended",
}
"""Sections of kernels that begin early alone; they wait behind what is shared memory's only."""
SECTIONS = {
    "whole": "all tokens in one CTA",
    "chunk_of_tokens": "a chunk of tokens a CTA",
    "shared_bits": "clear the bits of experts and tokens",
    "shared_choices": "room for the choices; barrier",
    "shared_counts": "clear the counts of experts; barrier",
    "shared_sums": "clear the sums of experts; barrier",
    "choose_tokens": "choose experts, a warp a token; barrier",
    "read_choices": "read what was chosen; barrier",
    "store_counts": "counts of the chunk",
    "set_bits": "bits of the chunk, from what was chosen",
    "count_bits": "tokens of each expert, from the bits; barrier",
    "sum_counts": "tokens of each expert, over chunks; barrier",
    "scan": "first slot of each expert; barrier",
    "store_offsets": "offsets",
    "store_offsets_once": "offsets, from the first CTA",
    "place": "the slot of every choice",
    "place_shared": "slots of shared experts",
    **EARLY,
}
ORDER = {
    "route": ("begin_early", "whole", "shared_bits", "shared_choices", "await_before",
              "choose_tokens", "count_bits", "scan", "store_offsets", "place"),
    "sort": ("begin_early", "whole", "shared_bits", "shared_choices", "await_before",
             "read_choices", "count_bits", "scan", "store_offsets", "place"),
    "choose": ("begin_early", "chunk_of_tokens", "shared_counts", "await_before",
               "choose_tokens", "store_counts"),
    "count": ("begin_early", "chunk_of_tokens", "shared_counts", "await_before", "read_choices",
              "store_counts"),
    "place": ("begin_early", "chunk_of_tokens", "shared_bits", "shared_sums", "await_before",
              "set_bits", "sum_counts", "scan", "store_offsets_once", "place"),
}  # fmt: skip


def lower_step(step: Step, target: Target) -> RoutingPlan:
    """The plan of a step. Raises ScheduleError where the target's shared memory is too small."""
    memory, shared_bytes = _memory(step)
    if shared_bytes > target.shared_per_cta:
        raise ScheduleError(
            f"{step.entry} needs {shared_bytes} bytes of shared memory, {target.name} has "
            f"{target.shared_per_cta}",
            rule="shared-limit",
            remedy="route to fewer experts",
        )
    names = tuple(each for each in ORDER[step.kind] if step.early or each not in EARLY)
    shared = ("place_shared",) if "place" in names and step.routing.shared else ()
    choice = (Wrapper("redux_max"), Wrapper("redux_min")) if step.chooses else ()
    return RoutingPlan(
        entry=step.entry,
        problem=step,
        target=target,
        summary=_summary(step),
        template="routing.cu.jinja",
        threads=_threads(step),
        shared_bytes=shared_bytes,
        types=_types(step),
        constants=(*_numbers(step), memory),
        claims=_claims(step),
        wrappers=(*choice, *early_wrappers(step.early, target)),
        functions=_states(FUNCTIONS, _functions(step)),
        sections=_states(SECTIONS, (*names, *shared)),
        parameters=_parameters(step),
    )


def early_wrappers(early: bool, target: Target) -> tuple[Wrapper, ...]:
    """The wrappers of a kernel that begins early. Raises ScheduleError where none can."""
    if early and target.capability < DEPENDENT_FROM:
        raise ScheduleError(
            f"early=True needs sm_{DEPENDENT_FROM}, the target is {target.name}",
            rule="launch-dependent",
            remedy="leave it out, or choose a later target",
        )
    return tuple(Wrapper(name) for name in DEPENDENT_LAUNCH if early)


def _threads(step: Step) -> int:
    return HALF if step.chooses and step.routing.experts > 8 * WARP else THREADS


def chunk_of(tokens: int) -> int:
    """Tokens a CTA takes where several share them: whole words of bits."""
    return min(MOST_CHUNK, WARP * max(1, -(-tokens // (WARP * CHUNKS))))


def _states(texts: dict[str, str], names: tuple[str, ...]) -> tuple[State, ...]:
    return tuple(State(texts[name], name=name) for name in names)


def _summary(step: Step) -> tuple[str, ...]:
    r = step.routing
    what = {
        "route": f"every token chooses {r.top_k} of {r.experts} experts, then slots are sorted.",
        "choose": f"every token chooses {r.top_k} of {r.experts} experts, which are counted.",
        "sort": f"slots of {r.top_k} choices a token are sorted by {r.experts} experts.",
        "count": f"{r.top_k} choices a token are counted for {r.experts} experts.",
        "place": f"slots of {r.top_k} choices a token are sorted by {r.experts} experts.",
    }
    return (what[step.kind],)


def _functions(step: Step) -> tuple[str, ...]:
    if step.chooses:
        sums = weighs_by(step.routing) != "weigh_score"
        sigmoid = step.routing.kind == "sigmoid_grouped"
        scores = not sigmoid or (step.routing.grouped and step.routing.group_score == "top2_sum")
        softmax = score_of_choice(step.routing) == "score_softmax"
        names = [f"widen_{step.values.short}", "minus_infinity", "rank_of"]
        names += ["score_of"] if scores else []
        names += ["exponential"]
        names += ["sigmoid"] if sigmoid else []
        names += ["lane_sum"] if sums or softmax else []
        names += ["choose"]
    else:
        names = [] if step.kind == "place" else [f"widen_{step.values.short}"]
    if step.gate:
        names = list(dict.fromkeys((f"widen_{step.gate.short}", *names)))
    return (*names, *([] if step.counts else ["earlier"]))


def _types(step: Step) -> tuple[TypeName, ...]:
    index = {"int32": "int", "int64": "long long"}[step.index]
    types = []
    if step.chooses:
        types.append(_type("Logit", step.values))
    elif step.kind != "place":
        types += [TypeName("GivenExpert", index, step.index), _type("GivenWeight", step.values)]
    if step.gate:
        types.append(_type("SharedWeight", step.gate))
    return tuple(types)


def _type(name: str, dtype: DType) -> TypeName:
    return TypeName(name, dtype.storage, f"{'the bits of a ' * (dtype.bytes < 4)}{dtype.name}")


def _numbers(step: Step) -> tuple[ConstantGroup, ...]:
    r = step.routing
    rows = [
        ("kExperts", r.experts, "experts to choose from"),
        ("kTopK", r.top_k, "experts a token chooses"),
    ]
    if not step.counts:
        rows += [
            ("kShared", r.shared, "experts that take every token"),
            ("kChoices", r.choices, "slots of a token"),
        ]
    groups = [_group("Routing", rows)]
    if step.chooses:
        rows = [
            ("kLaneExperts", -(-r.experts // WARP), "experts a lane scores"),
            ("kRemoved", 0, "rank of an expert that cannot be chosen"),
            ("kNowhere", 1024, "above every expert"),
        ]
        if r.grouped:
            rows += [
                ("kGroups", r.groups, "groups of experts"),
                ("kGroupSize", r.group_size, "experts a group"),
                ("kTopGroups", r.top_groups, "groups that are kept"),
            ]
        groups.append(_group("Choice", rows))
    threads = _threads(step)
    rows = [
        ("kThreads", threads, "threads a CTA"),
        ("kCtasPerSm", 1, "resident CTAs the compiler makes room for"),
    ]
    rows += [("kWarps", threads // WARP, "tokens that are chosen for at a time")] * step.chooses
    if not step.counts:
        rows.append(("kScan", -(-r.experts // WARP), "experts a lane of the scan has"))
    if step.kind == "place":
        columns = 1 << max(5, (r.experts - 1).bit_length())
        rows += [
            ("kColumns", columns, "threads that add up the experts of one chunk"),
            ("kRows", THREADS // columns, "chunks that are added up at a time"),
        ]
    return (*groups, _group("Threads", rows))


def _memory(step: Step) -> tuple[ConstantGroup, int]:
    """Shared memory, in bytes, and how many there are."""
    experts, most = step.routing.experts, MOST_ALONE if step.alone else MOST_CHUNK
    bits, choices = 4 * experts * most // WARP, 4 * most * step.routing.top_k
    if step.counts:
        parts = [("kCount", 4 * experts, "counts of experts")]
    else:
        parts = [
            ("kBits", bits, "bits of experts and tokens"),
            ("kFirstSlot", 4 * experts, "first slots of experts"),
        ]
    if step.alone:
        parts += [
            ("kKeptExperts", choices, "chosen experts"),
            ("kKeptWeights", choices, "weights of these"),
        ]
    if step.kind == "place":
        parts += [("kBefore", 4 * experts, "tokens of earlier chunks, by expert")]
    rows, offset = [], 0
    for name, size, note in parts:
        rows.append((name, offset, f"first byte of the {note}"))
        offset += size
    return _group("Shared memory", rows), offset


def _claims(step: Step) -> tuple[Claim, ...]:
    claims = [Claim("kTopK <= kExperts", "a token chooses different experts")]
    if not step.counts:
        claims += [
            Claim("kChoices == kTopK + kShared", "chosen and shared experts take slots"),
            Claim("32 * kScan >= kExperts", "a warp scans all experts"),
        ]
    if step.chooses:
        claims += [
            Claim("kThreads == 32 * kWarps", "a warp chooses for a token"),
            Claim("kTopK <= 32", "a lane has a chosen expert"),
            Claim("32 * kLaneExperts >= kExperts", "the lanes have all experts"),
            Claim("kNowhere >= 32 * kLaneExperts", "no expert is nowhere"),
        ]
    if step.chooses and step.routing.grouped:
        claims += [
            Claim("kGroups <= 32 && kGroups * kGroupSize == kExperts", "a lane has a group"),
            Claim("kTopGroups * kGroupSize >= kTopK", "kept groups have enough experts"),
        ]
    if step.kind == "place":
        claims.append(Claim("kColumns * kRows == kThreads", "every thread adds up counts"))
    return tuple(claims)


def _group(title: str, rows: list[tuple[str, int, str]]) -> ConstantGroup:
    return ConstantGroup(title, tuple(Constant(*row) for row in rows))


def _parameters(step: Step) -> tuple[Parameter, ...]:
    """Kernel parameters; `source` is what the launcher calls the value."""
    r, parameters = step.routing, list[Parameter]()

    def add(declaration: str, note: str) -> None:
        name = declaration.split()[-1]
        parameters.append(Parameter(name, declaration, name, note))

    if step.chooses:
        add("const Logit* __restrict__ logits", "logits [tokens, kExperts]")
        add("long long logits_stride", "its row stride in elements")
        if r.bias:
            add("const float* __restrict__ bias", "added to scores in the choice [kExperts]")
    elif step.kind != "place":
        add("const GivenExpert* __restrict__ given_experts", "given experts [tokens, kTopK]")
        add("const GivenWeight* __restrict__ given_weights", "given weights [tokens, kTopK]")
    add(f"{'const ' * (step.kind == 'place')}int* __restrict__ experts",
        "chosen experts [tokens, kTopK]")  # fmt: skip
    add(f"{'const ' * (step.kind == 'place')}float* __restrict__ weights",
        "their weights [tokens, kTopK]")  # fmt: skip
    if step.counts:
        add("int* __restrict__ counts", "tokens of each chunk and expert [chunks, kExperts]")
    else:
        if step.kind == "place":
            add("const int* __restrict__ counts", "tokens of chunks and experts [chunks, kExperts]")
        if step.gate:
            add("const SharedWeight* __restrict__ shared_weight", "of shared experts [tokens]")
        add("int* __restrict__ offsets", "first slot of each expert [kExperts + kShared + 1]")
        add("int* __restrict__ selection", "token of each slot [tokens * kChoices]")
        add("float* __restrict__ scale", "weight of each slot [tokens * kChoices]")
        add("int* __restrict__ slots", "slots of each token [tokens, kChoices]")
    add("int tokens", "tokens")
    if not step.alone:
        add("int chunk", "tokens a CTA takes, whole words of bits")
    return tuple(parameters)
