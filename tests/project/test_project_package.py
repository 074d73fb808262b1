"""What is declared is what is there: version, dependencies, public names, the wheel's content."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from types import ModuleType

import pytest
from project_files import PACKAGE, ROOT, modules
from test_project_imports import ROOMS, roots

import samoyeds_gen

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]

NOT_IMPORTED = {
    "cuda-python",  # the metapackage over cuda-bindings and cuda-core, named by the project's aims
    "nvidia-cuda-nvrtc",  # the library that cuda.bindings.nvrtc loads
}
MARKED = [pytest.param(each, marks=pytest.mark.torch) if each == "moe" else each for each in ROOMS]
PROVIDES = {"cuda-bindings": "cuda", "cuda-core": "cuda"}


def names(requirements):
    return {re.match(r"[\w-]+", each)[0] for each in requirements}


def test_the_version_is_one():
    assert samoyeds_gen.__version__ == PROJECT["version"]
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(\d[^\]]*)\]", changes, re.MULTILINE)[0] == PROJECT["version"]


def test_dependencies_are_what_is_imported():
    used = set().union(*(roots(path) for path in modules()))
    used -= set(sys.stdlib_module_names) | {"samoyeds_gen"}
    declared = names(PROJECT["dependencies"])
    assert declared >= NOT_IMPORTED
    provided = {PROVIDES.get(each, each) for each in declared - NOT_IMPORTED}
    optional = {"torch", "transformers"}
    assert names(PROJECT["optional-dependencies"]["torch"]) == {"torch"}
    assert names(PROJECT["optional-dependencies"]["hf"]) == optional
    # Triton comes with torch on a GPU, and only peers of benchmarks are written in it.
    assert used - optional - {"triton"} == provided


def test_nothing_imports_torch_by_itself():
    code = "import sys, samoyeds_gen.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_marker_is_declared_once():
    markers = [
        each.partition(":")[0] for each in PYPROJECT["tool"]["pytest"]["ini_options"]["markers"]
    ]
    assert len(markers) == len(set(markers))
    assert {"gpu", "full", "torch"} <= set(markers)


@pytest.mark.parametrize("room", ["", *MARKED])
def test_every_public_name_has_a_docstring(room):
    module = imported_room(room)
    assert module.__doc__
    bare = [
        name
        for name in getattr(module, "__all__", ())
        if (value := getattr(module, name)) is not None
        and (inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value))
        and not own_docstring(value)
    ]
    assert bare == []


def imported_room(room: str) -> ModuleType:
    """The room, or a skip where it needs torch and there is none."""
    if room == "moe":
        pytest.importorskip("torch", reason="torch is not installed")
    return importlib.import_module(f"samoyeds_gen.{room}".rstrip("."))


def own_docstring(value: object) -> bool:
    """Whether the author wrote one: dataclasses make up their own."""
    text = inspect.getdoc(value) or ""
    generated = inspect.isclass(value) and text.startswith(f"{value.__name__}(")
    return bool(text) and not generated


@pytest.mark.parametrize("room", MARKED)
def test_exported_names_exist_and_are_sorted(room):
    module = imported_room(room)
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    assert all(hasattr(module, name) for name in exported)


def test_public_functions_are_annotated():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert node.returns is not None, f"{path.name}: {node.name} has no return type"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="needs the test extra")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_templates_and_schedules(wheel):
    content = set(zipfile.ZipFile(wheel).namelist())
    assert {path.relative_to(ROOT).as_posix() for path in modules()} <= content
    for kind, pattern in (("templates", "*.jinja"), ("schedules", "*.py")):
        shipped = [path.name for path in (ROOT / kind).glob(pattern)]
        assert shipped
        assert {f"samoyeds_gen/_assets/{kind}/{name}" for name in shipped} <= content
    assert "samoyeds_gen/py.typed" in content
    tops = {name.split("/")[0] for name in content}
    assert tops == {"samoyeds_gen", f"samoyeds_gen-{PROJECT['version']}.dist-info"}


def test_the_wheel_works_outside_the_repository(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import pathlib, samoyeds_gen as sg; "
        "print(pathlib.Path(sg.__file__).parents[1]); "
        "print(sg.compile('ssmm_sm80', n=1, m=2, v=64, target='sm_80'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    place, kernel = done.stdout.splitlines()
    assert place == str((tmp_path / "site").resolve())
    assert kernel.startswith("Kernel(ssmm_sm80 ")


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()
