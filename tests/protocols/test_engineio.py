from __future__ import annotations

import pytest

from smart_router.errors import ProtocolError
from smart_router.protocols.engineio import EngineOptions, EngineSession, Packet, Transport

OPTIONS = EngineOptions(
    ping_interval=0.3, ping_timeout=0.2, max_payload=1000, upgrade_timeout=5, max_packets_in=8, max_backlog=5000
)
T0 = 100.0


def session(transport: Transport = Transport.POLLING, options: EngineOptions = OPTIONS) -> EngineSession:
    return EngineSession("abc", transport, options, T0)


def websocket() -> EngineSession:
    return session(Transport.WEBSOCKET)


class TestHeartbeat:
    def test_the_first_ping_is_one_interval_after_the_handshake(self) -> None:
        engine = websocket()
        assert engine.next_deadline() == pytest.approx(T0 + 0.3)
        assert engine.handle_timer(T0 + 0.299) is None
        assert engine.handle_timer(T0 + 0.3) == b"2"

    def test_without_a_pong_the_end_is_exactly_interval_and_timeout(self) -> None:
        engine = websocket()
        assert engine.handle_timer(T0 + 0.31) == b"2"  # the timer was late: the end is not put off
        assert engine.next_deadline() == pytest.approx(T0 + 0.5)
        assert engine.handle_timer(T0 + 0.499) is None
        with pytest.raises(ProtocolError, match="ping timeout"):
            engine.handle_timer(T0 + 0.5001)
        assert engine.closed
        assert engine.next_deadline() is None

    def test_after_a_long_pause_of_ours_the_client_gets_its_time(self) -> None:
        engine = websocket()
        assert engine.handle_timer(T0 + 30) == b"2"
        assert engine.next_deadline() == pytest.approx(T0 + 30.2)

    def test_the_next_heartbeat_is_due_an_interval_after_the_last_ping_of_any_kind(self) -> None:
        engine = websocket()
        assert engine.ping(T0 + 0.1) == b"2"
        engine.receive(b"3")
        assert engine.next_deadline() == pytest.approx(T0 + 0.4)
        assert engine.handle_timer(T0 + 0.3) is None

    def test_pongs_answer_in_order_and_one_too_many_is_counted(self) -> None:
        engine = websocket()
        engine.ping(T0)
        engine.ping(T0 + 0.1)
        assert (engine.pings_sent, engine.pings_answered) == (2, 0)
        engine.receive(b"3")
        assert engine.pings_answered == 1
        assert engine.next_deadline() == pytest.approx(T0 + 0.3)  # 0.1 + timeout, before 0.1 + interval
        engine.receive(b"3")
        engine.receive(b"3probe")
        assert engine.pings_answered == 2
        assert engine.statistics().ignored_pongs == 1

    def test_an_old_ping_unanswered_ends_it_though_later_ones_were_sent(self) -> None:
        engine = websocket()
        for at in (0.0, 0.1, 0.19):
            engine.ping(T0 + at)
        with pytest.raises(ProtocolError):
            engine.handle_timer(T0 + 0.2)


class TestPackets:
    @pytest.mark.parametrize("packet", [b"abc", b"", b"0{}", b"2", b"2probe", b"5", b"7", b"\xff"])
    def test_what_a_client_may_not_send_ends_the_session(self, packet: bytes) -> None:
        engine = websocket()
        with pytest.raises(ProtocolError):
            engine.receive(packet)
        assert engine.closed

    def test_the_clients_close_is_no_error(self) -> None:
        engine = websocket()
        engine.receive(b"1")
        assert engine.closed
        assert engine.handle_timer(T0 + 9) is None

    def test_noop_is_ignored(self) -> None:
        engine = websocket()
        engine.receive(b"6")
        assert not engine.closed

    def test_a_message_does_not_belong_here(self) -> None:
        with pytest.raises(ValueError, match="layer above"):
            websocket().receive(b"4a")


