"""What operators do with mailboxes of the embedded broker: look, purge, move, delete."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence

from smart_router.brokers.base import End, Entry, MailboxPolicy, PutDone, PutResult
from smart_router.brokers.journal import Journal
from smart_router.brokers.lane import Stub
from smart_router.brokers.mailbox import Mailbox
from smart_router.brokers.pages import Pages
from smart_router.brokers.slot import slot_of
from smart_router.brokers.waiting import PAGE, Waiting

__all__ = ["Operations"]


class Operations(ABC):
    """The half of the broker that no message passes through. See brokers/base.py for what each method promises."""

    _boxes: dict[str, Mailbox]
    _pages: Pages
    _journal: Journal | None

    @abstractmethod
    def put(
        self,
        entries: Sequence[Entry],
        done: PutDone | None = None,
        dedup: tuple[str, str, bytes] | None = None,
    ) -> None: ...

    @abstractmethod
    def ack(self, entries: Sequence[Entry]) -> None: ...

    @abstractmethod
    def vanish(self, box: Waiting) -> None:
        """The mailbox is gone."""

    async def peek(self, address: str, limit: int = 100, after: str = "") -> list[Entry]:
        box = self._boxes.get(address)
        found: list[Entry] = []
        if box is None:
            return found
        async for entry in self._waiting(box):
            if after:
                after = "" if entry.message.id == after else after
                continue
            found.append(_copy(entry))
            if len(found) >= limit:
                break
        return found

    async def _waiting(self, box: Mailbox) -> AsyncIterator[Entry]:
        """All that waited when it began and can still be read, oldest first."""
        items = sorted(box.all_waiting(), key=lambda item: item.seq if isinstance(item, Stub) else slot_of(item).seq)
        for start in range(0, len(items), PAGE):
            page = items[start : start + PAGE]
            cold = [item for item in page if isinstance(item, Stub)]
            rows = await self._pages.fetch(box, cold) if cold and self._journal is not None else {}
            for item in page:
                entry = rows.get(item.seq) if isinstance(item, Stub) else item
                if entry is not None:
                    yield entry

    async def purge(self, address: str) -> int:
        box = self._boxes.get(address)
        if box is None:
            return 0
        ended = box.end_all(End.DROPPED, "purged")
        if self._journal is not None:
            await self._pages.settled()
        box.settle()
        return ended

    async def requeue(self, address: str, message_id: str, to: str, policy: MailboxPolicy) -> bool:
        box = self._boxes.get(address)
        if box is None:
            return False
        async for entry in self._waiting(box):
            if entry.message.id == message_id:
                break
        else:
            return False
        if not box.take_out(entry):
            return False
        safe: asyncio.Future[PutResult] = asyncio.get_running_loop().create_future()
        self.put([Entry(entry.message, to, policy)], safe.set_result)
        result = await safe
        if result.refused:
            box.put_back(entry)
            raise result.refused[to]
        self.ack([entry])
        return True

    async def delete(self, address: str) -> bool:
        box = self._boxes.get(address)
        if box is None:
            return False
        self.vanish(box)
        for sub in box.subs:
            sub.close()
        box.end_all(End.DROPPED, "purged")
        if self._journal is not None:
            await self._pages.settled()
        return True


def _copy(entry: Entry) -> Entry:
    """What peek shows: the same message, but no handle."""
    copy = Entry(entry.message, entry.address, entry.policy)
    copy.redelivered, copy.attempts, copy.deliveries = entry.redelivered, entry.attempts, entry.deliveries
    return copy
