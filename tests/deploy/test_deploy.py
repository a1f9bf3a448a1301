"""The files of deploy/ are valid, and say the same of each other: names, ports, times, addresses."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from smart_router.amqp.url import AmqpUrl
from smart_router.config.load import load_settings
from smart_router.config.schema import Settings
from tests.clusters.rabbitmq import OwnRabbit, rabbitmq_program
from tests.deploy.compose import Compose, Service, read_compose
from tests.end_to_end.conftest import EXAMPLE
from tests.processes import PROGRAM, ROOT, ServerProcess

__all__: list[str] = []

DEPLOY = ROOT / "deploy"
ROUTERS = ["router-1", "router-2", "router-3"]
RABBITS = ["rabbitmq-1", "rabbitmq-2", "rabbitmq-3"]
SECRETS = {
    "RABBITMQ_USER": "user",
    "RABBITMQ_PASSWORD": "made-up",
    "RABBITMQ_COOKIE": "made-up",
    "SMART_ROUTER_AUTH_SECRET": "made up, and long enough for HS256",
    "SMART_ROUTER_ORIGINS": "https://chat.example.org",
}

AS_ROOT_ONLY = {"fchown"}  # SQLite gives its files to the owner of the database; the unit's server is not root


@pytest.fixture(scope="module")
def compose() -> Compose:
    return read_compose(DEPLOY / "docker-compose.yml")


@pytest.fixture(scope="module")
def settings(compose: Compose) -> Settings:
    """What a router of the Compose file runs with."""
    return load_settings(DEPLOY / "smart-router.toml", environment_of(compose.services["router-1"]))


def environment_of(service: Service) -> dict[str, str]:
    return {name: filled(value) for name, value in service.environment.items()}


def filled(text: str) -> str:
    """With the variables that Compose would put in."""
    return re.sub(r"\$\{(\w+)[^}]*\}", lambda match: SECRETS[match[1]], text)


def seconds(duration: str) -> float:
    number, unit = re.findall(r"(\d+)(\w+)", duration)[0]
    return float(number) * {"s": 1, "m": 60}[unit]


class TestCompose:
    def test_the_services(self, compose: Compose) -> None:
        assert sorted(compose.services) == sorted(["haproxy", *ROUTERS, *RABBITS])
        assert {name: service.hostname for name, service in compose.services.items() if name != "haproxy"} == {
            name: name for name in ROUTERS + RABBITS
        }

    def test_what_is_mentioned_is_there(self, compose: Compose) -> None:
        for service in compose.services.values():
            assert set(service.networks) <= set(compose.networks)
            assert set(service.depends_on) <= set(compose.services)
            for volume in service.volumes:
                source = volume.partition(":")[0]
                assert (DEPLOY / source).is_file() if source.startswith("./") else source in compose.volumes
        own = [volume for service in compose.services.values() for volume in service.volumes if volume[0] != "."]
        assert len(own) == len(set(own)) == len(compose.volumes)

    def test_only_haproxy_can_be_reached(self, compose: Compose) -> None:
        assert [name for name, service in compose.services.items() if service.ports] == ["haproxy"]
        assert compose.services["haproxy"].networks == ["front"]
        assert all(compose.services[name].networks == ["back"] for name in RABBITS)

    def test_secrets_stand_in_the_environment_only(self, compose: Compose) -> None:
        text = (DEPLOY / "docker-compose.yml").read_text()
        needed = set(re.findall(r"\$\{(\w+):\?\}", text))
        example = dict(
            line.split("=", 1)
            for line in (DEPLOY / "env.example").read_text().splitlines()
            if line[:1] not in ("", "#")
        )
        assert needed <= set(example)
        assert {name: value for name, value in example.items() if value} == {"RABBITMQ_USER": "smart-router"}
        assert set(SECRETS) == set(example)

    def test_a_router_is_given_more_time_to_stop_than_it_takes(self, compose: Compose, settings: Settings) -> None:
        for name in ROUTERS:
            assert seconds(compose.services[name].stop_grace_period) > settings.server.drain + 5

    def test_routers_are_confined(self, compose: Compose) -> None:
        for service in (compose.services[name] for name in ROUTERS):
            assert service.read_only
            assert service.cap_drop == ["ALL"]
            assert service.security_opt == ["no-new-privileges:true"]

    def test_docker_accepts_it(self, tmp_path: Path) -> None:
        docker = shutil.which("docker")
        if (
            docker is None
            or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode
        ):
            pytest.skip("no `docker compose` here: the file is checked against our own description of the format only")
        environment = tmp_path / "env"
        environment.write_text("".join(f"{name}={value}\n" for name, value in SECRETS.items()))
        files = ["--env-file", str(environment), "--file", str(DEPLOY / "docker-compose.yml")]
        done = subprocess.run(
            [docker, "compose", *files, "config", "--quiet"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


class TestAgreement:
    """What two files say of the same thing."""

    def test_the_brokers_nodes(self, compose: Compose, settings: Settings) -> None:
        url = AmqpUrl(settings.broker.url)
        assert [host.name for host in url.hosts] == RABBITS
        assert (url.user, url.password) == (SECRETS["RABBITMQ_USER"], SECRETS["RABBITMQ_PASSWORD"])
        conf = (DEPLOY / "rabbitmq.conf").read_text()
        assert re.findall(r"classic_config\.nodes\.\d = rabbit@(\S+)", conf) == RABBITS
        for name in RABBITS:
            assert any(volume.startswith("./rabbitmq.conf:/etc/rabbitmq/") for volume in compose.services[name].volumes)

    def test_the_routers_of_haproxy(self, settings: Settings) -> None:
        servers = re.findall(r'server (\S+) "\$\{SMART_ROUTER_(\d)-(\S+)\}" cookie (\S+)', haproxy())
        places = [(name, str(n), f"{name}:{settings.server.port}", name) for n, name in enumerate(ROUTERS, start=1)]
        assert servers == places

    def test_times_of_haproxy_are_longer_than_a_silence_may_be(self, settings: Settings) -> None:
        gateways = settings.server.gateways
        silence = max((gateway.ping_interval + gateway.ping_timeout for gateway in gateways), default=45.0)
        for name in ("client", "server", "tunnel"):
            (found,) = re.findall(rf"timeout {name} (\w+)", haproxy())
            assert seconds(found) > silence

    def test_the_proxys_network_is_trusted_and_no_other(self, compose: Compose, settings: Settings) -> None:
        front = compose.networks["front"].ipam
        assert front is not None
        assert settings.server.trusted_proxies == [subnet.subnet for subnet in front.config]

    @pytest.mark.parametrize("name", ROUTERS)
    def test_the_health_check_asks_where_the_router_listens(
        self, name: str, compose: Compose, settings: Settings
    ) -> None:
        asked = urlsplit(url_of(compose.services[name]))
        assert (asked.port, asked.path) == (settings.server.port, "/readyz")


def haproxy() -> str:
    return (DEPLOY / "haproxy.cfg").read_text()


def url_of(service: Service) -> str:
    assert service.healthcheck is not None
    found = re.search(r"http://[^']+", service.healthcheck.test[-1])
    assert found is not None
    return found[0]


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_rabbitmq_accepts_its_configuration(tmp_path: Path) -> None:
    """One node alone: without the others' names, and with the memory and disk of a test."""
    if rabbitmq_program("rabbitmq-server") is None:
        pytest.skip("rabbitmq-server is not installed (script/services)")
    rabbit = OwnRabbit(tmp_path / "rabbit")
    left_out = ("cluster_formation", "vm_memory", "disk_free")
    lines = [line for line in (DEPLOY / "rabbitmq.conf").read_text().splitlines() if not line.startswith(left_out)]
    with (rabbit.folder / "rabbitmq.conf").open("a") as conf:
        conf.write("\n".join(lines) + "\n")
    with rabbit:
        for key, value in (
            ("cluster_partition_handling", "pause_minority"),
            ("queue_leader_locator", '<<"balanced">>'),
        ):
            assert rabbit.ctl("eval", f"application:get_env(rabbit, {key}).") == f"{{ok,{value}}}"


