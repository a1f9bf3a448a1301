"""The mailbox machine (test_mailbox_machine.py) on a Redis that writes each command to disk."""

import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings

from tests.brokers.redis_place import RedisPlace, skip_without_redis
from tests.brokers.test_mailbox_machine import MailboxMachine
from tests.clusters.redis import OwnRedis
from tests.contracts.broker import Place

EXAMPLES = 15


class RedisMailboxMachine(MailboxMachine):
    """`disk_full` is Redis' `maxmemory`; a crash waits until the node's lease has passed."""

    server: ClassVar[OwnRedis]

    def make_place(self) -> Place:
        return RedisPlace(self.server.url, [self.server])


@pytest.mark.slow
@pytest.mark.timeout(120)
class TestRedisMailboxMachine(RedisMailboxMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(
        max_examples=EXAMPLES, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )

    @classmethod
    def setUpClass(cls) -> None:
        skip_without_redis()
        cls.folder = tempfile.TemporaryDirectory()
        RedisMailboxMachine.server = OwnRedis(Path(cls.folder.name))
        RedisMailboxMachine.server.start()

    @classmethod
    def tearDownClass(cls) -> None:
        RedisMailboxMachine.server.close()
        cls.folder.cleanup()
