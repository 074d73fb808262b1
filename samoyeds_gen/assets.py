"""Where the shipped templates and schedules lie: in the wheel, or beside an editable install."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def asset_directory(kind: str) -> Path:
    """The directory of shipped "templates" or "schedules"."""
    installed = _PACKAGE / "_assets" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def for_experts(path: Path) -> bool:
    """Whether a schedule file is for the experts of a layer: the shipped ones' names say so."""
    return path.stem.startswith("experts_")


def find_schedule_file(name: str | Path) -> Path | None:
    """A schedule file by path, else by the name of a shipped one ("ssmm_sm80"); None if neither."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = asset_directory("schedules")
    if len(path.parts) == 1 or path.parts[0] == "schedules":
        for candidate in (shipped / path.name, shipped / f"{path.name}.py"):
            if candidate.is_file():
                return candidate
    return None
