"""Who somebody is, and what an endpoint's rules let them do.

    token ─► Authorizer.authenticate ─► Identity ─┬─ AccessRules.may_connect(identity, actor)
                                                  ├─ AccessRules.publisher(identity, sender) ─► may(address, type)
                                                  └─ AccessRules.reader(identity, actor) ─► may(address, type, sender)

An endpoint without rules, in a router without authentication, has no AccessRules at all: nothing is asked.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
import structlog

from smart_router.config.conditions import ACCESS_VARIABLES, Condition, compile_condition
from smart_router.config.schema import EndpointSettings
from smart_router.errors import ConfigError, Refused

__all__ = [
    "ADMIN",
    "AccessRules",
    "Authorizer",
    "Identity",
    "NoAuthorizer",
    "Permissions",
    "Rule",
    "as_actor",
    "compile_rules",
    "forbidden",
    "require_admin",
    "same_token",
    "token_hash",
]

ADMIN: Final = "admin"
"""The scope that sub-endpoints, revocations and administrative HTTP calls ask for."""

REMEMBERED: Final = 256
"""Answers of rules that one session keeps; more and it starts again."""

MAX_REMEMBERED_LENGTH: Final = 1024
"""Characters of a question that is worth keeping; a type may be as long as a message."""

_log = structlog.get_logger("smart_router.access")


class Identity(msgspec.Struct, frozen=True, eq=False):
    """Whom a token stands for. Times in wall ms; `expires_at` None: never; `issued_at` 0: the token does not say.

    `token_hash`: what binds a session to its token; the token itself is kept nowhere. Two identities are equal only if
    they are the same object.
    """

    subject: str
    claims: dict[str, Any]
    scopes: frozenset[str]
    token_hash: bytes
    expires_at: int | None = None
    issued_at: int = 0
    jti: str | None = None

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.scopes

    def __repr__(self) -> str:
        return f"Identity({self.subject!r})"


class Authorizer(Protocol):
    """Tells who a token stands for, at once: what it needs from elsewhere is fetched in the background."""

    required: bool
    """False: a token is not asked for, everybody may be anybody."""

    async def open(self) -> None:
        """Ready to authenticate when this returns. ConfigError: its settings cannot work."""

    async def close(self) -> None: ...

    def authenticate(self, token: object, now_ms: int) -> Identity:
        """`token`: what the client gave, None for nothing. Refused `unauthorized`, `token_expired` or `revoked`; `busy`
        while there is nothing to verify with yet. No text quotes the token."""


class NoAuthorizer:
    """No authentication, for a server that only its own machine reaches: everybody may be anybody, and administrate."""

    required = False

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    @staticmethod
    def authenticate(token: object, now_ms: int) -> Identity:
        return Identity("", {}, frozenset((ADMIN,)), token_hash(token), issued_at=now_ms)


def token_hash(token: object) -> bytes:
    """SHA-256 of the token; of nothing without one."""
    text = token if isinstance(token, str) else ""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def same_token(bound: bytes, token: object) -> bool:
    """Whether `token` is the one with the hash `bound`: a session is its token's (P11). In constant time."""
    return hmac.compare_digest(bound, token_hash(token))


def as_actor(identity: Identity, actor: str) -> Identity:
    """The identity under which `actor` goes on: without authentication its subject is the actor's id."""
    return identity if identity.subject else msgspec.structs.replace(identity, subject=actor)


def require_admin(identity: Identity, what: str) -> None:
    """Refused `forbidden` without the admin scope."""
    if not identity.is_admin:
        raise Refused("forbidden", f"{what} needs a token with the scope `{ADMIN}`.")


def forbidden(what: str, **details: str) -> Refused:
    """The refusal of what the rules do not allow, to raise; `what`: "be the actor …", "publish to …"."""
    return Refused("forbidden", f"This token does not allow to {what}.", **details)


class Rule:
    """One condition of an endpoint. What cannot be evaluated is refused; the first time it is logged."""

    __slots__ = ("_condition", "_logged", "_name")

    def __init__(self, name: str, condition: Condition) -> None:
        self._name = name
        self._condition = condition
        self._logged = False

    def allows(self, variables: Mapping[str, Any]) -> bool:
        try:
            return bool(self._condition.evaluate(variables))
        except Refused as error:
            if not self._logged:
                self._logged = True
                _log.warning("access_rule_failed", rule=self._name, reason=error.message)
            return False


