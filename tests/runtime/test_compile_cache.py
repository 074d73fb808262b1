"""The compile cache: what names a compile, what survives damage, and processes that race."""

import errno
import hashlib
import json
import multiprocessing
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cuda_sources import SAXPY, TARGETS, compile_saxpy
from hypothesis import given
from hypothesis import strategies as st

from samoyeds_gen.errors import CompileError
from samoyeds_gen.runtime import (
    Build,
    Cache,
    Source,
    compile_many,
    compile_source,
    default_directory,
    forget_builds,
)
from samoyeds_gen.runtime.cache import cache_key

FILES = ("kernel.cu", "kernel.ptx", "kernel.cubin", "report.json")

texts = st.text(max_size=8)
identities = st.fixed_dictionaries(
    {
        "source": texts,
        "name": texts,
        "target": texts,
        "options": st.lists(texts, max_size=3).map(tuple),
        "nvrtc": texts,
    }
)


def content(build: Build) -> tuple:
    """What must be the same however a build was come by; the log has a compile time in it."""
    return (build.ptx, build.cubin, build.reports, build.key, build.source)


# --- the key


@given(identities, identities)
def test_keys_agree_exactly_when_everything_does(first, second):
    same = first == second
    keys = [cache_key(each.pop("source"), **each) for each in (dict(first), dict(second))]
    assert (keys[0] == keys[1]) == same


@given(identities, texts.filter(bool), st.sampled_from(["source", "name", "target", "nvrtc"]))
def test_text_moved_between_parts_changes_the_key(identity, moved, part):
    other = "name" if part != "name" else "target"
    left = identity | {part: identity[part] + moved}
    right = identity | {other: moved + identity[other]}
    keys = [cache_key(each.pop("source"), **each) for each in (left, right)]
    assert keys[0] != keys[1]


def test_every_part_of_a_compile_is_in_the_key(cache):
    builds = [
        compile_saxpy(cache),
        compile_saxpy(cache, source=SAXPY + "\n"),
        compile_saxpy(cache, name="other.cu"),
        compile_saxpy(cache, target="sm_86"),
        compile_saxpy(cache, options=("-lineinfo",)),
        compile_saxpy(cache, options=("-lineinfo", "--fmad=false")),
        compile_saxpy(cache, options=("--fmad=false", "-lineinfo")),
    ]
    assert len({build.key for build in builds}) == len(builds)
    assert not any(build.cached for build in builds)


# --- hits


def test_a_repeated_call_returns_the_same_object(cache):
    first = compile_saxpy(cache)
    assert compile_saxpy(cache) is first
    began = time.perf_counter()
    for _ in range(200):
        compile_saxpy(cache)
    assert (time.perf_counter() - began) / 200 < 1e-3


def test_a_new_process_finds_the_build_on_disk(cache):
    first = compile_saxpy(cache)
    forget_builds()
    second = compile_saxpy(cache)
    assert second is not first
    assert (first.cached, second.cached) == (False, True)
    assert content(first) == content(second)
    assert second == replace(first, cached=True, seconds=second.seconds)
    assert second.seconds == pytest.approx(first.seconds, abs=1e-6)


def test_the_directory_holds_what_the_build_says(cache):
    build = compile_saxpy(cache)
    assert build.directory is not None
    assert sorted(path.name for path in build.directory.iterdir()) == sorted(FILES)
    assert (build.directory / "kernel.cu").read_text() == SAXPY
    assert (build.directory / "kernel.ptx").read_text() == build.ptx
    assert (build.directory / "kernel.cubin").read_bytes() == build.cubin
    report = json.loads((build.directory / "report.json").read_text())
    assert report["key"] == build.key == build.directory.name
    assert report["fields"]["reports"][0]["registers"] == build.report.registers
    assert report["sha256"]["kernel.cubin"] == hashlib.sha256(build.cubin).hexdigest()


def test_without_a_cache_nothing_is_stored_or_remembered(cache, monkeypatch):
    monkeypatch.setenv("SAMOYEDS_CACHE_DIR", str(cache.root))
    first, second = compile_saxpy(None), compile_saxpy(None)
    assert first is not second
    assert first.directory is None
    assert not cache.root.exists()
    assert content(first) == content(second)


