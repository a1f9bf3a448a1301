"""C12: no file descriptors left. Who is connected stays so, accepting does not spin, and later all is well again."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.actors import Actors
from tests.end_to_end.conftest import EXAMPLE
from tests.processes import PROGRAM, ServerProcess

__all__: list[str] = []

LIMIT = 64
CONNECTIONS = 200
WATCHED = 2.0


@pytest.fixture
def short_of_descriptors(tmp_path: Path) -> Iterator[ServerProcess]:
    shell = shutil.which("sh")
    assert shell is not None
    place = f"--config {EXAMPLE} --port 0 --data {tmp_path / 'data'}"
    command = [shell, "-c", f"ulimit -n {LIMIT}; exec {PROGRAM} serve {place}"]
    server = ServerProcess(command, tmp_path, "server", {})
    yield server
    assert server.stop() == 0


@pytest.mark.slow
async def test_more_connections_than_descriptors(short_of_descriptors: ServerProcess, actors: Actors) -> None:
    server = short_of_descriptors
    page = await asyncio.to_thread(actors.connect, server.url, "ui/456/there")
    writers = []
    for _ in range(CONNECTIONS):
        with contextlib.suppress(ConnectionError):
            writers.append((await asyncio.open_connection(server.address, server.port))[1])

    before = cpu_seconds(server)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WATCHED):
            while True:
                page.emit("echo", {"ids": {"default": page.id}})
                assert (await asyncio.to_thread(page.receive, "echo"))["from"] == page.id
                await asyncio.Event().wait()
    assert cpu_seconds(server) - before < 0.2 * WATCHED

    for writer in writers:
        writer.close()
    late = await asyncio.to_thread(actors.connect, server.url, "ui/456/late")
    late.emit("echo", {"ids": {"default": page.id}})
    assert (await asyncio.to_thread(page.receive, "echo"))["from"] == late.id
    page.close()
    late.close()


def cpu_seconds(server: ServerProcess) -> float:
    """What the process has used of the processor."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
