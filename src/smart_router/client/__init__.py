"""The Python SDK: an actor in a few lines, on the plain protocol (docs/plain-protocol.md), without server packages."""

from smart_router.client.client import Client, ClientStatistics, connect
from smart_router.client.errors import Closed
from smart_router.client.keeper import Token, World
from smart_router.client.message import Accepted, Binary, Message, Receipt, Reply
from smart_router.client.presence import Presence
from smart_router.client.settings import ClientSettings
from smart_router.errors import ProtocolError, Refused

__all__ = [
    "Accepted",
    "Binary",
    "Client",
    "ClientSettings",
    "ClientStatistics",
    "Closed",
    "Message",
    "Presence",
    "ProtocolError",
    "Receipt",
    "Refused",
    "Reply",
    "Token",
    "World",
    "connect",
]
