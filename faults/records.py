"""What is written down while a workload runs: JSON lines, one file per process, times on the monotonic clock.

That clock is one for all processes of a machine, so records of several files can be put in order.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import msgspec

__all__ = [
    "Acknowledged",
    "Connected",
    "Fault",
    "Invoked",
    "Ready",
    "Received",
    "Record",
    "Recorder",
    "Refused",
    "digest",
    "read_records",
]


class Invoked(msgspec.Struct, tag="invoked", tag_field="event"):
    """A sender has made its message `n`; what it does to get it through follows."""

    t: float
    sender: str
    n: int
    to: str
    hash: str


class Acknowledged(msgspec.Struct, tag="acknowledged", tag_field="event"):
    """The router has answered it: safe. Once per answer; a repeat may be answered too."""

    t: float
    sender: str
    n: int
    id: str


class Refused(msgspec.Struct, tag="refused", tag_field="event"):
    """The router has answered with an error. A temporary one is tried again."""

    t: float
    sender: str
    n: int
    code: str
    temporary: bool


class Received(msgspec.Struct, tag="received", tag_field="event"):
    """A message has arrived; `hash` is that of what arrived, `connection` counts the receiver's connections."""

    t: float
    receiver: str
    id: str
    origin: str
    sender: str
    n: int
    hash: str
    redelivered: bool
    connection: int


class Connected(msgspec.Struct, tag="connected", tag_field="event"):
    """A client was greeted, `away` seconds after it lost its connection; 0 for its first one."""

    t: float
    client: str
    recovered: bool
    away: float = 0.0


class Ready(msgspec.Struct, tag="ready", tag_field="event"):
    """The server said that it is ready; `status`: how the one before it ended, negative for a signal."""

    t: float
    status: int | None


class Fault(msgspec.Struct, tag="fault", tag_field="event"):
    t: float
    name: str
    detail: str


Record = Invoked | Acknowledged | Refused | Received | Connected | Ready | Fault


class Recorder:
    """Appends records to one file; what was recorded is on its way to the file when the process ends in good order."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=1 << 16)
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, record: Record) -> None:
        self._file.write(self._encode(record) + b"\n")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    @staticmethod
    def now() -> float:
        return time.monotonic()


def read_records(folder: Path) -> list[Record]:
    """All records of all processes, in order of time."""
    return sorted(_records(folder), key=lambda record: record.t)


def digest(sender: str, n: int, text: str) -> str:
    return hashlib.blake2s(f"{sender} {n} {text}".encode(), digest_size=8).hexdigest()


def _records(folder: Path) -> Iterator[Record]:
    decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
    for path in sorted(folder.glob("*.jsonl")):
        yield from decoder.decode_lines(path.read_bytes())
