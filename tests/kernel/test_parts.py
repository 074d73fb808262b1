"""Which launches share parts and tickets; the memory itself needs a GPU."""

import pytest

from samoyeds_gen.kernel import parts
from samoyeds_gen.kernel.parts import PartStorage


class Set:
    """Room without memory."""

    made = 0

    def __init__(self, floats, tickets, device):
        Set.made += 1
        self.floats, self.tickets, self.device = floats, tickets, device

    def fits(self, floats, tickets):
        return floats <= self.floats and tickets <= self.tickets

    @property
    def values(self):
        return self


@pytest.fixture
def storage(monkeypatch):
    Set.made = 0
    captured = set()
    monkeypatch.setattr(parts, "PartSet", Set)
    monkeypatch.setattr(parts, "capturing", lambda stream, device: stream in captured)
    made = PartStorage(0)
    made.captured = captured
    return made


def test_one_stream_has_one_set(storage):
    first = storage.values(100, 4, 7)
    assert storage.values(50, 2, 7) is first
    assert storage.values(100, 4, 7) is first
    assert Set.made == 2, "the stream's own and a spare one"


def test_streams_share_nothing(storage):
    sets = [storage.values(100, 4, stream) for stream in (0, 7, 8)]
    assert len({id(each) for each in sets}) == 3


@pytest.mark.parametrize(("floats", "tickets"), [(101, 4), (100, 5)])
def test_a_set_that_is_outgrown_stays_for_graphs(storage, floats, tickets):
    first = storage.values(100, 4, 7)
    larger = storage.values(floats, tickets, 7)
    assert larger.fits(floats, tickets)
    assert larger is not first
    assert first in storage._outgrown


def test_a_captured_stream_takes_the_spare_and_nothing_is_allocated(storage):
    storage.values(100, 4, 0)
    before = Set.made
    storage.captured.add(9)
    spare = storage.values(100, 4, 9)
    assert Set.made == before
    assert storage.values(80, 3, 9) is spare
    storage.captured.clear()
    storage.values(100, 4, 10)
    assert Set.made == before + 2, "another stream's own, and the next spare"


def test_a_spare_that_is_too_small_is_not_taken(storage):
    storage.values(100, 4, 0)
    assert storage.values(1000, 4, 1).fits(1000, 4)
