"""Bulk and tensor copies against a slow model of what they move, and what they must refuse."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hopper_toolchain import PRELUDE
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_toolchain import ptx, written

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.simulator import Pointer, SimulationFault, TensorMap, parse, run

BOXES = Path(__file__).with_name("hopper_boxes.cu").read_text()
SIZES = {"uint8": 1, "bfloat16": 2, "float32": 4, "float64": 8}
FILL = 0xFF


def text(rank=2, edit=("", "")):
    assert edit[0] in BOXES
    axes = ", ".join(f"%{3 + axis}" for axis in range(rank))
    source = BOXES.replace(*edit) if edit[0] else BOXES
    return ptx(PRELUDE + source.replace("RANK", f'"{rank}"').replace("AXES", f'"{axes}"'), "sm_90a")


def launch(entry, *arguments, rank=2, size=4096, edit=("", ""), threads=64, **options):
    program = parse(text(rank, edit))
    shape = {"grid": (1, 1, 1), "block": (threads, 1, 1), "shared_bytes": size}
    return run(program, entry, **shape, arguments=list(arguments), **options)


def load_box(view, at, offset=0, count=None, size=4096, **options):
    out = np.zeros(size, np.uint8)
    place = np.array([*at, *[0] * (5 - len(at))], np.int32)
    numbers = [np.int32(v) for v in (offset, view.box_bytes if count is None else count, size)]
    launch("load_box", view, written(out), place, *numbers, rank=len(at), size=size, **options)
    return out


def store_box(view, image, at, **options):
    place = np.array([*at, *[0] * (5 - len(at))], np.int32)
    size = len(image)
    launch("store_box", view, image_of(image), place, np.int32(size), rank=len(at), **options)


def image_of(image):
    return Pointer(image, "image")


@dataclass(frozen=True)
class View:
    """A tensor map over random bytes, with a model of it."""

    data: np.ndarray
    dtype: str
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: int
    base: int

    def map(self, **options):
        pointer = Pointer(self.data, "tensor", offset=self.base, **options)
        return TensorMap(pointer, self.dtype, self.dims, self.strides, self.box, self.swizzle)

    def pairs(self, at, start):
        """Of every element of a box: byte in shared memory, byte in the array or None."""
        size, linear = SIZES[self.dtype], 0
        for place in product(*(range(side) for side in reversed(self.box))):
            place = place[::-1]
            chunk, rest = divmod(start + linear, 16)
            rows, width = chunk // 8, self.swizzle // 16
            shared = (chunk ^ (rows & width - 1 if width else 0)) * 16 + rest
            where = [a + p for a, p in zip(at, place, strict=True)]
            inside = all(0 <= w < d for w, d in zip(where, self.dims, strict=True))
            steps = (size, *self.strides)
            byte = self.base + sum(w * s for w, s in zip(where, steps, strict=True))
            yield shared, byte if inside else None
            linear += size


@st.composite
def views(draw):
    rank = draw(st.integers(1, 5))
    dtype = draw(st.sampled_from(sorted(SIZES)))
    size = SIZES[dtype]
    swizzle = draw(st.sampled_from((0, 32, 64, 128)))
    row = swizzle or 16 * draw(st.integers(1, 6))
    box = [row // size]
    for _ in range(rank - 1):
        box.append(draw(st.integers(1, max(1, min(9, 2048 // (int(np.prod(box)) * size))))))
    dims = [draw(st.integers(1, 2 * side)) for side in box]
    strides, step = [], dims[0] * size
    for extent in dims[1:]:
        step = -(-step // 16) * 16 + 16 * draw(st.integers(0, 1))
        strides.append(step)
        step *= extent
    base = 16 * draw(st.integers(0, 2))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    extent = dims[0] * size + sum((d - 1) * s for d, s in zip(dims[1:], strides, strict=True))
    data = rng.integers(0, FILL, base + extent + draw(st.integers(0, 3)), np.uint8)
    view = View(data, dtype, tuple(dims), tuple(strides), tuple(box), swizzle, base)
    at = [draw(st.integers(-side - 1, d + 1)) for side, d in zip(box, dims, strict=True)]
    return view, tuple(at)


@settings(max_examples=60, deadline=None)
@given(views(), st.integers(0, 8))
def test_box_loads(drawn, lines):
    view, at = drawn
    start = lines * 128
    out = load_box(view.map(), at, start, view.map().box_bytes)
    expected, size = np.full(4096, FILL, np.uint8), SIZES[view.dtype]
    for shared, byte in view.pairs(at, start):
        expected[shared : shared + size] = 0 if byte is None else view.data[byte : byte + size]
    assert np.array_equal(out, expected)


@settings(max_examples=60, deadline=None)
@given(views(), st.booleans())
def test_box_stores(drawn, races):
    view, at = drawn
    image = np.random.default_rng(1).integers(0, 256, 4096).astype(np.uint8)
    expected, size = view.data.copy(), SIZES[view.dtype]
    for shared, byte in view.pairs(at, 0):
        if byte is not None:
            expected[byte : byte + size] = image[shared : shared + size]
    store_box(view.map(writable=True), image, at, races=races)
    assert np.array_equal(view.data, expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 8), st.integers(0, 8), st.integers(1, 16))
def test_byte_copies(start, end, count):
    data = np.random.default_rng(2).integers(0, FILL, 512, np.uint8)
    first, second, size = 16 * start, 16 * end, 16 * count
    out = np.zeros(1024, np.uint8)
    numbers = [np.int32(v) for v in (first, second, size, 1024)]
    launch("load_bytes", image_of(data), written(out), *numbers, size=1024)
    expected = np.full(1024, FILL, np.uint8)
    expected[second : second + size] = data[first : first + size]
    assert np.array_equal(out, expected)
    target = np.zeros(512, np.uint8)
    image = np.random.default_rng(3).integers(0, 256, 1024).astype(np.uint8)
    launch("store_bytes", image_of(image), written(target), *numbers, size=1024)
    expected = np.zeros(512, np.uint8)
    expected[second : second + size] = image[first : first + size]
    assert np.array_equal(target, expected)


def plain(dims=(64, 8), box=(64, 8), swizzle=128, writable=False, **options):
    data = np.zeros((8, 64), np.uint16)
    pointer = Pointer(data, "tensor", writable=writable, **options)
    return TensorMap(pointer, "uint16", dims, (128,), box, swizzle)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"dtype": "int4"}, "int4"),
        ({"dims": ()}, "ranks are 1 to 5"),
        ({"strides": (128, 128)}, "strides one fewer"),
        ({"dims": (64, 0)}, "must be positive"),
        ({"box": (64, 257)}, "1 to 256"),
        ({"box": (64, 0)}, "1 to 256"),
        ({"box": (4, 8)}, "multiple of 16"),
        ({"box": (128, 8)}, "more than its swizzle"),
        ({"swizzle": 16}, "swizzle 16"),
        ({"strides": (120,)}, "multiples of 16"),
        ({"pointer": Pointer(np.zeros(9, np.uint16), offset=2)}, "base"),
    ],
)
def test_maps_that_the_driver_refuses(changes, what):
    good = {
        "pointer": Pointer(np.zeros((8, 64), np.uint16)),
        "dtype": "uint16",
        "dims": (64, 8),
        "strides": (128,),
        "box": (64, 8),
        "swizzle": 128,
    }
    TensorMap(**good)
    with pytest.raises(LaunchError, match=what):
        TensorMap(**good | changes)


def test_a_map_larger_than_its_array():
    with pytest.raises(LaunchError, match="spans 1152 bytes"):
        load_box(plain(dims=(64, 9)), (0, 0))


def test_a_map_where_the_kernel_takes_another_size():
    with pytest.raises(LaunchError, match="a Pointer or a TensorMap"):
        launch("load_bytes", plain(), written(np.zeros(1)), *[np.int32(0)] * 4)


ONCE = """asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%0], 0;}"
    :: "r"(shared_address(&full)) : "memory")"""
READ_WAIT = "    bulk_commit();\n    bulk_wait_read<0>();\n"
LOADS = {
    "expect more": ("deadlock", {"count": 1040}, ("", "")),
    "expect less": ("deadlock", {"count": 1008}, ("", "")),
    "not waited": ("read before arrival", {}, ("barrier_wait(&full, 0)", "__syncthreads()")),
    "tried once": ("read before arrival", {}, ("barrier_wait(&full, 0)", ONCE)),
    "wrong parity": (
        "read before arrival",
        {},
        ("barrier_wait(&full, 0)", "barrier_wait(&full, 1)"),
    ),
    "no expectation": (
        "read before arrival",
        {},
        ("barrier_expect(b, bytes)", "barrier_arrive(b)"),
    ),
    "crooked destination": ("misaligned", {"offset": 64}, ("", "")),
    "destination outside": ("out of bounds", {"offset": 3200}, ("", "")),
    "invisible mbarrier": ("race", {}, ("  barrier_fence();\n", "")),
    "generic writes before": (
        "race",
        {},
        ("proxy_fence();\n  if (t == 0) start", "if (t == 0) start"),
    ),
    "no barrier before": (
        "race",
        {},
        ("  __syncthreads();\n  if (t == 0)\n    asm", "  if (t == 0)\n    asm"),
    ),
    "not a map": ("out of bounds", {}, ('"l"(&map),', '"l"((const char*)&map + 64),')),
}


@pytest.mark.parametrize("name", LOADS)
def test_wrong_loads(name):
    kind, options, edit = LOADS[name]
    with pytest.raises(SimulationFault) as caught:
        load_box(plain(), (0, 0), edit=edit, **options)
    assert caught.value.kind == kind
    assert caught.value.site is not None


def test_a_map_of_another_rank():
    data = np.zeros(64, np.uint16)
    line = TensorMap(Pointer(data), "uint16", (64,), (), (64,))
    with pytest.raises(SimulationFault, match="a copy of rank 2 with a tensor map of rank 1"):
        load_box(line, (0, 0))


STORES = {
    "no proxy fence": (
        "read before arrival",
        ("  proxy_fence();\n  __syncthreads();\n", "__syncthreads();"),
    ),
    "no barrier": ("race", ("  proxy_fence();\n  __syncthreads();\n", "  proxy_fence();\n")),
    "left reading": ("race", (READ_WAIT, "    bulk_commit();\n")),
    "not committed": ("race", (READ_WAIT, "    bulk_wait_read<0>();\n")),
    "waits for all but one": ("race", (READ_WAIT, READ_WAIT.replace("<0>", "<1>"))),
    "written too early": (
        "race",
        (
            READ_WAIT,
            "    bulk_commit();\n    ((uint4*)shared)[0] = in[0];\n    bulk_wait_read<0>();\n",
        ),
    ),
}


@pytest.mark.parametrize("entry", ["store_box", "store_bytes"])
@pytest.mark.parametrize("name", STORES)
def test_wrong_stores(name, entry):
    kind, edit = STORES[name]
    image, out = image_of(np.zeros(1024, np.uint8)), written(np.zeros(1024, np.uint8))
    arguments = [image, out, *[np.int32(v) for v in (0, 0, 1024, 1024)]]
    if entry == "store_box":
        arguments = [plain(writable=True), image, np.zeros(5, np.int32), np.int32(1024)]
    with pytest.raises(SimulationFault) as caught:
        launch(entry, *arguments, edit=edit)
    assert caught.value.kind == kind


def test_a_fence_after_the_barrier_covers_what_it_orders():
    edit = (
        "  proxy_fence();\n  __syncthreads();\n  if (t == 0) {\n    asm",
        "  __syncthreads();\n  if (t == 0) {\n    proxy_fence();\n    asm",
    )
    store_box(plain(writable=True), np.zeros(1024, np.uint8), (0, 0), edit=edit)
    with pytest.raises(SimulationFault, match=r"no fence\.proxy\.async"):
        store_box(
            plain(writable=True),
            np.zeros(1024, np.uint8),
            (0, 0),
            edit=(edit[0], edit[1].replace("proxy_fence();\n    asm", "asm")),
        )


def test_stores_to_a_read_only_tensor():
    with pytest.raises(SimulationFault, match="read-only"):
        store_box(plain(), np.zeros(1024, np.uint8), (0, 0))


def test_uninitialised_tensors():
    fresh = plain(writable=True, initialised=False)
    with pytest.raises(SimulationFault, match="that nothing wrote") as caught:
        load_box(fresh, (0, 0))
    assert caught.value.kind == "uninitialised read"
    # A box that lies outside reads nothing.
    assert (load_box(fresh, (64, 0))[:1024] == 0).all()


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ((0, 0, 24, 1024), "misaligned"),
        ((0, 0, 0, 1024), "misaligned"),
        ((8, 0, 32, 1024), "misaligned"),
        ((0, 8, 32, 1024), "misaligned"),
        ((496, 0, 32, 1024), "out of bounds"),
        ((0, 1008, 32, 1024), "out of bounds"),
    ],
)
def test_wrong_byte_loads(numbers, kind):
    data, out = np.zeros(512, np.uint8), np.zeros(1024, np.uint8)
    with pytest.raises(SimulationFault) as caught:
        launch(
            "load_bytes",
            image_of(data),
            written(out),
            *[np.int32(v) for v in numbers],
            size=1024,
        )
    assert caught.value.kind == kind


def test_two_writers_of_one_global_row_are_a_race():
    data = np.zeros((8, 64), np.uint16)
    view = TensorMap(Pointer(data, "out", writable=True), "uint16", (64, 8), (128,), (64, 8), 128)
    source = text()
    arguments = [view, image_of(np.zeros(1024, np.uint8)), np.zeros(5, np.int32), np.int32(1024)]
    shape = {"block": (64, 1, 1), "shared_bytes": 1024, "arguments": arguments}
    run(parse(source), "store_box", grid=(1, 1, 1), **shape)
    with pytest.raises(SimulationFault, match="which nothing orders"):
        run(parse(source), "store_box", grid=(2, 1, 1), **shape)


def test_counters_of_a_box():
    data = np.zeros((20, 64), np.uint16)
    view = TensorMap(Pointer(data), "uint16", (64, 20), (128,), (64, 16), 128)
    out, place = np.zeros(4096, np.uint8), np.array([0, 10, 0, 0, 0], np.int32)
    numbers = [np.int32(v) for v in (0, 2048, 4096)]
    report = launch("load_box", view, written(out), place, *numbers)
    counters = report.counters
    assert counters.opcodes["cp.async.bulk.tensor"] == 1
    # Ten rows of 128 bytes are inside.
    assert counters.global_sectors["cp.async.bulk.tensor"] == 40
    assert counters.global_requests["cp.async.bulk.tensor"] == 1
    assert counters.shared_wavefronts["cp.async.bulk"] == (16, 16)
