"""Seeded faults: edits of emitted routing kernels, and what running them must come to."""

from dataclasses import dataclass

import numpy as np
from routing_cases import LOGITS, logits_of, options

from samoyeds_gen import reference
from samoyeds_gen.compiler import Combine, lower_combine
from samoyeds_gen.kernel.routing_simulated import poisoned, simulate_kernel, simulate_order
from samoyeds_gen.kernel.routing_steps import Built, Launch, Order, order_of
from samoyeds_gen.kernel.routing_steps import built_of as build_plan
from samoyeds_gen.language import Routed, Routing, target_named
from samoyeds_gen.language.dtypes import BFLOAT16
from samoyeds_gen.runtime import compile_source
from samoyeds_gen.simulator import SimulationFault

VALUE, RACE, BOUNDS, DIVERGENT = "wrong value", "race", "out of bounds", "divergent barrier"
UNREAD = "uninitialised read"
SLOT = (VALUE, RACE)  # two choices in one slot are a race of their stores
SM80, SM90 = target_named("sm_80"), target_named("sm_90a")
SUBJECTS = {
    "softmax": Routing(40, 4, "softmax_topk", True, shared=2),
    "all": Routing(40, 4, "softmax_topk", False),
    "deepseek": Routing(
        72, 6, "sigmoid_grouped", True, scaling=2.5, groups=6, top_groups=2, bias=True, shared=1
    ),
    "bias": Routing(40, 4, "softmax_topk", False, bias=True),
    "max": Routing(40, 4, "softmax_topk", False, groups=4, top_groups=2),
}
TOKENS = (0, 5, 33, 70)


@dataclass(frozen=True)
class Fault:
    """Replace `old`, which occurs once in the kernel of `step`, by `new`; `kinds` may follow."""

    name: str
    old: str
    new: str
    kinds: tuple[str, ...] = (VALUE,)
    step: str = "route"
    subject: str = "softmax"


def edited(built: Built, fault: Fault) -> Built:
    """The kernel with the fault. The edit must find its text once."""
    found = built.source.count(fault.old)
    assert found == 1, f"{fault.name}: {fault.old!r} occurs {found} times in {built.plan.entry}"
    source = built.source.replace(fault.old, fault.new)
    build = compile_source(source, name=built.plan.source_name, target=built.plan.target.name)
    return Built(built.plan, source, build, built.sources)


def faulty(order: Order, fault: Fault | None) -> Order:
    """The launches of a call, one of them with the fault."""
    if fault is None:
        return order
    launches = tuple(
        Launch(edited(each.built, fault), each.blocks)
        if each.built.plan.problem.kind == fault.step
        else each
        for each in order.launches
    )
    return Order(launches, order.numbers, order.shapes, order.chunks)


def outcome_of_route(
    fault: Fault | None, subject: str, alone: int, *, early: bool = False
) -> str | None:
    """What the first wrong run comes to, None where all are right; `early` ones are of sm_90."""
    routing = SUBJECTS[subject]
    for tokens in TOKENS:
        for seed, kind in enumerate(LOGITS):
            logits = logits_of(kind, tokens, routing, seed)
            bias, gate = options(routing, tokens, seed)
            if routing.shared:
                gate = np.ones(tokens, np.float32) / 2 if gate is None else np.float32(gate)
            order = order_of(
                routing, SM90 if early else SM80, tokens, chooses=True, values="float32",
                gate=None if gate is None else "float32", alone=alone, early=early,
            )  # fmt: skip
            given = {"logits": logits, "bias": bias, "shared_weight": gate}
            inputs = {name: array for name, array in given.items() if array is not None}
            if fault is not None and fault.step not in steps(order):
                continue
            wanted = reference.route(logits, routing, bias, gate)
            found = _outcome(
                faulty(order, fault), inputs, {"logits_stride": routing.experts}, wanted
            )
            if found is not None:
                return found
    return None


def outcome_of_sort(fault: Fault | None, subject: str, alone: int) -> str | None:
    """The same of sorting alone."""
    routing = SUBJECTS[subject]
    for tokens in TOKENS:
        rng = np.random.default_rng(tokens)
        every = np.tile(np.arange(routing.experts), (tokens, 1))
        experts = rng.permuted(every, axis=1)[:, : routing.top_k].copy()
        weights = rng.standard_normal((tokens, routing.top_k)).astype(np.float32)
        order = order_of(
            routing, SM80, tokens, chooses=False, values="float32", index="int64", alone=alone
        )
        if fault is not None and fault.step not in steps(order):
            continue
        inputs = {"given_experts": experts, "given_weights": weights}
        wanted = reference.dispatch(experts, weights, routing)
        found = _outcome(faulty(order, fault), inputs, {}, wanted)
        if found is not None:
            return found
    return None


