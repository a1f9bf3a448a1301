"""The server's pings over one Engine.IO session, heartbeats and barriers alike: numbered from 1, answered in order."""

from __future__ import annotations

__all__ = ["Pings"]


class Pings:
    """Sent, answered and due pings. A pong names no ping: it answers the oldest; one that answers none is counted."""

    __slots__ = ("_interval", "_last", "_timeout", "_unanswered", "answered", "ignored_pongs", "sent")

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._last = now
        self._unanswered: list[
            float
        ] = []  # when each was sent, oldest first; a list, for an empty deque takes 700 bytes
        self.sent = 0  # the number of the newest ping
        self.answered = 0  # all pings up to this number are known to have arrived
        self.ignored_pongs = 0

    def send(self, now: float) -> None:
        """One ping goes out."""
        self._unanswered.append(now)
        self._last = now
        self.sent += 1

    def send_due(self, now: float) -> None:
        """The heartbeat goes out. A timer that is a little late does not put the end of a dead session off."""
        due = self.due
        self.send(due if now - due < self._timeout / 2 else now)

    def pong(self) -> None:
        """One answer came."""
        if not self._unanswered:
            self.ignored_pongs += 1
            return
        del self._unanswered[0]
        self.proven(self.sent - len(self._unanswered))

    def proven(self, number: int) -> None:
        """That ping and all before it have arrived; how we know of it does not count as an answer."""
        self.answered = max(self.answered, number)

    @property
    def due(self) -> float:
        """When the next heartbeat goes out: one interval after the last ping of any kind."""
        return self._last + self._interval

    @property
    def expiry(self) -> float | None:
        """When the session ends unless a pong comes."""
        return self._unanswered[0] + self._timeout if self._unanswered else None

    @property
    def deadline(self) -> float:
        """When something is to be done next."""
        return min(self.due, self._unanswered[0] + self._timeout) if self._unanswered else self.due
