"""Files for browsers: read once at the start, then found by their exact path and by nothing else.

A request names a key of a table, never a path of the file system: `..`, `%2e` and links lead nowhere (CVE-2024-23334).
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from litestar import HttpMethod, Request, Response, route
from litestar.handlers import HTTPRouteHandler

from smart_router.errors import ConfigError, Refused

__all__ = ["PAGE_POLICY", "File", "file_routes", "read_folder"]

MAX_FILES: Final = 1_000
MAX_BYTES: Final = 32 * 1024 * 1024
"""All files of a folder together: they are kept in memory."""

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""Scripts and styles from files of ours only, nothing inline; connections to where the page came from (`'self'` covers
its WebSocket: CSP 3, 6.7.2.8); nobody may frame it; text that becomes markup is refused by the browser itself."""

_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".woff2": "font/woff2",
}
_METHODS: Final = [
    HttpMethod.GET, HttpMethod.HEAD, HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE,
    HttpMethod.OPTIONS,
]  # fmt: skip


class File(NamedTuple):
    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, path: str, content: bytes) -> File:
        suffix = os.path.splitext(path)[1].lower()
        media_type = _TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
        return cls(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file in it, by its path with `/`. Links, hidden files and what is no plain file are left out.

    ConfigError: there is no such folder, it cannot be read, or it holds more than is kept in memory.
    """
    if not folder.is_dir():
        raise ConfigError([f"server.static: there is no folder {str(folder)!r}"])
    files: dict[str, bytes] = {}
    size = 0
    try:
        for path in _plain_files(folder):
            files[path.relative_to(folder).as_posix()] = content = path.read_bytes()
            size += len(content)
            if len(files) > MAX_FILES or size > MAX_BYTES:
                limit = f"{MAX_FILES} files and {MAX_BYTES // 1024**2} MiB"
                raise ConfigError([f"server.static: {str(folder)!r} holds more than {limit}"])
    except OSError as error:
        raise ConfigError([f"server.static: {error.filename}: {error.strerror}"]) from error
    return files


def _plain_files(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _plain_files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def file_routes(contents: Mapping[str, bytes]) -> list[HTTPRouteHandler]:
    """Every path that no other route has: the file of that name, `index.html` for a folder, else 404."""
    files = {path: File.of(path, content) for path, content in contents.items()}

    @route(["/", "/{path:path}"], http_method=_METHODS, status_code=200, include_in_schema=False)
    async def file(request: Request[Any, Any, Any]) -> Response[bytes]:
        path = request.scope["path"].removeprefix("/")
        found = files.get(path + "index.html" if path == "" or path.endswith("/") else path)
        if found is None:
            raise Refused("not_found", "There is nothing at this path.")
        if request.method not in ("GET", "HEAD"):
            raise Refused("method_not_allowed", "A file can be read only: GET and HEAD.")
        return _answer(found, request.headers.get("if-none-match"))

    return [file]


def _answer(file: File, known: str | None) -> Response[bytes]:
    headers = {
        "content-security-policy": PAGE_POLICY,
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-cache",
        "etag": file.etag,
    }
    if known == file.etag:
        return Response(b"", status_code=304, headers=headers, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)
