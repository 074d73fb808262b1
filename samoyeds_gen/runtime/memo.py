"""What this process remembers of the runtime: builds and loaded kernels, the latest ones only.

The room's only mutable global state. What is worth remembering is build.py's and launch.py's.
"""

import threading
from collections import OrderedDict
from typing import Any, Final, Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """A mapping that keeps the `capacity` most recently used values; safe between threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._values: OrderedDict[Any, V] = OrderedDict()

    def get(self, key: object) -> V | None:
        """The value of `key`, which becomes the most recent one, or None."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: object, value: V) -> None:
        """Remember `value`, and forget the least recently used one when there are too many."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._capacity:
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget every value."""
        with self._lock:
            self._values.clear()

    def __len__(self) -> int:
        return len(self._values)


class Memo:
    """The memories of this room, by the keys that build.py and launch.py choose."""

    def __init__(self) -> None:
        self.builds: Final[Recent[Any]] = Recent(256)
        self.kernels: Final[Recent[Any]] = Recent(1024)


MEMO: Final = Memo()
