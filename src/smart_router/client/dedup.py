"""The receiver's side of "effectively once": which messages the application has had already."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

__all__ = ["Key", "Seen"]


class Key(NamedTuple):
    """Equal for repeats of one message: the sender's own `options.id` if there is one, else the router's id.

    `suffix`: what follows the id's dot, for one action's second publish of a type to the same address.
    """

    sender: str
    id: str
    type: str
    suffix: str

    @classmethod
    def of(cls, sender: str, options_id: str | None, type: str, id: str) -> Key:
        base, _, suffix = id.partition(".")
        # The space keeps the two kinds apart: a router's id never begins with one.
        return cls(sender, base if options_id is None else f" {options_id}", type, suffix)


class Seen:
    """The last `limit` keys; an older one is forgotten, and its repeat would be taken for new."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: OrderedDict[Key, None] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: Key) -> None:
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._limit:
            self._keys.popitem(last=False)

    def discard(self, key: Key) -> None:
        self._keys.pop(key, None)
