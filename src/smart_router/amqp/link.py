"""One socket to the broker, from the handshake to its end: the cork, heartbeats, channel numbers.

channel.publish ─► write ─► (end of the loop turn) one transport.write        data_received ─► protocol ─► channels
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

import structlog

from smart_router.amqp.base import Counters
from smart_router.errors import StorageError
from smart_router.protocols import amqp_connection
from smart_router.protocols.amqp import Encoder, FrameError, encode_heartbeat
from smart_router.protocols.amqp_connection import Login, Phase, Tuning
from smart_router.protocols.amqp_decoder import Receiver

__all__ = ["BUFFER", "Line", "Link"]

BUFFER: Final = 1 << 20
"""Bytes that may wait, ours and the transport's each, before `writable` is False."""

_SILENT_TICKS: Final = 3
"""Half heartbeats without a byte from the broker, which sends one each half: it is gone."""

_log = structlog.get_logger("smart_router.amqp")


class Line(Receiver, Protocol):
    """A channel, as the link sees it."""

    def lost(self, reason: str, ours: bool) -> None:
        """The connection is gone; `ours`: because we closed it."""


class Link(asyncio.Protocol):
    """`opened` is done when channels can be opened; `lost` is called once, after the channels' `lost`.

    `writable`: publishing may go on; `on_writable` when it may again. `blocked`: the broker's alarm, or "".
    """

    def __init__(
        self,
        login: Login,
        wanted: Tuning,
        counters: Counters,
        on_lost: Callable[[Link], None],
        on_writable: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.protocol = amqp_connection.Protocol(login, wanted, self.write, self._note_blocked)
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.writable = False
        self.blocked = ""
        self.error: Exception | None = None
        self._name = login.name
        self._counters = counters
        self._on_lost = on_lost
        self._on_writable = on_writable
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._waiting = 0
        self._paused = False
        self._heard = True
        self._spoke = True
        self._silent = 0
        self._ours = False
        self._beat: asyncio.TimerHandle | None = None
        self._released: list[int] = []
        self._highest = 0

    # -- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BUFFER)
        self.protocol.begin()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._counters.bytes_read += len(data)
        self._receive(data)
        phase = self.protocol.phase
        if phase is Phase.CLOSED:
            self._finish()
        elif phase is Phase.OPEN and not self.opened.done():
            self.opened.set_result(None)
            self._begin_heartbeats()
            self._update()

    def _receive(self, data: bytes) -> None:
        """A receiver that raises costs its own message only."""
        while True:
            try:
                return self.protocol.receive(data)
            except FrameError as error:
                return self._break(error)
            except Exception as error:  # noqa: BLE001 (somebody else's code; logged with its trace)
                _log.error("amqp_callback_failed", connection=self._name, exc_info=error)
                data = b""

    def _break(self, error: FrameError) -> None:
        """The broker's fault: told to it, and over."""
        self.error = error
        self.protocol.close(error.reply_code, error.message)
        self._finish()

    def _finish(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, error: Exception) -> None:
        """At once, without a goodbye."""
        self.error = self.error or error
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc
        self.writable = False
        self._transport = None
        self._out.clear()
        self._waiting = 0
        if self._beat is not None:
            self._beat.cancel()
        lines = [cast(Line, line) for number, line in self.protocol.channels.items() if number]
        self.protocol.channels.clear()
        for line in lines:
            self._tell(line)
        for future in (self.opened, self.ended):
            if not future.done():
                future.set_result(None)
        self._on_lost(self)

    def _tell(self, line: Line) -> None:
        try:
            line.lost(self.reason(), self._ours)
        except Exception as error:  # noqa: BLE001 (somebody else's code; logged with its trace)
            _log.error("amqp_callback_failed", connection=self._name, exc_info=error)

    def reason(self) -> str:
        """Why it ended, in words."""
        ending = self.protocol.ending
        if ending is not None:
            return f"RabbitMQ ended the connection ({ending.code}): {printable(ending.text)}"
        return describe(self.error) if self.error is not None else "the connection was closed"

    # -- writing

    def write(self, data: bytes) -> None:
        """With all else that this loop turn has."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._waiting += len(data)
        if self._waiting >= BUFFER:
            self.writable = False

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._waiting = 0
        if not out or self._transport is None or self._transport.is_closing():
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        self._spoke = True
        self._counters.writes += 1
        self._counters.bytes_written += len(data)
        self._transport.write(data)
        if not self.writable:
            self._update()

    def pause_writing(self) -> None:
        self._paused = True
        self._update()

    def resume_writing(self) -> None:
        self._paused = False
        self._update()

    def _note_blocked(self, reason: str) -> None:
        self.blocked = printable(reason)
        if reason:
            _log.error("amqp_blocked", connection=self._name, reason=self.blocked)
        else:
            _log.warning("amqp_unblocked", connection=self._name)
        self._update()

    def _update(self) -> None:
        before = self.writable
        up = self.protocol.phase is Phase.OPEN and self._transport is not None
        self.writable = up and not self._paused and not self.blocked and self._waiting < BUFFER
        if self.writable and not before:
            self._on_writable()

    @property
    def bytes_waiting(self) -> int:
        return self._waiting + (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    async def say_goodbye(self, timeout: float) -> None:
        """What waits is written first. Returns when the socket is closed."""
        self._ours = True
        if self._transport is None:
            return
        try:
            self.protocol.close()
            self._flush()
            if self.protocol.phase is Phase.CLOSED:
                self._finish()
            async with asyncio.timeout(timeout):
                await asyncio.shield(self.ended)
        except TimeoutError:
            self.abort(TimeoutError())
        finally:
            if self._transport is not None:
                self._transport.abort()

    # -- heartbeats (AMQP 0-9-1, 4.2.7), counted in ticks: a process that was stopped a while misjudges nobody

    def _begin_heartbeats(self) -> None:
        if self.protocol.tuning.heartbeat:
            self._beat = self._loop.call_later(self.protocol.tuning.heartbeat / 2, self._tick)

    def _tick(self) -> None:
        self._silent = 0 if self._heard else self._silent + 1
        self._heard = False
        if self._silent >= _SILENT_TICKS:
            self.abort(TimeoutError("RabbitMQ is silent: no heartbeat"))
            return
        if not self._spoke and not self._paused and self._transport is not None:
            self._transport.write(encode_heartbeat())
        self._spoke = False
        self._begin_heartbeats()

    # -- channels

    def register(self, line: Line) -> Encoder:
        """Gives it a number. StorageError: there are as many as there may be."""
        if self._released:
            number = self._released.pop()
        elif self._highest < self.protocol.tuning.channel_max:
            self._highest += 1
            number = self._highest
        else:
            limit = self.protocol.tuning.channel_max
            raise StorageError(f"there are {limit} channels on this connection already: raise `channel_max`")
        self.protocol.channels[number] = line
        return Encoder(number, self.protocol.tuning.frame_max)

    def release(self, number: int) -> None:
        """Both sides have closed it."""
        if self.protocol.channels.pop(number, None) is not None:
            self.protocol.decoder.forget(number)
            self._released.append(number)


def printable(text: str) -> str:
    """What the broker says, fit for a log and an error text."""
    return "".join(character if character.isprintable() else "?" for character in text[:300])


def describe(error: Exception) -> str:
    """One line; never bytes of the connection."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)
