"""`amqp://` against the contract of all brokers."""

from collections.abc import AsyncIterator

import pytest

from tests.brokers.rabbitmq_place import RabbitPlace
from tests.contracts.broker import BrokerContract, Place


class TestRabbitMQ(BrokerContract):
    @pytest.fixture
    async def place(self, amqp_vhost: str) -> AsyncIterator[Place]:
        place = RabbitPlace(amqp_vhost)
        yield place
        await place.close()
