"""What the parts of a node's core tell each other, once they are all there."""

from __future__ import annotations

from smart_router.brokers.base import End, Entry
from smart_router.core.revocations import concerns
from smart_router.core.services import Core
from smart_router.errors import Refused
from smart_router.stores.base import Revocation

__all__ = ["wire"]


def wire(core: Core) -> None:
    """Bad ends go to who wants to know, revocations to the sessions that they end."""
    delivery, feedback = core.delivery, core.feedback
    core.router.core = core

    def told(entry: Entry, state: End, reason: str) -> None:
        if entry.message.wants:
            feedback.ended(entry, state, reason)
        if state in (End.DROPPED, End.SUPERSEDED):
            core.installation.gap(entry.address)
        if state is End.REFUSED and reason != "access":
            delivery.tell_sender(entry, reason)

    def revoked(revocation: Revocation) -> None:
        for session in delivery.sessions:
            if concerns(revocation, session.identity):
                delivery.end(session, Refused("revoked", "This token has been revoked."))

    core.ends.told = told
    core.revocations.listen(revoked)
