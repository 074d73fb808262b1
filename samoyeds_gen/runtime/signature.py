"""The parameters of a kernel, read from its PTX, and the buffer that carries their values.

Decides how a Python value becomes the bytes of a parameter. Launching is launch.py's.
"""

import ctypes
import operator
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.runtime.arrays import ArrayView

# PTX ISA, "Kernel Function Parameters": .param state space, optional .ptr and .align, byte arrays.
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>[a-z]\d+)\s+"
    r"(?:\.ptr\s+(?:\.\w+\s+)?(?:\.align\s+\d+\s+)?)?[\w$%]+\s*(?:\[(?P<size>\d+)\])?"
)
_INTEGERS = {8: "b", 16: "h", 32: "i", 64: "q"}
_FLOATS = {16: "e", 32: "f", 64: "d"}
_POINTER = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One kernel parameter: `kind` "integer" (pointers too), "float" or "bytes" (structures).

    `nbytes` and `align` are in bytes; `code` is its letter in the struct module.
    """

    kind: str
    nbytes: int
    align: int
    code: str

    def __str__(self) -> str:
        if self.kind == "bytes":
            return f"structure of {self.nbytes} bytes"
        return f"{8 * self.nbytes}-bit {self.kind}"


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of the kernel `entry`, in order, and where each lies in one packed buffer."""

    entry: str
    parameters: tuple[Parameter, ...]

    @property
    def offsets(self) -> tuple[int, ...]:
        """Byte offset of each parameter; `nbytes` of the packed buffer follows the last."""
        offsets, end = [], 0
        for parameter in self.parameters:
            end = -(-end // parameter.align) * parameter.align
            offsets.append(end)
            end += parameter.nbytes
        return tuple(offsets)

    def packer(self) -> struct.Struct:
        """The struct that writes all parameters at their offsets in one call."""
        layout, end = ["<"], 0
        for parameter, offset in zip(self.parameters, self.offsets, strict=True):
            layout.append(f"{offset - end}x{parameter.code}")
            end = offset + parameter.nbytes
        return struct.Struct("".join(layout))

    def convert(self, arguments: Sequence[object]) -> list[int | float | bytes]:
        """The values to pack for `arguments`, each checked against its parameter.

        Integers may be given signed or unsigned, pointers also as an ArrayView, structures as
        bytes or as an object with `getPtr()` (a CUtensorMap).
        Raises LaunchError naming the argument's position when one does not fit.
        """
        if len(arguments) != len(self.parameters):
            raise LaunchError(
                f"kernel {self.entry} takes {len(self.parameters)} arguments, "
                f"{len(arguments)} are given",
                remedy="pass them in the order of the kernel's parameters",
            )
        values = []
        for position, (parameter, value) in enumerate(zip(self.parameters, arguments, strict=True)):
            try:
                values.append(_converted(parameter, value))
            except (TypeError, ValueError, OverflowError):
                raise LaunchError(
                    f"argument {position} of kernel {self.entry} is {_described(value)}, "
                    f"its parameter is a {parameter}",
                    remedy="pass a value of that kind and size",
                ) from None
        return values


class Arguments:
    """A buffer holding one set of packed arguments, with the pointer array that the driver reads.

    `pointers` is the address of that array. The buffer is overwritten by every `pack`, so each
    thread needs its own.
    """

    __slots__ = (
        "_buffer",
        "_offsets",
        "_packer",
        "_pointers",
        "_signature",
        "_structures",
        "pointers",
    )

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._packer = signature.packer()
        alignment = 64  # a tensor map must lie on 64 bytes (PTX ISA, "Tensor-map")
        self._buffer = ctypes.create_string_buffer(self._packer.size + alignment)
        start = -ctypes.addressof(self._buffer) % alignment
        self._buffer = (ctypes.c_char * self._packer.size).from_buffer(self._buffer, start)
        base = ctypes.addressof(self._buffer)
        offsets = self._offsets = signature.offsets
        self._pointers = (ctypes.c_void_p * max(len(offsets), 1))(
            *(base + offset for offset in offsets)
        )
        self.pointers = ctypes.addressof(self._pointers)
        self._structures = any(each.kind == "bytes" for each in signature.parameters)

    def pack(self, arguments: Sequence[Any]) -> None:
        """Write `arguments` into the buffer; LaunchError as `Signature.convert`.

        All values are written, because comparing with the last ones costs more than the write.
        """
        if not self._structures:
            values = [value.pointer if type(value) is ArrayView else value for value in arguments]
            try:
                self._packer.pack_into(self._buffer, 0, *values)
                return
            except (struct.error, OverflowError):
                pass  # convert says what is wrong, or accepts what struct does not
        self._packer.pack_into(self._buffer, 0, *self._signature.convert(arguments))

    def replace_pointer(self, position: int, address: int) -> None:
        """Overwrite the pointer at `position`, leaving the other arguments as they are packed."""
        struct.pack_into("<Q", self._buffer, self._offsets[position], address)

    def replacer(self, position: int) -> Callable[[int], None]:
        """What overwrites the pointer at `position`, as quickly as can be."""
        return partial(_POINTER.pack_into, self._buffer, self._offsets[position])

    def __bytes__(self) -> bytes:
        return bytes(self._buffer)


def read_signature(ptx: str, entry: str) -> Signature:
    """The parameters of kernel `entry` in NVRTC's PTX text. LaunchError when it has no such one."""
    match = re.search(rf"\.entry\s+{re.escape(entry)}\s*\((?P<parameters>[^)]*)\)", ptx)
    if match is None:
        names = re.findall(r"\.entry\s+([\w$]+)", ptx)
        raise LaunchError(
            f"the compiled source has no kernel {entry!r}, it has {', '.join(names) or 'none'}",
            remedy='declare the kernel as extern "C" __global__ under that name',
        )
    parameters = tuple(_parameter(found) for found in _PARAMETER.finditer(match["parameters"]))
    assert len(parameters) == match["parameters"].count(".param"), match["parameters"]
    return Signature(entry, parameters)


def _parameter(match: re.Match[str]) -> Parameter:
    bits = int(match["type"][1:])
    if match["size"] is not None:
        nbytes = int(match["size"]) * bits // 8
        return Parameter("bytes", nbytes, int(match["align"] or 1), f"{nbytes}s")
    if match["type"][0] == "f":
        return Parameter("float", bits // 8, bits // 8, _FLOATS[bits])
    return Parameter("integer", bits // 8, bits // 8, _INTEGERS[bits])


def _converted(parameter: Parameter, value: Any) -> int | float | bytes:
    match parameter.kind:
        case "integer":
            bits = 8 * parameter.nbytes
            number = operator.index(value.pointer if isinstance(value, ArrayView) else value)
            if not -(1 << (bits - 1)) <= number < 1 << bits:
                raise OverflowError
            return number - (1 << bits) if number >= 1 << (bits - 1) else number
        case "float":
            real = float(value)
            struct.pack(f"<{parameter.code}", real)  # OverflowError beyond the parameter's range
            return real
        case _:
            content = _structure(parameter, value)
            if len(content) != parameter.nbytes:
                raise ValueError
            return content


def _structure(parameter: Parameter, value: Any) -> bytes:
    if hasattr(value, "getPtr"):
        return ctypes.string_at(int(value.getPtr()), parameter.nbytes)
    return bytes(memoryview(value))


def _described(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{memoryview(value).nbytes} bytes"
    if isinstance(value, int | float):
        return f"the {type(value).__name__} {value}"
    return f"a value of type {type(value).__name__}"