def steps(order: Order) -> list[str]:
    return [each.built.plan.problem.kind for each in order.launches]


def _outcome(order: Order, inputs, numbers, wanted: Routed) -> str | None:
    try:
        got, _ = simulate_order(order, inputs, numbers)
    except SimulationFault as fault:
        return fault.kind
    same = all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
               for a, b in zip(got, wanted, strict=True))  # fmt: skip
    return None if same else VALUE


def outcome_of_combine(fault: Fault | None, *, early: bool = False) -> str | None:
    """What adding up 11 rows, or 3 in two pieces a thread, comes to; order decides the sums."""
    choices, tokens, columns = 3 if fault is not None and fault.subject == "pieces" else 11, 9, 24
    weighted = fault is None or fault.subject == "weighted"
    built = build_plan(
        lower_combine(Combine(choices, BFLOAT16, 8, weighted, early), SM90 if early else SM80)
    )
    built = built if fault is None else edited(built, fault)
    rng = np.random.default_rng(0)
    y = (rng.standard_normal((tokens * choices, columns)) * 50).astype(BFLOAT16.name)
    slots = rng.permutation(len(y)).reshape(tokens, choices).astype(np.int32)
    y[slots[:, 0]] *= np.array(2**24, y.dtype)
    y[slots[:, -1]] = -y[slots[:, 0]]
    out = poisoned((tokens, columns), "bfloat16")
    numbers = {"y_stride": columns, "out_stride": columns, "pieces": 3, "tokens": tokens}
    inputs, scale = {"y": y, "slots": slots}, None
    if weighted:
        scale = inputs["scale"] = rng.standard_normal(len(y)).astype(np.float32)
    try:
        simulate_kernel(built, 1, inputs, {"out": out}, numbers)
    except SimulationFault as found:
        return found.kind
    same = np.array_equal(out.view(np.uint16), reference.combine(y, slots, scale).view(np.uint16))
    return None if same else VALUE


