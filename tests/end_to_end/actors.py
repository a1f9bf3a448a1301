"""Actors on the real Socket.IO client from npm, driven from a test: many in one Node process."""

import base64
import itertools
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from tests.processes import LineProcess

__all__ = ["POLLING", "UPGRADE", "WEBSOCKET", "Actor", "Actors", "bytes_of"]

WEBSOCKET = ["websocket"]
POLLING = ["polling"]
UPGRADE = ["polling", "websocket"]

Event = dict[str, Any]


def bytes_of(value: Any) -> Any:
    """What the Node program writes for a Buffer, and what it reads as one."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    return base64.b64decode(value["$bytes"])


class Actors:
    """The Node process. Events of all its actors come on one line stream; here each actor has its own queue."""

    def __init__(self, process: LineProcess) -> None:
        self._process = process
        self._events: defaultdict[str, deque[Event]] = defaultdict(deque)
        self._numbers = itertools.count()

    def connect(
        self,
        url: str,
        actor: str,
        *,
        transports: list[str] = WEBSOCKET,
        identify: bool = True,
        auth: dict[str, Any] | None = None,
        namespace: str | None = None,
        retries: int | None = None,
    ) -> "Actor":
        """An actor that has been greeted; not `identify`: one whose connection was just asked for.

        With `retries` the client repeats, one at a time, what was not answered within a second.
        """
        name = f"{actor}#{next(self._numbers)}"
        place = namespace if namespace is not None else "/" + actor.rsplit("/", 1)[0]
        options: dict[str, Any] = {"transports": transports}
        if retries is not None:
            options |= {"retries": retries, "ackTimeout": 1000}
        self.tell("connect", name, url, place, options, auth or {})
        client = Actor(self, name, actor)
        if identify:
            client.identify()
        return client

    def tell(self, *command: object) -> None:
        self._process.write_json(command)

    def number(self) -> int:
        return next(self._numbers)

    def take(self, name: str, wanted: Callable[[Event], bool], timeout: float) -> Event:
        """The first event of `name` that is wanted; the others stay, in order."""
        waiting = self._events[name]
        for event in waiting:
            if wanted(event):
                waiting.remove(event)
                return event
        while True:
            newest: Event = self._process.read_json(timeout)
            if newest["actor"] == name and wanted(newest):
                return newest
            self._events[newest["actor"]].append(newest)


class Actor:
    def __init__(self, host: Actors, name: str, actor: str) -> None:
        self._host = host
        self._name = name
        self.id = actor

    def expect(self, event: str, timeout: float = 10, **values: object) -> Event:
        """The next event of this kind with these values; AssertionError when none comes."""
        return self._host.take(
            self._name, lambda e: e["event"] == event and all(e.get(k) == v for k, v in values.items()), timeout
        )

    def receive(self, kind: str, timeout: float = 10) -> Any:
        """The first argument of the next event of this type."""
        return self.expect("event", timeout, type=kind)["args"][0]

    def identify(self) -> None:
        self.receive("whoareyou")
        self.emit("iam", self.id)
        assert self.receive("hello") == {}

    def emit(self, kind: str, *args: object) -> None:
        self._host.tell("emit", self._name, kind, *args)

    def ask(self, kind: str, *args: object) -> int:
        """Emits with an acknowledgement; `answer(number)` waits for it."""
        number = self._host.number()
        self._host.tell("ask", self._name, number, kind, *args)
        return number

    def answer(self, number: int, timeout: float = 10) -> Any:
        return self.expect("answer", timeout, number=number)["args"][0]

    def request(self, kind: str, *args: object) -> Any:
        return self.answer(self.ask(kind, *args))

    def do(self, command: str, *args: object) -> None:
        """`answer`, `auth`, `cut`, `upgraded` of tests/clients/actors."""
        self._host.tell(command, self._name, *args)

    def close(self) -> None:
        self._host.tell("close", self._name)
