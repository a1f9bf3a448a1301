"""As much of Redis' and RabbitMQ's protocols as it takes to see that a server answers."""

import socket
import ssl
from collections.abc import Sequence

__all__ = ["amqp_answers", "redis_answers", "redis_call"]

_TIMEOUT = 2.0
_AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
_CONNECTION_START = b"\x00\x0a\x00\x0a"
_METHOD_FRAME = 1


def amqp_answers(host: str, port: int) -> bool:
    """Whether an AMQP 0-9-1 server there greets."""
    try:
        with socket.create_connection((host, port), _TIMEOUT) as peer:
            peer.sendall(_AMQP_HEADER)
            start = peer.makefile("rb").read(11)
    except OSError:
        return False
    return start[:1] == bytes([_METHOD_FRAME]) and start[7:11] == _CONNECTION_START


def redis_answers(host: str, port: int, password: str = "", context: ssl.SSLContext | None = None) -> bool:
    """Whether a Redis there answers PING and has loaded its data."""
    try:
        return redis_call((host, port), ["PING"], password, context) == "+PONG"
    except OSError:
        return False


def redis_call(
    place: tuple[str, int], command: Sequence[str], password: str = "", context: ssl.SSLContext | None = None
) -> str:
    """The first line of the answer to a command on its own connection: `+OK`, `-ERR …`, `:1`; or a bulk as a whole."""
    with socket.create_connection(place, _TIMEOUT) as plain:
        peer = context.wrap_socket(plain, server_hostname=place[0]) if context else plain
        with peer, peer.makefile("rb") as answers:
            if password:
                peer.sendall(_encode(["AUTH", password]))
                answers.readline()
            peer.sendall(_encode(command))
            line = answers.readline().rstrip(b"\r\n")
            if line[:1] == b"$" and line != b"$-1":
                line = answers.read(int(line[1:]))
    return line.decode()


def _encode(command: Sequence[str]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
