"""Tables of tuned schedules as JSON text: those that ship with the package, and how one is written.

Decides the text only; database.py loads it, and measuring fills it.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from samoyeds_gen.errors import TuneError
from samoyeds_gen.language import Schedule
from samoyeds_gen.tune.record import FINAL, Record

VERSION: Final = 1
DIRECTORY: Final = Path(__file__).with_name("tables")


def shipped_tables() -> list[Path]:
    """The tables inside the package, sorted by name."""
    return sorted(DIRECTORY.glob("*.json"))


def write_table(records: Iterable[Record]) -> str:
    """A table's text: every schedule once, then one line an entry, sorted."""
    latest = {(*each.key, each.digest): each for each in records}
    kept = sorted(latest.values(), key=lambda each: (each.key, each.us or 0.0, each.digest))
    schedules = {each.digest: each.schedule.as_dict() for each in kept if each.schedule}
    entries = [
        [each.gpu, each.format, each.dtype, *each.shape, each.digest, round(each.us or 0.0, 3)]
        for each in kept
    ]
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    names = ",\n  ".join(
        f"{json.dumps(digest)}: {json.dumps(schedules[digest])}" for digest in sorted(schedules)
    )
    return (
        f'{{\n "version": {VERSION},\n "schedules": {{\n  {names}\n }},\n'
        f' "entries": [\n  {lines}\n ]\n}}\n'
    )


def read_table(text: str, origin: str) -> Iterator[Record]:
    """The records of a table's text. An entry with an empty digest is the dense library's time.

    Raises TuneError for text that is no table, ScheduleError for a schedule that is none.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        if data["version"] != VERSION:
            raise ValueError
        schedules = {
            digest: Schedule.from_json(json.dumps(value))
            for digest, value in data["schedules"].items()
        }
        entries = [(*entry, schedules[entry[6]] if entry[6] else None) for entry in data["entries"]]
    except (ValueError, KeyError, TypeError, IndexError):
        raise TuneError(
            f"{origin} is not a tuning table of version {VERSION}",
            remedy="write it with samoyeds-gen tune --export",
        ) from None
    for gpu, form, dtype, m, k, n, _, us, schedule in entries:
        yield Record(
            gpu=gpu,
            format=form,
            dtype=dtype,
            shape=(m, k, n),
            schedule=schedule,
            effort=FINAL,
            us=float(us),
            origin=origin,
        )
