"""When the next attempt is due."""

from __future__ import annotations

from collections.abc import Callable

from smart_router.config.schema import RetrySettings

__all__ = ["retry_delay"]


def retry_delay(policy: RetrySettings, attempts: int, random: Callable[[], float]) -> float:
    """Seconds until the attempt after `attempts` (≥ 1) failed ones; `random` gives 0 ≤ x < 1.

    The jitter shortens: of a delay of 4 s with jitter 0.2, between 3.2 and 4 s remain.
    """
    delay = min(policy.first_delay * policy.multiplier ** (attempts - 1), policy.max_delay)
    return delay * (1 - policy.jitter * random())
