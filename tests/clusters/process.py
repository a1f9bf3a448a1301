"""A server program that a test starts, kills, pauses and starts again, on ports and a folder that stay its own."""

import contextlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

__all__ = ["OwnServer", "free_ports", "wait_for"]

_PORTS = range(20_000, 30_000)
"""Below those that the kernel gives to outgoing connections: nobody takes a server's port while it is away."""
_INTERVAL = 0.02
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0


def free_ports(number: int) -> list[int]:
    """So many ports of 127.0.0.1, not in use now."""
    with contextlib.ExitStack() as held:
        found: list[int] = []
        for port in random.sample(_PORTS, len(_PORTS)):
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
            if len(found) == number:
                return found
    raise AssertionError(f"no {number} free ports in {_PORTS}")


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Whether it came to hold in time, while the process ran."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_INTERVAL)
            return False
    return False


class OwnServer:
    """Base of the servers. Its calls block: in async tests use `asyncio.to_thread` for `start` and `stop`."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str] | None:
        """None: this process's."""
        return None

    def answers(self) -> bool:
        """Whether it serves clients."""
        raise NotImplementedError

    def begin(self) -> None:
        """Starts it and returns at once; `await_start` waits."""
        assert not self.running, f"{self.name} runs already"
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env=self.environment(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )

    def await_start(self, timeout: float = _START_TIMEOUT) -> None:
        """It serves when this returns; AssertionError with its log when it does not in time."""
        if not wait_for(self.answers, self._started, timeout):
            ended = self._started.poll()
            self.close()
            state = f"within {timeout} s" if ended is None else f": it ended with status {ended}"
            raise AssertionError(f"{self.name} did not start {state}; its log:\n{self.log()}")

    def await_that(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """It holds when this returns; AssertionError with the log when it does not in time."""
        assert wait_for(condition, self._started, timeout), f"{self.name} did not {what}; its log:\n{self.log()}"

    def revive(self) -> None:
        """It serves when this returns: started, or woken up."""
        if not self.running:
            self.start()
        self.resume()
        self.await_start()

    def start(self) -> None:
        """On the same ports and folder as before."""
        self.begin()
        self.await_start()

    def stop(self) -> None:
        """SIGTERM, and gone; AssertionError with the log when it does not end."""
        self._started.terminate()
        try:
            self._started.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.close()
            raise AssertionError(f"{self.name} did not stop; its log:\n{self.log()}") from None

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self._started.kill()
        self._started.wait()

    def pause(self) -> None:
        self._started.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._started.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Gone when this returns, whatever it was doing."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._started.pid

    def log(self) -> str:
        return self._log_file.read_text("utf-8", "replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _log_file(self) -> Path:
        return self.folder / "output.log"

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"start {self.name} first"
        return self._process
