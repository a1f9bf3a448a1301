"""Endpoints, their sub-endpoints, and what an address stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from smart_router.brokers.base import MailboxPolicy, Overflow
from smart_router.config.schema import EndpointSettings
from smart_router.errors import Refused
from smart_router.message import ACTOR_ID, is_address

__all__ = ["Endpoint", "Endpoints", "Place", "Target"]

_KNOWN_TARGETS: Final = 200_000


class Endpoint:
    """A kind of actor: its settings, the policy its mailboxes share, its sub-endpoints."""

    __slots__ = (
        "has_subs", "max_message_size", "name", "own_mailbox", "own_policy", "policy", "settings", "shared_mailbox",
        "subs", "ttl_ms",
    )  # fmt: skip

    def __init__(self, settings: EndpointSettings) -> None:
        self.settings = settings
        self.name = settings.name
        self.max_message_size = settings.max_message_size
        self.ttl_ms = int(settings.ttl * 1000)
        self.has_subs = settings.sub_endpoints is not None
        self.subs = set(settings.sub_endpoints or ())
        self.own_mailbox = settings.mailbox != "endpoint"
        self.shared_mailbox = settings.mailbox != "actor"
        self.policy = MailboxPolicy(
            durable=settings.durability == "durable",
            max_messages=settings.max_messages,
            max_bytes=settings.max_bytes,
            overflow=Overflow(settings.overflow),
            idle_expiry=settings.idle_expiry,
        )
        """Of the shared mailboxes: any number of nodes take from one."""
        exclusive = settings.deliver != "any"
        self.own_policy = msgspec.structs.replace(self.policy, exclusive=True) if exclusive else self.policy
        """Of the actors' own mailboxes: one holder at a time, unless their sessions share it."""


class Place(NamedTuple):
    """Where an actor connects: an endpoint, or one of its sub-endpoints."""

    endpoint: Endpoint
    sub: str | None

    @property
    def address(self) -> str:
        """Of the shared mailbox, whether the endpoint's mode has one or not."""
        return f"{self.endpoint.name}/{self.sub}" if self.sub else self.endpoint.name


class Target(NamedTuple):
    """What an address means: its endpoint, and whether it is one actor's (else the endpoint's shared mailbox)."""

    address: str
    endpoint: Endpoint
    is_actor: bool
    policy: MailboxPolicy


class Endpoints:
    """All endpoints of the installation, by name; addresses and namespaces are resolved here."""

    def __init__(self, settings: dict[str, EndpointSettings]) -> None:
        self._by_name = {name: Endpoint(each) for name, each in settings.items()}
        self._targets: dict[str, Target] = {}

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Endpoint | None:
        return self._by_name.get(name)

    def place(self, namespace: str) -> Place | None:
        """What the namespace `/endpoint` or `/endpoint/sub` stands for; None: no such one."""
        name, _, sub = namespace.removeprefix("/").partition("/")
        endpoint = self._by_name.get(name)
        if endpoint is None or not namespace.startswith("/") or endpoint.has_subs != bool(sub):
            return None
        if endpoint.has_subs and sub not in endpoint.subs:
            return None
        return Place(endpoint, sub or None)

    def target(self, address: object) -> Target:
        """What `address` stands for. Raises Refused: no address, an unknown endpoint, or no mailbox in its mode."""
        if isinstance(address, str) and (known := self._targets.get(address)) is not None:
            return known
        return self._resolve(address)

    def own(self, actor: str) -> Target | None:
        """The actor's own mailbox, whatever the mode: for what the router tells it. None: there is no such endpoint."""
        target = self._parse(actor)
        return target if target is not None and target.is_actor else None

    def _resolve(self, address: object) -> Target:
        if not isinstance(address, str) or not is_address(address):
            shown = address[:128] if isinstance(address, str) else type(address).__name__
            raise Refused(
                "bad_address",
                f"{shown!r} is not an address: write endpoint/actor, or endpoint/sub/actor, "
                "of letters, digits and . _ ~ @ : + -",
                address=shown,
            )
        target = self._parse(address)
        if target is None:
            raise Refused("unknown_address", f"There is no endpoint for the address {address!r}.", address=address)
        if not (target.endpoint.own_mailbox if target.is_actor else target.endpoint.shared_mailbox):
            kind = "an actor's own" if target.is_actor else "a shared"
            raise Refused(
                "no_mailbox",
                f"{address!r} has no mailbox: endpoint {target.endpoint.name!r} gives nobody {kind} one "
                "(mailbox mode).",
                address=address,
            )
        if len(self._targets) >= _KNOWN_TARGETS:
            self._targets.clear()
        self._targets[address] = target
        return target

    def _parse(self, address: str) -> Target | None:
        name, *rest = address.split("/")
        endpoint = self._by_name.get(name)
        if endpoint is None:
            return None
        if endpoint.has_subs:
            if not rest or rest[0] not in endpoint.subs:
                return None
        elif len(rest) > 1:
            return None
        is_actor = len(rest) == (2 if endpoint.has_subs else 1)
        return Target(address, endpoint, is_actor, endpoint.own_policy if is_actor else endpoint.policy)

    def register(self, name: object, sub: object) -> tuple[str, bool]:
        """Adds sub-endpoint `sub`: (its address, whether it is new). Refused: no such endpoint, or not an id."""
        endpoint = self._by_name.get(name) if isinstance(name, str) else None
        if endpoint is None or not endpoint.has_subs:
            raise Refused("unknown_address", f"[{str(name)[:128]}] is not a valid Endpoint.")
        own = str(sub) if isinstance(sub, int) and not isinstance(sub, bool) else sub
        if not isinstance(own, str) or not ACTOR_ID.match(own):
            raise Refused(
                "bad_actor", f"[{str(own)[:128]}] is not a valid id: 1 to 128 letters, digits and . _ ~ @ : + -"
            )
        new = own not in endpoint.subs
        endpoint.subs.add(own)
        return f"{endpoint.name}/{own}", new

    def unregister(self, name: str, own: str) -> None:
        """Takes a sub-endpoint back that could not be remembered."""
        self._by_name[name].subs.discard(own)
        self._targets.clear()
