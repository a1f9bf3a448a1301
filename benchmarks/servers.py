"""Starts a server under test on one core, waits until it is ready, and stops it."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import tools
from benchmarks.variants import Variant

__all__ = ["Running", "ServerError", "cores", "running"]

_COMPILED = tools.BENCHMARKS.parent / ".venv-compiled/bin/smart-router"
_START_SECONDS = 20
_STOP_SECONDS = 15


class ServerError(Exception):
    """The server did not start, or ended; the text holds the end of what it said."""


@dataclass(frozen=True)
class Running:
    """A server that is ready: what the generator must know of it."""

    port: int
    pid: int


def cores() -> tuple[int, int]:
    """Return the core for the server and the one for the generator; the same one if there is no other."""
    available = sorted(os.sched_getaffinity(0))
    return available[-1], available[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _command(variant: Variant, port: int, data: Path, broker: str | None) -> list[str]:
    peers = tools.BENCHMARKS / "peers"
    if variant.server == "node":
        return [str(tools.node() / "bin/node"), str(peers / "node_socketio.cjs"), str(port)]
    if variant.server == "python-socketio":
        return [sys.executable, str(peers / "python_socketio.py"), str(port)]
    program = _COMPILED if variant.compiled else Path(sys.executable).with_name("smart-router")
    if not program.exists():
        raise ServerError(f"{variant.name}: there is no {program}: run script/compile")
    config = tools.BENCHMARKS / "app" / f"{variant.config}.toml"
    command = [str(program), "serve", "--config", str(config), "--port", str(port), "--data", str(data)]
    chosen = variant.broker or broker
    return [*command, "--broker", chosen] if chosen else command


def _environment(variant: Variant) -> dict[str, str]:
    if variant.server == "node":
        return {**os.environ, "NODE_PATH": str(tools.install_node_peers())}
    if variant.server == "python-socketio" or variant.config == "aio-pika":
        return {**os.environ, "PYTHONPATH": str(tools.install_python_peers())}
    return dict(os.environ)


def _is_ready(variant: Variant, port: int) -> bool:
    try:
        if variant.server != "smart-router":
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def _wait_until_ready(variant: Variant, port: int, process: subprocess.Popen[bytes], said: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not _is_ready(variant, port):
        status = process.poll()
        if status is not None or time.monotonic() > end:
            what = f"is not ready after {_START_SECONDS} s" if status is None else f"ended with status {status}"
            raise ServerError(f"{variant.name}: the server {what}\n{said.read_text(errors='replace')[-1500:]}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def running(variant: Variant, broker: str | None) -> Iterator[Running]:
    """Run the variant's server with an empty data folder, on a disk and not in memory: beside the build."""
    tools.BUILD.mkdir(parents=True, exist_ok=True)
    folder, port = Path(tempfile.mkdtemp(prefix="run-", dir=tools.BUILD)), _free_port()
    said, (core, _) = folder / "said.txt", cores()
    try:
        environment = _environment(variant)
        command = ["taskset", "-c", str(core), *_command(variant, port, folder / "data", broker)]
        with said.open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_until_ready(variant, port, process, said)
            yield Running(port, process.pid)
        finally:
            _stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
