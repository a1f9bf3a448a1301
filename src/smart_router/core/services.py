"""The parts of a node's core, built in app.py and handed to gateways and the HTTP API as one object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from smart_router.brokers.base import Broker
from smart_router.clock import Clock, Deadlines
from smart_router.config.schema import Settings
from smart_router.core.access import AccessRules, Authorizer
from smart_router.core.delivery import Delivery
from smart_router.core.endpoints import Endpoints
from smart_router.core.ends import Ends
from smart_router.core.events import Events
from smart_router.core.expiry import TokenWatch
from smart_router.core.feedback import Feedback
from smart_router.core.health import Health
from smart_router.core.installation import Installation
from smart_router.core.revocations import Revocations
from smart_router.core.router import Router
from smart_router.core.sessions import Session, Sessions
from smart_router.core.subendpoints import SubEndpoints
from smart_router.core.watching import Watching
from smart_router.stores.base import Store

__all__ = ["Core"]


class Core(NamedTuple):
    settings: Settings
    clock: Clock
    deadlines: Deadlines
    endpoints: Endpoints
    router: Router
    delivery: Delivery
    sessions: Sessions
    ends: Ends
    events: Events
    health: Health
    authorizer: Authorizer
    rules: Mapping[str, AccessRules]
    revocations: Revocations
    tokens: TokenWatch[Session]
    broker: Broker
    store: Store
    installation: Installation
    sub_endpoints: SubEndpoints
    feedback: Feedback
    watching: Watching
