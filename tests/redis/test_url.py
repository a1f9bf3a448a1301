from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_router.errors import ConfigError
from smart_router.redis.url import Host, RedisUrl


@pytest.mark.parametrize(
    ("text", "hosts", "login", "database"),
    [
        ("redis://localhost", [("localhost", 6379)], ("", ""), 0),
        ("redis://localhost/", [("localhost", 6379)], ("", ""), 0),
        ("redis://:secret@h:1/3", [("h", 1)], ("", "secret"), 3),
        ("redis://me:se%40cr%2Fet@h", [("h", 6379)], ("me", "se@cr/et"), 0),
        ("redis://me:a:b@h", [("h", 6379)], ("me", "a:b"), 0),
        ("rediss://a:1,b,[::1]:3/0", [("a", 1), ("b", 6379), ("::1", 3)], ("", ""), 0),
        ("redis://s1,s2:9/0?master=shop", [("s1", 26379), ("s2", 9)], ("", ""), 0),
    ],
)
def test_parts(text: str, hosts: list[tuple[str, int]], login: tuple[str, str], database: int) -> None:
    url = RedisUrl(text)
    assert url.hosts == tuple(Host(*host) for host in hosts)
    assert (url.user, url.password) == login
    assert url.database == database
    assert url.secure == text.startswith("rediss")


def test_options() -> None:
    url = RedisUrl("redis://h/0?prefix=shop:&timeout=2&master=m&sentinel_user=u&sentinel_password=p%26q")
    assert (url.prefix, url.timeout, url.master) == ("shop:", 2.0, "m")
    assert (url.sentinel_user, url.sentinel_password) == ("u", "p&q")
    assert RedisUrl("redis://h").prefix == "sr:"
    assert RedisUrl("redis://h").ssl_context() is None


@pytest.mark.parametrize(
    "text",
    [
        "redis://",
        "redis:///0",
        "amqp://h",
        "redis://h:0",
        "redis://h:99999",
        "redis://h:x",
        "redis://a b",
        "redis://me:se@cret@h",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/0/1",
        "redis://h/0?prefix={a}",
        "redis://h/0?prefix=",
        "redis://h/0?timeout=0",
        "redis://h/0?unknown=1",
        "redis://h/0?verify=verify_none",
        "redis://h/0?sentinel_password=x",
        "rediss://h/0?verify=maybe",
        "redis://h/0?prefix",
    ],
)
def test_what_cannot_be_used_names_the_setting(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^broker\.url: "):
        RedisUrl(text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = RedisUrl(f"rediss://h/0?cacertfile={tmp_path}/none.pem")
    with pytest.raises(ConfigError, match="cacertfile"):
        url.ssl_context()


@given(st.text(st.characters(codec="ascii", exclude_characters="@"), min_size=6))
def test_no_password_is_ever_shown(password: str) -> None:
    secret = "hidden" + password
    try:
        shown = str(url := RedisUrl(f"redis://me:{secret}@h/0?prefix=x:")) + repr(url)
    except ConfigError as error:
        shown = str(error)
    assert "hidden" not in shown
