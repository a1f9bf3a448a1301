"""The directory's partitions in Redis: where each one's sessions are, and how to ask many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from smart_router.errors import StorageError
from smart_router.redis.base import RedisInstallation, Reply, Word

__all__ = ["ask", "sessions_key", "tag_of"]


def tag_of(partition: int) -> str:
    return f"dir{partition:02x}"


def sessions_key(redis: RedisInstallation, partition: int) -> bytes:
    return redis.key(tag_of(partition), "sessions")


async def ask(redis: RedisInstallation, commands: Mapping[int, tuple[Word, ...]]) -> dict[int, Reply]:
    """The answer of each partition to its command, all on their way at once. Raises StorageError if one fails."""
    whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answers: dict[int, Reply] = {}

    def answered(number: int, answer: Reply) -> None:
        answers[number] = answer
        if len(answers) == len(commands) and not whole.done():
            whole.set_result(None)

    for number, command in commands.items():
        redis.send(tag_of(number), command, partial(answered, number))
    await whole
    for answer in answers.values():
        if isinstance(answer, StorageError):
            raise answer
    return answers
