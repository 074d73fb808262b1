"""Tests that need torch say so by their mark: they are skipped where it is absent, and where it is
present, marks select them.
"""

import ast
import runpy

import pytest
from project_files import ROOT

SELECTED = {"torch", "full", "gpu"}  # runs that happen where torch is installed


def marks(nodes):
    """The names of `pytest.mark.name` anywhere in some syntax trees."""
    found = {"pytest.mark." + name for name in SELECTED}
    return {
        ast.unparse(part).removeprefix("pytest.mark.")
        for node in nodes
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and ast.unparse(part) in found
    }


def asks_for_torch(node):
    """Whether a statement calls `pytest.importorskip("torch", ...)`."""
    return any(
        isinstance(part, ast.Call)
        and ast.unparse(part.func) == "pytest.importorskip"
        and ast.unparse(part.args[0]) == "'torch'"
        for part in ast.walk(node)
    )


def unmarked(text):
    """The tests of a module that need torch and have no mark that selects them."""
    tree = ast.parse(text)
    tests = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    functions = (ast.FunctionDef, ast.ClassDef)
    everywhere = any(asks_for_torch(n) for n in tree.body if not isinstance(n, functions))
    common = marks(
        n
        for n in tree.body
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "pytestmark"
    )
    return [
        test.name
        for test in tests
        if (everywhere or asks_for_torch(test)) and not common | marks(test.decorator_list)
    ]


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "tests").rglob("test_*.py")),
    ids=lambda path: str(path.relative_to(ROOT / "tests")),
)
def test_tests_that_need_torch_are_marked(path):
    assert unmarked(path.read_text()) == []


def test_a_missing_mark_is_found():
    skip = 'pytest.importorskip("torch", reason="absent")'
    assert unmarked(f"def test_a():\n    {skip}\n") == ["test_a"]
    assert unmarked(f"torch = {skip}\ndef test_a():\n    pass\n") == ["test_a"]
    assert unmarked(f"@pytest.mark.torch\ndef test_a():\n    {skip}\n") == []
    assert (
        unmarked(f"torch = {skip}\npytestmark = pytest.mark.torch\ndef test_a():\n    pass\n") == []
    )


@pytest.mark.parametrize(("workers", "skipped"), [(None, 0), ("1", 0), ("8", 1)])
def test_what_times_the_host_is_skipped_beside_other_workers(workers, skipped, monkeypatch):
    class Item:
        def __init__(self, *names):
            self.names, self.added = names, []

        def get_closest_marker(self, name):
            return name in self.names or None

        def add_marker(self, mark):
            self.added.append(mark)

    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    if workers is not None:
        monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", workers)
    hook = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["pytest_collection_modifyitems"]
    times, other = Item("gpu", "host_time"), Item("gpu")
    hook([times, other])
    assert (len(times.added), len(other.added)) == (skipped, 0)
    assert all("run it without -n" in each.kwargs["reason"] for each in times.added)
