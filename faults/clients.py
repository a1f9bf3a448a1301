"""The clients: a sender numbers its messages and repeats what is not answered; a receiver writes down what comes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import msgspec

from faults.records import Acknowledged, Connected, Invoked, Received, Recorder, Refused, digest
from faults.wire import Gone, Link, Packet

__all__ = ["Client", "Receiver", "Sender"]

_MOST_UNANSWERED = 200
_BACKOFF = (0.05, 1.0)
_REFUSED_PAUSE = 0.5
_FILLING = "x" * 64
_PATIENCE = 20.0
_PATIENCE_AMONG_SEVERAL = 3.0
"""Seconds until a server that does not answer is given up: there are others."""


class Client:
    """An actor that comes back, whatever happens, until it is cancelled."""

    def __init__(self, actor: str, ports: list[int], record: Recorder, rng: random.Random) -> None:
        self.actor = actor
        self._ports = ports
        self._port = 0
        self._lost_at: float | None = None
        self.record = record
        self.rng = rng
        self.link: Link | None = None
        self.connections = 0
        self._present = asyncio.Event()
        """Cleared while it shall stay away."""
        self._present.set()

    async def run(self, delay: float = 0.0) -> None:
        await asyncio.sleep(delay)
        pause = _BACKOFF[0]
        while True:
            await self._present.wait()
            with contextlib.suppress(Gone):
                await self._session()
            if self.link:
                self.link.cut()
                self.link = None
                self._lost_at = self.record.now()
                pause = _BACKOFF[0]
            await asyncio.sleep(pause * self.rng.uniform(0.5, 1.0))
            pause = min(pause * 2, _BACKOFF[1])

    async def leave(self, seconds: float) -> None:
        """Stays away for so long."""
        self._present.clear()
        if self.link:
            self.link.cut()
        await asyncio.sleep(seconds)
        self._lost_at = None
        self._present.set()

    def auth(self) -> dict[str, Any]:
        """Half of the clients identify themselves in the CONNECT packet, the others when they are asked."""
        return {"actor": self.actor} if _number_of(self.actor) % 2 else {}

    async def greeted(self, link: Link, recovered: bool) -> None:
        self.link = link
        self.connections += 1
        now = self.record.now()
        self.record(Connected(now, self.actor, recovered, 0.0 if self._lost_at is None else now - self._lost_at))

    async def event(self, link: Link, packet: Packet) -> None:
        raise NotImplementedError

    def answer(self, packet: Packet) -> None:
        raise NotImplementedError

    async def _session(self) -> None:
        self._port = self.rng.choice([port for port in self._ports if port != self._port] or self._ports)
        patience = _PATIENCE if len(self._ports) == 1 else _PATIENCE_AMONG_SEVERAL
        link = await Link.open(self._port, "/" + self.actor.split("/", 1)[0], self.auth(), patience)
        try:
            async for packet in link.packets():
                await self._packet(link, packet)
        finally:
            link.cut()

    async def _packet(self, link: Link, packet: Packet) -> None:
        if packet.kind == "3":
            self.answer(packet)
        elif packet.kind == "2" and packet.data[0] == "whoareyou":
            await link.emit(msgspec.json.encode(["iam", self.actor]))
        elif packet.kind == "2" and packet.data[0] == "hello":
            await self.greeted(link, recovered=False)
        elif packet.kind == "2":
            await self.event(link, packet)
        else:
            raise Gone(f"the server ended it: {packet.kind}")


class Receiver(Client):
    """Writes down each delivery before it confirms it. With `recover`, it takes up its earlier session."""

    def __init__(self, actor: str, ports: list[int], record: Recorder, rng: random.Random, recover: bool) -> None:
        super().__init__(actor, ports, record, rng)
        self._recover = recover
        self._resume: dict[str, str] = {}
        self.received: set[tuple[str, int]] = set()

    def auth(self) -> dict[str, Any]:
        return {**super().auth(), **self._resume}

    async def greeted(self, link: Link, recovered: bool) -> None:
        recovered = link.pid is not None and self._resume.get("pid") == link.pid
        if self._recover and link.pid and not recovered:
            self._resume = {"pid": link.pid}
        await super().greeted(link, recovered)

    async def event(self, link: Link, packet: Packet) -> None:
        message = packet.data[1]
        payload = message["payload"]
        sender, n = payload["sender"], payload["n"]
        found = digest(sender, n, payload["text"])
        self.record(
            Received(
                self.record.now(),
                self.actor,
                message["id"],
                message["from"],
                sender,
                n,
                found,
                message.get("redelivered", False),
                self.connections,
            )
        )
        self.received.add((sender, n))
        if packet.number is not None:
            await link.acknowledge(packet.number, b"[{}]")
        elif self._recover and len(packet.data) > 2:
            self._resume["offset"] = packet.data[2]


class Sender(Client):
    """Makes messages at its rate; after a cut it repeats in order what was not answered, by the same `options.id`."""

    def __init__(
        self, actor: str, ports: list[int], record: Recorder, rng: random.Random, to: list[str], rate: float
    ) -> None:
        super().__init__(actor, ports, record, rng)
        self._to = to
        self._pause = 1 / rate
        self._unanswered: dict[int, bytes] = {}
        self._repeats: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.ended = False
        self.retry = 0.0
        """The part of the answered messages that are sent once more all the same."""

    @property
    def unanswered(self) -> int:
        return len(self._unanswered)

    async def make(self) -> None:
        """Messages, and none once it is `ended`. While too many are unanswered it waits: its memory has a bound."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self.rng.uniform(0, self._pause)
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            if self.ended:
                return
            due = max(due + self._pause, loop.time() - 1.0)
            if self.link and len(self._unanswered) < _MOST_UNANSWERED:
                await self._send_next(self.link)

    async def greeted(self, link: Link, recovered: bool) -> None:
        for n, frame in list(self._unanswered.items()):
            await link.emit(frame, n)
        await super().greeted(link, recovered)

    async def event(self, link: Link, packet: Packet) -> None:
        """An `error` concerns no one message: who asks for an answer gets it there."""

    def answer(self, packet: Packet) -> None:
        n, value = packet.number, packet.data[0]
        assert n is not None
        if "error" not in value:
            self.record(Acknowledged(self.record.now(), self.actor, n, value["id"]))
            frame = self._unanswered.pop(n, None)
            if frame and self.rng.random() < self.retry:
                self._again(n, frame, 0.0)
            return
        error = value["error"]
        self.record(Refused(self.record.now(), self.actor, n, error["code"], error["temporary"]))
        frame = self._unanswered.get(n)  # None: it was answered, and sent once more
        if not error["temporary"]:
            self._unanswered.pop(n, None)
        elif frame is not None:
            self._again(n, frame, _REFUSED_PAUSE)

    async def _send_next(self, link: Link) -> None:
        n, self.sent = self.sent, self.sent + 1
        to = self.rng.choice(self._to)
        text = f"{self.rng.getrandbits(64):x}{_FILLING}"
        message = {
            "ids": {"to": to},
            "payload": {"sender": self.actor, "n": n, "text": text},
            "options": {"id": f"{self.actor}-{n}"},
        }
        self._unanswered[n] = msgspec.json.encode(["work", message])
        self.record(Invoked(self.record.now(), self.actor, n, to, digest(self.actor, n, text)))
        with contextlib.suppress(Gone):  # its reader will see it, and repeat
            await link.emit(self._unanswered[n], n)

    def _again(self, n: int, frame: bytes, pause: float) -> None:
        link = self.link

        async def send() -> None:
            await asyncio.sleep(pause)
            if link and link is self.link:
                with contextlib.suppress(Gone):
                    await link.emit(frame, n)

        task = asyncio.get_running_loop().create_task(send())
        self._repeats.add(task)
        task.add_done_callback(self._repeats.discard)


def _number_of(text: str) -> int:
    """A number that is the same in every run."""
    return sum(text.encode())
