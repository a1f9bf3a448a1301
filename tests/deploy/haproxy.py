"""HAProxy with the configuration of deploy/, in front of servers of a test."""

import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from os import environ
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.clusters.process import OwnServer, free_ports
from tests.processes import ROOT

__all__ = ["CONFIG", "HaProxy", "Line", "haproxy_program"]

CONFIG = ROOT / "deploy" / "haproxy.cfg"
_LINE = re.compile(r"\S+ \w+/(?P<server>\S+) \S+ (?P<status>-?\d+) \d+ \S+ \S+ (?P<method>\w+) (?P<path>\S+)")


class Line(NamedTuple):
    """A request in the log: the name of the server, or `<NOSRV>`."""

    server: str
    status: int
    method: str
    path: str


class HaProxy(OwnServer):
    """`routers`: their ports on 127.0.0.1, two or three; one that is missing is down."""

    def __init__(self, folder: Path, routers: Sequence[int]) -> None:
        super().__init__("haproxy", folder)
        self.port, unused = free_ports(2)
        self._routers = (*routers, unused)[:3]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return [haproxy_program(), "-db", "-f", str(CONFIG)]

    def environment(self) -> Mapping[str, str]:
        places = {f"SMART_ROUTER_{n + 1}": f"127.0.0.1:{port}" for n, port in enumerate(self._routers)}
        listen = {"SMART_ROUTER_LISTEN": f"127.0.0.1:{self.port}", "SMART_ROUTER_MAXCONN": "1000"}
        return {"PATH": environ["PATH"], **listen, **places}

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    def lines(self) -> list[Line]:
        """The requests that have ended, in order."""
        found = map(_LINE.match, self.log().splitlines())
        return [Line(m["server"], int(m["status"]), m["method"], m["path"]) for m in found if m]


def haproxy_program() -> str:
    """Skips the test when there is none."""
    found = shutil.which("haproxy")
    if found is None:
        pytest.skip("HAProxy is not installed (script/services)")
    return found
