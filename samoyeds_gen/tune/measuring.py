"""Measuring candidates and the dense product of one task on the present GPU."""

from collections.abc import Mapping, Sequence

from samoyeds_gen.kernel import Kernel
from samoyeds_gen.language import Schedule
from samoyeds_gen.tune.choice import Task
from samoyeds_gen.tune.contender import Contender, Failure
from samoyeds_gen.tune.peers import cublas
from samoyeds_gen.tune.record import FINAL, Record
from samoyeds_gen.tune.rig import TorchRig
from samoyeds_gen.tune.search import Outcome
from samoyeds_gen.tune.timing import Effort, time_interleaved


class Measuring:
    """The buffers of one task, kept from measurement to measurement."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._rig = TorchRig(task.machine, dtype=task.problem.dtype.name)

    def __call__(self, schedules: Sequence[Schedule], effort: Effort) -> Mapping[Schedule, Outcome]:
        """Check each in full; then time the right ones in turn."""
        task, ready, outcomes = self._task, {}, {}
        for schedule in schedules:
            kernel = Kernel(schedule, task.problem, task.target)
            made = self._rig.prepare(schedule.digest, task.problem.format, kernel, task.shape)
            if isinstance(made, Failure):
                status = "wrong" if made.error.startswith("wrong") else "failed"
                outcomes[schedule] = Outcome(None, status, made.error)  # type: ignore[arg-type]
            else:
                ready[schedule] = made
        timings = (
            time_interleaved(
                {schedule.digest: each.timed for schedule, each in ready.items()},
                effort,
                self._rig.sample,
            )
            if ready
            else {}
        )
        for schedule, each in ready.items():
            outcomes[schedule] = Outcome(timings[schedule.digest].median_us, "ok", each.verdict)
        return outcomes

    def dense(self, effort: Effort) -> Record | None:
        """The library's dense product at the task's shape in its faster layout, as a record."""
        shape = self._task.shape
        ready = [
            each
            for each in cublas(shape, self._rig.weights(shape), self._rig.tokens(shape))
            if isinstance(each, Contender)
        ]
        if not ready:
            return None
        timings = time_interleaved(
            {each.name: each.timed for each in ready}, effort, self._rig.sample
        )
        best = min(timings, key=lambda name: timings[name].median_us)
        return Record(
            gpu=self._task.machine.name,
            format="",
            dtype=self._task.problem.dtype.name,
            shape=shape,
            schedule=None,
            effort=FINAL,
            us=timings[best].median_us,
            note=best,
        )
