"""Where the buffers of a layer lie: on a GPU only data, with metadata and indices on the host."""

# ruff: noqa: E402

import copy
import gc
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch.utils import backend_registration

import samoyeds_gen as sg
from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats import stack_weights, take_rows
from samoyeds_gen.moe import SparseLinear, StoredWeight
from samoyeds_gen.moe.stored import weight_at

pytestmark = pytest.mark.torch

LAWS = Path(__file__).with_name("other_device_laws.py")


def encoded(seed, rows=32, k=64):
    dense = torch.randn(rows, k, generator=torch.Generator().manual_seed(seed))
    return sg.encode(dense, n=1, m=2, v=32)


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices written in Python",
)
def test_buffers_on_another_device():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", LAWS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert passed, done.stdout[-4000:]
    assert int(passed[1]) >= 27
    assert "skipped" not in done.stdout


def test_operators_find_the_weight_of_their_data():
    """Several modules, deep copies and reloaded ones; one that is gone is refused."""
    one, two = StoredWeight(encoded(0)), StoredWeight(encoded(1))
    twin, numbers = copy.deepcopy(one), one.numbers()
    buffer = io.BytesIO()
    torch.save(two, buffer)
    buffer.seek(0)
    back = torch.load(buffer, weights_only=False)
    for each in (one, two, twin, back):
        assert weight_at(each.data, numbers) is each.sparse()
    assert twin.sparse() is not one.sparse()
    assert back.sparse() == two.sparse()
    one.load_state_dict(two.state_dict())
    assert weight_at(one.data, numbers) is one.sparse()
    assert one.sparse() == two.sparse()
    old = one.data
    one.load_state_dict(StoredWeight(encoded(3)).state_dict(), assign=True)
    assert weight_at(one.data, numbers) is one.sparse()
    assert one.sparse() == encoded(3)
    one.data = encoded(4).data
    assert weight_at(one.data, numbers).data is one.data
    message = "data of a \\(1,2,32\\) weight 32x64 that no living layer holds"
    for lost in (old, twin.data.clone()):
        with pytest.raises(ModelError, match=message):
            weight_at(lost, numbers)
    kept = twin.data
    del twin, each
    gc.collect()
    with pytest.raises(ModelError, match=message):
        torch.ops.samoyeds_gen.linear(torch.ones(2, 64).bfloat16(), kept, numbers, None)


def test_the_first_rows_of_a_stack_are_another_weight():
    stack = StoredWeight(stack_weights([encoded(0), encoded(1)]))
    first = StoredWeight(take_rows(stack.sparse(), 0, 32))
    assert first.data.data_ptr() == stack.data.data_ptr()
    for each in (stack, first, stack):
        assert weight_at(each.data, each.numbers()) is each.sparse()


def test_one_compiled_layer_serves_all_of_a_shape():
    torch.compiler.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    for seed in range(12):
        linear = SparseLinear(encoded(seed))
        x = torch.ones(2, 64)
        compiled = torch.compile(linear, fullgraph=True, backend=backend)
        assert torch.equal(compiled(x), linear(x))
    assert len(graphs) <= 2
