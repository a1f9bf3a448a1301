"""The server under test: started on a port that stays the same, killed, paused, stopped, started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["CONFIG", "Server"]

CONFIG = Path(__file__).parent / "server.toml"
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 20.0


class Server:
    """`smart-router serve` on a data folder."""

    def __init__(self, folder: Path, config: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._config = config
        self._environment = {**os.environ, "PYTHONFAULTHANDLER": "1", **environment}
        self._process: asyncio.subprocess.Process | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    async def start(self) -> None:
        """Ready when this returns; RuntimeError with where its log is when it isn't in time."""
        program = str(Path(sys.executable).parent / "smart-router")
        place = ["--port", str(self.port), "--data", str(self._folder / "data")]
        with (self._folder / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program,
                "serve",
                "--config",
                str(self._config),
                *place,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
            )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _START_TIMEOUT)
        if not line or json.loads(line)["event"] != "ready":
            raise RuntimeError(f"the server did not start; its log: {self._folder / 'server.log'}")

    async def kill(self) -> int:
        """SIGKILL, and gone; the status."""
        self._running.kill()
        return await self._running.wait()

    async def terminate(self) -> int:
        """SIGTERM; its exit status. One that does not end in time gets SIGABRT: its log then shows where it was."""
        self._running.terminate()
        try:
            return await asyncio.wait_for(self._running.wait(), _STOP_TIMEOUT)
        except TimeoutError:
            self._running.send_signal(signal.SIGABRT)
            return await self._running.wait()

    async def close(self) -> None:
        """Gone when this returns, whatever it was doing."""
        if self._process and self._process.returncode is None:
            await self.kill()

    def pause(self) -> None:
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running.send_signal(signal.SIGCONT)

    @property
    def resident(self) -> int:
        """Bytes of memory it holds; 0 once it has ended."""
        try:
            fields = Path(f"/proc/{self._running.pid}/statm").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "start it first"
        return self._process
