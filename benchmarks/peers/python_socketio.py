"""python-socketio under uvicorn: what arrives for an actor is emitted to the actor's room. Argument: port."""

import sys
from typing import Any

import socketio
import uvicorn

# always_connect: CONNECT is answered before the handler runs, so that `hello` comes behind the answer.
server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], always_connect=True)


@server.on("connect", namespace="/ui")
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
    await server.enter_room(sid, auth["actor"], namespace="/ui")
    await server.emit("hello", {}, to=sid, namespace="/ui")


@server.on("echo", namespace="/ui")
async def echo(sid: str, message: dict[str, Any]) -> dict[str, str]:
    await server.emit("echo", message, to=message["ids"]["default"], namespace="/ui")
    return {"status": "queued"}


if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(server),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
        access_log=False,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
    )
