"""What the documents say is so: code runs, links lead somewhere, generated pages are current."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from document_blocks import ROOT, blocks, in_process, run_document

DOCUMENTS = sorted(
    [
        *(path for path in ROOT.glob("*.md")),
        *(path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts),
        ROOT / "templates" / "README.md",
    ]
)
RUNNING = [
    path for path in DOCUMENTS if any(b.language in ("python", "console") for b in blocks(path))
]
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
TREE = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the docs are not here")


def running():
    """Documents with code; those that import torch are among torch's tests."""
    for path in RUNNING:
        torch = any("import torch" in block.text for block in blocks(path))
        marks = [pytest.mark.torch] if torch else []
        yield pytest.param(path, id=str(path.relative_to(ROOT)), marks=marks)


@pytest.mark.parametrize("path", list(running()))
def test_code_of_documents_runs(path, tmp_path, monkeypatch, capsys):
    for library in ("torch", "transformers"):
        if any(f"import {library}" in block.text for block in blocks(path)):
            pytest.importorskip(library, reason=f"{library} is not installed")
    shutil.copytree(ROOT / "schedules", tmp_path / "schedules")
    monkeypatch.chdir(tmp_path)
    assert run_document(path, in_process(monkeypatch, capsys)) > 0


def test_readme_and_tutorial_have_code_to_run():
    names = {path.name for path in RUNNING}
    assert {"README.md", "tutorial.md", "language.md", "format.md", "simulator.md"} <= names


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for match in LINK.finditer(path.read_text()):
        target = match["target"].partition("#")[0]
        if target and not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_generated_pages_are_current():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for path, text in generate.pages().items():
        assert path.read_text() == text, f"{path.name} is stale: run python docs/generate.py"


def test_the_directive_reference_has_every_directive():
    from samoyeds_gen.cli.rules import directives

    page = (ROOT / "docs" / "directives.md").read_text()
    sections = re.findall(r"^## (?:s\.)?(\S+)$", page, re.MULTILINE)
    assert sections == ["@schedule", *directives()]


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    listed = set(re.search(r"```\{toctree\}\n.*?\n\n(.*?)```", index, re.DOTALL)[1].split())
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert listed == pages


def test_the_template_contract_is_what_templates_use():
    contract = (ROOT / "templates" / "README.md").read_text()
    promised = set(re.findall(r"`kernel\.(\w+)", contract))
    used = {
        name
        for path in (ROOT / "templates").glob("*.jinja")
        for name in re.findall(r"\bkernel\.(\w+)", path.read_text())
    }
    assert used == promised


def test_the_template_contract_lists_every_template():
    contract = (ROOT / "templates" / "README.md").read_text()
    listed = set(re.findall(r"^\| `(\S+\.jinja)`", contract, re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "templates").glob("*.jinja")}


@pytest.mark.timeout(300)
def test_docs_build_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="needs the docs extra")
    pytest.importorskip("myst_parser", reason="needs the docs extra")
    pytest.importorskip("furo", reason="needs the docs extra")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", ROOT / "docs", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path, "tutorial.html").is_file()
