"""A bot on the Python SDK: says again what users say. Usage: echo.py [URL [ACTOR]]"""

import asyncio
import contextlib
import sys

from smart_router.client import Refused, connect

URL = "ws://127.0.0.1:8080/ws"
ACTOR = "agent/456/echo"


async def main(url: str = URL, actor: str = ACTOR) -> None:
    """Answers until it is stopped. A message whose sender has no address to answer to is told and left."""
    async with connect(url, actor=actor) as client:
        print(f"{actor} is connected to {url}")
        async for message in client:
            if message.type != "talk":
                continue
            try:
                # The answer's own key comes from the question: should it be asked twice, it is answered once.
                await client.send(
                    "talkback",
                    ids={"ui": message.sender, "agent": actor},
                    payload=message.payload,
                    options={"id": f"re-{message.id}"},
                )
            except Refused as refused:
                print(f"no answer to {message.id}: {refused}", file=sys.stderr)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:3]))
