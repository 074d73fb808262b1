"""A piece of work whose process dies a number of times before it succeeds."""

import os
from dataclasses import dataclass
from pathlib import Path

from samoyeds_gen.check.tally import Tally
from samoyeds_gen.check.work import Result


@dataclass(frozen=True)
class Dying:
    """Ends its process while fewer than `times` marks lie in `folder`."""

    folder: Path
    times: int
    device: str = "cpu"
    total: int = 1

    def run(self) -> Result:
        """Leave a mark, and die or succeed."""
        marks = len(list(self.folder.iterdir()))
        (self.folder / str(marks)).touch()
        if marks < self.times:
            os._exit(1)
        return Result((), Tally(runs=marks))