class TestPolling:
    def test_a_poll_waits_until_there_is_something(self) -> None:
        engine = session()
        assert engine.poll(T0) is None
        assert engine.poll_waits
        engine.send(b"4a")
        engine.send(b"\1\2\3\4", binary=True)
        assert engine.take_body() == b"4a\x1ebAQIDBA=="
        assert engine.take_body() is None
        assert not engine.poll_waits

    def test_an_answer_has_at_most_16_packets(self) -> None:
        engine = session()
        for number in range(40):
            engine.send(b"4%d" % number)
        bodies = [engine.poll(T0) for _ in range(3)]
        assert [len((body or b"").split(b"\x1e")) for body in bodies] == [16, 16, 8]
        assert b"\x1e".join(body or b"" for body in bodies) == b"\x1e".join(b"4%d" % number for number in range(40))

    def test_an_answer_has_at_most_max_payload_bytes_unless_one_packet_alone_is_larger(self) -> None:
        engine = session()
        for size in (499, 499, 499, 1999, 0):
            engine.send(b"4" + b"x" * size)
        assert [len(engine.poll(T0) or b"") for _ in range(4)] == [500, 500, 500, 2000]
        engine = session()
        engine.send(b"4" + b"x" * 499)
        engine.send(b"4" + b"x" * 498)
        assert len(engine.poll(T0) or b"") == 1000

    def test_polls_that_overlap_end_the_session(self) -> None:
        engine = session()
        engine.poll(T0)
        with pytest.raises(ProtocolError, match="overlap"):
            engine.poll(T0)
        assert engine.closed
        assert engine.take_body() == b"1"
        with pytest.raises(ProtocolError):
            engine.poll(T0)

    def test_close_by_post_releases_the_poll_with_a_noop(self) -> None:
        engine = session()
        engine.poll(T0)
        (packet,) = engine.post(b"1", T0)
        engine.receive(packet.data)
        assert engine.take_body() == b"6"
        assert engine.take_body() is None

    def test_an_aborted_poll_ends_the_session(self) -> None:
        engine = session()
        engine.poll(T0)
        engine.poll_aborted()
        assert engine.closed
        assert engine.take_body() is None

    @pytest.mark.parametrize("body", [b"abc", b"", b"4" * 1001, b"\x1e".join([b"4"] * 9), b"b!"])
    def test_a_bad_post_ends_the_session(self, body: bytes) -> None:
        engine = session()
        with pytest.raises(ProtocolError):
            engine.post(body, T0)
        assert engine.closed

    def test_a_poll_after_the_time_ends_the_session_though_no_timer_ran(self) -> None:
        engine = session()
        engine.ping(T0)
        with pytest.raises(ProtocolError, match="ping timeout"):
            engine.poll(T0 + 0.2)

    def test_the_next_poll_proves_the_ping_but_does_not_answer_it(self) -> None:
        engine = session()
        engine.send(b"4a")
        engine.send(engine.ping(T0))
        assert engine.poll(T0) == b"4a\x1e2"
        assert engine.pings_answered == 0
        assert engine.poll(T0 + 0.1) is None
        assert engine.pings_answered == 1
        assert engine.next_deadline() == pytest.approx(T0 + 0.2)
        engine.receive(b"3")
        assert engine.pings_answered == 1
        assert engine.statistics().ignored_pongs == 0

    def test_a_binary_message_that_looks_like_a_ping_proves_nothing(self) -> None:
        engine = session()
        engine.ping(T0)
        engine.send(b"2", binary=True)
        engine.poll(T0)
        engine.poll(T0)
        assert engine.pings_answered == 0

    def test_a_full_backlog_ends_the_session(self) -> None:
        engine = session()
        assert all(engine.send(b"4" + b"x" * 998) for _ in range(5))
        assert not engine.send(b"4")
        assert engine.closed
        assert not engine.send(b"4")


class TestUpgrade:
    def test_messages_and_polls_pass_over_in_order(self) -> None:
        engine = session()
        assert engine.poll(T0) is None
        engine.begin_upgrade(T0)
        assert engine.receive_probe(b"2probe") == b"3probe"
        assert engine.take_body() == b"6"
        assert engine.poll(T0) == b"6"  # the client polled again before it saw the answer to its probe
        engine.send(b"4a")
        engine.send(b"b", binary=True)
        assert engine.statistics().transport is Transport.POLLING
        assert engine.receive_probe(b"5") is None
        assert engine.finish_upgrade() == (None, [Packet(b"4a"), Packet(b"b", True)])
        assert engine.transport is Transport.WEBSOCKET
        assert not engine.upgrading
        with pytest.raises(ValueError, match="WebSocket"):
            engine.poll(T0)
        with pytest.raises(ProtocolError):
            engine.begin_upgrade(T0)
        assert not engine.closed

    def test_a_poll_that_still_waits_is_released(self) -> None:
        engine = session()
        engine.begin_upgrade(T0)
        engine.receive_probe(b"2probe")
        engine.send(b"4a")
        assert engine.poll(T0) == b"4a"
        engine.abort_upgrade()
        assert engine.poll(T0) is None
        engine.begin_upgrade(T0)
        engine.receive_probe(b"2probe")
        engine.receive_probe(b"5")
        assert engine.finish_upgrade() == (b"6", [])

    @pytest.mark.parametrize("packets", [[b"5"], [b"abc"], [b"2"], [b"4a"], [b"2probe", b"2probe"], [b""]])
    def test_a_bad_probe_ends_the_upgrade_only(self, packets: list[bytes]) -> None:
        engine = session()
        engine.begin_upgrade(T0)
        for packet in packets[:-1]:
            engine.receive_probe(packet)
        with pytest.raises(ProtocolError):
            engine.receive_probe(packets[-1])
        assert not engine.upgrading
        assert not engine.closed
        engine.send(b"4a")
        assert engine.poll(T0) == b"4a"

    def test_one_upgrade_at_a_time(self) -> None:
        engine = session()
        engine.begin_upgrade(T0)
        with pytest.raises(ProtocolError):
            engine.begin_upgrade(T0)
        assert engine.upgrading

    def test_an_upgrade_has_its_time(self) -> None:
        engine = session(options=EngineOptions(upgrade_timeout=1))
        engine.begin_upgrade(T0)
        assert engine.next_deadline() == T0 + 1
        assert engine.handle_timer(T0 + 1) is None
        assert not engine.upgrading
        assert not engine.closed

    def test_a_ping_of_before_is_answered_after(self) -> None:
        engine = session()
        engine.send(engine.ping(T0))
        engine.begin_upgrade(T0)
        engine.receive_probe(b"2probe")
        engine.receive_probe(b"5")
        assert engine.finish_upgrade() == (None, [Packet(b"2")])
        engine.receive(b"3")
        assert engine.pings_answered == 1
