"""The tuning database: every measurement, in one SQLite file in the user's cache directory.

Measurements are stored one by one, each in a transaction of its own, so that an ended search goes
on where it stopped. Shipped tables are loaded beside them when the file is opened, and again when
the package brings other ones; they are never written back.
"""

import hashlib
import sqlite3
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from samoyeds_gen.errors import SamoyedsError, TuneError
from samoyeds_gen.language import Schedule
from samoyeds_gen.runtime import default_directory
from samoyeds_gen.tune.record import FINAL, USER, Record
from samoyeds_gen.tune.suites import Shape
from samoyeds_gen.tune.tables import read_table, shipped_tables

FILE: Final = "tuning-1.sqlite"
"""The file's name carries its schema's version: a new schema never reads an old file."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS tables (origin TEXT PRIMARY KEY, sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS schedules (digest TEXT PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS measurements (
  gpu TEXT NOT NULL, format TEXT NOT NULL, dtype TEXT NOT NULL,
  m INTEGER NOT NULL, k INTEGER NOT NULL, n INTEGER NOT NULL,
  digest TEXT NOT NULL, kernel TEXT NOT NULL, effort INTEGER NOT NULL,
  us REAL, status TEXT NOT NULL, note TEXT NOT NULL, origin TEXT NOT NULL,
  PRIMARY KEY (gpu, format, dtype, m, k, n, digest, kernel, effort, origin)
);
"""
_COLUMNS: Final = (
    "gpu, format, dtype, m, k, n, measurements.digest, kernel, effort, us, status, note, origin"
)

_LATEST: Final = """measurements.rowid IN (
  SELECT max(rowid) FROM measurements WHERE effort = ? AND status = 'ok'
  GROUP BY gpu, format, dtype, m, k, n, digest, origin
)"""
"""Good measurements; of a schedule whose code changed meanwhile, only the newest."""


class Database:
    """Measurements in `path` (None: in memory), with the shipped tables beside them.

    Use it from one thread; several processes may share a file. Raises TuneError when the file
    is no database.
    """

    def __init__(self, path: Path | None = None, *, tables: Sequence[Path] | None = None) -> None:
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path or ":memory:", timeout=60, isolation_level=None)
        try:
            self._connection.executescript(_SCHEMA)
            self._load(shipped_tables() if tables is None else tables)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise  # locked or read-only: `open_database` goes on without the file
            raise TuneError(
                f"{path} is not a tuning database ({error})",
                remedy="delete the file, and tune again",
            ) from None

    def close(self) -> None:
        """Close the file. Nothing is pending."""
        self._connection.close()

    def store(self, records: Iterable[Record]) -> None:
        """Keep measurements, all or none; one of the same kernel, shape and effort is replaced."""
        rows = list(records)
        with _Transaction(self._connection):
            self._connection.executemany(
                "INSERT OR IGNORE INTO schedules VALUES (?, ?)",
                [(each.digest, each.schedule.to_json()) for each in rows if each.schedule],
            )
            self._connection.executemany(
                f"INSERT OR REPLACE INTO measurements VALUES ({', '.join('?' * 13)})",
                [_row(each) for each in rows],
            )

    def measured(
        self, *, gpu: str, format: str, dtype: str, shape: Shape, effort: int
    ) -> dict[tuple[str, str], Record]:
        """The user's measurements of one shape and effort, by schedule digest and kernel."""
        found = self._select(
            "gpu = ? AND format = ? AND dtype = ? AND m = ? AND k = ? AND n = ? AND effort = ? "
            "AND origin = ?",
            (gpu, format, dtype, *shape, effort, USER),
        )
        return {(each.digest, each.kernel): each for each in found}

    def final(self, *, format: str | None = None, dtype: str | None = None) -> list[Record]:
        """The good measurements that choices may rest on, of every GPU, quickest first.

        `format` or `dtype` None means every one; format "" are those of the dense product.
        """
        asked = {"format": format, "dtype": dtype}
        given = {name: value for name, value in asked.items() if value is not None}
        where = " AND ".join([*(f"{name} = ?" for name in given), _LATEST])
        return self._select(where, (*given.values(), FINAL))

    def exported(self) -> list[Record]:
        """What a new shipped table holds: the user's final measurements, and the shipped ones of
        products that the user did not measure.
        """
        found = self._select(_LATEST, (FINAL,))
        own = {each.key for each in found if each.origin == USER}
        return [each for each in found if each.origin == USER or each.key not in own]

    def _select(self, where: str, values: tuple[object, ...]) -> list[Record]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS}, json FROM measurements LEFT JOIN schedules USING (digest) "
            f"WHERE {where} ORDER BY us, measurements.digest",
            values,
        ).fetchall()
        return [record for row in rows if (record := _record(row)) is not None]

    def _load(self, tables: Sequence[Path]) -> None:
        """Bring the shipped tables up to date, if the file has others."""
        texts = {path.name: path.read_text() for path in tables}
        sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
        present = dict(self._connection.execute("SELECT origin, sha256 FROM tables"))
        for name in sorted(set(present) | set(sums)):
            if present.get(name) == sums.get(name):
                continue
            with _Transaction(self._connection):
                self._connection.execute("DELETE FROM measurements WHERE origin = ?", (name,))
                self._connection.execute("DELETE FROM tables WHERE origin = ?", (name,))
            if name in texts:
                self.store(read_table(texts[name], name))
                self._connection.execute(
                    "INSERT OR REPLACE INTO tables VALUES (?, ?)", (name, sums[name])
                )


def open_database(path: Path | None = None) -> Database:
    """The database at `path` (None: in the cache directory); without it where none can be written.

    Then the shipped tables are still there, and a RuntimeWarning says that nothing is kept.
    """
    path = path or default_directory() / FILE
    try:
        return Database(path)
    except (OSError, sqlite3.OperationalError) as error:
        warnings.warn(
            f"tuning results are not kept: {path}: {error}; set SAMOYEDS_CACHE_DIR to a directory "
            "that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
        return Database(None)


class _Transaction:
    """BEGIN IMMEDIATE, then COMMIT, or ROLLBACK when the block raises."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *rest: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def _row(each: Record) -> tuple[object, ...]:
    return (
        *each.key,
        each.digest,
        each.kernel,
        each.effort,
        each.us,
        each.status,
        each.note,
        each.origin,
    )


_schedule = lru_cache(maxsize=4096)(Schedule.from_json)  # choices read the same ones every time


def _record(row: tuple[Any, ...]) -> Record | None:
    """A row as a record; None when its schedule is of another version of the language."""
    gpu, form, dtype, m, k, n, digest, kernel, effort, us, status, note, origin, text = row
    schedule = None
    if digest:
        try:
            schedule = _schedule(text)
        except SamoyedsError:
            return None
    return Record(
        gpu=gpu,
        format=form,
        dtype=dtype,
        shape=(m, k, n),
        schedule=schedule,
        effort=effort,
        us=us,
        status=status,
        note=note,
        kernel=kernel,
        origin=origin,
    )


__all__ = ["FILE", "Database", "open_database"]
