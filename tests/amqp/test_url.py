import ssl
from pathlib import Path

import pytest

from smart_router.amqp import AmqpUrl, Host
from smart_router.errors import ConfigError
from tests.certificates import make_certificate


@pytest.mark.parametrize(
    ("text", "hosts", "login", "vhost"),
    [
        ("amqp://localhost", [("localhost", 5672)], ("guest", "guest"), "/"),
        ("amqp://localhost/", [("localhost", 5672)], ("guest", "guest"), "/"),
        ("amqp://me:secret@h:1/shop", [("h", 1)], ("me", "secret"), "shop"),
        ("amqp://me:se%40cr%2Fet@h/%2Fshop", [("h", 5672)], ("me", "se@cr/et"), "/shop"),
        ("amqp://me:a:b@h", [("h", 5672)], ("me", "a:b"), "/"),
        ("amqp://me@h", [("h", 5672)], ("me", ""), "/"),
        ("amqps://h", [("h", 5671)], ("guest", "guest"), "/"),
        ("amqp://a:1,b,[::1]:3,[fe80::1]/x", [("a", 1), ("b", 5672), ("::1", 3), ("fe80::1", 5672)], None, "x"),
    ],
)
def test_parts(text: str, hosts: list[tuple[str, int]], login: tuple[str, str] | None, vhost: str) -> None:
    url = AmqpUrl(text)
    assert url.hosts == tuple(Host(*host) for host in hosts)
    assert (url.user, url.password) == (login or ("guest", "guest"))
    assert url.vhost == vhost
    assert url.secure == text.startswith("amqps")


def test_options() -> None:
    url = AmqpUrl("amqp://h/?heartbeat=1&connection_timeout=250&channel_max=7")
    assert (url.heartbeat, url.connect_timeout, url.channel_max) == (1, 0.25, 7)
    url = AmqpUrl("amqp://h")
    assert (url.heartbeat, url.connect_timeout, url.channel_max) == (5, 5.0, 128)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "amqp://",
        "amqp:localhost",
        "http://h",
        "amqp://me:s@cret@h/",
        "amqp://me:s/cret@h/",
        "amqp://me:s?cret@h/",
        "amqp://me:s#cret@h/",
        "amqp://me:s cret@h/",
        "amqp://me:cret%00@h/",
        "amqp://me:cret@h/a/b",
        "amqp://me:cret@h:0",
        "amqp://me:cret@h:65536",
        "amqp://me:cret@h:x",
        "amqp://me:cret@h:٣",
        "amqp://me:cret@h,",
        "amqp://me:cret@[::1",
        "amqp://me:cret@[::1]5",
        "amqp://me:cret@h/?heartbeat",
        "amqp://me:cret@h/?heartbeat=0",
        "amqp://me:cret@h/?heartbeat=-1",
        "amqp://me:cret@h/?channel_max=70000",
        "amqp://me:cret@h/?frobnicate=1",
        "amqp://me:cret@h/?cacertfile=/x",
        "amqps://me:cret@h/?verify=maybe",
    ],
)
def test_a_wrong_one_names_the_setting_and_never_the_password(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AmqpUrl(text, "broker.other")
    assert caught.value.message.startswith("broker.other: ")
    assert "cret" not in caught.value.message


def test_no_text_shows_the_password() -> None:
    url = AmqpUrl("amqp://me:s3cret@a,b:7/shop?heartbeat=3")
    assert str(url) == "amqp://me@a:5672,b:7/shop"
    assert "s3cret" not in f"{url} {url!r}"


def test_tls(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = AmqpUrl(f"amqps://h/?cacertfile={certificate}&certfile={certificate}&keyfile={key}").ssl_context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    context = AmqpUrl("amqps://h/?verify=verify_none").ssl_context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert AmqpUrl("amqp://h").ssl_context() is None
    assert AmqpUrl("amqps://h/?server_name_indication=rabbit.example").server_name == "rabbit.example"


@pytest.mark.parametrize("option", ["cacertfile", "certfile"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, option: str) -> None:
    for path in (tmp_path / "missing.pem", tmp_path):
        with pytest.raises(ConfigError, match=option):
            AmqpUrl(f"amqps://h/?{option}={path}").ssl_context()
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nonsense")
    with pytest.raises(ConfigError, match=option):
        AmqpUrl(f"amqps://h/?{option}={wrong}").ssl_context()