def test_the_default_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SAMOYEDS_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_directory() == tmp_path / "xdg" / "samoyeds-gen"
    monkeypatch.setenv("SAMOYEDS_CACHE_DIR", str(tmp_path / "chosen"))
    assert default_directory() == tmp_path / "chosen"
    build = compile_source(SAXPY, name="saxpy.cu", target="sm_80")
    assert build.directory == tmp_path / "chosen" / "kernels" / build.key


# --- damage


def damage_truncate(directory: Path, file: str) -> None:
    (directory / file).write_bytes((directory / file).read_bytes()[:-7])


def damage_flip(directory: Path, file: str) -> None:
    whole = bytearray((directory / file).read_bytes())
    whole[len(whole) // 2] ^= 1
    (directory / file).write_bytes(whole)


def damage_empty(directory: Path, file: str) -> None:
    (directory / file).write_bytes(b"")


def damage_remove(directory: Path, file: str) -> None:
    (directory / file).unlink()


def damage_directory(directory: Path, file: str) -> None:
    (directory / file).unlink()
    (directory / file).mkdir()


DAMAGES = [damage_truncate, damage_flip, damage_empty, damage_remove, damage_directory]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_entry_is_compiled_again_and_mended(cache, damage, file):
    first = compile_saxpy(cache)
    damage(first.directory, file)
    assert cache.entries() == []
    forget_builds()
    second = compile_saxpy(cache)
    assert not second.cached
    assert content(second) == content(first)
    forget_builds()
    assert compile_saxpy(cache).cached


@pytest.mark.parametrize(
    "edit",
    [
        lambda report: report | {"schema": 0},
        lambda report: report | {"key": "0" * 64},
        lambda report: report | {"sha256": {}},
        lambda report: report | {"fields": {}},
        lambda report: report | {"fields": report["fields"] | {"log": "Used 3 registers"}},
        lambda report: [report],
        lambda report: None,
    ],
)
def test_a_report_that_was_edited_is_not_believed(cache, edit):
    first = compile_saxpy(cache)
    path = first.directory / "report.json"
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    forget_builds()
    second = compile_saxpy(cache)
    assert not second.cached
    assert content(second) == content(first)
    forget_builds()
    assert compile_saxpy(cache).cached


def test_a_file_in_the_place_of_an_entry_is_replaced(cache):
    first = compile_saxpy(cache)
    shutil.rmtree(first.directory)
    first.directory.write_text("in the way")
    forget_builds()
    assert not compile_saxpy(cache).cached
    forget_builds()
    assert compile_saxpy(cache).cached


def test_an_unwritable_cache_warns_and_compiles(tmp_path):
    forget_builds()
    (tmp_path / "file").write_text("not a directory")
    with pytest.warns(RuntimeWarning, match="not kept: .*; set SAMOYEDS_CACHE_DIR"):
        build = compile_saxpy(Cache(tmp_path / "file"))
    assert build.directory is None
    assert build.cubin


def test_nothing_unfinished_stays_behind(cache):
    compile_saxpy(cache)
    compile_saxpy(cache, target="sm_86")
    names = [path.name for path in (cache.root / "kernels").iterdir()]
    assert len(names) == 2
    assert not any(name.startswith(".") for name in names)


# --- listing and clearing


def test_entries_are_listed_and_cleared(cache):
    assert cache.entries() == []
    assert cache.clear() == 0
    second = compile_saxpy(cache, target="sm_86")
    first = compile_saxpy(cache)
    listed = cache.entries()
    assert [entry.key for entry in listed] == [first.key, second.key]
    assert [entry.target for entry in listed] == ["sm_80", "sm_86"]
    assert listed[0].name == "saxpy.cu"
    assert listed[0].directory == first.directory
    assert listed[0].nbytes == len(SAXPY) + len(first.ptx) + len(first.cubin)
    unfinished = cache.root / "kernels" / ".partial-1-recent"
    unfinished.mkdir()
    assert cache.clear() == 2
    assert cache.entries() == []
    assert unfinished.exists()


def test_clearing_takes_what_was_abandoned(cache):
    import os

    abandoned = cache.root / "kernels" / ".partial-1-old"
    abandoned.mkdir(parents=True)
    os.utime(abandoned, (0, 0))
    assert cache.clear() == 0
    assert not abandoned.exists()


# --- several at once


def test_an_entry_that_goes_away_while_it_is_in_the_way_is_no_failure(tmp_path, monkeypatch):
    """Another process moves it between this one's rename and its next step."""
    rename, tries = Path.rename, []

    def contested(self, target):
        tries.append(target)
        if len(tries) == 1:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", contested)
    cache = Cache(tmp_path)
    assert cache.write("a" * 64, {"k.cu": b"text"}, {}) == cache.directory("a" * 64)
    assert cache.read("a" * 64) == {"files": {"k.cu": b"text"}, "fields": {}}


def _race(root: str, rounds: int, start, seed: int) -> list[tuple[str, str]]:
    """Compile the same sources as the other processes, at the same moment."""
    start.wait()
    found = []
    for number in range(rounds):
        forget_builds()
        source = SAXPY.replace("saxpy", f"saxpy{number}")
        build = compile_source(source, name="k.cu", target="sm_80", cache=Cache(Path(root)))
        found.append((build.key, hashlib.sha256(build.ptx.encode() + build.cubin).hexdigest()))
    return found


def _vandalise(root: str, rounds: int, start, seed: int) -> list[tuple[str, str]]:
    """Damage and clear the entries that the others make."""
    start.wait()
    chance = random.Random(seed)
    for _ in range(rounds * 40):
        time.sleep(0.001)
        directories = list((Path(root) / "kernels").glob("[!.]*"))
        if not directories:
            continue
        try:
            file = chance.choice(directories) / chance.choice(FILES)
            file.write_bytes(file.read_bytes()[:10])
        except OSError:
            continue
        if chance.random() < 0.05:
            Cache(Path(root)).clear()
    return []


def _work(task) -> list[tuple[str, str]]:
    import warnings

    warnings.simplefilter("error")
    function, root, rounds, start, seed = task
    return function(root, rounds, start, seed)


@pytest.mark.parametrize("vandals", [0, 1], ids=["peaceful", "vandalised"])
def test_racing_processes_get_the_same_whole_builds(tmp_path, vandals):
    context = multiprocessing.get_context("spawn")
    workers, rounds = 3, 6
    with context.Manager() as manager:
        start = manager.Barrier(workers + vandals)
        tasks = [(_race, str(tmp_path), rounds, start, seed) for seed in range(workers)]
        tasks += [(_vandalise, str(tmp_path), rounds, start, seed) for seed in range(vandals)]
        with context.Pool(workers + vandals) as pool:
            results = pool.map(_work, tasks, chunksize=1)[:workers]
    assert results[0] == results[1] == results[2]
    assert len({key for key, _ in results[0]}) == rounds
    assert not list((tmp_path / "kernels").glob(".partial-*"))
    if not vandals:
        assert len(Cache(tmp_path).entries()) == rounds


def test_compile_many_keeps_order_and_reports_progress(cache):
    sources = [Source(SAXPY, "saxpy.cu", target) for target in (*TARGETS, TARGETS[0])]
    seen = []
    builds = compile_many(
        sources, cache=cache, threads=4, progress=lambda *event: seen.append(event)
    )
    assert [build.target for build in builds] == [*TARGETS, TARGETS[0]]
    assert builds[-1] is builds[0]
    assert [(done, total) for done, total, _ in seen] == [(n, 6) for n in range(1, 7)]
    assert {build.target for _, _, build in seen} == set(TARGETS)
    assert compile_many(sources, cache=cache) == builds
    assert compile_many([], cache=cache) == []


def test_compile_many_raises_the_refusal(cache):
    sources = [Source(SAXPY, "a.cu", "sm_80"), Source("int x = y;", "b.cu", "sm_80")]
    with pytest.raises(CompileError, match=r"b\.cu:1"):
        compile_many(sources, cache=cache)
