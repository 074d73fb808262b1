"""Graphs of launches for calls whose arrays lie where those of an earlier call lay.

Decides when a graph is worth its making, which takes as long as some ten calls: torch's allocator
gives calls that repeat the same few places again, and any others new ones for ever.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

KEPT: Final = 4
"""Graphs at a time, since each takes some memory of the driver."""

MADE: Final = 16
"""Graphs in all, so that many places in turn do not make graphs for ever."""

NOTED: Final = 16
"""Places that were seen once."""

Graph = TypeVar("Graph", bound=Callable[..., Any])
Places = tuple[int, ...]


class Recurring(Generic[Graph]):
    """Graphs by the places of all arrays. Not for several threads at once."""

    __slots__ = ("_graphs", "_made", "_noted")

    def __init__(self) -> None:
        self._graphs: dict[Places, Graph] = {}
        self._noted: dict[Places, None] = {}
        self._made = 0

    def __getitem__(self, places: Places) -> Graph | None:
        """The graph for these places, if there is one."""
        return self._graphs.get(places)

    def note(self, places: Places, make: Callable[[], Graph | None]) -> None:
        """Remember places without a graph; the second time, `make` it one, if it can be made."""
        if self._made >= MADE:
            return
        if places not in self._noted:
            self._noted[places] = None
            _bound(self._noted, NOTED)
        elif (graph := make()) is not None:
            del self._noted[places]
            self._graphs[places] = graph
            self._made += 1
            _bound(self._graphs, KEPT)


def _bound(kept: dict[Places, Any], most: int) -> None:
    """Drop the oldest where there are more."""
    if len(kept) > most:
        del kept[next(iter(kept))]
