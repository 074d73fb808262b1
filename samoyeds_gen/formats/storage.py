"""A weight as a safetensors file: the versioned header, and reading bytes that may be anything.

Decides what the header says and which files are refused; whether the arrays fit each other is
decided by SparseWeight.
"""

import json
import os
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from samoyeds_gen.errors import FormatError
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.formats.element import STORED
from samoyeds_gen.formats.format import Format

KIND = "samoyeds-gen sparse weight"
VERSION = "1"

_FILE_TYPES = {
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U32": np.dtype(np.uint32),
    "U8": np.dtype(np.uint8),
}
_AGAIN = "save the weight again"


def write(
    path: "str | os.PathLike[str]",
    form: Format,
    dtype: str,
    shape: tuple[int, int],
    arrays: dict[str, Array],
) -> None:
    """Write numpy `arrays` and the header to `path`, by rename; FormatError when it cannot."""
    header = {
        "kind": KIND,
        "version": VERSION,
        "format": str(form),
        "dtype": dtype,
        "shape": f"{shape[0]},{shape[1]}",
    }
    target = Path(path)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            draft = Path(folder) / "draft"
            contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            draft.write_bytes(save(contiguous, metadata=header))
            draft.replace(target)
    except (OSError, SafetensorError) as error:
        raise FormatError(
            f"{path} cannot be written ({_reason(error)})", remedy="choose a writable path"
        ) from None


def read(
    path: "str | os.PathLike[str]",
) -> tuple[Format, str, tuple[int, int], dict[str, Array]]:
    """Read format, dtype, shape and numpy arrays of a file; FormatError for anything but one."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FormatError(
            f"{path} cannot be read ({_reason(error)})", remedy="check the path"
        ) from None
    try:
        tensors = deserialize(content)  # type: ignore[no-untyped-call]
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise FormatError(
            f"{path} is truncated or not a safetensors file ({_reason(error)})",
            remedy="save the weight or copy the file again",
        ) from None
    form, dtype, shape = _header(path, header.get("__metadata__") or {})
    return form, dtype, shape, {name: _array(path, name, entry) for name, entry in tensors}


def _header(
    path: "str | os.PathLike[str]", header: dict[str, str]
) -> tuple[Format, str, tuple[int, int]]:
    if header.get("kind") != KIND:
        raise FormatError(
            f"{path} is a safetensors file, but not a {KIND}",
            remedy="load files written by SparseWeight.save",
        )
    if header.get("version") != VERSION:
        raise FormatError(
            f"{path} has version {header.get('version')!r}, but this package reads {VERSION!r}",
            remedy="save the weight again, or install the samoyeds-gen that wrote it",
        )
    for name in ("format", "dtype", "shape"):
        if name not in header:
            raise FormatError(f"{path}: header field {name!r} is missing", remedy=_AGAIN)
    if header["dtype"] not in STORED:
        raise FormatError(
            f"{path}: dtype {header['dtype']!r} is not one of {', '.join(STORED)}", remedy=_AGAIN
        )
    try:
        form = Format.parse(header["format"])
    except FormatError as error:
        raise FormatError(f"{path}: {error.sentence}", remedy=_AGAIN) from None
    sizes = header["shape"].split(",")
    if len(sizes) != 2 or not all(size.isascii() and size.isdigit() for size in sizes):
        raise FormatError(f"{path}: shape {header['shape']!r} is not m,k", remedy=_AGAIN)
    return form, header["dtype"], (int(sizes[0]), int(sizes[1]))


def _array(path: "str | os.PathLike[str]", name: str, entry: dict[str, Array]) -> Array:
    if entry["dtype"] not in _FILE_TYPES:
        raise FormatError(
            f"{path}: array {name!r} has type {entry['dtype']}, which no weight holds",
            remedy=_AGAIN,
        )
    data = np.frombuffer(entry["data"], dtype=_FILE_TYPES[entry["dtype"]])
    return data.reshape(entry["shape"])


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
