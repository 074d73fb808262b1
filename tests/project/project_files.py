"""The files of the project, wherever it is checked out."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "samoyeds_gen"
FOLDERS = ("samoyeds_gen", "schedules", "templates", "generated", "tests", "docs", ".ci")
TEXT = {".py", ".md", ".toml", ".yaml", ".jinja", ".cu", ".txt", ".svg", ".json", ".csv", ""}


def text_files() -> Iterator[Path]:
    """Every text file a reader of the project meets, the license apart."""
    for path in sorted(ROOT.iterdir()):
        if path.is_file() and path.suffix in TEXT and path.name not in ("LICENSE", ".git"):
            yield path
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            built = {"__pycache__", "_build", "_assets"} & set(path.parts)
            if path.is_file() and path.suffix in TEXT and not built:
                yield path


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "_assets" not in path.parts)
