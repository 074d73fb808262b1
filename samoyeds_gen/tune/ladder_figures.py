"""The figures of the ladder: one step a rung and shape, as JSON and as a Markdown table."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from samoyeds_gen.errors import TuneError
from samoyeds_gen.tune.suites import Shape

NOTHING = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One rung at one shape. Times are microseconds; `predicted_us` is the model's, and `limit`
    what it says takes them; `measured_us` is the median over rounds, None before a measurement.

    `ratio` is cuBLAS's measured time over this one's. `registers` a thread are those that ptxas
    used, before warpgroups hand them over; consumers then have `consumer_registers`, of which
    `accumulators` hold sums, and a producer `producer_registers`. `shared_bytes` a CTA. Resources
    are None for the dense product.
    """

    m: int
    k: int
    n: int
    name: str
    directive: str
    before: str
    tried: bool
    predicted_us: float
    limit: str
    digest: str = ""
    registers: int | None = None
    accumulators: int | None = None
    consumer_registers: int | None = None
    producer_registers: int | None = None
    spill_bytes: int = 0
    shared_bytes: int | None = None
    measured_us: float | None = None
    least_us: float | None = None
    most_us: float | None = None
    ratio: float | None = None
    verdict: str = ""

    @property
    def shape(self) -> Shape:
        """(m, k, n)."""
        return self.m, self.k, self.n


@dataclass(frozen=True, slots=True)
class Figures:
    """The ladder on one GPU; `about` says which driver, date, command and effort made it."""

    gpu: str
    steps: tuple[Step, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Every shape once, in order."""
        return tuple(dict.fromkeys(each.shape for each in self.steps))

    def at(self, shape: Shape) -> tuple[Step, ...]:
        """The rungs of one shape, in order."""
        return tuple(each for each in self.steps if each.shape == shape)

    def predicted_gain(self, step: Step) -> float | None:
        """The model's time of the rung before over this one's; None without a rung before."""
        before = self._before(step)
        return before.predicted_us / step.predicted_us if before else None

    def measured_gain(self, step: Step) -> float | None:
        """As `predicted_gain`, of measured times; None where either was not measured."""
        before = self._before(step)
        if before is None or before.measured_us is None or step.measured_us is None:
            return None
        return before.measured_us / step.measured_us

    def predicted_ratio(self, step: Step) -> float:
        """The model's time of the dense product over this one's."""
        return self.at(step.shape)[0].predicted_us / step.predicted_us

    def _before(self, step: Step) -> Step | None:
        found = [each for each in self.at(step.shape) if each.name == step.before]
        return found[0] if found else None


def as_json(figures: Figures) -> str:
    """Everything, with a line for each value."""
    steps = [asdict(each) for each in figures.steps]
    return json.dumps({"gpu": figures.gpu, **figures.about, "steps": steps}, indent=1) + "\n"


def read_figures(path: Path) -> Figures:
    """The figures that `as_json` wrote. Raises TuneError for any other file."""
    try:
        record = json.loads(path.read_text())
        gpu, steps = record.pop("gpu"), tuple(Step(**each) for each in record.pop("steps"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TuneError(
            f"{path.name} does not hold the figures of a ladder",
            remedy="write it with samoyeds-gen ladder --output",
        ) from None
    return Figures(gpu, steps, record)


HEAD = (
    "| rung | directive | predicted us | predicted gain | measured us | measured gain | of cuBLAS "
    "| registers | shared KB |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n"
)


def as_markdown(figures: Figures) -> str:
    """One table a shape. Gains are over the rung before, or over the one that a name tells."""
    parts = [
        f"**m={m}, k={k}, n={n}**\n\n" + HEAD + "".join(_line(figures, each) for each in steps)
        for (m, k, n), steps in ((shape, figures.at(shape)) for shape in figures.shapes)
    ]
    return "\n".join([*parts, _made(figures)])


def _made(figures: Figures) -> str:
    """What made the figures, in one sentence."""
    about, measured = figures.about, any(each.measured_us for each in figures.steps)
    command = f"`{about.get('command', 'samoyeds-gen ladder')}`"
    if not measured:
        return f"Predicted for one {figures.gpu}, not measured yet; made by {command}.\n"
    effort = about.get("effort", {})
    return (
        f"{figures.gpu}, driver {about.get('driver')}, {about.get('date')}, "
        f"{effort.get('rounds')} rounds of {effort.get('sample_ms', 0):.0f} ms; made by "
        f"{command}.\n"
    )


def _line(figures: Figures, step: Step) -> str:
    cells = (
        f"tried: {step.name}" if step.tried else step.name,
        f"{step.directive} (against {step.before})" if step.tried else step.directive,
        f"{step.predicted_us:.0f}",
        _times(figures.predicted_gain(step)),
        "" if step.measured_us is None else f"{step.measured_us:.0f}",
        _times(figures.measured_gain(step)),
        _times(step.ratio),
        registers_of(step),
        "" if step.shared_bytes is None else f"{step.shared_bytes / 1024:.1f}",
    )
    return "| " + " | ".join(cells) + " |\n"


def registers_of(step: Step) -> str:
    """Registers a thread and, in brackets, its accumulators; then those of a producer, if any."""
    if step.registers is None:
        return NOTHING
    if step.producer_registers is None:
        return f"{step.registers} ({step.accumulators})"
    return f"{step.consumer_registers} ({step.accumulators}) / {step.producer_registers}"


def _times(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}x"
