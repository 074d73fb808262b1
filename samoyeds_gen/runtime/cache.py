"""The persistent compile cache: one directory per key, holding source, PTX, cubin and report.

Decides what names a compile and when an entry can be trusted. A directory appears whole, by
rename, so processes may race; whatever fails its checksums is compiled again by build.py.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA = 1
"""Version of the directory's content; part of every key, so a new schema never reads an old one."""

TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)  # where an entry is to be placed
REPORT_FILE = "report.json"
_TEMPORARY = ".partial-"
_ABANDONED_AFTER = 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached compile; `nvrtc` is the version that made it, `nbytes` the size of its files."""

    key: str
    directory: Path
    name: str
    target: str
    nvrtc: str
    nbytes: int


def cache_key(source: str, *, name: str, target: str, options: tuple[str, ...], nvrtc: str) -> str:
    """The hexadecimal sha256 that names a compile.

    Every part is preceded by its label and its length in bytes, so that no two different compiles
    share their bytes. `name` is a part because error texts and line tables cite it.
    """
    digest = hashlib.sha256()
    parts = [
        ("schema", str(SCHEMA)),
        ("nvrtc", nvrtc),
        ("target", target),
        ("name", name),
        ("options", str(len(options))),
        *(("option", option) for option in options),
        ("source", source),
    ]
    for label, text in parts:
        payload = text.encode()
        digest.update(f"{label} {len(payload)} ".encode())
        digest.update(payload)
    return digest.hexdigest()


def default_directory() -> Path:
    """Where compiles are kept: SAMOYEDS_CACHE_DIR, else samoyeds-gen in the user's cache folder.

    The user's cache folder is XDG_CACHE_HOME or ~/.cache; without a home, a private folder in the
    system's temporary directory.
    """
    environment = os.environ
    return _directory(environment.get("SAMOYEDS_CACHE_DIR"), environment.get("XDG_CACHE_HOME"))


@cache
def _directory(chosen: str | None, caches: str | None) -> Path:
    if chosen:
        return Path(chosen).expanduser().absolute()
    if caches:
        return Path(caches).absolute() / "samoyeds-gen"
    try:
        return Path.home() / ".cache" / "samoyeds-gen"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"samoyeds-gen-{os.getuid()}"


@dataclass(frozen=True, slots=True)
class Cache:
    """A directory of compiles. Cheap to make; nothing is created on disk before the first store."""

    root: Path

    def directory(self, key: str) -> Path:
        """Where the compile named `key` lies, whether or not it is there yet."""
        return self.root / "kernels" / key

    def read(self, key: str) -> dict[str, Any] | None:
        """The files of one entry by name (bytes), and its report's fields; None unless intact.

        Intact means: report.json parses, is of this schema and key, and the sha256 of its fields
        and of every file it lists agree. There is no separate membership test, because the entry
        could go away between the test and the read.
        """
        directory = self.directory(key)
        try:
            report = json.loads((directory / REPORT_FILE).read_bytes())
            fields, sums = report["fields"], report["sha256"]
            if report["schema"] != SCHEMA or report["key"] != key:
                return None
            files = {file: (directory / file).read_bytes() for file in sums if file != REPORT_FILE}
            intact = _sums(files, fields) == sums
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return {"files": files, "fields": fields} if intact else None

    def write(self, key: str, files: dict[str, bytes], fields: dict[str, Any]) -> Path | None:
        """Store an entry and return its directory; None, with a warning, if it cannot be written.

        The entry is written beside its place and renamed into it. A whole entry that another
        process put there meanwhile is kept; a damaged one is replaced.
        """
        final = self.directory(key)
        described = {
            "schema": SCHEMA,
            "key": key,
            "sha256": _sums(files, fields),
            "fields": fields,
        }
        report = (json.dumps(described, indent=1) + "\n").encode()
        try:
            with _partial_directory(final.parent) as partial:
                for file, content in [*files.items(), (REPORT_FILE, report)]:
                    (partial / file).write_bytes(content)
                self._place(partial, final, key)
        except OSError as error:
            warnings.warn(
                f"compiled kernels are not kept: {error}; set SAMOYEDS_CACHE_DIR to a directory "
                "that can be written",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        return final

    def _place(self, partial: Path, final: Path, key: str) -> None:
        """Rename a finished entry into place, moving a damaged one out of the way."""
        for _ in range(8):
            try:
                partial.rename(final)
                return
            except OSError as error:  # asking whether it is there now would be too late
                if error.errno not in TAKEN:
                    raise
            if self.read(key) is not None:
                return
            with _partial_directory(final.parent) as damaged:
                try:
                    final.rename(damaged / "damaged")
                except FileNotFoundError:
                    continue

    def entries(self) -> list[Entry]:
        """Every intact entry, sorted by file name, target and key."""
        found = []
        for directory in _children(self.root / "kernels"):
            if (entry := self._entry(directory)) is not None:
                found.append(entry)
        return sorted(found, key=lambda entry: (entry.name, entry.target, entry.key))

    def _entry(self, directory: Path) -> Entry | None:
        content = self.read(directory.name)
        if content is None:
            return None
        fields = content["fields"]
        nbytes = sum(len(file) for file in content["files"].values())
        return Entry(
            key=directory.name,
            directory=directory,
            name=fields["name"],
            target=fields["target"],
            nvrtc=fields["nvrtc"],
            nbytes=nbytes,
        )

    def clear(self) -> int:
        """Delete every entry, damaged ones too; returns how many went.

        What other processes are writing stays, unless it is an hour old. Builds that a process
        already holds stay usable, since they carry their bytes.
        """
        parent = self.root / "kernels"
        gone = 0
        for directory in _children(parent):
            unfinished = directory.name.startswith(_TEMPORARY)
            with suppress(FileNotFoundError):
                if unfinished and time.time() - directory.stat().st_mtime < _ABANDONED_AFTER:
                    continue
                with _partial_directory(parent) as trash:
                    directory.rename(trash / "entry")
                gone += not unfinished
        return gone


@contextmanager
def _partial_directory(parent: Path) -> Iterator[Path]:
    """A new directory beside the entries; whatever is left of it is deleted at the end."""
    path = parent / f"{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _children(parent: Path) -> list[Path]:
    return sorted(parent.iterdir()) if parent.is_dir() else []


def _sums(files: dict[str, bytes], fields: dict[str, Any]) -> dict[str, str]:
    """The sha256 of every file of an entry, and of the report's fields in canonical form."""
    canonical = json.dumps(fields, sort_keys=True).encode()
    return {file: _sha256(content) for file, content in [*files.items(), (REPORT_FILE, canonical)]}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
