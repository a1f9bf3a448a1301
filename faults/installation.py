"""The servers under test with what stands around them.

clients ─► front ─► server ─► ways ─► places of the broker          one front and one set of ways per server
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from faults.amqp_frames import CutAt
from faults.brokers import Broker
from faults.proxy import Connection, Proxy
from faults.server import Server

__all__ = ["Installation", "Member", "open_installation"]


class Member:
    """A server, and the proxies on both of its sides."""

    def __init__(self, server: Server, front: Proxy, ways: list[Proxy], frames: CutAt) -> None:
        self.server = server
        self.front = front
        self.frames = frames
        """Of AMQP, on all its ways."""
        self._ways = ways
        self.lock = asyncio.Lock()
        """Held by who stops or starts the server."""

    def part(self) -> None:
        """The network between it and the broker is cut: nobody is told."""
        for way in self._ways:
            way.hold()

    def heal(self) -> None:
        for way in self._ways:
            way.heal()

    def reset(self) -> None:
        """Its connections to the broker end."""
        for connection in [connection for way in self._ways for connection in way.connections]:
            connection.reset()


class Installation:
    def __init__(self, members: list[Member], broker: Broker) -> None:
        self.members = members
        self.broker = broker
        self.broker_lock = asyncio.Lock()

    async def start(self) -> None:
        await asyncio.gather(*(member.server.start() for member in self.members))

    async def terminate(self) -> list[int]:
        """The exit statuses after SIGTERM."""
        return await asyncio.gather(*(member.server.terminate() for member in self.members))

    @property
    def ports(self) -> list[int]:
        """Where clients connect."""
        return [member.front.port for member in self.members]

    @property
    def connections(self) -> list[Connection]:
        """The clients'."""
        return [connection for member in self.members for connection in member.front.connections]

    @property
    def resident(self) -> int:
        """Bytes of memory of the largest server."""
        return max(member.server.resident for member in self.members)


@asynccontextmanager
async def open_installation(nodes: int, broker: Broker, config: Path, folder: Path) -> AsyncIterator[Installation]:
    """Not started yet; gone at the end."""
    async with AsyncExitStack() as stack:
        members = []
        for number in range(1, nodes + 1):
            frames = CutAt()
            watch = frames.watch if broker.url.startswith("amqp") else None
            ways = [await stack.enter_async_context(Proxy(place, watch)) for place in broker.places]
            url = broker.by_way_of([("127.0.0.1", way.port) for way in ways])
            own = folder / f"node-{number}" if nodes > 1 else folder
            own.mkdir(exist_ok=True)
            name = {"SMART_ROUTER_NODE": f"node-{number}"} if nodes > 1 else {}
            server = Server(own, config, {"SMART_ROUTER_BROKER": url, **name})
            stack.push_async_callback(server.close)
            front = await stack.enter_async_context(Proxy(("127.0.0.1", server.port)))
            members.append(Member(server, front, ways, frames))
        yield Installation(members, broker)
