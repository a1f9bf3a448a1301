from __future__ import annotations

import json

import pytest

from smart_router.protocols.engineio_handshake import (
    EngineOptions,
    HandshakeError,
    Transport,
    check_request,
    open_packet,
    parse_query,
)

POLLING, WEBSOCKET = Transport.POLLING, Transport.WEBSOCKET
SUITE = EngineOptions(ping_interval=0.3, ping_timeout=0.2, max_payload=1_000_000)


@pytest.mark.parametrize(("transport", "upgrades"), [(POLLING, ["websocket"]), (WEBSOCKET, [])])
def test_the_open_packet_holds_exactly_what_is_in_force(transport: Transport, upgrades: list[str]) -> None:
    packet = open_packet("abc", transport, SUITE)
    assert packet[:1] == b"0"
    assert json.loads(packet[1:]) == {
        "sid": "abc",
        "upgrades": upgrades,
        "pingInterval": 300,
        "pingTimeout": 200,
        "maxPayload": 1_000_000,
    }


# method, query, is it a WebSocket request, transport of the session with that sid, code
REQUESTS = [
    ("GET", "EIO=4&transport=polling", False, None, None),
    ("GET", "EIO=4&transport=websocket", True, None, None),
    ("GET", "transport=polling", False, None, 5),
    ("GET", "EIO=abc&transport=polling", False, None, 5),
    ("GET", "EIO=3&transport=polling", False, None, 5),
    ("GET", "EIO=4", False, None, 0),
    ("GET", "EIO=4&transport=abc", False, None, 0),
    ("GET", "EIO=4&transport=constructor", False, None, 0),
    ("GET", "EIO=4&transport=__proto__", True, None, 0),
    ("GET", "", False, None, 0),
    ("POST", "EIO=4&transport=polling", False, None, 2),
    ("PUT", "EIO=4&transport=polling", False, None, 2),
    ("GET", "EIO=4&transport=websocket", False, None, 3),
    ("GET", "EIO=4&transport=polling", True, None, 3),
    ("GET", "transport=websocket", True, None, 5),
    ("GET", "EIO=4&transport=polling&sid=zzz", False, None, 1),
    ("POST", "EIO=4&transport=polling&sid=zzz", False, None, 1),
    ("GET", "EIO=4&transport=websocket&sid=zzz", True, None, 1),
    ("GET", "EIO=4&transport=polling&sid=a", False, POLLING, None),
    ("POST", "EIO=4&transport=polling&sid=a", False, POLLING, None),
    ("PUT", "EIO=4&transport=polling&sid=a", False, POLLING, 3),
    ("GET", "EIO=4&transport=polling&sid=a", False, WEBSOCKET, 3),
    ("POST", "EIO=4&transport=polling&sid=a", False, WEBSOCKET, 3),
    ("GET", "EIO=4&transport=websocket&sid=a", False, WEBSOCKET, 3),
    ("GET", "EIO=4&transport=websocket&sid=a", True, WEBSOCKET, 3),
    ("GET", "EIO=4&transport=websocket&sid=a", True, POLLING, None),
]


@pytest.mark.parametrize(("method", "query", "websocket", "current", "code"), REQUESTS)
def test_each_bad_request_has_its_code(
    method: str, query: str, websocket: bool, current: Transport | None, code: int | None
) -> None:
    error = check_request(method, parse_query(query.encode()), websocket=websocket, current=current)
    assert (error and error.code) == code


def test_errors_are_told_as_the_reference_server_tells_them() -> None:
    assert [json.loads(error.body) for error in HandshakeError] == [
        {"code": 0, "message": "Transport unknown"},
        {"code": 1, "message": "Session ID unknown"},
        {"code": 2, "message": "Bad handshake method"},
        {"code": 3, "message": "Bad request"},
        {"code": 4, "message": "Forbidden"},
        {"code": 5, "message": "Unsupported protocol version"},
    ]
    assert [error.status for error in HandshakeError] == [400, 400, 400, 400, 403, 400]


@pytest.mark.parametrize("query", [b"&" * 1000, b"a=" * 1000, b"\xff\xfe=%ff", b"transport=%", b"=", b"transport"])
def test_any_query_is_read(query: bytes) -> None:
    assert check_request("GET", parse_query(query), websocket=False, current=None) is HandshakeError.UNKNOWN_TRANSPORT
