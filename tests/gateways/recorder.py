"""An application that records what its gateway calls and does as the test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from smart_router.gateways.base import Socket
from smart_router.protocols.socketio import ConnectData

__all__ = ["Recorder", "Recording"]


class Recording:
    """One socket's handler. `on_event` runs in the callback; `delivered` is what it answers to `mark`."""

    def __init__(self, recorder: Recorder, socket: Socket) -> None:
        self.socket = socket
        self.delivered = 0
        self.calls: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()
        self._recorder = recorder

    def deliver(self, count: int = 1) -> None:
        for _ in range(count):
            self.delivered += 1
            self.socket.deliver("talk", b"%d" % self.delivered, (), None, None)

    def opened(self) -> None:
        self._recorder.on_opened(self)

    def event(self, name: str, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...], ack_id: int | None) -> None:
        self.calls.put_nowait(("event", name, [bytes(arg) for arg in args], attachments, ack_id))
        self._recorder.on_event(self)

    def message(self, name: str, raw: bytes, ack_id: int | None) -> bool:
        return False

    def acknowledgement(self, ack_id: int, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...]) -> None:
        self.calls.put_nowait(("acknowledgement", ack_id, [bytes(arg) for arg in args], attachments))

    def heartbeat(self) -> None:
        return

    def mark(self) -> int:
        return self.delivered

    def confirm(self, mark: int) -> None:
        self.calls.put_nowait(("confirm", mark))
        if mark == self.delivered:
            self.delivered = 0

    def writable(self, ok: bool) -> None:
        self.calls.put_nowait(("writable", ok))

    def closed(self, by_client: bool) -> None:
        self.calls.put_nowait(("closed", by_client))
        self._recorder.on_closed(self)


class Recorder:
    """gateways.base.Application."""

    def __init__(self) -> None:
        self.handlers: dict[str, Recording] = {}
        self.on_connect: Callable[[Socket, ConnectData], None] = lambda socket, auth: None
        self.on_opened: Callable[[Recording], None] = lambda handler: None
        self.on_event: Callable[[Recording], None] = lambda handler: None
        self.on_closed: Callable[[Recording], None] = lambda handler: None

    def prepare(self, socket: Socket, auth: ConnectData) -> None:
        return

    def connect(self, socket: Socket, auth: ConnectData) -> Recording:
        self.on_connect(socket, auth)
        handler = self.handlers[socket.namespace] = Recording(self, socket)
        return handler
