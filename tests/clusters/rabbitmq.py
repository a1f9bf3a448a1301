"""A RabbitMQ of a test's own: one node, with an Erlang port mapper of its own."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.clusters.process import OwnServer, free_ports
from tests.clusters.wire import amqp_answers

__all__ = ["Epmd", "OwnRabbit", "rabbitmq_program"]

_PLACES = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin")
"""Before PATH: Debian's wrapper in /usr/sbin starts the program as another user, on that user's folders."""
_CTL_TIMEOUT = 60.0
_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
"""


def rabbitmq_program(name: str) -> str | None:
    """The path of `rabbitmq-server`, `rabbitmqctl`, …; None: not installed."""
    return shutil.which(name, path=os.pathsep.join(_PLACES)) or shutil.which(name)


class Epmd(OwnServer):
    """An Erlang port mapper on its own port, so that nothing meets the machine's other Erlang nodes."""

    def __init__(self, folder: Path) -> None:
        super().__init__("epmd", folder)
        (self.port,) = free_ports(1)

    def command(self) -> Sequence[str]:
        program = shutil.which("epmd")
        assert program, "epmd is not installed: run script/services"
        return [program, "-port", str(self.port), "-address", "127.0.0.1"]

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class OwnRabbit(OwnServer):
    """A node on free ports of 127.0.0.1 and a folder: `with OwnRabbit(tmp_path / "rabbit") as rabbit: rabbit.url`.

    It takes some seconds to start. guest:guest, no plugins. The rest is for clusters: a `name`, the port mapper, the
    cookie, and the `peers` that it looks for at its first start.
    """

    def __init__(
        self, folder: Path, name: str = "", epmd: Epmd | None = None, cookie: str = "", peers: Sequence[str] = ()
    ) -> None:
        self.node = f"{name or 'sr' + secrets.token_hex(4)}@localhost"
        super().__init__(self.node, folder)
        self._own_epmd = epmd is None
        self._epmd = epmd or Epmd(folder / "epmd")
        self.port, self._distribution_port = free_ports(2)
        self._write(cookie or secrets.token_hex(16), peers)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def command(self) -> Sequence[str]:
        program = rabbitmq_program("rabbitmq-server")
        assert program, "rabbitmq-server is not installed: run script/services"
        return [program]

    def environment(self) -> Mapping[str, str]:
        """Only what is ours: the machine's own settings for RabbitMQ are left aside."""
        folder = self.folder
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "ERL_EPMD_PORT": str(self._epmd.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node: what we signal is the node itself
        }

    def answers(self) -> bool:
        return amqp_answers("127.0.0.1", self.port)

    def begin(self) -> None:
        if not self._epmd.running:
            self._epmd.start()
        super().begin()

    def close(self) -> None:
        super().close()
        if self._own_epmd:
            self._epmd.close()

    def ctl(self, *arguments: str, program: str = "rabbitmqctl") -> str:
        """What rabbitmqctl prints (about a second); AssertionError with what it said when it fails."""
        path = rabbitmq_program(program)
        assert path, f"{program} is not installed: run script/services"
        done = subprocess.run(
            [path, "--silent", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_CTL_TIMEOUT,
        )
        assert done.returncode == 0, f"{program} {arguments[0]}: {done.stderr or done.stdout}"
        return done.stdout.strip()

    def log(self) -> str:
        logs = sorted((self.folder / "log").glob("*.log"))
        return super().log() + "".join(path.read_text("utf-8", "replace")[-4000:] for path in logs)

    def _write(self, cookie: str, peers: Sequence[str]) -> None:
        folder = self.folder
        discovery = [f"cluster_formation.classic_config.nodes.{number} = {peer}" for number, peer in enumerate(peers)]
        if peers:
            discovery.insert(0, "cluster_formation.peer_discovery_backend = classic_config")
        (folder / "rabbitmq.conf").write_text(_CONFIGURATION.format(port=self.port) + "\n".join(discovery) + "\n")
        (folder / "rabbitmq-env.conf").write_text("")
        (folder / "enabled_plugins").write_text("[].\n")
        secret = folder / ".erlang.cookie"
        if not secret.exists():
            secret.write_text(cookie)
            secret.chmod(0o400)
