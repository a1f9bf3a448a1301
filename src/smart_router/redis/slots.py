"""Which of Redis Cluster's 16,384 slots a key belongs to: CRC-16 of the tag between the first braces.

Redis Cluster specification, "Keys distribution model" and "Hash tags". The CRC is XMODEM's.
"""

from __future__ import annotations

import binascii
from typing import Final

__all__ = ["SLOTS", "slot_of_tag"]

SLOTS: Final = 16_384


def slot_of_tag(tag: str) -> int:
    """`tag`: what stands between the braces, without them."""
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS
