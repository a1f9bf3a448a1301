"""AMQP 0-9-1 to RabbitMQ over one connection that comes back by itself: read base.py first."""

from __future__ import annotations

from smart_router.amqp.base import (
    Arguments,
    ChannelClosed,
    ConnectionStatistics,
    Message,
    OnCancel,
    OnClosed,
    OnConfirm,
    OnDeliver,
    OnDown,
    OnReturn,
    OnUp,
    OnWritable,
    QueueState,
)
from smart_router.amqp.channel import Channel
from smart_router.amqp.connection import AmqpConnection
from smart_router.amqp.url import AmqpUrl, Host
from smart_router.protocols.amqp_connection import Server
from smart_router.protocols.amqp_properties import PERSISTENT, Properties, decode_properties, encode_properties

__all__ = [
    "PERSISTENT",
    "AmqpConnection",
    "AmqpUrl",
    "Arguments",
    "Channel",
    "ChannelClosed",
    "ConnectionStatistics",
    "Host",
    "Message",
    "OnCancel",
    "OnClosed",
    "OnConfirm",
    "OnDeliver",
    "OnDown",
    "OnReturn",
    "OnUp",
    "OnWritable",
    "Properties",
    "QueueState",
    "Server",
    "decode_properties",
    "encode_properties",
]