class Permissions:
    """What one session may publish or read. A question is put to the rule once, while there is room to remember."""

    __slots__ = ("_answers", "_names", "_rule", "_variables")

    def __init__(self, rule: Rule, variables: dict[str, Any], names: tuple[str, ...]) -> None:
        self._rule = rule
        self._variables = variables
        self._names = names
        self._answers: dict[tuple[str, ...], bool] = {}

    def may(self, *question: str) -> bool:
        """`question`: (address, type) to publish, (address, type, sender) to read."""
        answer = self._answers.get(question)
        if answer is None:
            answer = self._rule.allows({**self._variables, **dict(zip(self._names, question, strict=True))})
            self._remember(question, answer)
        return answer

    def _remember(self, question: tuple[str, ...], answer: bool) -> None:
        if sum(map(len, question)) > MAX_REMEMBERED_LENGTH:
            return
        if len(self._answers) >= REMEMBERED:
            self._answers.clear()
        self._answers[question] = answer


class AccessRules:
    """The rules of one endpoint; absent ones are None."""

    __slots__ = ("_authenticated", "_connect", "_presence", "_publish", "_read")

    def __init__(self, name: str, conditions: Mapping[str, Condition], *, authenticated: bool) -> None:
        rules = {kind: Rule(f"{name}.{kind}", condition) for kind, condition in conditions.items()}
        self._authenticated = authenticated
        self._connect = rules.get("connect")
        self._publish = rules.get("publish")
        self._read = rules.get("read")
        self._presence = rules.get("presence")

    def may_connect(self, identity: Identity, actor: str) -> bool:
        """Without a rule: who is authenticated may be the actors that its token names (see `_is_named`)."""
        if self._connect is not None:
            return self._connect.allows(_variables(identity, actor))
        return not self._authenticated or _is_named(identity, actor)

    def publisher(self, identity: Identity, sender: str) -> Permissions | None:
        """For one session, until its identity changes; `may(address, type)`. None: whatever the routes say."""
        if self._publish is None:
            return None
        return Permissions(self._publish, _variables(identity, sender), ("address", "type"))

    def reader(self, identity: Identity, actor: str) -> Permissions | None:
        """For one session, until its identity changes; `may(address, type, sender)`. None: all its mailboxes."""
        if self._read is None:
            return None
        return Permissions(self._read, _variables(identity, actor), ("address", "type", "from"))

    def may_see(self, identity: Identity, asker: str, actor: str) -> bool:
        """Whether `asker` may know if `actor` is there. Without a rule: of whom its token could be the actor itself."""
        if self._presence is not None:
            return self._presence.allows({**_variables(identity, asker), "address": actor})
        return not self._authenticated or _is_named(identity, actor)

    def may_publish(self, identity: Identity, sender: str, address: str, type_: str) -> bool:
        """One question, nothing remembered: for senders without a session."""
        publisher = self.publisher(identity, sender)
        return publisher is None or publisher.may(address, type_)

    def may_read(self, identity: Identity, actor: str, address: str, type_: str, sender: str) -> bool:
        reader = self.reader(identity, actor)
        return reader is None or reader.may(address, type_, sender)


def compile_rules(endpoints: Mapping[str, EndpointSettings], *, authenticated: bool) -> dict[str, AccessRules]:
    """By endpoint; only those that have something to check. ConfigError names every condition that cannot be used."""
    problems: list[str] = []
    rules: dict[str, AccessRules] = {}
    for name, endpoint in endpoints.items():
        conditions: dict[str, Condition] = {}
        for kind, variables in ACCESS_VARIABLES.items():
            text = getattr(endpoint.access, kind)
            try:
                conditions |= {kind: compile_condition(text, variables)} if text is not None else {}
            except ConfigError as error:
                problems += [f"endpoints.{name}.access.{kind}: {problem}" for problem in error.problems]
        if authenticated or conditions:
            rules[name] = AccessRules(name, conditions, authenticated=authenticated)
    if problems:
        raise ConfigError(problems)
    return rules


def _variables(identity: Identity, actor: str) -> dict[str, Any]:
    """What every rule may use; `sub` is the sub-endpoint's id or ""."""
    endpoint, _, rest = actor.partition("/")
    sub, _, own = rest.rpartition("/")
    return {
        "subject": identity.subject or actor,
        "scopes": sorted(identity.scopes),
        "claims": identity.claims,
        "actor": actor,
        "endpoint": endpoint,
        "sub": sub,
        "own": own,
    }


def _is_named(identity: Identity, actor: str) -> bool:
    """The subject is the actor's id or its own part, or the claim `actors` lists the id; `agent/456/*` is a prefix."""
    if identity.subject in (actor, actor.rpartition("/")[2]):
        return True
    listed = identity.claims.get("actors")
    return isinstance(listed, list) and any(isinstance(entry, str) and _matches(entry, actor) for entry in listed)


def _matches(entry: str, actor: str) -> bool:
    return actor.startswith(entry[:-1]) if entry.endswith("*") else actor == entry
