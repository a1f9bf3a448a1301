"""One small HTTP request to a router, for the commands that ask or tell it something."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any, NamedTuple
from urllib.parse import urlsplit

__all__ = ["Answer", "NoAnswer", "ask"]

MAX_ANSWER = 64 * 1024 * 1024


class Answer(NamedTuple):
    status: int
    value: Any  # decoded JSON, or None when it is none

    @property
    def error(self) -> str:
        """What the router says is wrong."""
        found = self.value.get("error", self.value) if isinstance(self.value, dict) else None
        text = found.get("message") if isinstance(found, dict) else None
        return text if isinstance(text, str) else http.client.responses.get(self.status, str(self.status))


class NoAnswer(Exception):
    """No router there, or none that answers; the text says where and why."""


def ask(method: str, url: str, path: str, *, token: str | None, timeout: float, body: object = None) -> Answer:
    """Raises NoAnswer; ValueError when the URL is none."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"`{url}` is no address of a router: write it as http://127.0.0.1:8080")
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection = (
        http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    )
    try:
        connection.request(
            method, parts.path.rstrip("/") + path, json.dumps(body) if body is not None else None, headers
        )
        response = connection.getresponse()
        raw = response.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"no router answers at {url}: {_reason(error)}") from error
    finally:
        connection.close()
    return Answer(response.status, _decoded(raw))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
