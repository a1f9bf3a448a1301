"""What waits for the next poll of one Engine.IO session, and how it is cut into answers."""

from __future__ import annotations

from collections import deque
from typing import Final

from smart_router.protocols.engineio_payload import Packet, encode_payload, encoded_size

__all__ = ["PING_PACKET", "PollQueue"]

PING_PACKET: Final = b"2"


class PollQueue:
    """Packets in order, and whether a GET is waiting for one. An answer is bounded in packets and bytes."""

    __slots__ = ("_max_bytes", "_max_packets", "_packets", "pings_taken", "size", "waiting")

    def __init__(self, max_packets: int, max_bytes: int) -> None:
        self._max_packets = max_packets
        self._max_bytes = max_bytes
        self._packets: deque[Packet] = deque()
        self.size = 0  # bytes, as in a body
        self.waiting = False  # a GET has come and has no answer yet
        self.pings_taken = 0  # how many pings have left in answers

    def __len__(self) -> int:
        return len(self._packets)

    def put(self, packet: Packet) -> None:
        """Append one packet."""
        self._packets.append(packet)
        self.size += encoded_size(packet)

    def take_body(self) -> bytes:
        """The next answer: at least one packet, at most the limits allow. There must be one."""
        taken: list[Packet] = []
        room = self._max_bytes + 1  # the last packet has no separator
        while self._packets and len(taken) < self._max_packets:
            size = encoded_size(self._packets[0])
            if taken and size > room:
                break
            room -= size
            self.size -= size
            taken.append(self._packets.popleft())
            self.pings_taken += taken[-1].data == PING_PACKET and not taken[-1].binary
        return encode_payload(taken)

    def take_packets(self) -> list[Packet]:
        """All that waits, for a WebSocket to carry on with."""
        packets = list(self._packets)
        self._packets.clear()
        self.size = 0
        return packets
