"""An application that fails with what it was sent in its hands, and one route that waits until it is told to go on."""

import asyncio
from typing import Any

from smart_router import Context, SmartRouter
from smart_router.core.events import EVENTS

__all__ = ["app"]

app = SmartRouter()
ui = app.endpoint("ui/{id}", sub_endpoints=["456"])
released = asyncio.Event()


@ui.on("fail")
def fail(ctx: Context) -> None:
    raise RuntimeError(f"cannot handle {ctx.message.payload}\nlevel=error event=forged")


@ui.on("fail later")
async def fail_later(ctx: Context) -> None:
    await asyncio.sleep(0)
    raise ValueError(ctx.message.payload)


@ui.on("fail badly")
def fail_badly(ctx: Context) -> None:
    raise ExceptionGroup("many", [KeyError(str(ctx.message.payload)) for _ in range(1000)])


@ui.on("wait")
async def wait(ctx: Context) -> None:
    await released.wait()
    ctx.publish(ctx.message.ids["default"])


@ui.on("release")
def release(ctx: Context) -> None:
    released.set()


@ui.on("echo")
def echo(ctx: Context) -> None:
    ctx.publish(ctx.message.ids["default"])


def on_event(event: dict[str, Any]) -> None:
    raise LookupError(str(event))


for name in EVENTS:
    app.on(name, on_event)
