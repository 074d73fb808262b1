"""A comparison of layers that goes on where an earlier one ended: its file, and what is left."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from samoyeds_gen.errors import TuneError
from samoyeds_gen.formats import Format
from samoyeds_gen.tune.layers.configs import Case
from samoyeds_gen.tune.layers.rows import LayerFailure, LayerRow, read_rows
from samoyeds_gen.tune.layers.run import LayerResults

ALIKE = ("gpu", "driver", "nvrtc", "torch", "effort")
"""What has to be the same for figures of two runs to stand in one table."""


def begun(path: Path, about: Mapping[str, object]) -> LayerResults:
    """The results in a .json file of the suite moe; none where there is no file yet.

    Raises TuneError for another file, and for one that another machine or effort made.
    """
    rows, record = read_rows(path, LayerRow, "moe")
    wanted = json.loads(json.dumps({name: about.get(name) for name in ALIKE}))
    for name, value in wanted.items() if record else ():
        if record.get(name) != value:
            raise TuneError(
                f"{path.name} was made with {name} {record.get(name)}, this run has {value}",
                remedy="write to another file, or leave --resume out",
            )
    failed = [LayerFailure(**each) for each in record.get("failed", [])]
    return LayerResults(rows=rows, failed=failed)


def left(cases: Sequence[Case], formats: Sequence[Format], done: LayerResults) -> list[Case]:
    """The cases without figures of all formats."""
    known = {(row.config, row.tokens, row.routing, row.format) for row in done.rows}
    return [
        case for case in cases if any((*_key(case), str(form)) not in known for form in formats)
    ]


def _key(case: Case) -> tuple[str, int, str]:
    return case.config.name, case.tokens, case.routing
