"""The PostgreSQL that the tests use: at its usual local address, or at TEST_POSTGRESQL_URL."""

import os
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import asyncpg
import pytest

from smart_router.stores.postgresql_place import Place

__all__ = ["SERVER", "Sql", "connect", "fresh_place", "port_of", "through"]

SERVER = os.environ.get("TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/test")

Sql = Callable[..., Awaitable[list[tuple[object, ...]]]]
"""Runs a statement beside the store, in its schema."""


async def connect() -> asyncpg.Connection:
    """Skips the test, with the reason, when no server answers."""
    try:
        return await asyncpg.connect(SERVER, timeout=5)
    except (OSError, asyncpg.PostgresError) as error:
        pytest.skip(f"no PostgreSQL at {urlsplit(SERVER).hostname} (TEST_POSTGRESQL_URL): {error}")


def fresh_place() -> Place:
    """A schema that nobody uses."""
    return Place(f"{SERVER.partition('://')[2]}?schema=test_{uuid.uuid4().hex}")


def port_of(place: Place) -> tuple[str, int]:
    parts = urlsplit(place.dsn)
    return parts.hostname or "127.0.0.1", parts.port or 5432


def through(place: Place, port: int) -> Place:
    """The same place by way of a proxy's port on 127.0.0.1."""
    parts = urlsplit(place.dsn)
    login, at, _ = parts.netloc.rpartition("@")
    return Place(f"{login}{at}127.0.0.1:{port}{parts.path}?schema={place.schema}")
