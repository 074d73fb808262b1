"""What every file of the project keeps to: its length, its words, and nobody's own paths."""

import re

import pytest
from project_files import PACKAGE, ROOT, modules, text_files

LONGEST = 400
SUFFIXES = {".py", ".jinja"}

# Patterns are put together so that this file does not contain what it looks for.
PLACES = [
    "/" + word + "/"
    for word in ("wo" + "rk", "ho" + "me", "ro" + "ot", "o" + "pt", "Use" + "rs", "tm" + "p")
]
ABSOLUTE = re.compile(rf"(?<![\w.~$}}*\"-]){'|'.join(map(re.escape, PLACES))}")
WORDS = re.compile(
    "|".join(
        (
            rf"\b{'hel' + 'per'}s?\b",
            rf"(?<!cuda\.core\.)(?<!torch\.)(?<!torch\._dynamo\.)\b{'ut' + 'il'}s\b",
            rf"(?<!scope=\"){'ses' + 'sion'}s?\b(?!_|start|finish)",
            rf"\b{'is' + 'sue'}s? #?\d",
            rf"{'index' + '-url'}",
            rf"{'arti' + 'factory'}",
            rf"from {'__fut' + 'ure__'}",
        )
    ),
    re.IGNORECASE,
)
LEFT_OVER = re.compile(
    rf"\b{'man' + 'ager'}s?\b|\b{'TO' + 'DO'}\b|\b{'FIX' + 'ME'}\b", re.IGNORECASE
)
BANNER = re.compile(r"^\s*(?:#|//)\s*[-=*#]{4,}", re.MULTILINE)


def test_there_are_files_to_look_at():
    names = {path.relative_to(ROOT).as_posix() for path in text_files()}
    assert {"README.md", ".ci/run", "samoyeds_gen/errors.py", "docs/index.md"} <= names


@pytest.mark.parametrize(
    "path",
    [path for path in text_files() if path.suffix in SUFFIXES],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_a_file_is_one_idea_long(path):
    assert path.read_text().count("\n") <= LONGEST


def findings(pattern, paths):
    return [
        f"{path.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}: {match[0].strip()}"
        for path in paths
        for text in [path.read_text()]
        for match in pattern.finditer(text)
    ]


def test_no_file_names_a_place_of_one_machine():
    assert findings(ABSOLUTE, text_files()) == []


def test_no_file_uses_a_word_that_says_nothing():
    assert findings(WORDS, text_files()) == []


def test_nothing_shipped_has_a_left_over_word():
    shipped = [path for path in text_files() if "tests" not in path.relative_to(ROOT).parts]
    assert findings(LEFT_OVER, shipped) == []


def test_no_comment_is_a_banner():
    sources = [path for path in text_files() if path.suffix in {".py", ".cu", ".jinja"}]
    assert findings(BANNER, sources) == []


def test_no_file_has_emoji():
    pictograms = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\ufe0f]")
    assert findings(pictograms, text_files()) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_says_in_six_lines_what_it_decides(path):
    text = path.read_text()
    if path.name == "__init__.py" and not text:
        return
    first = re.match(r'"""(.*?)"""', text, re.DOTALL)
    assert first, "no docstring"
    assert first[1].count("\n") <= 6
