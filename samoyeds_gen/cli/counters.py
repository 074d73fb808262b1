"""The simulator's counters as table rows and as plain data."""

from samoyeds_gen.simulator import Counters

MOST_OPCODES = 12


def counter_rows(counters: Counters, opcodes: int = 0) -> list[tuple[str, str, str]]:
    """Rows (what, count, beside it): totals, shared memory, global memory, then opcodes."""
    rows = [
        ("warp instructions", f"{counters.instructions}", ""),
        ("CTA barriers", f"{counters.barriers}", ""),
    ]
    for kind, (actual, ideal) in sorted(counters.shared_wavefronts.items()):
        rows.append((f"shared wavefronts, {kind}", f"{actual}", f"ideal {ideal}"))
    for kind, requests in sorted(counters.global_requests.items()):
        sectors = counters.global_sectors[kind]
        rate = f"{sectors / requests:.2f} a request, {requests} requests"
        rows.append((f"global sectors, {kind}", f"{sectors}", rate))
    for name, count in counters.opcodes.most_common(opcodes):
        rows.append((f"opcode {name}", f"{count}", ""))
    return rows


def counters_json(counters: Counters) -> dict[str, object]:
    """The counters as plain data."""
    return {
        "instructions": counters.instructions,
        "barriers": counters.barriers,
        "opcodes": dict(sorted(counters.opcodes.items())),
        "shared_wavefronts": {
            kind: {"actual": actual, "ideal": ideal}
            for kind, (actual, ideal) in sorted(counters.shared_wavefronts.items())
        },
        "global_sectors": dict(sorted(counters.global_sectors.items())),
        "global_requests": dict(sorted(counters.global_requests.items())),
    }
