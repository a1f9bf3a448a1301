"""Logs: how they are written, and every event and metric name there is.

    structlog ─┐
               ├─► level ► secrets out ► values escaped, cut ► one line on stderr (JSON, or for people)
    logging  ──┘   (uvicorn, asyncio)

A line never holds a message body or a credential, more than 256 characters a value, or a control character:
what a sender wrote cannot look like a line of ours.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final, Protocol, TextIO

import msgspec
import structlog

from smart_router.metrics import METRICS, Metric

__all__ = ["ACCESS_LOG", "LOG_EVENTS", "METRICS", "Metric", "configure_logging", "safe"]

ACCESS_LOG: Final = "smart_router.access_log"
"""The logger of `http_request`, `connected` and `disconnected`; silent unless `[log] access`."""

MAX_VALUE: Final = 256
"""Characters of one value."""

HIDDEN: Final = "[hidden]"

_SECRET_WORDS: Final = frozenset(
    ["authorization", "body", "cookie", "credential", "credentials", "jwt", "password", "payload", "secret", "token"]
)
_SECRET_TEXT: Final = re.compile(
    r"eyJ[\w-]{4,}(?:\.[\w-]*)*"  # a JWT, or what a cut left of it
    r"|(?<=[Bb]earer )\S+"
    r"|(?<=token=)[^&\s]+|(?<=password=)[^&\s]+|(?<=secret=)[^&\s]+"
)

EventDict = MutableMapping[str, Any]


class LogOptions(Protocol):
    """What this module reads of config's LogSettings."""

    @property
    def format(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def access(self) -> bool: ...


LOG_EVENTS: Final[dict[str, str]] = {
    "access_rule_failed": "an endpoint's access rule could not be evaluated: refused",
    "amqp_away": "a connection to RabbitMQ is gone: told once per outage",
    "amqp_back": "a connection to RabbitMQ stands again",
    "amqp_blocked": "RabbitMQ takes no messages because of an alarm of its own",
    "amqp_callback_failed": "what takes a message or an event from RabbitMQ raised",
    "amqp_unblocked": "RabbitMQ takes messages again",
    "bot_refused": "the demo's bot was refused an answer",
    "bot_stopped": "the demo's bot cannot connect, or not come back",
    "bus_listener_failed": "what listens to the other nodes raised on a publication; it goes on",
    "configuration_differs": "another node has other endpoints or routes than this one",
    "connected": "access log: a WebSocket was opened",
    "dead_letters_damaged": "dead letters in the store that cannot be read",
    "dead_letters_not_stored": "at the stop, dead letters were still waiting for the store",
    "dead_letters_not_trimmed": "the store could not drop its oldest dead letters",
    "dead_letters_purged": "somebody forgot dead letters, over HTTP",
    "dead_letters_replayed": "somebody put dead letters into their mailboxes again, over HTTP",
    "dead_letters_wait_for_store": "the store takes no dead letters: they are kept in memory and tried again",
    "directory_listener_failed": "what is told of other nodes and their sessions raised; it goes on",
    "directory_not_written": "Redis did not take all of this node after an outage; tried again with the next report",
    "disconnected": "access log: a WebSocket has ended; `code`: of the first close frame, 1006: there was none",
    "draining": "the node lets nobody new in and sends its clients away",
    "engineio_failed": "a client broke Engine.IO or Socket.IO: its connection ended",
    "engineio_handler_error": "what serves an Engine.IO connection raised: that connection ended",
    "event_handler_failed": "a handler of `app.on` raised",
    "http_application_error": "what serves an HTTP path raised; the request got 500",
    "http_handler_failed": "the HTTP API failed on a request; it got 500",
    "http_refused": "a request or a handshake was refused: malformed, too large, too late, foreign, or over a limit",
    "http_request": "access log: an HTTP request was answered",
    "journal_damaged": "the journal was damaged: put aside, and what could be read was kept",
    "journal_failed": "the journal's medium failed: the node ends",
    "journal_recovered": "the journal takes messages again",
    "journal_trouble": "the journal takes no messages: told once per outage",
    "jwks_unavailable": "the public keys could not be fetched; those known so far are used",
    "mailbox_deleted": "somebody removed a mailbox, over HTTP",
    "mailbox_not_read": "RabbitMQ refused to let a mailbox be read after an outage",
    "mailbox_purged": "somebody ended all that waited in a mailbox, over HTTP",
    "message_requeued": "somebody moved a waiting message, over HTTP",
    "node_found": "another node of the installation is there",
    "node_gone": "another node has left, or its lease has ended",
    "not_caught_up": "after an outage of the bus, what was missed could not be asked for",
    "not_remembered_from_another_node": "a revocation or sub-endpoint of another node is in force, but not stored",
    "question_failed": "answering another node's question raised",
    "rabbitmq_failed": "what was done in RabbitMQ beside messages failed: a consumer, a lane, a mailbox that should go",
    "redis_away": "a connection to Redis ended or cannot be made: told once per outage",
    "redis_back": "Redis answers again",
    "redis_full": "Redis takes no messages (maxmemory, or its disk): told once per outage",
    "redis_has_room": "Redis takes messages again",
    "redis_setup": "what Redis keeps when it ends is less than `durable` says, or its clock is another",
    "redis_refused": "Redis refused a call in a way that sending it again does not cure: told once",
    "question_unanswered": "another node did not answer in time",
    "node_failed": "the node cannot go on; it ends with status 1",
    "node_ready": "the node listens",
    "node_stopped": "the node has stopped",
    "own_mailbox_not_read": "a session could not begin to read its actor's own mailbox; the next one will",
    "presence_not_told": "a watcher's mailbox did not take a change of presence",
    "proxy_header_bad": "a connection began with a bad PROXY header, or with none: ended",
    "receipt_lost": "a sender's mailbox did not take its receipt",
    "receipts_not_told": "at the stop, receipts were still waiting for the broker",
    "revocation_added": "somebody revoked a subject or a token, over HTTP",
    "revocation_listener_failed": "a live session could not be told of a revocation",
    "revocations_not_trimmed": "the store could not drop expired revocations",
    "route_raised": "a route raised; its message is a dead letter",
    "routes_cut": "at the stop, routes were still running",
    "session_cut": "somebody cut a session, over HTTP",
    "session_not_registered_again": "an expired session could not register again; its next heartbeat tries",
    "store_away": "the store's server cannot be used: told once per outage",
    "store_back": "the store's server can be used again",
    "store_put_aside": "the store was damaged: put aside, and what could be read was kept",
    "tls_failed": "a TLS handshake failed",
    "watches_not_remembered": "what another node said of who watches whom is in force, but not stored",
    "websocket_decision_error": "the decision on a WebSocket handshake raised; it got 500",
    "websocket_failed": "a client broke the WebSocket protocol or a limit: its connection ended",
    "websocket_handler_error": "what serves a WebSocket raised: that connection ended",
    "websocket_write_error": "a write to a WebSocket raised: that connection ended",
}
"""Every event that is logged: its name and when."""


def safe(value: object, depth: int = 0) -> Any:
    """The value as a log may show it: escaped, cut, bytes as their number."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _safe_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if depth < 3 and isinstance(value, Mapping):
        items = list(value.items())[:20]
        return {_safe_text(str(key)): _safe_pair(str(key), item, depth + 1) for key, item in items}
    if depth < 3 and isinstance(value, list | tuple | set | frozenset):
        return [safe(item, depth + 1) for item in list(value)[:20]]
    return _safe_text(str(value))


def _safe_text(text: str) -> str:
    cut = text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"
    cut = _SECRET_TEXT.sub(HIDDEN, cut)
    if cut.isprintable():
        return cut
    escaped = "".join(letter if letter.isprintable() else _escape(letter) for letter in cut)
    return escaped if len(escaped) <= MAX_VALUE else escaped[: MAX_VALUE - 1] + "…"


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _safe_pair(key: str, value: object, depth: int = 0) -> Any:
    if not isinstance(value, int | float) and not _SECRET_WORDS.isdisjoint(key.lower().replace("-", "_").split("_")):
        return None if value is None else HIDDEN
    return safe(value, depth)


def _make_safe(_logger: object, _method: str, event: EventDict) -> EventDict:
    """structlog processor: every value of the line."""
    for key, value in event.items():
        # `_record` and `_from_structlog` belong to the formatter; the frames are ours and already bounded.
        if not key.startswith("_") and key != "frames":
            event[key] = _safe_pair(key, value)
    return event


class _Exceptions:
    """structlog processor: an exception as type and frames. Its text may quote a message: shown with `texts` only."""

    def __init__(self, *, texts: bool) -> None:
        self._texts = texts

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        given = event.pop("exc_info", None)
        error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else None
        if error is None and given is True:
            error = sys.exc_info()[1]
        if error is not None:
            event["exception"] = f"{type(error).__name__}: {error}" if self._texts else type(error).__name__
            event["frames"] = _frames(error.__traceback__)
        return event


def _frames(trace: TracebackType | None) -> list[str]:
    found = traceback.extract_tb(trace)[-12:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in found]


def _render_json(_logger: object, _method: str, event: EventDict) -> str:
    head = {key: event.pop(key) for key in ("at", "level", "event") if key in event}
    return msgspec.json.encode({**head, **event}).decode()


def configure_logging(settings: LogOptions, stream: TextIO | None = None) -> None:
    """For the whole process, once, before anything is logged; on stderr unless `stream` is given."""
    stream = stream if stream is not None else sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _Exceptions(texts=settings.level == "debug"),
        _make_safe,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    renderer: Any = _render_json
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="at", sort_keys=False)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    _route_logging(handler, level, access=settings.access)


def _route_logging(handler: logging.Handler, level: int, *, access: bool) -> None:
    # A log that cannot be written must neither stop the router nor print a trace.
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    # Their request lines hold query strings; ours come as the event `http_request`.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger(ACCESS_LOG).disabled = not access
