"""A room imports only rooms before it, and a library only where it belongs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from project_files import PACKAGE, modules

ROOMS = (
    "formats",
    "language",
    "reference",
    "compiler",
    "runtime",
    "simulator",
    "kernel",
    "check",
    "tune",
    "moe",
    "pictures",
    "cli",
)
EVERYWHERE = {"errors", "assets"}

HOME = {
    "networkx": ("compiler/dependence.py",),
    "jinja2": ("compiler/emit.py",),
    "cuda": ("runtime/",),
    "hypothesis": ("check/",),
    "safetensors": ("formats/storage.py", "moe/"),
    "transformers": ("moe/skeleton.py",),
    "triton": ("moe/bench/triton_kernels.py",),
    "typer": ("cli/",),
    "rich": ("cli/",),
    "torch": ("formats/", "kernel/", "tune/", "moe/"),
}


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            if node.module == "samoyeds_gen":
                yield from (f"samoyeds_gen.{each.name}" for each in node.names)
            else:
                yield str(node.module)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_every_package_is_a_room():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room):
    allowed = EVERYWHERE | set(ROOMS[: ROOMS.index(room) + 1])
    for path in sorted((PACKAGE / room).rglob("*.py")):
        used = {name.split(".")[1] for name in imported(path) if name.startswith("samoyeds_gen.")}
        # The command line may ask for the version.
        used -= {"__version__"} if room == "cli" else set()
        assert used <= allowed, f"{name_of(path)} imports {sorted(used - allowed)}"


@pytest.mark.parametrize("name", sorted(EVERYWHERE))
def test_what_everybody_imports_imports_no_room(name):
    used = [each for each in imported(PACKAGE / f"{name}.py") if each.startswith("samoyeds_gen")]
    assert used == []


@pytest.mark.parametrize("library", sorted(HOME))
def test_a_library_is_imported_only_where_it_belongs(library):
    users = {name_of(path) for path in modules() if library in roots(path)}
    strangers = {user for user in users if not user.startswith(HOME[library])}
    assert strangers == set()
    assert users, f"{library} is used nowhere"


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}
