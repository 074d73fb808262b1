"""Reading schedules from files: Python is executed, JSON is only read."""

import runpy
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samoyeds_gen.assets import asset_directory, find_schedule_file
from samoyeds_gen.errors import SamoyedsError, ScheduleError, Where
from samoyeds_gen.formats import Format
from samoyeds_gen.language.dtypes import DType
from samoyeds_gen.language.schedule import Schedule
from samoyeds_gen.language.template import ScheduleTemplate

ScheduleSource = str | Path | Schedule | ScheduleTemplate


def load_schedule(source: ScheduleSource, format: Format, dtype: DType) -> Schedule:
    """The schedule that `source` gives for this format and dtype.

    `source` is a Schedule, a schedule function, the path of a .py or .json file, or the name of
    a shipped schedule. Raises `ScheduleError` for a file that is missing or holds no schedule.
    """
    if isinstance(source, Schedule):
        return source
    if isinstance(source, ScheduleTemplate):
        return source(format, dtype)
    path = find_schedule_file(source)
    if path is None:
        shipped = ", ".join(sorted(each.stem for each in asset_directory("schedules").glob("*.py")))
        raise ScheduleError(
            f"no schedule file {str(source)!r}",
            rule="schedule-file",
            remedy=f"give the path of a .py or .json file, or one of the shipped names {shipped}",
        )
    if path.suffix == ".json":
        with _blaming(path):
            return Schedule.from_json(path.read_text())
    template = load_template(path)
    with _blaming(path):
        return template(format, dtype)


def load_template(path: Path) -> ScheduleTemplate:
    """Execute a schedule file and return the one schedule it defines."""
    if path.suffix != ".py":
        raise ScheduleError(
            f"{path.name} is neither a .py nor a .json file",
            rule="schedule-file",
            remedy="give the path of a schedule file",
        )
    found = [
        value
        for value in _execute(path).values()
        if isinstance(value, ScheduleTemplate) and value.path == str(path)
    ]
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise ScheduleError(
            f"the file defines {len(found)} schedules ({names}), not one",
            rule="schedule-file",
            remedy="decorate exactly one function with @schedule",
            where=Where(str(path), 1),
        )
    return found[0]


def _execute(path: Path) -> dict[str, object]:
    with _blaming(path):
        return runpy.run_path(str(path))


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turn whatever the user's file raises into a `ScheduleError` that names its line."""
    try:
        yield
    except ScheduleError as error:
        if error.where is not None:
            raise
        where = Where(str(path), _line_in(path, error))
        raise ScheduleError(
            error.sentence, remedy=error.remedy, rule=error.rule, where=where
        ) from None
    except SamoyedsError:
        raise
    except SyntaxError as error:
        raise ScheduleError(
            f"the file is not Python: {error.msg}",
            rule="schedule-file",
            remedy="correct the line",
            where=Where(str(path), error.lineno or 1),
        ) from None
    except Exception as error:
        raise ScheduleError(
            f"the file raised {type(error).__name__}: {error}",
            rule="schedule-file",
            remedy="correct the line",
            where=Where(str(path), _line_in(path, error)),
        ) from error


def _line_in(path: Path, error: Exception) -> int:
    """The last line of the file that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [each.lineno for each in frames if each.filename == str(path) and each.lineno]
    return lines[-1] if lines else 1
