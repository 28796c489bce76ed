"""A cache of the results of slow functions."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class Kept:
    """The last few results of slow functions, by key; thread-safe.

    At most `most` results, and at most `most_bytes` in total if they have `nbytes`.
    """

    def __init__(self, most: int, most_bytes: float = float("inf")) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._items: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: Hashable) -> Any:
        """Return the result for `key`; None if there is none."""
        with self._lock:
            return self._items.get(key)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the result for `key`, computing it if necessary."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        made = make()
        with self._lock:
            self._items[key] = made
            while len(self._items) > self._most or self._n_bytes() > self._most_bytes:
                self._items.popitem(last=False)
        return made

    def _n_bytes(self) -> int:
        items = list(self._items.values())
        return sum(getattr(item, "nbytes", 0) for item in items) if len(items) > 1 else 0
