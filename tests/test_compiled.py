"""The compiled wheel (ADR 11): it is built where there is a C compiler, and messages go through machine code."""

import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.processes import PROGRAM, ROOT, serve

__all__: list[str] = []

COMPILER = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
CONFIG = """
[[server.gateways]]
kind = "plain"
path = "/ws"
[endpoints.ui]
[[routes]]
endpoint = "ui"
type = "talk"
publish = [{to = "ids.other"}]
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def build(folder: Path, *environment: str) -> subprocess.CompletedProcess[str]:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "wheel", str(ROOT), "--no-deps")
    arguments = ("--build-constraint", str(ROOT / "constraints.txt"), "--wheel-dir", str(folder))
    command = ("env", "SMART_ROUTER_COMPILE=1", *environment, *pip, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the compiled package goes before the repository's own."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"there is no C compiler {COMPILER!r}")
    folder = tmp_path_factory.mktemp("compiled")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("smart_router-*.whl")
    assert not wheel.name.endswith("-none-any.whl")
    shutil.unpack_archive(wheel, folder / "site", "zip")
    return {"PYTHONPATH": str(folder / "site")}


def python(environment: dict[str, str], program: str) -> str:
    command = ("env", *(f"{name}={value}" for name, value in environment.items()), sys.executable, "-c", program)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_hot_modules_are_libraries(compiled: dict[str, str]) -> None:
    shown = python(compiled, "from smart_router.core import router; print(router.__file__)").strip()
    assert shown == f"{compiled['PYTHONPATH']}/smart_router/core/router{sysconfig.get_config_var('EXT_SUFFIX')}"


def test_a_message_goes_through_and_waits(compiled: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "smart-router.toml"
    config.write_text(CONFIG)
    arguments = ["--config", str(config), "--data", str(tmp_path / "data"), "--port", "0"]
    server = serve(arguments, tmp_path, "server", compiled)
    try:
        here = ("--url", server.url, "--actor")
        sent = run("send", "talk", '{"text": "hello"}', "--id", "other=ui/b", *here, "ui/a")
        heard = run("listen", "--count", "1", *here, "ui/b")
    finally:
        status = server.stop()
    assert (json.loads(heard)["id"], json.loads(heard)["payload"]) == (json.loads(sent)["id"], {"text": "hello"})
    assert status == 0
    assert "Traceback" not in server.log()


def run(*arguments: str) -> str:
    return subprocess.run([str(PROGRAM), *arguments], capture_output=True, text=True, check=True).stdout


def test_without_a_compiler_it_says_so(tmp_path: Path) -> None:
    done = build(tmp_path, "CC=no-such-compiler")
    assert done.returncode != 0
    assert "needs a C compiler, and there is no 'no-such-compiler'" in done.stdout + done.stderr
