"""Settings: order of the sources, and one exact text for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from smart_router.config.load import endpoint_settings, load_settings
from smart_router.config.schema import RetrySettings, Settings
from smart_router.errors import ConfigError


def problems_of(text: str, folder: Path, **environ: str) -> list[str]:
    file = folder / "smart-router.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environ)
    return caught.value.problems


def test_nothing_given_is_the_defaults() -> None:
    assert load_settings() == Settings()


def test_the_later_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "smart-router.toml"
    file.write_text('[server]\nport = 1\ndrain = 1\nhost = "127.0.0.1"\n[log]\nlevel = "debug"\n')
    environ = {"SMART_ROUTER_PORT": "2", "SMART_ROUTER_DRAIN": "2.5", "PATH": "/bin"}
    settings = load_settings(file, environ, {"--port": 3, "--host": None})
    assert (settings.server.port, settings.server.drain, settings.log.level) == (3, 2.5, "debug")
    assert settings.server.host == "127.0.0.1"


def test_environment_values_are_text_of_any_type() -> None:
    settings = load_settings(
        None,
        {
            "SMART_ROUTER_BROKER": "embedded://memory",
            "SMART_ROUTER_AUTH_SECRET": "s" * 32,
            "SMART_ROUTER_REQUIRE_ORIGIN": "true",
            "SMART_ROUTER_ORIGINS": "https://a.example, https://b.example",
            "SMART_ROUTER_LIMITS_CONNECTIONS": "12",
            "SMART_ROUTER_URL": "read by commands only",
            "SMART_ROUTER_TEST_AMQP": "read by the tests of the repository only",
        },
    )
    assert settings.broker.url == "embedded://memory"
    assert settings.auth.enabled
    assert settings.server.require_origin
    assert settings.server.origins == ["https://a.example", "https://b.example"]
    assert settings.server.limits.connections == 12


def test_relative_paths_in_the_file_start_at_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "smart-router.toml"
    file.write_text('data = "d"\nstore = "sqlite:///s.db"\n[broker]\nurl = "embedded://journal"\n')
    settings = load_settings(file, {})
    assert settings.data == str(tmp_path / "d")
    assert settings.store == f"sqlite:///{tmp_path}/s.db"
    assert settings.broker.url == f"embedded://{tmp_path}/journal"
    assert load_settings(file, {}, {"--data": "d"}).data == "d"
    file.write_text('store = "sqlite:///:memory:"\n[broker]\nurl = "embedded://memory"\n')
    assert load_settings(file, {}).broker.url == "embedded://memory"
    assert load_settings(file, {}).store == "sqlite:///:memory:"


MISTAKES = [
    ("dat = 1", "unknown key `dat` in the top table, line 1: did you mean `data`?"),
    (
        '\n[endpoints.ui]\nmailbx = "actor"',
        "unknown key `mailbx` in [endpoints.ui], line 3: did you mean `mailbox`?",
    ),
    (
        '[endpoints.ui]\nmailbox = "actr"',
        "`mailbox` in [endpoints.ui], line 2: `actr` is not a choice: did you mean `actor`?",
    ),
    (
        '[endpoints.ui]\ndeliver = "all"',
        "`deliver` in [endpoints.ui], line 2: `all` comes with a later version: use `primary` or `any`",
    ),
    ("[endpoints.ui]\nhistory = true", "`history` in [endpoints.ui], line 2: comes with a later version; take it out"),
    ("[endpoints.ui]\nttl = inf", "`ttl` in [endpoints.ui], line 2: expected `float` <= 1000000000.0"),
    ("[endpoints.ui]\nttl = nan", "`ttl` in [endpoints.ui], line 2: expected `float` >= 0.0"),
    (
        '[[routes]]\nendpoint = "*"\ntype = "a"\npublish = [{to = "ids.a || ids.b"}]',
        "`to` in [[routes.publish]], line 4: `ids.a || ids.b` is true or false, no address: "
        "write `condition ? ids.a : ids.b`",
    ),
    ("[redis]\n", "`redis` in the top table, line 1: comes with a later version; take it out"),
    ("[endpoints.ui]\nwindow = 0", "`window` in [endpoints.ui], line 2: expected `int` >= 1"),
    ('[endpoints.ui]\nwindow = "8"', "`window` in [endpoints.ui], line 2: expected `int`, got `str`"),
    (
        "[endpoints.ui]\nretry = {attempts = 2, jiter = 0}",
        "unknown key `jiter` in [endpoints.ui.retry], line 2: did you mean `jitter`?",
    ),
    (
        "[endpoints.ui.retry]\nfirst_delay = 20",
        "`max_delay` in [endpoints.ui.retry], line 1: smaller than first_delay (20)",
    ),
    (
        '[endpoints."a b"]',
        "`a b` in [endpoints], line 1: cannot name an endpoint: 1 to 128 of A-Z a-z 0-9 . _ ~ @ : + -",
    ),
    (
        '[endpoints.ui]\nsub_endpoints = ["456", "4/6"]',
        "`sub_endpoints` in [endpoints.ui], line 2: `4/6` cannot be a sub-endpoint's id: "
        "1 to 128 of A-Z a-z 0-9 . _ ~ @ : + -",
    ),
    (
        "[endpoints.ui]\nwindow_bytes = 1024",
        "`window_bytes` in [endpoints.ui], line 2: smaller than max_message_size (65536): give it at least that",
    ),
    (
        "[endpoints.ui]\nmax_message_size = 200000",
        "`max_message_size` in [endpoints.ui], line 2: no gateway lets more than 131072 bytes in: "
        "raise its max_payload",
    ),
    (
        '[endpoints.ui.access]\npublish = "subjct == actor"',
        "`publish` in [endpoints.ui.access], line 2: `subjct == actor` column 1: unknown variable `subjct`: "
        "did you mean `subject`?",
    ),
    (
        '[endpoints.ui]\n[[routes]]\nendpoint = "uii"\ntype = "talk"\npublish = [{to = "ids.ui"}]',
        "`endpoint` in [[routes]], line 3: no endpoint `uii`: did you mean `ui`?",
    ),
    (
        '[[routes]]\nendpoint = "*"\ntype = "talk"\npublish = [\n {to = "ids.ui"},\n {to = "ids."},\n]',
        "`to` in [[routes.publish]], line 6: `ids.` is not a CEL expression: "
        "column 5: no viable alternative at input '.'",
    ),
    (
        '[[routes]]\nendpoint = "*"\ntype = "talk"\npublish = [{to = "ids.ui"}]\n'
        '[[routes]]\nendpoint = "*"\npublish = [{to = "ids.ui"}]',
        "missing key `type` in [[routes]], line 5",
    ),
    (
        '[[routes]]\nendpoint = "*"\ntype = "talk"\npublish = [{to = "ids.ui"}]\n'
        '[[routes]]\nendpoint = "*"\ntype = "talk"\nwhen = "ids.a"\npublish = [{to = "ids.ui"}]',
        "`type` in [[routes]], line 7: never reached: the route of line 3 for the same has no `when`",
    ),
    (
        '[[routes]]\nendpoint = "*"\ntype = "iam"\npublish = [{to = "ids.ui"}]',
        "`type` in [[routes]], line 3: `iam` is the protocol's own event: name the message otherwise",
    ),
    ('[[routes]]\nendpoint = "*"\ntype = "a"\npublish = []', "`publish` in [[routes]], line 4: expected at least one"),
    (
        '[[server.gateways]]\nkind = "plain"\npath = "/ws"\n[[server.gateways]]\nkind = "plain"\npath = "/ws"',
        "`path` in [[server.gateways]], line 6: `/ws` is taken by another gateway",
    ),
    (
        '[[server.gateways]]\nkind = "happn"\npath = "/"',
        "`kind` in [[server.gateways]], line 2: `happn` comes with a later version: use `socketio` or `plain`",
    ),
    (
        '[[server.gateways]]\nkind = "socketio"\npath = "/socket.io"',
        "`path` in [[server.gateways]], line 3: `/socket.io` must end with `/`, as Socket.IO clients ask for it: "
        "`/socket.io/`",
    ),
    (
        '[[server.gateways]]\nkind = "plain"\npath = "/metrics"',
        "`path` in [[server.gateways]], line 3: `/metrics` is the router's own",
    ),
    (
        '[[server.gateways]]\nkind = "websocket"\npath = "/echo"',
        "`handler` in [[server.gateways]], line 1: kind `websocket` needs one: write `module:attribute`, "
        "as in `my_project.app:app`",
    ),
    (
        '[[server.gateways]]\nkind = "plain"\npath = "/ws"\nping_interval = 0.001',
        "`ping_interval` in [[server.gateways]], line 4: must be between 0.05 and 3600 seconds",
    ),
    (
        '[server]\nhost = "0.0.0.0"',
        "`host` in [server], line 2: `0.0.0.0` can be reached by others, and there is no authentication: give [auth] "
        "a secret, jwks or tokens, listen on 127.0.0.1, or say --insecure",
    ),
    (
        '[server]\norigins = ["*"]',
        "`origins` in [server], line 2: `*` is no origin: write each as `https://chat.example.org`, no path, no `*`",
    ),
    (
        '[server]\ntrusted_proxies = ["10.0.0.0/40"]',
        "`trusted_proxies` in [server], line 2: `10.0.0.0/40` is neither an address nor a network such as `10.0.0.0/8`",
    ),
    (
        '[server]\nproxy_protocol = "v2"',
        "`proxy_protocol` in [server], line 2: needs `trusted_proxies`: anybody could claim any address",
    ),
    ('[server.tls]\ncertificate = "/nowhere"', "missing key `key` in [server.tls], line 1"),
    ('[auth]\nsecret = "short"', "`secret` in [auth], line 2: expected `str` of length >= 32"),
    ('[auth]\nalgorithms = ["RS256"]', "`algorithms` in [auth], line 2: `RS256` needs `jwks`"),
    (
        '[auth]\nalgorithms = ["HS265"]',
        "`algorithms` in [auth], line 2: `HS265` is not a choice: did you mean `HS256`?",
    ),
    (
        '[auth]\naudience = "x"',
        "`audience` in [auth], line 2: is only looked at in JWTs: give `secret` or `jwks`, or take it out",
    ),
    (
        '[auth]\njwks = "http://keys.example/x"',
        "`jwks` in [auth], line 2: keys over plain http can be changed on the way: use https",
    ),
    (
        '[broker]\nurl = "kafka://localhost"',
        "`url` in [broker], line 2: write `embedded://`, `embedded://memory` or `embedded://` and a folder",
    ),
    (
        '[broker]\nurl = "embeded://"',
        "`url` in [broker], line 2: write `embedded://`, `embedded://memory` or `embedded://` and a folder",
    ),
    (
        'store = "mysql://x"',
        "`store` in the top table, line 1: write `sqlite:///`, `sqlite:///` and a file, or "
        "`postgresql://user:password@host:port/database`",
    ),
    (
        'app = "my-app"',
        "`app` in the top table, line 1: `my-app` is no application: write `module:attribute`, "
        "as in `my_project.app:app`",
    ),
    ("[server]\nport = 1\nport = 2\n", "not TOML: Cannot overwrite a value (at line 3, column 9)"),
    ("x = " + "[" * 5000, "not a configuration: brackets are nested too deep"),
    ("server = 1", "`server` in the top table, line 1: expected a table"),
    ("endpoints = 1", "`endpoints` in the top table, line 1: expected tables"),
    ("routes = 1", "`routes` in the top table, line 1: expected a list of tables"),
]


@pytest.mark.parametrize(("text", "problem"), MISTAKES, ids=[problem[:50] for _, problem in MISTAKES])
def test_a_mistake_has_line_reason_and_nearest_name(text: str, problem: str, tmp_path: Path) -> None:
    assert problems_of(text, tmp_path) == [problem]


def test_all_mistakes_are_told_at_once_in_the_files_order(tmp_path: Path) -> None:
    text = '[server]\nport = "x"\n[endpoints.ui]\nackk = "sent"\nttl = -1\n[auth]\nleeway = 1000\n'
    assert problems_of(text, tmp_path, SMART_ROUTER_PROT="1", SMART_ROUTER_LOG_LEVEL="loud") == [
        "unknown variable SMART_ROUTER_PROT: did you mean `SMART_ROUTER_PORT`?",
        "SMART_ROUTER_LOG_LEVEL: `loud` is not a choice: there are: debug, error, info, warning",
        "`port` in [server], line 2: expected `int`, got `str`",
        "unknown key `ackk` in [endpoints.ui], line 4: did you mean `ack`?",
        "`ttl` in [endpoints.ui], line 5: expected `float` >= 0.0",
        "`leeway` in [auth], line 7: expected `float` <= 300.0",
    ]


def test_a_flag_is_named_in_its_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {}, {"--broker": "mqtt://x", "--port": 70000})
    assert caught.value.problems == [
        "--port: expected `int` <= 65535",
        "--broker: write `embedded://`, `embedded://memory` or `embedded://` and a folder",
    ]


@pytest.mark.parametrize(
    "text", ['[auth]\nsecret = "tiny-secret"', '[[auth.tokens]]\ntoken = "tiny-secret"\nsubject="s"']
)
def test_no_problem_shows_a_secret(text: str, tmp_path: Path) -> None:
    assert "tiny" not in "\n".join(problems_of(text, tmp_path))


def test_a_missing_and_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file: "):
        load_settings(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_settings(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 5\)"):
        load_settings(tmp_path / "binary.toml")


def test_tls_files_must_belong_together(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("nothing")
    (tmp_path / "k.pem").write_text("nothing")
    text = '[server.tls]\ncertificate = "c.pem"\nkey = "k.pem"\n'
    [problem] = problems_of(text, tmp_path)
    assert problem.startswith("`certificate` in [server.tls], line 2: not a PEM certificate with the key")
    assert problems_of(text.replace("k.pem", "absent.pem"), tmp_path) == [
        f"`key` in [server.tls], line 3: no such file: {tmp_path}/absent.pem"
    ]


def test_insecure_or_authentication_lets_it_listen_anywhere() -> None:
    assert load_settings(None, {}, {"--host": "0.0.0.0", "--insecure": True}).server.host == "0.0.0.0"
    assert load_settings(None, {"SMART_ROUTER_AUTH_SECRET": "s" * 32}, {"--host": "::"}).server.host == "::"


def test_routes_may_name_endpoints_of_the_app(tmp_path: Path) -> None:
    file = tmp_path / "smart-router.toml"
    file.write_text('app = "my:app"\n[[routes]]\nendpoint = "ui"\ntype = "talk"\npublish = [{to = "ids.ui"}]')
    assert load_settings(file).routes[0].endpoint == "ui"
    assert load_settings(file, app_endpoints=lambda name: ["ui"] if name == "my:app" else []).app == "my:app"
    with pytest.raises(ConfigError) as caught:
        load_settings(file, app_endpoints=lambda _: ["uis"])
    assert caught.value.problems == ["`endpoint` in [[routes]], line 3: no endpoint `ui`: did you mean `uis`?"]


def test_an_application_that_cannot_be_had_is_one_of_the_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "smart-router.toml"
    file.write_text('app = "my:app"\n[server]\nport = -1\n')

    def missing(name: str) -> list[str]:
        raise ConfigError([f"no module `{name}`"])

    with pytest.raises(ConfigError) as caught:
        load_settings(file, app_endpoints=missing)
    assert caught.value.problems == [
        "`app` in the top table, line 1: no module `my:app`",
        "`port` in [server], line 3: expected `int` >= 0",
    ]


def test_an_endpoint_declared_in_python() -> None:
    ui = endpoint_settings("ui/{id}", mailbox="actor", retry=RetrySettings(attempts=5))
    assert (ui.name, ui.sub_endpoints, ui.retry.attempts) == ("ui", [], 5)
    assert endpoint_settings("bot").sub_endpoints is None
    with pytest.raises(ConfigError) as caught:
        endpoint_settings("ui/{id}", mailbx="actor", ack="maybe")
    assert caught.value.problems == [
        "unknown key `mailbx` in [endpoints.ui]: did you mean `mailbox`?",
        "`ack` in [endpoints.ui]: `maybe` is not a choice: there are: client, received, sent",
    ]
    with pytest.raises(ConfigError, match="is no endpoint: write"):
        endpoint_settings("ui/456")


def test_the_password_of_the_store_does_not_show() -> None:
    settings = load_settings(None, {"SMART_ROUTER_STORE": "postgresql://user:hu@sh@host/chat"})
    assert settings.store == "postgresql://user:hu@sh@host/chat"
    assert "store='postgresql://…@host/chat'" in repr(settings)
