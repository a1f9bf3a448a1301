"""Files: only those of the folder, only by their own path (CVE-2024-23334), and as a browser should take them."""

from pathlib import Path

import pytest

from smart_router.api.files import File, read_folder
from smart_router.app import Node
from smart_router.errors import ConfigError
from tests.api.nodes import ask, running, settings_of

__all__: list[str] = []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Beside a secret, with links to it."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "more.txt").write_text("secret")
    folder = tmp_path / "static"
    (folder / "deep").mkdir(parents=True)
    (folder / "index.html").write_text("<p>hello")
    (folder / "deep" / "data.json").write_text("{}")
    (folder / ".hidden").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "linked").symlink_to(tmp_path / "outside")
    return folder


WAYS_OUT = [
    "/../secret.txt",
    "/deep/../../secret.txt",
    "/%2e%2e/secret.txt",
    "/..%2fsecret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..%5csecret.txt",
    "/..\\secret.txt",
    "/....//secret.txt",
    "/deep/%2e%2e/%2e%2e/secret.txt",
    "/%252e%252e/secret.txt",
    "/link.txt",
    "/linked/more.txt",
    "/.hidden",
    "/deep",
    "/deep/",
    "/index.html%00.txt",
]


async def test_files_are_found_by_their_path_and_nothing_else_is(tmp_path: Path, folder: Path) -> None:
    async with running(settings_of(tmp_path / "data", static=folder)) as node:
        assert (await ask(node, "GET", "/")).body == b"<p>hello"
        assert (await ask(node, "GET", "/index.html")).body == b"<p>hello"
        assert (await ask(node, "GET", "/deep/data.json")).headers["content-type"] == "application/json"
        absolute = "/" + str(tmp_path / "secret.txt")
        for path in [*WAYS_OUT, absolute]:
            answer = await ask(node, "GET", path)
            assert answer.status in (400, 404), path
            assert b"secret" not in answer.body, path


async def test_head_conditions_and_other_methods(tmp_path: Path, folder: Path) -> None:
    async with running(settings_of(tmp_path / "data", static=folder)) as node:
        head = await ask(node, "HEAD", "/")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "8")
        again = await ask(node, "GET", "/", {"If-None-Match": head.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
        other = await ask(node, "POST", "/index.html")
        assert (other.status, other.json["code"]) == (405, "method_not_allowed")


async def test_no_file_hides_the_api(tmp_path: Path, folder: Path) -> None:
    (folder / "healthz").write_text("fake")
    async with running(settings_of(tmp_path / "data", static=folder)) as node:
        assert (await ask(node, "GET", "/healthz")).json == {"status": "alive"}


async def test_what_changes_later_is_not_read(tmp_path: Path, folder: Path) -> None:
    async with running(settings_of(tmp_path / "data", static=folder)) as node:
        (folder / "index.html").unlink()
        (folder / "index.html").symlink_to(tmp_path / "secret.txt")
        assert (await ask(node, "GET", "/")).body == b"<p>hello"


async def test_without_files_there_is_no_page(node: Node) -> None:
    assert (await ask(node, "GET", "/")).status == 404
    assert (await ask(node, "GET", "/index.html")).status == 404


def test_a_folder_that_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        read_folder(tmp_path / "missing")
    for number in range(1_001):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(ConfigError, match="holds more"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("a.js", "text/javascript"), ("a.HTML", "text/html"), ("a.png", "image/png"), ("a", "application/octet-stream")],
)
def test_the_type_of_a_file(path: str, media_type: str) -> None:
    assert File.of(path, b"").media_type == media_type
