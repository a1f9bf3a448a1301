"""How many connections there are, in all and per client address, and how many of them have not said what they want."""

from __future__ import annotations

import ipaddress
from typing import Protocol

__all__ = ["HalfOpen", "Peer", "Peers"]


class HalfOpen(Protocol):
    """A connection whose first request head is not complete."""

    def too_many(self) -> None:
        """It is the oldest of too many: close it."""


class Peer:
    """One client address, while it has connections. `leave` exactly once for each `enter`."""

    __slots__ = ("_half_open", "_peers", "address", "connections", "exempt")

    def __init__(self, peers: Peers, address: str, exempt: bool) -> None:
        self._peers = peers
        self.address = address
        self.exempt = exempt
        self.connections = 0
        self._half_open: dict[HalfOpen, None] | None = None  # older than a second, oldest first

    def enter(self) -> bool:
        """Count one more connection; False: over the address's limit, then it is not counted."""
        limit = self._peers.per_address
        if limit and not self.exempt and self.connections >= limit:
            return False
        self.connections += 1
        return True

    def leave(self) -> None:
        self.connections -= 1
        if not self.connections:
            self._peers.forget(self)

    def still_half_open(self, connection: HalfOpen) -> None:
        """A second after it was accepted. Over the limit the oldest goes, so that a newcomer always finds a place."""
        if self._half_open is None:
            self._half_open = {}
        self._half_open[connection] = None
        limit = self._peers.half_open
        if limit and len(self._half_open) > limit:
            oldest = next(iter(self._half_open))
            del self._half_open[oldest]
            oldest.too_many()

    def no_longer_half_open(self, connection: HalfOpen) -> None:
        if self._half_open is not None:
            self._half_open.pop(connection, None)


class Peers:
    """All of them. Limits: 0 is none; `trusted` addresses (proxies) and loopback have none of their own."""

    __slots__ = ("_by_address", "_limit_loopback", "half_open", "per_address")

    def __init__(self, per_address: int, half_open: int, limit_loopback: bool = False) -> None:
        self.per_address = per_address
        self.half_open = half_open
        self._limit_loopback = limit_loopback
        self._by_address: dict[str, Peer] = {}

    def __len__(self) -> int:
        return len(self._by_address)

    def of(self, address: str, trusted: bool = False) -> Peer:
        peer = self._by_address.get(address)
        if peer is None:
            exempt = trusted or not address or (not self._limit_loopback and _is_loopback(address))
            peer = self._by_address[address] = Peer(self, address, exempt)
        return peer

    def forget(self, peer: Peer) -> None:
        if self._by_address.get(peer.address) is peer:
            del self._by_address[peer.address]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
