"""What a simulated kernel did wrong: one exception with a kind, a place and a thread.

The kinds are a closed list, because the checker and its mutation tests select on them.
"""

from typing import Literal, get_args

from samoyeds_gen.errors import SamoyedsError
from samoyeds_gen.simulator.program import Site

Kind = Literal[
    "race",
    "read before arrival",
    "out of bounds",
    "misaligned",
    "deadlock",
    "invalid metadata",
    "unknown opcode",
    "uninitialised read",
    "divergent barrier",
    "ticket left",
]
KINDS: tuple[str, ...] = get_args(Kind)


class SimulationFault(SamoyedsError):  # noqa: N818 - a fault of the kernel, not of the caller
    """A kernel, or its PTX, that breaks a rule of the machine it claims to run on.

    `kind` is one of `KINDS`; `site` the PTX instruction, `cta` and `thread` the first offender
    (None where the fault belongs to no single thread), `address` the byte address inside its state
    space, `buffer` the name of the buffer or state space. `other` is the instruction that the
    offender collided with, when one is known.
    """

    def __init__(
        self,
        kind: Kind,
        sentence: str,
        *,
        site: Site | None = None,
        other: Site | None = None,
        cta: tuple[int, int, int] | None = None,
        thread: int | None = None,
        address: int | None = None,
        buffer: str | None = None,
    ) -> None:
        self.kind = kind
        self.site = site
        self.other = other
        self.cta = cta
        self.thread = thread
        self.address = address
        self.buffer = buffer
        place = [] if site is None else [f"at {site}"]
        if thread is not None:
            place.append(f"thread {thread}")
        if cta is not None:
            place.append(f"CTA {cta}")
        if address is not None:
            place.append(f"address {address:#x}")
        if buffer is not None:
            place.append(f"buffer {buffer!r}")
        where = f" ({', '.join(place)})" if place else ""
        super().__init__(f"{kind}: {sentence}{where}")
