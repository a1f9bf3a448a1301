"""A Redis of a test's own."""

import shutil
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tests.clusters.process import OwnServer, free_ports
from tests.clusters.wire import redis_answers, redis_call

__all__ = ["OwnRedis", "Tls"]

_DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class Tls(NamedTuple):
    """PEM files; with them the server speaks TLS only."""

    certificate: Path
    key: Path
    authority: Path


class OwnRedis(OwnServer):
    """A redis-server on a free port of 127.0.0.1 and a folder: `with OwnRedis(tmp_path / "redis") as redis: redis.url`.

    It writes each command to disk before it answers. `arguments` come last and win: `["--appendonly", "no"]` keeps
    nothing, `["--cluster-enabled", "yes"]`, … A replica: `replica_of=("127.0.0.1", other.port)`.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str] = (),
        password: str = "",
        replica_of: tuple[str, int] | None = None,
        tls: Tls | None = None,
    ) -> None:
        super().__init__("redis-server", folder)
        (self.port,) = free_ports(1)
        self.password = password
        self._tls = tls
        self._replica_of = replica_of
        self._arguments = arguments

    @property
    def url(self) -> str:
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"{'rediss' if self._tls else 'redis'}://{login}127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        program = shutil.which("redis-server")
        assert program, "redis-server is not installed: run script/services"
        place = ["--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        return [program, *place, *self._ports(), *_DURABLE, *self._access(), *self._arguments]

    def answers(self) -> bool:
        return redis_answers("127.0.0.1", self.port, self.password, self._context())

    def call(self, *command: str) -> str:
        """One command; the first line of its answer, or the text of a bulk. AssertionError for an error."""
        answer = redis_call(("127.0.0.1", self.port), command, self.password, self._context())
        assert not answer.startswith("-"), f"{command[0]}: {answer}"
        return answer

    def _ports(self) -> list[str]:
        if self._tls is None:
            return ["--port", str(self.port)]
        files = ["--tls-cert-file", str(self._tls.certificate), "--tls-key-file", str(self._tls.key)]
        authority = ["--tls-ca-cert-file", str(self._tls.authority), "--tls-auth-clients", "no"]
        return ["--port", "0", "--tls-port", str(self.port), *files, *authority]

    def _access(self) -> list[str]:
        access = ["--requirepass", self.password, "--masterauth", self.password] if self.password else []
        if self._replica_of:
            access += ["--replicaof", self._replica_of[0], str(self._replica_of[1])]
        return access

    def _context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=str(self._tls.authority)) if self._tls else None
