"""From a combination to its plan: how many rows and pieces of them are in flight together."""

from samoyeds_gen.compiler.ops import State
from samoyeds_gen.compiler.plan import Constant, ConstantGroup, Parameter
from samoyeds_gen.compiler.routing.lower import EARLY, early_wrappers
from samoyeds_gen.compiler.routing.plan import Claim, RoutingPlan, TypeName
from samoyeds_gen.compiler.routing.problem import Combine
from samoyeds_gen.language.targets import Target

THREADS = 128
IN_FLIGHT = 8
"""Loads of a thread that are in flight together, about."""
MOST_IN_FLIGHT = 10
CTAS = 10
"""Resident CTAs, so that a thread keeps to about 50 registers: enough for what is in flight."""
WEIGHTED_CTAS = 8
"""With weights, which take a register each, too."""
MANY = 10
"""Rows from which on a thread takes more registers, of which the last batch's guards are some."""
MANY_CTAS, MANY_WEIGHTED_CTAS = 6, 5
PIECES = 4
"""Most pieces of a row that a thread has."""

SECTIONS = {
    "begin_early": EARLY["begin_early"],
    "thread_place": "the token and pieces of a thread",
    "await_before": EARLY["await_before"],
    "add_rows": "rows added in order",
    "store_sums": "sums rounded and stored",
}
WHOLE = {2: "unsigned short", 4: "unsigned", 8: "uint2", 16: "uint4"}


def lower_combine(problem: Combine, target: Target) -> RoutingPlan:
    """The plan of a combination."""
    batches = 1 if problem.choices <= MOST_IN_FLIGHT else -(-problem.choices // IN_FLIGHT)
    batch = -(-problem.choices // batches)
    pieces = max(1, min(PIECES, IN_FLIGHT // batch))
    short = problem.dtype.short
    few, many = (WEIGHTED_CTAS, MANY_WEIGHTED_CTAS) if problem.weighted else (CTAS, MANY_CTAS)
    ctas = many if problem.choices >= MANY else few
    row = ("scale[slots[t, j]] * " if problem.weighted else "") + "y[slots[t, j], :]"
    weights = (("const float* __restrict__ scale", "weight of each row of y [slots]"),)
    constants = (
        ("kChoices", problem.choices, "rows a token adds up"),
        ("kElements", problem.elements, "elements a piece"),
        ("kPieces", pieces, "pieces a thread"),
        ("kBatch", batch, "rows whose loads are in flight together"),
        ("kThreads", THREADS, "threads a CTA"),
        ("kCtasPerSm", ctas, "resident CTAs the compiler makes room for"),
    )
    return RoutingPlan(
        entry=problem.entry,
        problem=problem,
        target=target,
        summary=(f"out[t, :] is the sum of {row} over j, in float32 and in order.",),
        template="routing.cu.jinja",
        threads=THREADS,
        shared_bytes=0,
        types=(
            TypeName("Element", problem.dtype.storage, f"one {problem.dtype.name}"),
            TypeName("Whole", WHOLE[problem.piece_bytes], f"{problem.piece_bytes} bytes"),
        ),
        constants=(ConstantGroup("Combination", tuple(Constant(*row) for row in constants)),),
        claims=(
            Claim("sizeof(Whole) == kElements * sizeof(Element)", "a piece is one load"),
            Claim("kBatch <= kChoices", "a batch has rows to add"),
        ),
        wrappers=early_wrappers(problem.early, target),
        functions=(
            State(f"the value of a {problem.dtype.name}", name=f"widen_{short}"),
            State(f"rounding to {problem.dtype.name}", name=f"narrow_{short}"),
            State("what a thread loads at a time", name="pieces"),
        ),
        sections=tuple(
            State(text, name=name)
            for name, text in SECTIONS.items()
            if problem.early or name not in EARLY
        ),
        parameters=tuple(
            Parameter(declaration.split()[-1], declaration, declaration.split()[-1], note)
            for declaration, note in (
                ("const Element* __restrict__ y", "rows that experts computed [slots, columns]"),
                ("const int* __restrict__ slots", "rows of each token [tokens, kChoices]"),
                *(weights if problem.weighted else ()),
                ("Element* __restrict__ out", "sums [tokens, columns]"),
                ("long long y_stride", "row stride of y in elements"),
                ("long long out_stride", "row stride of out in elements"),
                ("int pieces", "pieces a row"),
                ("int tokens", "tokens"),
            )
        ),
    )


def combine_blocks(plan: RoutingPlan, tokens: int, pieces: int) -> int:
    """CTAs for this many tokens of so many pieces a row."""
    turns = -(-pieces // plan.constant("kPieces"))
    return -(-tokens * turns // plan.threads)
