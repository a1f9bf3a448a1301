"""Engine.IO over raw sockets: specs/socketio-server.md, section 3, row by row, on the echo of the conformance app."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.gateways.conformance_server import Served, served
from tests.gateways.engine_clients import Closed, RawWebSocket, head, open_websocket, poll_session, request

PATH = "/engine.io/"
WEBSOCKET = f"{PATH}?EIO=4&transport=websocket"
POLLING = f"{PATH}?EIO=4&transport=polling"


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    """Its heartbeat is far away."""
    async with served(ping_interval=25, ping_timeout=20) as server:
        yield server


@pytest.fixture
async def quick() -> AsyncIterator[Served]:
    """With the times of the public suites."""
    async with served() as server:
        yield server


@pytest.fixture
async def patient() -> AsyncIterator[Served]:
    """Its heartbeat is quick, its patience long."""
    async with served(ping_interval=0.2, ping_timeout=10) as server:
        yield server


async def opened(websocket: RawWebSocket) -> dict[str, object]:
    packet = await websocket.receive()
    assert isinstance(packet, str)
    assert packet[0] == "0"
    values: dict[str, object] = json.loads(packet[1:])
    return values


class TestHandshake:
    async def test_polling(self, server: Served) -> None:
        answer = await request(server.port, "GET", POLLING)
        assert answer.status == 200
        assert answer.body[:1] == b"0"
        values = json.loads(answer.body[1:])
        assert list(values) == ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]
        assert len(values.pop("sid")) >= 20
        assert values == {
            "upgrades": ["websocket"], "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1_000_000,
        }  # fmt: skip

    async def test_websocket(self, server: Served) -> None:
        async with open_websocket(server.port, WEBSOCKET) as websocket:
            values = await opened(websocket)
        assert values["upgrades"] == []
        assert set(values) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}

    @pytest.mark.parametrize(
        ("method", "query", "code"),
        [
            ("GET", "transport=polling", 5),
            ("GET", "EIO=abc&transport=polling", 5),
            ("GET", "EIO=3&transport=polling", 5),
            ("GET", "EIO=4", 0),
            ("GET", "EIO=4&transport=abc", 0),
            ("POST", "EIO=4&transport=polling", 2),
            ("PUT", "EIO=4&transport=polling", 2),
            ("GET", "EIO=4&transport=polling&sid=unknown", 1),
            ("POST", "EIO=4&transport=polling&sid=unknown", 1),
            ("GET", "EIO=4&transport=websocket", 3),
        ],
    )
    async def test_refused(self, server: Served, method: str, query: str, code: int) -> None:
        answer = await request(server.port, method, f"{PATH}?{query}", b"" if method != "GET" else None)
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/json"
        assert json.loads(answer.body)["code"] == code
        assert server.engineio.connections == 0

    @pytest.mark.parametrize(
        "query",
        ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=abc",
         "EIO=4&transport=websocket&sid=unknown"],
    )  # fmt: skip
    async def test_refused_on_a_websocket(self, server: Served, query: str) -> None:
        with pytest.raises(Closed):
            async with open_websocket(server.port, f"{PATH}?{query}"):
                pass

    async def test_sids_do_not_repeat(self, server: Served) -> None:
        sids = {(await poll_session(server.port, PATH))[0] for _ in range(50)}
        assert len(sids) == 50


class TestPolling:
    async def test_one_packet(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        sent = await request(server.port, "POST", session, b"4hello")
        assert (sent.status, sent.body) == (200, b"ok")
        assert (await request(server.port, "GET", session)).body == b"4hello"

    async def test_several_packets_come_back_in_one_body(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        binary = b"b" + base64.b64encode(b"\x00\x01\xff")
        body = b"\x1e".join((b"4one", binary, "4zwei €".encode()))
        assert (await request(server.port, "POST", session, body)).status == 200
        answer = await request(server.port, "GET", session)
        assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
        assert answer.body == body

    async def test_a_waiting_poll_gets_what_comes(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        waiting = asyncio.create_task(request(server.port, "GET", session))
        await request(server.port, "POST", session, b"4late")
        assert (await waiting).body == b"4late"

    async def test_at_most_16_packets_in_an_answer(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        packets = [b"4%d" % number for number in range(40)]
        await request(server.port, "POST", session, b"\x1e".join(packets))
        bodies = [(await request(server.port, "GET", session)).body.split(b"\x1e") for _ in range(3)]
        assert [len(body) for body in bodies] == [16, 16, 8]
        assert [packet for body in bodies for packet in body] == packets

    @pytest.mark.parametrize("body", [b"abc", b"", b"4a\x1e", b"b===", b"4ok\x1e9"])
    async def test_a_bad_body_ends_the_session(self, server: Served, body: bytes) -> None:
        _, session = await poll_session(server.port, PATH)
        assert (await request(server.port, "POST", session, body)).status == 400
        assert (await request(server.port, "GET", session)).status == 400
        assert server.engineio.connections == 0

    async def test_a_second_poll_ends_the_session(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        polls = [asyncio.create_task(request(server.port, "GET", session)) for _ in range(2)]
        answers = sorted([await poll for poll in polls])
        assert [answer.status for answer in answers] == [200, 400]
        assert answers[0].body == b"1"
        assert (await request(server.port, "GET", session)).status == 400

    async def test_an_aborted_poll_ends_the_session(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head("GET", session))
        await writer.drain()
        await request(server.port, "GET", "/nothing")  # by now the poll has come
        writer.close()
        await request(server.port, "GET", "/nothing")
        assert (await request(server.port, "GET", session)).status == 400
        assert reader is not None

    async def test_close_packet_while_a_poll_waits(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        waiting = asyncio.create_task(request(server.port, "GET", session))
        await request(server.port, "GET", "/nothing")
        assert (await request(server.port, "POST", session, b"1")).status == 200
        answer = await waiting
        assert (answer.status, answer.body) == (200, b"6")
        assert (await request(server.port, "GET", session)).status == 400

    async def test_too_large_a_body(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        answer = await request(server.port, "POST", session, b"4" + b"x" * 1_000_000)
        assert answer.status == 413
        assert b"maxPayload" in answer.body
        assert (await request(server.port, "GET", session)).status == 400

    async def test_too_large_a_body_in_chunks(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        chunk = b"%x\r\n%b\r\n" % (600_000, b"4" * 600_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head("POST", session, (("transfer-encoding", "chunked"),)) + 2 * chunk)
        assert (await reader.readline()).split()[1] == b"413"
        writer.close()

    async def test_a_body_of_the_full_size_is_taken(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        body = b"4" + b"x" * 999_999
        assert (await request(server.port, "POST", session, body)).status == 200
        assert (await request(server.port, "GET", session)).body == body

    async def test_a_compressed_body_is_refused(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        answer = await request(server.port, "POST", session, b"4x", (("content-encoding", "gzip"),))
        assert answer.status == 415
        assert b"Content-Encoding" in answer.body

    async def test_an_unfinished_post_ends_the_session(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head("POST", session, length=100) + b"4begun")
        await writer.drain()
        await request(server.port, "GET", "/nothing")
        writer.close()
        await request(server.port, "GET", "/nothing")
        assert (await request(server.port, "GET", session)).status == 400

    async def test_another_token_is_refused(self, server: Served) -> None:
        mine = (("authorization", "Bearer mine"),)
        _, session = await poll_session(server.port, PATH, mine)
        for other in ((), (("authorization", "Bearer other"),)):
            assert (await request(server.port, "GET", session, headers=other)).status == 400
            assert (await request(server.port, "POST", session, b"4x", other)).status == 400
            with pytest.raises(Closed):
                async with open_websocket(server.port, session.replace("polling", "websocket"), other):
                    pass
        assert (await request(server.port, "POST", session, b"4x", mine)).status == 200
        assert (await request(server.port, "GET", session, headers=mine)).body == b"4x"


class TestBounds:
    async def test_sessions(self, server: Served) -> None:
        server.engineio.limit = 2
        await poll_session(server.port, PATH)
        async with open_websocket(server.port, WEBSOCKET) as websocket:
            await opened(websocket)
            answer = await request(server.port, "GET", POLLING)
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            with pytest.raises(Closed):
                async with open_websocket(server.port, WEBSOCKET):
                    pass

    async def test_a_backlog_that_nobody_polls(self, server: Served) -> None:
        """Twice maxPayload and no less than 4 MiB; then the session ends."""
        _, session = await poll_session(server.port, PATH)
        for _ in range(4):
            assert (await request(server.port, "POST", session, b"4" + bytes(999_999))).status == 200
        assert (await request(server.port, "POST", session, b"4" + bytes(999_999))).status == 200
        assert (await request(server.port, "GET", session)).status == 400
        assert server.engineio.connections == 0


class TestCors:
    async def test_a_foreign_page_is_refused(self, server: Served) -> None:
        answer = await request(server.port, "GET", POLLING, headers=(("origin", "https://evil.example"),))
        assert answer.status == 403
        assert json.loads(answer.body)["code"] == 4
        assert "access-control-allow-origin" not in answer.headers
        assert server.engineio.connections == 0

    async def test_our_own_page_is_let_in(self, server: Served) -> None:
        answer = await request(server.port, "GET", POLLING, headers=(("origin", "http://127.0.0.1"),))
        assert answer.status == 200

    async def test_preflight(self, server: Served) -> None:
        asked = (("origin", "http://127.0.0.1"), ("access-control-request-method", "POST"))
        answer = await request(server.port, "OPTIONS", POLLING, headers=asked)
        assert (answer.status, answer.body) == (204, b"")

    async def test_a_listed_page(self) -> None:
        page = "https://chat.example.org"
        async with served(origins=(page,)) as server:
            asked = (("origin", page), ("access-control-request-method", "POST"))
            target = "/socket.io/?EIO=4&transport=polling"
            preflight = await request(server.port, "OPTIONS", target, headers=asked)
            assert preflight.headers["access-control-allow-origin"] == page
            assert preflight.headers["access-control-allow-credentials"] == "true"
            assert preflight.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
            answer = await request(server.port, "GET", target, headers=(("origin", page),))
            assert answer.status == 200
            assert answer.headers["access-control-allow-origin"] == page


class TestHeartbeat:
    async def test_polling(self, patient: Served) -> None:
        _, session = await poll_session(patient.port, PATH)
        for _ in range(3):
            assert (await request(patient.port, "GET", session)).body == b"2"
            assert (await request(patient.port, "POST", session, b"3")).status == 200

    async def test_polling_without_a_pong(self, quick: Served) -> None:
        _, session = await poll_session(quick.port, PATH)
        assert (await request(quick.port, "GET", session)).body == b"2"
        assert (await request(quick.port, "GET", session)).body == b"1"
        assert (await request(quick.port, "GET", session)).status == 400
        assert quick.engineio.statistics().timed_out == 1

    async def test_websocket(self, patient: Served) -> None:
        async with open_websocket(patient.port, WEBSOCKET) as websocket:
            await opened(websocket)
            for _ in range(3):
                assert await websocket.receive() == "2"
                websocket.send("3")

    async def test_websocket_without_a_pong(self, quick: Served) -> None:
        async with open_websocket(quick.port, WEBSOCKET) as websocket:
            await opened(websocket)
            assert await websocket.receive() == "2"
            assert await websocket.closed() == 1008

    async def test_a_flood_of_pongs_ends(self, server: Served) -> None:
        async with open_websocket(server.port, WEBSOCKET) as websocket:
            await opened(websocket)
            for _ in range(1000):
                websocket.send("3")
            websocket.send("4still here")
            assert await websocket.receive() == "4still here"
            websocket.send("3")
            assert await websocket.closed() == 1008

    async def test_pongs_nobody_asked_for_prove_nothing(self, quick: Served) -> None:
        async with open_websocket(quick.port, WEBSOCKET) as websocket:
            await opened(websocket)
            for _ in range(100):
                websocket.send("3")
            assert await websocket.receive() == "2"
            assert await websocket.closed() == 1008
        assert quick.engineio.statistics().ignored_pongs == 100


class TestWebSocket:
    async def test_messages_come_back(self, server: Served) -> None:
        async with open_websocket(server.port, WEBSOCKET) as websocket:
            await opened(websocket)
            websocket.send("4hello")
            assert await websocket.receive() == "4hello"
            websocket.send(b"\x01\x02")
            assert await websocket.receive() == b"\x01\x02"

    @pytest.mark.parametrize("packet", ["1", "abc", "", "0", "2", "5"])
    async def test_other_packets_close(self, server: Served, packet: str) -> None:
        async with open_websocket(server.port, WEBSOCKET) as websocket:
            await opened(websocket)
            websocket.send(packet)
            await websocket.closed()
        assert server.engineio.connections == 0

    async def test_too_large_a_message_ends_that_connection_only(self, server: Served) -> None:
        async with open_websocket(server.port, WEBSOCKET) as other, open_websocket(server.port, WEBSOCKET) as websocket:
            await opened(other)
            await opened(websocket)
            websocket.send("4" + "x" * 1_000_000)
            assert await websocket.closed() == 1009
            other.send("4still here")
            assert await other.receive() == "4still here"


class TestUpgrade:
    async def test_with_a_waiting_poll(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        waiting = asyncio.create_task(request(server.port, "GET", session))
        async with open_websocket(server.port, session.replace("polling", "websocket")) as websocket:
            websocket.send("2probe")
            assert await websocket.receive() == "3probe"
            assert (await waiting).body == b"6"
            websocket.send("5")
            websocket.send("4hello")
            assert await websocket.receive() == "4hello"
            assert (await request(server.port, "GET", session)).status == 400
            websocket.send(b"\x07")
            assert await websocket.receive() == b"\x07"
        assert server.engineio.statistics().upgrades == 1

    async def test_a_poll_after_the_probe_is_released(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        async with open_websocket(server.port, session.replace("polling", "websocket")) as websocket:
            websocket.send("2probe")
            assert await websocket.receive() == "3probe"
            assert (await request(server.port, "GET", session)).body == b"6"
            await request(server.port, "POST", session, b"4waits for the WebSocket")
            websocket.send("5")
            assert await websocket.receive() == "4waits for the WebSocket"

    async def test_a_second_websocket_is_closed(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        target = session.replace("polling", "websocket")
        async with open_websocket(server.port, target) as websocket:
            async with open_websocket(server.port, target) as early:
                websocket.send("2probe")
                assert await websocket.receive() == "3probe"
                early.send("2probe")
                assert await early.closed() == 1002
            websocket.send("5")
            websocket.send("4one")
            assert await websocket.receive() == "4one"
            async with open_websocket(server.port, target) as late:
                assert await late.closed() == 1008
            websocket.send("4two")
            assert await websocket.receive() == "4two"

    @pytest.mark.parametrize("packet", ["abc", "5", "4early", b"\x01"])
    async def test_a_bad_probe_leaves_polling_alone(self, server: Served, packet: str | bytes) -> None:
        _, session = await poll_session(server.port, PATH)
        async with open_websocket(server.port, session.replace("polling", "websocket")) as websocket:
            websocket.send(packet)
            assert await websocket.closed() == 1002
        await request(server.port, "POST", session, b"4hello")
        assert (await request(server.port, "GET", session)).body == b"4hello"

    async def test_a_probe_that_takes_too_long(self, server: Served) -> None:
        server.engineio.options = msgspec.structs.replace(server.engineio.options, upgrade_timeout=0.05)
        _, session = await poll_session(server.port, PATH)
        async with open_websocket(server.port, session.replace("polling", "websocket")) as websocket:
            websocket.send("2probe")
            assert await websocket.receive() == "3probe"
            assert await websocket.closed() == 1008
        await request(server.port, "POST", session, b"4hello")
        assert (await request(server.port, "GET", session)).body == b"4hello"

    async def test_a_probe_that_goes_away(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        async with open_websocket(server.port, session.replace("polling", "websocket")) as websocket:
            websocket.send("2probe")
            assert await websocket.receive() == "3probe"
        await request(server.port, "POST", session, b"4hello")
        async with asyncio.timeout(5):
            while (body := (await request(server.port, "GET", session)).body) == b"6":
                pass
        assert body == b"4hello"