class TestDockerfile:
    @pytest.fixture
    def lines(self) -> list[str]:
        text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    def test_the_extras_exist(self, lines: list[str]) -> None:
        (extras,) = [match[1] for line in lines if (match := re.search(r"\.whl\)\[([\w,]+)\]", line))]
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert extras.split(",") == sorted(project["optional-dependencies"])

    def test_it_does_not_run_as_root_and_stops_by_sigterm(self, lines: list[str]) -> None:
        assert "USER smart-router" in lines
        assert "STOPSIGNAL SIGTERM" in lines

    @pytest.mark.slow
    @pytest.mark.timeout(180)
    def test_what_it_copies_makes_the_wheel(self, lines: list[str], tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        for words in (line.split()[1:] for line in lines if line.startswith("COPY ") and "--from" not in line):
            for name in words[:-1]:
                copy(name, source)
        (build,) = [line.removeprefix("RUN ") for line in lines if "pip wheel" in line]
        command = build.replace("/wheels", str(tmp_path)).replace("python", sys.executable)
        done = subprocess.run(["sh", "-c", command], cwd=source, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(list(tmp_path.glob("smart_router-*.whl"))) == 1


def copy(name: str, to: Path) -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert f"!{name}" in ignored, f"{name} would not be sent to Docker"
    target = to / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if (ROOT / name).is_dir():
        shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(ROOT / name, target)


class TestUnit:
    @pytest.fixture
    def text(self) -> str:
        return (DEPLOY / "smart-router.service").read_text()

    @pytest.fixture
    def unit(self, text: str, tmp_path: Path) -> Path:
        """With a program that is there: systemd looks for it."""
        if shutil.which("systemd-analyze") is None:
            pytest.skip("systemd-analyze is not installed (Debian: systemd)")
        path = tmp_path / "smart-router.service"
        path.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
        return path

    def test_systemd_accepts_it(self, unit: Path) -> None:
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_it_is_confined(self, unit: Path) -> None:
        """At most 1.5 of 10, as `systemd-analyze security` counts; a unit without any of it has 9.6."""
        command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    @pytest.mark.slow
    def test_the_server_makes_no_call_that_is_refused(self, unit: Path, text: str, tmp_path: Path) -> None:
        if shutil.which("strace") is None:
            pytest.skip("strace is not installed")
        calls = calls_of_a_server(tmp_path)
        allowed: set[str] = set()
        for line in re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE):
            named = set[str]().union(*map(expanded, line.lstrip("~").split()))
            allowed = allowed - named if line.startswith("~") else allowed | named
        assert len(allowed) > 100
        assert calls - allowed <= AS_ROOT_ONLY

    def test_it_waits_longer_than_a_stop_takes(self, text: str, settings: Settings) -> None:
        (waits,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
        assert int(waits) > settings.server.drain + 5


def calls_of_a_server(folder: Path) -> set[str]:
    """The system calls from start to stop, with one session between."""
    trace = folder / "calls"
    strace = ["strace", "--follow-forks", "--quiet=all", "--output", str(trace), str(PROGRAM)]
    place = ["--port", "0", "--data", str(folder / "data")]
    server = ServerProcess([*strace, "serve", "--config", str(EXAMPLE), *place], folder, "traced", {})
    try:
        with urllib.request.urlopen(f"{server.url}/socket.io/?EIO=4&transport=polling", timeout=10) as answer:
            assert answer.status == 200
        traced = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(traced[0]), signal.SIGTERM)
        assert server.wait(15) == 0
    finally:
        server.stop()
    return set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))


def expanded(name: str) -> set[str]:
    """The system calls of a set of systemd's, and of the sets in it."""
    if not name.startswith("@"):
        return {name}
    told = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    inner = [line.strip() for line in told.stdout.splitlines()[1:] if line.strip()[:1] not in ("", "#")]
    return set[str]().union(*map(expanded, inner))
