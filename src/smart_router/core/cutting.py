"""Sessions cut by an operator, on whichever node they are. Their clients may come back at once, as new sessions."""

from __future__ import annotations

from typing import Final

import msgspec

from smart_router.core.services import Core
from smart_router.core.sessions import Session

__all__ = ["Cut", "Cutting"]


class Cut(msgspec.Struct, frozen=True):
    """A session that has been cut, and where it was."""

    id: str
    actor: str
    node: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Cut).decode


class Cutting:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._installation = core.installation
        core.installation.asking.answer("cut", self._asked)

    async def cut(self, id_: str) -> list[Cut]:
        """Cuts it; empty: no node that answers has it. More than one: it was just moving from one to another."""
        here = self._cut_here(id_)
        nodes = self._installation.moving.nodes
        answers = await self._installation.asking.ask_all("cut", id_.encode("utf-8", "replace"), nodes)
        return [*([here] if here is not None else []), *map(_decode, answers)]

    def _cut_here(self, id_: str) -> Cut | None:
        session = next((one for one in self._core.sessions if one.id == id_), None)
        if session is None:
            return None
        self._end(session)
        return Cut(session.id, session.actor, self._installation.me.id)

    def _end(self, session: Session) -> None:
        session.recoverable = False
        session.link.cut()
        self._core.delivery.detach(session)

    async def _asked(self, node: str, data: bytes) -> bytes | None:
        cut = self._cut_here(data.decode())
        return _encode(cut) if cut is not None else None