AFTER_CHOICE = """      atomicOr(bits + expert * words + token / 32, 1u << token % 32);
    }
  }
  __syncthreads();
"""
CLEARED = "  float* const kept_weight = reinterpret_cast<float*>(shared + kKeptWeights);\n"
COUNTED = "    first_slot[i] = count;\n  }\n  __syncthreads();\n"
SCANNED = "first_slot[at] = through - sum + here[i];\n    }\n  }\n  __syncthreads();\n"
FAULTS = (
    # Choice.
    Fault("ties go to the higher expert", "int i = kLaneExperts - 1; i >= 0; --i) first =",
          "int i = 0; i < kLaneExperts; ++i) first ="),
    Fault("ties go to any lane", "first = redux_min(first);", "first = redux_max("
          "first == kNowhere ? 0u : first);"),
    Fault("the best is not removed", "ranks[i] = first == lane + 32 * i ? kRemoved : ranks[i];",
          "", SLOT),
    Fault("one choice short", "turn < kTopK", "turn < kTopK - 1"),
    Fault("experts beyond the last", "at < kExperts ? widen_f32(row[at]) : minus_infinity()",
          "widen_f32(row[at])", (BOUNDS, VALUE)),
    Fault("zeros of both signs differ", "known == 0.0f ? 0.0f : known", "known"),
    Fault("NaN ranks first", "score != score ? minus_infinity() : score", "score",
          subject="bias"),
    Fault("NaN does not show", "__any_sync(0xffffffffu, lost)", "lost"),
    Fault("NaN is no minus infinity",
          "logit[i] = logit[i] != logit[i] ? minus_infinity() : logit[i];", "",
          subject="deepseek"),
    Fault("negative scores are not turned round", "bits & 0x80000000u ? ~bits : bits | 0x80000000u",
          "bits | 0x80000000u"),
    Fault("value of another lane", "logit[i], expert % 32)", "logit[i], (expert + 1) % 32)"),
    Fault("value of another row", "expert / 32 == i ? there", "expert / 16 == i ? there"),
    # Weights.
    Fault("fused multiply-add", "p = __fadd_rn(__fmul_rn(p, r), 0.5f);",
          "p = __fmaf_rn(p, r, 0.5f);"),
    Fault("a fast exponential", "const float power = exponential(__fsub_rn(value, peak));",
          "const float power = __expf(value - peak);"),
    Fault("sum over all lanes", "lane_sum(lane < kTopK ? power : 0.0f)", "lane_sum(power)"),
    Fault("sum of half a warp", "int apart = 16;", "int apart = 8;", subject="all"),
    Fault("no largest logit", "exponential(__fsub_rn(value, largest))", "exponential(value)",
          subject="all"),
    Fault("total of one expert a lane", "total = __fadd_rn(total, exponential(",
          "total = __fadd_rn(0.0f, exponential(", subject="all"),
    Fault("scaling left out", "weight = __fmul_rn(weight, 2.500000000e+00f);", "",
          subject="deepseek"),
    Fault("weights by the logits", "score[i], expert % 32)", "logit[i], expert % 32)",
          subject="deepseek"),
    Fault("share without a floor", "__fadd_rn(sum, 1e-20f)", "sum", subject="deepseek"),
    Fault("sigmoid of one side", "x < 0.0f ? power : 1.0f", "1.0f", subject="deepseek"),
    # Groups.
    Fault("one group too many", "turn < kTopGroups", "turn <= kTopGroups", subject="max"),
    Fault("groups of the wrong experts", "kept >> (lane + 32 * i) / kGroupSize % 32",
          "kept >> (lane + 32 * i) % kGroups", subject="max"),
    Fault("ties go to the last group", "__ffs(__ballot_sync(0xffffffffu, group_rank == best)) - 1",
          "31 - __clz(__ballot_sync(0xffffffffu, group_rank == best))", subject="max"),
    Fault("the best counts twice", "/ kGroupSize == group && first != lane + 32 * i;",
          "/ kGroupSize == group;", subject="deepseek"),
    Fault("groups by their best alone",
          "best = rank_of(__fadd_rn(score_of(best), score_of(redux_max(second))));", "",
          subject="deepseek"),
    # Slots.
    Fault("barrier left out after the choice", AFTER_CHOICE, AFTER_CHOICE.replace(
          "  __syncthreads();\n", ""), (RACE, VALUE)),
    Fault("barrier left out after clearing", CLEARED + "  __syncthreads();\n", CLEARED, (RACE,)),
    Fault("barrier left out after counting", COUNTED, COUNTED.replace("  __syncthreads();\n", ""),
          (RACE,)),
    Fault("barrier left out after the scan", SCANNED, SCANNED.replace("  __syncthreads();\n", ""),
          (RACE,)),
    Fault("barrier of half a warp", CLEARED + "  __syncthreads();\n",
          CLEARED + "  if (threadIdx.x % 32 < 16) __syncthreads();\n", (DIVERGENT,)),
    Fault("bits not cleared", "i < kExperts * words; i += kThreads) bits[i] = 0;",
          "i < kExperts * words; i += kThreads) bits[i] = 1;", (*SLOT, BOUNDS)),
    Fault("bits stored instead of added", "atomicOr(bits + expert * words + token / 32, "
          "1u << token % 32);", "bits[expert * words + token / 32] |= 1u << token % 32;",
          (RACE, VALUE)),
    Fault("the token counts itself", "((1u << token % 32) - 1)", "((2u << token % 32) - 1)", SLOT),
    Fault("later tokens count", "& ((1u << token % 32) - 1)", "& ~((1u << token % 32) - 1)", SLOT),
    Fault("one word of bits", "word < token / 32", "word < 0", SLOT),
    Fault("a word too many", "word < token / 32", "word <= token / 32", SLOT),
    Fault("scan one expert off", "through - sum + here[i];", "through + here[i];", SLOT),
    Fault("scan one round short", "apart < 32; apart *= 2", "apart < 16; apart *= 2", SLOT),
    Fault("scan without the lane's own", "through - sum + here[i];", "through - sum;", SLOT),
    Fault("offsets end too early", "i <= kExperts + kShared", "i < kExperts + kShared"),
    Fault("offsets end too late", "i <= kExperts + kShared", "i <= kExperts + kShared + 1",
          (BOUNDS,)),
    Fault("slots in rows of choices", "slots[token * kChoices + at % kTopK]",
          "slots[token * kTopK + at % kTopK]", (VALUE, RACE)),
    Fault("shared experts first", "(kTopK + i % kShared) * tokens + token",
          "(i % kShared) * tokens + token", (VALUE, RACE)),
    Fault("shared experts without weight", "scale[slot] = widen_f32(shared_weight[token]);",
          "scale[slot] = 1.0f;"),
    Fault("last token left out", "token < end_token; token += kWarps",
          "token < end_token - 1; token += kWarps", (UNREAD,)),
    Fault("one token too many", "token < end_token; token += kWarps",
          "token <= end_token; token += kWarps", (BOUNDS, VALUE)),
    # Chunks.
    Fault("counts that do not add up", "atomicAdd(count + expert, 1);", "count[expert] += 1;",
          (RACE, VALUE), "choose"),
    Fault("counts not cleared", "i += kThreads) count[i] = 0;", "i += kThreads) count[i] = 1;",
          (VALUE, BOUNDS, RACE), "choose"),
    Fault("counts of the first chunk for all", "counts[blockIdx.x * kExperts + i]", "counts[i]",
          (VALUE, RACE, BOUNDS), "choose"),
    Fault("chunks overlap", "const int first_token = blockIdx.x * chunk;",
          "const int first_token = blockIdx.x * (chunk - 1);", (VALUE, RACE, BOUNDS), "choose"),
    Fault("own chunk counts as earlier", "row < blockIdx.x ?", "row <= blockIdx.x ?",
          (VALUE, RACE, BOUNDS), "place"),
    Fault("earlier chunks left out", "through - sum + here[i] + before[at]",
          "through - sum + here[i]", (VALUE, RACE), "place"),
    Fault("chunks left out", "row < gridDim.x", "row < 1", (VALUE, RACE), "place"),
    Fault("sums that do not add up", "atomicAdd(first_slot + column, all);",
          "first_slot[column] += all;", (VALUE, RACE), "place"),
    Fault("sums not cleared", "    first_slot[i] = 0;\n", "", (UNREAD,), "place"),
    Fault("offsets from every chunk", "if (blockIdx.x == 0) {", "{", (RACE,), "place"),
    Fault("place counted from the first token", "token - first_token);", "token);",
          (VALUE, BOUNDS, RACE, UNREAD), "place"),
)  # fmt: skip
SORT_FAULTS = (
    Fault("experts cut to 16 bits", "static_cast<unsigned>(given_experts[at])",
          "static_cast<unsigned>(given_experts[at] & 15)", (VALUE, RACE), "sort"),
    Fault("last expert left out", "kExperts - 1u)", "kExperts - 2u)", (VALUE, RACE), "sort"),
    Fault("choices beyond the last", "at < end_token * kTopK; at += kThreads) {\n"
          "    const int token = at / kTopK;\n    const int expert = min(",
          "at <= end_token * kTopK; at += kThreads) {\n"
          "    const int token = at / kTopK;\n    const int expert = min(", (BOUNDS,), "sort"),
    Fault("weights not kept", "      weights[at] = weight;\n".replace("      ", "    "), "",
          (VALUE,), "count"),
)  # fmt: skip
COMBINE_FAULTS = (
    Fault("first row left out", "int batch = 0;", "int batch = 1;"),
    Fault("last batch cut short", "batch < kChoices; batch", "batch + kBatch <= kChoices; batch"),
    Fault("sums begin at zero", "sum[p][e] = -0.0f;", "sum[p][e] = 1.0f;"),
    Fault("rows one off", "slots[static_cast<long long>(token) * kChoices + batch + j]",
          "slots[static_cast<long long>(token) * kChoices + (batch + j + 1) % kChoices]"),
    Fault("rows rounded as they are added",
          "sum[p][e] = __fadd_rn(sum[p][e], widen_bf16(loaded[j][p].each[e]));",
          "sum[p][e] = widen_bf16(narrow(__fadd_rn(sum[p][e], widen_bf16(loaded[j][p].each[e]))));"
          ),
    Fault("one token too many", "if (token >= tokens) return;", "if (token > tokens) return;",
          (BOUNDS,)),
    Fault("one piece too many", "if (first + p * turns < pieces) to[",
          "if (first + p * turns <= pieces) to[", (RACE, BOUNDS, VALUE),
          subject="pieces"),
    Fault("weight of the choice", "weight[j] = scale[slot];", "weight[j] = scale[batch + j];",
          subject="weighted"),
    Fault("weight of the row before", "weight[j] = scale[slot];",
          "weight[j] = scale[max(slot - 1, 0ll)];", subject="weighted"),
    Fault("weights added", "__fmul_rn(weight[j], ", "__fadd_rn(weight[j], ", subject="weighted"),
    Fault("stride of the output", "y + slot * y_stride", "y + slot * kElements"),
)  # fmt: skip

# A kernel without any wait is launched when the one before has ended, so some threads wait here.
WAIT, FIRST_WARP = "  await_launch();\n", "  if (threadIdx.x < 32) await_launch();\n"
EARLY_FAULTS = (
    Fault("logits read beside the launch before", WAIT, FIRST_WARP, (RACE,)),
    Fault("logits of a chunk read beside the launch before", WAIT, FIRST_WARP, (RACE,), "choose"),
    Fault("counts read beside the launch before", WAIT, FIRST_WARP, (RACE,), "place"),
)
EARLY_COMBINE_FAULTS = (
    Fault("rows read beside the launch before", WAIT, FIRST_WARP.replace("32", "16"), (RACE,)),
)  # fmt: skip
