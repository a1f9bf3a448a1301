"""Sub-endpoints made at run time, remembered: they are there after a restart, and on every node."""

from __future__ import annotations

from collections.abc import Callable

from smart_router.clock import Clock
from smart_router.core.endpoints import Endpoints
from smart_router.core.health import Health
from smart_router.errors import Refused, StorageError
from smart_router.stores.base import Store, SubEndpoint

__all__ = ["SubEndpoints"]


class SubEndpoints:
    """`spread` tells the other nodes of one that was made here."""

    def __init__(self, endpoints: Endpoints, store: Store, health: Health, clock: Clock) -> None:
        self._endpoints = endpoints
        self._store = store
        self._health = health
        self._clock = clock
        self._made: dict[tuple[str, str], SubEndpoint] = {}
        self.spread: Callable[[SubEndpoint], None] = lambda _sub: None

    async def open(self) -> None:
        """Brings back what was made before."""
        for sub in await self._store.sub_endpoints():
            self._know(sub)

    def known(self) -> list[SubEndpoint]:
        return list(self._made.values())

    def _know(self, sub: SubEndpoint) -> None:
        self._made[sub.endpoint, sub.id] = sub
        try:
            self._endpoints.register(sub.endpoint, sub.id)
        except Refused as error:
            self._health.warning(f"A sub-endpoint of another configuration is ignored: {error.message}")

    async def register(self, name: object, sub: object) -> bool:
        """True: new. Raises Refused, StorageError."""
        address, new = self._endpoints.register(name, sub)
        if not new:
            return False
        endpoint, _, own = address.partition("/")
        made = SubEndpoint(endpoint, own, self._clock.wall_ms())
        try:
            await self._store.add_sub_endpoint(made)
        except StorageError:
            self._endpoints.unregister(endpoint, own)
            raise
        self._made[endpoint, own] = made
        self.spread(made)
        return True

    async def learn(self, sub: SubEndpoint) -> None:
        """One that another node made. Raises StorageError: it is in force all the same."""
        if (sub.endpoint, sub.id) not in self._made:
            self._know(sub)
            await self._store.add_sub_endpoint(sub)
