"""Socket.IO over raw sockets: specs/socketio-server.md, sections 4 to 6, row by row, on the conformance app."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.gateways.conformance_server import Served, conformance, served
from tests.gateways.engine_clients import Closed, RawWebSocket, open_websocket, poll_session, request

PATH = "/socket.io/"
WEBSOCKET = f"{PATH}?EIO=4&transport=websocket"


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    """Its heartbeat is far away."""
    async with served(ping_interval=25, ping_timeout=20, connect_timeout=45) as server:
        yield server


@pytest.fixture
async def websocket(server: Served) -> AsyncIterator[RawWebSocket]:
    async with open_websocket(server.port, WEBSOCKET) as websocket:
        assert str(await websocket.receive()).startswith("0{")
        yield websocket


async def joined(websocket: RawWebSocket, namespace: str = "") -> dict[str, str]:
    """Joins, and reads the answer and `auth`."""
    websocket.send(f"40{namespace}")
    answer = str(await websocket.receive())
    prefix = f"40{namespace.rstrip(',')}," if namespace else "40"
    assert answer.startswith(prefix + "{")
    assert await websocket.receive() == f'{prefix.replace("40", "42", 1)}["auth",{{}}]'
    values: dict[str, str] = json.loads(answer[len(prefix) :])
    return values


class TestConnect:
    async def test_main_namespace(self, websocket: RawWebSocket) -> None:
        answer = await joined(websocket)
        assert list(answer) == ["sid"]
        assert len(answer["sid"]) >= 15

    async def test_payload(self, websocket: RawWebSocket) -> None:
        websocket.send('40{"token":"123","é":[1]}')
        assert str(await websocket.receive()).startswith('40{"sid":"')
        assert await websocket.receive() == '42["auth",{"token":"123","é":[1]}]'

    async def test_custom_namespace_with_payload(self, websocket: RawWebSocket) -> None:
        websocket.send('40/custom,{"token":"abc"}')
        assert str(await websocket.receive()).startswith('40/custom,{"sid":"')
        assert await websocket.receive() == '42/custom,["auth",{"token":"abc"}]'

    async def test_custom_namespace_without_payload(self, websocket: RawWebSocket) -> None:
        assert list(await joined(websocket, "/custom,")) == ["sid"]

    async def test_unknown_namespace(self, websocket: RawWebSocket) -> None:
        websocket.send("40/random")
        assert await websocket.receive() == '44/random,{"message":"Invalid namespace"}'
        await joined(websocket)

    @pytest.mark.parametrize("packet", ["4abc", "40{", "40[]", '40"text"', '42["message"]', "49", "40/custom,{}x"])
    async def test_bad_packets_before_connect(self, websocket: RawWebSocket, packet: str) -> None:
        websocket.send(packet)
        assert await websocket.closed() is not None

    async def test_no_connect_in_time(self) -> None:
        async with (
            served(ping_interval=25, connect_timeout=0.05) as server,
            open_websocket(server.port, WEBSOCKET) as websocket,
        ):
            assert str(await websocket.receive()).startswith("0{")
            assert await websocket.closed() == 1008

    async def test_a_refused_namespace_does_not_count_as_joined(self) -> None:
        async with (
            served(ping_interval=25, connect_timeout=0.05) as server,
            open_websocket(server.port, WEBSOCKET) as websocket,
        ):
            assert str(await websocket.receive()).startswith("0{")
            websocket.send("40/random")
            assert str(await websocket.receive()).startswith("44/random,")
            assert await websocket.closed() == 1008

    @pytest.mark.parametrize("payload", ["", "{}", '{"token":"other"}', '{"token":1}'])
    async def test_token(self, payload: str) -> None:
        async with (
            served(conformance.Conformance("secret"), ping_interval=25) as server,
            open_websocket(server.port, WEBSOCKET) as websocket,
        ):
            await websocket.receive()
            websocket.send(f"40{payload}")
            answer = str(await websocket.receive())
            assert answer.startswith("44{")
            error = json.loads(answer[2:])
            assert error["data"]["code"] == "unauthorized"
            assert error["message"] == error["data"]["message"]
            websocket.send('40{"token":"secret"}')
            assert str(await websocket.receive()).startswith('40{"sid"')

    async def test_sids_do_not_repeat(self, websocket: RawWebSocket) -> None:
        first = await joined(websocket)
        second = await joined(websocket, "/custom,")
        assert first["sid"] != second["sid"]


class TestDisconnect:
    async def test_the_connection_stays(self) -> None:
        async with (
            served(ping_interval=0.5, ping_timeout=10) as server,
            open_websocket(server.port, WEBSOCKET) as websocket,
        ):
            await websocket.receive()
            await joined(websocket)
            websocket.send("41")
            websocket.send('42["message","dropped"]')
            assert await websocket.receive() == "2"

    async def test_another_namespace_goes_on(self, websocket: RawWebSocket) -> None:
        await joined(websocket)
        websocket.send("40/custom")
        assert str(await websocket.receive()).startswith('40/custom,{"sid":"')
        assert await websocket.receive() == '42/custom,["auth",{}]'
        websocket.send("41/custom")
        websocket.send('42["message","message to main namespace"]')
        assert await websocket.receive() == '42["message-back","message to main namespace"]'

    async def test_joined_again(self, websocket: RawWebSocket) -> None:
        first = await joined(websocket)
        websocket.send("41")
        assert (await joined(websocket))["sid"] != first["sid"]


class TestEvents:
    @pytest.mark.parametrize(
        ("packet", "answer"),
        [
            ('42["message",1,"2",{"3":[true]}]', '42["message-back",1,"2",{"3":[true]}]'),
            ('42["message"]', '42["message-back"]'),
            ('42["message","é€😀"]', '42["message-back","é€😀"]'),
            ('42["message",9007199254740993,1e400]', '42["message-back",9007199254740993,1e400]'),
            ('42["message",{"a":1,"a":2}]', '42["message-back",{"a":1,"a":2}]'),
            ('42["message",{"_placeholder":true,"num":0}]', '42["message-back",{"_placeholder":true,"num":0}]'),
            ('42456["message-with-ack",1,"2",{"3":[false]}]', '43456[1,"2",{"3":[false]}]'),
            ('420["message-with-ack"]', "430[]"),
            ('429007199254740992["message-with-ack"]', "439007199254740992[]"),
        ],
    )
    async def test_answers(self, websocket: RawWebSocket, packet: str, answer: str) -> None:
        await joined(websocket)
        websocket.send(packet)
        assert await websocket.receive() == answer

    async def test_in_a_namespace(self, websocket: RawWebSocket) -> None:
        await joined(websocket, "/custom,")
        websocket.send('42/custom,["message",1]')
        assert await websocket.receive() == '42/custom,["message-back",1]'
        websocket.send('42/custom,7["message-with-ack",1]')
        assert await websocket.receive() == "43/custom,7[1]"

    @pytest.mark.parametrize(
        "ignored", ['42["other",1]', '427["other",1]', '427["__proto__",1]', '42["message-with-ack",1]', "431[1]",
                    '42["constructor"]', '42["__class__"]'],
    )  # fmt: skip
    async def test_other_events_are_ignored(self, websocket: RawWebSocket, ignored: str) -> None:
        await joined(websocket)
        websocket.send(ignored)
        websocket.send('42["message",2]')
        assert await websocket.receive() == '42["message-back",2]'

    async def test_binary_event(self, websocket: RawWebSocket) -> None:
        await joined(websocket)
        websocket.send('452-["message",{"_placeholder":true,"num":1},"x",{"_placeholder":true,"num":0}]')
        websocket.send(b"\x01\x02\x03")
        websocket.send(b"\x04\x05\x06")
        expected = '452-["message-back",{"_placeholder":true,"num":0},"x",{"_placeholder":true,"num":1}]'
        assert await websocket.receive() == expected
        assert await websocket.receive() == b"\x04\x05\x06"
        assert await websocket.receive() == b"\x01\x02\x03"

    async def test_binary_acknowledgement(self, websocket: RawWebSocket) -> None:
        await joined(websocket)
        websocket.send('452-789["message-with-ack",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
        websocket.send(b"\x01")
        websocket.send(b"\x02")
        assert await websocket.receive() == '462-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
        assert [await websocket.receive(), await websocket.receive()] == [b"\x01", b"\x02"]

    async def test_over_polling(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        await request(server.port, "POST", session, b"40/custom,")
        body = (await request(server.port, "GET", session)).body.split(b"\x1e")
        assert body[0].startswith(b'40/custom,{"sid":"')
        assert body[1:] == [b'42/custom,["auth",{}]']
        event = b'451-/custom,["message",{"_placeholder":true,"num":0}]\x1ebAQID'
        await request(server.port, "POST", session, event)
        answer = (await request(server.port, "GET", session)).body
        assert answer == b'451-/custom,["message-back",{"_placeholder":true,"num":0}]\x1ebAQID'

    async def test_a_burst_over_polling_comes_16_at_a_time(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        await request(server.port, "POST", session, b"40")
        await request(server.port, "GET", session)
        await request(server.port, "POST", session, b"\x1e".join(b'42["message",%d]' % n for n in range(100)))
        seen: list[bytes] = []
        while len(seen) < 100:
            packets = (await request(server.port, "GET", session)).body.split(b"\x1e")
            assert len(packets) <= 16
            seen += packets
        assert seen == [b'42["message-back",%d]' % n for n in range(100)]


def deep(levels: int) -> str:
    return '42["message",' + "[" * (levels - 1) + "]" * (levels - 1) + "]"


class TestHostile:
    """The connection may end; another client is answered afterwards."""

    @pytest.mark.parametrize(
        "packet",
        [
            "4abc", "42{}", "42abc[\"message\"]", "42[]", "42[1]", "42[null]", '42["message"', '42["connect"]',
            '42["message",NaN]', '42["message",Infinity]', '42["message","\\ud800x]', '42["message"]trailing',
            "43[1]", '43abc["x"]', "44", '44{"message":"x"}', "45[]", '450-["message"]', '4511-["message"]',
            '451000000000-["message",{"_placeholder":true,"num":0}]', '451-["message",{"_placeholder":true,"num":1}]',
            "461-[1]", "47", "4", "40", '42/unknown,["message"]', "41/unknown", '4290071992547409920["message"]',
            '42["message",{"_placeholder":true,"num":0}]\x00', deep(65), deep(100_000), "40/" + "x" * 200,
            '42/custom,["message"]',
        ],
    )  # fmt: skip
    async def test_the_connection_ends(self, server: Served, websocket: RawWebSocket, packet: str) -> None:
        await joined(websocket)
        websocket.send(packet)
        assert await websocket.closed() is not None
        assert server.socketio.connections == 0
        await self.check_others(server)

    @staticmethod
    async def check_others(server: Served) -> None:
        async with open_websocket(server.port, WEBSOCKET) as other:
            await other.receive()
            await joined(other)
            other.send('42["message",1]')
            assert await other.receive() == '42["message-back",1]'

    async def test_nesting_within_the_limit(self, websocket: RawWebSocket) -> None:
        await joined(websocket)
        websocket.send(deep(64))
        assert await websocket.receive() == deep(64).replace("message", "message-back")

    async def test_binary_that_nobody_announced(self, server: Served, websocket: RawWebSocket) -> None:
        await joined(websocket)
        websocket.send(b"\x01")
        assert await websocket.closed() == 1002
        await self.check_others(server)

    async def test_text_in_the_place_of_an_attachment(self, websocket: RawWebSocket) -> None:
        await joined(websocket)
        websocket.send('451-["message",{"_placeholder":true,"num":0}]')
        websocket.send('42["message"]')
        assert await websocket.closed() == 1002

    async def test_attachments_before_connect(self, websocket: RawWebSocket) -> None:
        websocket.send('451-["message",{"_placeholder":true,"num":0}]')
        assert await websocket.closed() == 1002

    async def test_attachments_count_towards_the_payload(self, websocket: RawWebSocket) -> None:
        await joined(websocket)
        websocket.send('452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
        websocket.send(bytes(600_000))
        websocket.send(bytes(600_000))
        assert await websocket.closed() == 1009

    async def test_too_many_namespaces(self, websocket: RawWebSocket) -> None:
        """32 may be joined; those that are refused do not stay in the count."""
        await joined(websocket)
        for number in range(100):
            websocket.send(f"40/{number}")
            assert str(await websocket.receive()).startswith(f"44/{number},")
        websocket.send('42["message"]')
        assert await websocket.receive() == '42["message-back"]'

    async def test_lone_surrogates_survive(self, server: Served, websocket: RawWebSocket) -> None:
        await joined(websocket)
        websocket.send('42["message","\\ud800"]')
        try:
            assert await websocket.receive() == '42["message-back","\\ud800"]'
        except Closed:
            await self.check_others(server)

    async def test_packets_in_a_post_end_with_the_bad_one(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        await request(server.port, "POST", session, b"40\x1e4abc\x1e40")
        assert (await request(server.port, "GET", session)).status == 400
        assert server.socketio.connections == 0

    async def test_too_many_packets_in_a_post(self, server: Served) -> None:
        _, session = await poll_session(server.port, PATH)
        body = b"\x1e".join([b"3"] * 1025)
        assert (await request(server.port, "POST", session, body)).status == 400
        assert (await request(server.port, "GET", session)).status == 400
