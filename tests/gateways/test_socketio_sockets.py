"""What a handler can rely on: barriers, ways to close, faults of its own, reading that pauses, the drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from smart_router.errors import Refused
from smart_router.gateways.base import CloseReason, Socket
from smart_router.protocols.socketio import ConnectData
from tests.gateways.conformance_server import Served, served
from tests.gateways.engine_clients import Closed, RawWebSocket, open_websocket, poll_session, request
from tests.gateways.recorder import Recorder, Recording

PATH = "/socket.io/"
WEBSOCKET = f"{PATH}?EIO=4&transport=websocket"


class Connected(NamedTuple):
    server: Served
    recorder: Recorder
    websocket: RawWebSocket
    handler: Recording


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def server(recorder: Recorder) -> AsyncIterator[Served]:
    async with served(recorder, ping_interval=25, ping_timeout=20) as server:
        yield server


@pytest.fixture
async def connected(server: Served, recorder: Recorder) -> AsyncIterator[Connected]:
    async with open_websocket(server.port, WEBSOCKET) as websocket:
        await websocket.receive()
        await join(websocket, "/ui/456")
        yield Connected(server, recorder, websocket, recorder.handlers["/ui/456"])


async def join(websocket: RawWebSocket, namespace: str) -> None:
    websocket.send(f"40{namespace},")
    assert str(await websocket.receive()).startswith(f"40{namespace},{{")


class TestWords:
    async def test_deliveries_and_answers(self, connected: Connected) -> None:
        socket, websocket = connected.handler.socket, connected.websocket
        socket.deliver("talk", b'{"a":1}', (), None, None)
        assert await websocket.receive() == '42/ui/456,["talk",{"a":1}]'
        socket.deliver('a"b', b"1", (), 7, None)
        assert await websocket.receive() == '42/ui/456,7["a\\"b",1]'
        socket.deliver("talk", b"1", (), None, "12")
        assert await websocket.receive() == '42/ui/456,["talk",1,"12"]'
        socket.deliver("file", b'{"_placeholder":true,"num":0}', (b"\x01",), 8, None)
        assert await websocket.receive() == '451-/ui/456,8["file",{"_placeholder":true,"num":0}]'
        assert await websocket.receive() == b"\x01"
        socket.emit("whoareyou", b"{}")
        assert await websocket.receive() == '42/ui/456,["whoareyou",{}]'
        socket.emit("nothing", b"")
        assert await websocket.receive() == '42/ui/456,["nothing"]'
        socket.hello("received", False)
        assert await websocket.receive() == '42/ui/456,["hello",{}]'
        socket.acknowledge(5, b'{"id":1}')
        assert await websocket.receive() == '43/ui/456,5[{"id":1}]'

    async def test_what_the_client_says(self, connected: Connected) -> None:
        connected.websocket.send('42/ui/456,3["talk",{"a":1},2]')
        expected: tuple[object, ...] = ("event", "talk", [b'{"a":1}', b"2"], (), 3)
        assert await connected.handler.calls.get() == expected
        connected.websocket.send('43/ui/456,8[{"nack":"no"}]')
        assert await connected.handler.calls.get() == ("acknowledgement", 8, [b'{"nack":"no"}'], ())
        connected.websocket.send('461-/ui/456,9[{"_placeholder":true,"num":0}]')
        connected.websocket.send(b"\x01")
        expected = ("acknowledgement", 9, [b'{"_placeholder":true,"num":0}'], (b"\x01",))
        assert await connected.handler.calls.get() == expected
        connected.websocket.send("41/ui/456,")
        assert await connected.handler.calls.get() == ("closed", True)

    async def test_id_and_pid_of_a_recovery(self, server: Served, recorder: Recorder) -> None:
        seen: list[ConnectData] = []

        def recover(socket: Socket, auth: ConnectData) -> None:
            seen.append(auth)
            socket.id, socket.pid = "old-id", "old-pid"

        recorder.on_connect = recover
        async with open_websocket(server.port, WEBSOCKET) as websocket:
            await websocket.receive()
            websocket.send('40/ui/456,{"pid":"old-pid","offset":"7"}')
            assert await websocket.receive() == '40/ui/456,{"sid":"old-id","pid":"old-pid"}'
        assert (seen[0].pid, seen[0].offset) == ("old-pid", "7")

    async def test_the_token_of_the_request(self, server: Served, recorder: Recorder) -> None:
        bearer = (("authorization", "Bearer abc"), ("cookie", "private"))
        async with open_websocket(server.port, WEBSOCKET, bearer) as websocket:
            await websocket.receive()
            await join(websocket, "/ui/456")
            assert recorder.handlers["/ui/456"].socket.authorization == b"Bearer abc"
        _, session = await poll_session(server.port, PATH, bearer)
        await request(server.port, "POST", session, b"40/ui/457,", bearer)
        assert recorder.handlers["/ui/457"].socket.authorization == b"Bearer abc"

    async def test_refusal(self, server: Served, recorder: Recorder) -> None:
        def refuse(socket: Socket, auth: ConnectData) -> None:
            raise Refused("forbidden", "Not for you.")

        recorder.on_connect = refuse
        async with open_websocket(server.port, WEBSOCKET) as websocket:
            await websocket.receive()
            websocket.send("40/ui/456,")
            data = '{"code":"forbidden","message":"Not for you.","temporary":false}'
            assert await websocket.receive() == f'44/ui/456,{{"message":"Not for you.","data":{data}}}'
        assert server.socketio.statistics().connects_refused == 1


class TestBarrier:
    async def test_a_ping_follows_what_was_delivered(self, connected: Connected) -> None:
        connected.handler.deliver(3)
        received = [await connected.websocket.receive() for _ in range(4)]
        assert received == [f'42/ui/456,["talk",{n}]' for n in (1, 2, 3)] + ["2"]
        connected.websocket.send("3")
        assert await connected.handler.calls.get() == ("confirm", 3)

    async def test_one_ping_at_a_time(self, connected: Connected) -> None:
        websocket, handler = connected.websocket, connected.handler
        handler.deliver()
        assert [await websocket.receive() for _ in range(2)] == ['42/ui/456,["talk",1]', "2"]
        handler.deliver()
        handler.socket.barrier()
        assert await websocket.receive() == '42/ui/456,["talk",2]'
        websocket.send("3")
        assert await handler.calls.get() == ("confirm", 1)
        assert await websocket.receive() == "2"  # nothing is written any more, so it goes at once
        websocket.send("3")
        assert await handler.calls.get() == ("confirm", 2)
        assert connected.server.socketio.statistics().barriers == 2

    async def test_the_next_ping_follows_the_same_turn(self, connected: Connected) -> None:
        websocket, handler = connected.websocket, connected.handler
        handler.deliver()
        assert [await websocket.receive() for _ in range(2)] == ['42/ui/456,["talk",1]', "2"]
        handler.deliver()
        connected.recorder.on_event = lambda handler: handler.deliver()
        websocket.send("3")
        websocket.send('42/ui/456,["more"]')
        assert [await websocket.receive() for _ in range(3)] == [
            '42/ui/456,["talk",2]',
            '42/ui/456,["talk",3]',
            "2",
        ]

    async def test_namespaces_share_a_ping(self, connected: Connected) -> None:
        websocket = connected.websocket
        await join(websocket, "/ui/457")
        other = connected.recorder.handlers["/ui/457"]
        connected.handler.deliver(2)
        other.deliver(1)
        received = [await websocket.receive() for _ in range(4)]
        assert received[-1] == "2"
        websocket.send("3")
        assert await connected.handler.calls.get() == ("confirm", 2)
        assert await other.calls.get() == ("confirm", 1)

    async def test_nothing_to_confirm(self, connected: Connected) -> None:
        connected.handler.socket.deliver("talk", b"1", (), None, None)
        assert await connected.websocket.receive() == '42/ui/456,["talk",1]'
        connected.handler.socket.barrier()
        assert await connected.websocket.receive() == "2"
        connected.websocket.send("3")
        connected.websocket.send('42/ui/456,["end"]')
        assert (await connected.handler.calls.get())[0] == "event"

    async def test_the_heartbeat_is_a_barrier(self, recorder: Recorder) -> None:
        async with (
            served(recorder, ping_interval=0.4, ping_timeout=10) as server,
            open_websocket(server.port, WEBSOCKET) as websocket,
        ):
            await websocket.receive()
            await join(websocket, "/ui/456")
            handler = recorder.handlers["/ui/456"]
            assert await websocket.receive() == "2"
            handler.deliver()
            assert await websocket.receive() == '42/ui/456,["talk",1]'
            websocket.send("3")
            assert await websocket.receive() == "2"
            websocket.send("3")
            assert await handler.calls.get() == ("confirm", 1)

    async def test_the_next_poll_proves_it(self, server: Served, recorder: Recorder) -> None:
        _, session = await poll_session(server.port, PATH)
        await request(server.port, "POST", session, b"40/ui/456,")
        await request(server.port, "GET", session)
        handler = recorder.handlers["/ui/456"]
        handler.deliver(2)
        waiting = asyncio.create_task(request(server.port, "GET", session))
        assert (await waiting).body == b'42/ui/456,["talk",1]\x1e42/ui/456,["talk",2]\x1e2'
        assert handler.calls.empty()
        waiting = asyncio.create_task(request(server.port, "GET", session))
        assert await handler.calls.get() == ("confirm", 2)
        await request(server.port, "POST", session, b"3")
        handler.deliver()
        assert (await waiting).body.startswith(b'42/ui/456,["talk",1]')

    async def test_through_an_upgrade(self, server: Served, recorder: Recorder) -> None:
        _, session = await poll_session(server.port, PATH)
        await request(server.port, "POST", session, b"40/ui/456,")
        await request(server.port, "GET", session)
        handler = recorder.handlers["/ui/456"]
        handler.deliver()
        assert (await request(server.port, "GET", session)).body == b'42/ui/456,["talk",1]\x1e2'
        async with open_websocket(server.port, session.replace("polling", "websocket")) as websocket:
            websocket.send("2probe")
            assert await websocket.receive() == "3probe"
            handler.deliver()
            websocket.send("5")
            assert await websocket.receive() == '42/ui/456,["talk",2]'
            assert handler.calls.empty()
            websocket.send("3")
            assert await handler.calls.get() == ("confirm", 1)
            assert await websocket.receive() == "2"
            websocket.send("3")
            assert await handler.calls.get() == ("confirm", 2)

    async def test_a_namespace_that_was_left_is_not_confirmed(self, connected: Connected) -> None:
        connected.handler.deliver()
        assert [await connected.websocket.receive() for _ in range(2)] == ['42/ui/456,["talk",1]', "2"]
        connected.websocket.send("41/ui/456")
        connected.websocket.send("3")
        await join(connected.websocket, "/ui/457")
        assert await connected.handler.calls.get() == ("closed", True)
        assert connected.handler.calls.empty()


class TestClose:
    @pytest.mark.parametrize("reason", [CloseReason.DRAIN, CloseReason.TAKEN_OVER, CloseReason.LOST])
    async def test_who_comes_back_is_cut(self, connected: Connected, reason: CloseReason) -> None:
        connected.handler.socket.close(reason)
        assert await connected.websocket.closed() == (None if reason is CloseReason.LOST else 1012)
        assert await connected.handler.calls.get() == ("closed", False)

    @pytest.mark.parametrize("reason", [CloseReason.EXPIRED, CloseReason.REVOKED])
    async def test_who_stays_away_gets_a_disconnect(self, connected: Connected, reason: CloseReason) -> None:
        connected.handler.socket.emit("error", b"{}")
        connected.handler.socket.close(reason)
        assert await connected.websocket.receive() == '42/ui/456,["error",{}]'
        assert await connected.websocket.receive() == "41/ui/456,"
        assert await connected.websocket.closed() == 1000
        assert await connected.handler.calls.get() == ("closed", False)

    async def test_over_polling(self, server: Served, recorder: Recorder) -> None:
        _, session = await poll_session(server.port, PATH)
        await request(server.port, "POST", session, b"40/ui/456,")
        await request(server.port, "GET", session)
        recorder.handlers["/ui/456"].socket.close(CloseReason.EXPIRED)
        assert (await request(server.port, "GET", session)).body == b"41/ui/456,"
        await request(server.port, "POST", session, b"40/ui/457,")
        await request(server.port, "GET", session)
        recorder.handlers["/ui/457"].socket.close(CloseReason.TAKEN_OVER)
        assert (await request(server.port, "GET", session)).status == 400

    async def test_other_namespaces_stay(self, connected: Connected) -> None:
        await join(connected.websocket, "/ui/457")
        connected.handler.socket.close(CloseReason.REVOKED)
        assert await connected.websocket.receive() == "41/ui/456,"
        connected.websocket.send('42/ui/456,["under way"]')
        connected.websocket.send('42/ui/457,["still here"]')
        assert (await connected.recorder.handlers["/ui/457"].calls.get())[1] == "still here"

    async def test_calls_on_a_socket_that_is_gone_do_nothing(self, connected: Connected) -> None:
        socket = connected.handler.socket
        socket.close(CloseReason.DRAIN)
        socket.emit("x", b"")
        socket.deliver("x", b"1", (), None, None)
        socket.acknowledge(1, b"")
        socket.barrier()
        socket.pause_reading()
        socket.resume_reading()
        socket.close(CloseReason.REVOKED)
        assert await connected.websocket.closed() == 1012

    async def test_a_client_that_goes_away(self, connected: Connected) -> None:
        connected.websocket.writer.close()
        assert await connected.handler.calls.get() == ("closed", False)
        assert connected.server.socketio.statistics().sockets == 0


async def read_all(websocket: RawWebSocket) -> None:
    while True:
        await websocket.receive()


def broken(*_: object) -> None:
    raise RuntimeError("the handler's fault")


class TestHandlerFaults:
    @pytest.mark.parametrize("callback", ["on_opened", "on_event", "on_connect", "on_closed"])
    async def test_nobody_else_is_harmed(self, server: Served, recorder: Recorder, callback: str) -> None:
        async with open_websocket(server.port, WEBSOCKET) as other:
            await other.receive()
            await join(other, "/ui/1")
            bystander = recorder.handlers["/ui/1"]
            setattr(recorder, callback, broken)
            async with open_websocket(server.port, WEBSOCKET) as websocket:
                await websocket.receive()
                websocket.send("40/ui/2,")
                websocket.send('42/ui/2,["event"]')
                if callback == "on_closed":
                    websocket.send("1")
                with pytest.raises(Closed):
                    await read_all(websocket)
            other.send('42/ui/1,["still here"]')
            assert (await bystander.calls.get())[1] == "still here"
            setattr(recorder, callback, lambda *_: None)
        assert await bystander.calls.get() == ("closed", False)

    async def test_over_polling(self, server: Served, recorder: Recorder) -> None:
        recorder.on_event = broken
        _, session = await poll_session(server.port, PATH)
        await request(server.port, "POST", session, b'40\x1e42["event"]')
        assert (await request(server.port, "GET", session)).status == 400
        assert server.socketio.statistics().handler_errors == 1


class TestReading:
    async def test_paused(self, connected: Connected) -> None:
        """Counted per connection; what comes meanwhile waits outside."""
        socket, websocket, calls = connected.handler.socket, connected.websocket, connected.handler.calls
        socket.pause_reading()
        socket.pause_reading()
        websocket.send('42/ui/456,["later"]')
        socket.resume_reading()
        await request(connected.server.port, "GET", "/nothing")
        assert calls.empty()
        socket.resume_reading()
        assert (await calls.get())[1] == "later"

    async def test_a_post_is_answered_when_reading_goes_on(self, server: Served, recorder: Recorder) -> None:
        _, session = await poll_session(server.port, PATH)
        recorder.on_event = lambda handler: handler.socket.pause_reading()
        post = asyncio.create_task(request(server.port, "POST", session, b'40\x1e42["event"]'))
        while "/" not in recorder.handlers:
            await request(server.port, "GET", "/nothing")
        handler = recorder.handlers["/"]
        assert (await handler.calls.get())[1] == "event"
        await request(server.port, "GET", "/nothing")
        assert not post.done()
        handler.socket.resume_reading()
        assert (await post).body == b"ok"

    async def test_a_paused_connection_is_not_timed_out(self, recorder: Recorder) -> None:
        async with (
            served(recorder, ping_interval=0.5, ping_timeout=0.5) as server,
            open_websocket(server.port, WEBSOCKET) as websocket,
            open_websocket(server.port, WEBSOCKET) as other,
        ):
            await websocket.receive()
            await join(websocket, "/ui/456")
            handler = recorder.handlers["/ui/456"]
            handler.socket.pause_reading()
            await other.receive()
            assert await other.receive() == "2"
            assert await other.closed() == 1008
            handler.socket.resume_reading()
            websocket.send('42/ui/456,["here"]')
            assert (await handler.calls.get())[1] == "here"

    async def test_a_slow_reader_is_told_of(self, connected: Connected) -> None:
        socket = connected.handler.socket
        body = b'"' + b"x" * 100_000 + b'"'
        for _ in range(100):
            socket.deliver("talk", body, (), None, None)
        assert await connected.handler.calls.get() == ("writable", False)
        for _ in range(100):
            await connected.websocket.receive()
        assert await connected.handler.calls.get() == ("writable", True)


class TestDrain:
    async def test_transports_close_without_a_disconnect(self, connected: Connected) -> None:
        port = connected.server.port
        _, session = await poll_session(port, PATH)
        waiting = asyncio.create_task(request(port, "GET", session))
        await request(port, "GET", "/nothing")
        await connected.server.socketio.drain(0.2)
        assert await connected.websocket.closed() == 1012
        assert (await waiting).body == b"1"
        assert await connected.handler.calls.get() == ("closed", False)
        assert (await request(port, "GET", f"{PATH}?EIO=4&transport=polling")).status == 503
        with pytest.raises(Closed):
            async with open_websocket(port, WEBSOCKET):
                pass
