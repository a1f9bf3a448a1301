"""Who may be which actor, publish where and read what."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from smart_router.config.schema import AccessSettings, EndpointSettings
from smart_router.core.access import (
    REMEMBERED,
    AccessRules,
    Identity,
    NoAuthorizer,
    as_actor,
    compile_rules,
    forbidden,
    require_admin,
    same_token,
    token_hash,
)
from smart_router.errors import ConfigError, Refused


def identity(subject: str = "alice", scopes: str = "", **claims: Any) -> Identity:
    return Identity(subject, claims, frozenset(scopes.split()), token_hash(subject))


def rules(*, authenticated: bool = True, **access: str) -> AccessRules:
    endpoints = {"agent": EndpointSettings(access=AccessSettings(**access))}
    return compile_rules(endpoints, authenticated=authenticated)["agent"]


def test_nothing_to_check_is_no_rules_at_all() -> None:
    assert compile_rules({"agent": EndpointSettings(), "ui": EndpointSettings()}, authenticated=False) == {}


def test_without_authentication_only_endpoints_with_rules_are_checked() -> None:
    endpoints = {"agent": EndpointSettings(access=AccessSettings(publish="false")), "ui": EndpointSettings()}
    compiled = compile_rules(endpoints, authenticated=False)
    assert list(compiled) == ["agent"]
    assert compiled["agent"].may_connect(identity(), "agent/456/bob")


@pytest.mark.parametrize(
    ("subject", "claims", "actor", "allowed"),
    [
        ("agent/456/alice", {}, "agent/456/alice", True),
        ("alice", {}, "agent/456/alice", True),
        ("alice", {}, "ui/alice", True),
        ("alice", {}, "agent/456/bob", False),
        ("456", {}, "agent/456/alice", False),
        ("agent/456", {}, "agent/456/alice", False),
        ("agent", {}, "agent/456/alice", False),
        ("lice", {}, "agent/456/alice", False),
        ("Alice", {}, "agent/456/alice", False),
        ("x", {"actors": ["agent/456/alice"]}, "agent/456/alice", True),
        ("x", {"actors": ["ui/u1", "agent/456/*"]}, "agent/456/alice", True),
        ("x", {"actors": ["agent/45*"]}, "agent/456/alice", True),
        ("x", {"actors": ["*"]}, "agent/456/alice", True),
        ("x", {"actors": ["agent/457/*"]}, "agent/456/alice", False),
        ("x", {"actors": ["*/alice"]}, "agent/456/alice", False),
        ("x", {"actors": ["agent/456"]}, "agent/456/alice", False),
        ("x", {"actors": ["alice"]}, "agent/456/alice", False),
        ("x", {"actors": [""]}, "agent/456/alice", False),
        ("x", {"actors": []}, "agent/456/alice", False),
        ("x", {"actors": "agent/456/alice"}, "agent/456/alice", False),
        ("x", {"actors": {"agent/456/alice": True}}, "agent/456/alice", False),
        ("x", {"actors": [None, 5, ["agent/456/alice"]]}, "agent/456/alice", False),
    ],
    ids=str,
)
def test_who_may_be_whom_without_a_rule(subject: str, claims: dict[str, Any], actor: str, allowed: bool) -> None:
    assert rules().may_connect(identity(subject, **claims), actor) is allowed


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("true", True),
        ("false", False),
        ("own == subject", True),
        ("actor == 'agent/456/alice' && endpoint == 'agent' && sub == '456'", True),
        ("'chat' in scopes", True),
        ("'admin' in scopes", False),
        ("claims.team == 'blue'", True),
        ("claims.team == 'red'", False),
        ("claims.missing == 'red'", False),
        ("claims.team", True),
        ("claims.missing", False),
        ("!claims.banned", True),
        ("sub in claims.agents", True),
        ("claims.team > 5", False),
        ("claims.agents.all(each, each.startsWith('4'))", True),
    ],
)
def test_a_rule_about_connecting_stands_in_place_of_the_default(rule: str, allowed: bool) -> None:
    somebody = identity("alice", "chat", team="blue", agents=["456", "457"])
    with capture_logs():
        assert rules(connect=rule).may_connect(somebody, "agent/456/alice") is allowed


def test_an_actor_without_a_sub_endpoint() -> None:
    endpoints = {"ui": EndpointSettings(access=AccessSettings(connect="sub == '' && own == 'u1' && endpoint == 'ui'"))}
    assert compile_rules(endpoints, authenticated=True)["ui"].may_connect(identity(), "ui/u1")


def test_publishing() -> None:
    assert rules().publisher(identity(), "agent/456/alice") is None
    checked = rules(publish="type == 'talk' && address.startsWith('ui/') && own == 'alice'")
    publisher = checked.publisher(identity(), "agent/456/alice")
    assert publisher is not None
    assert [publisher.may("ui/u1", "talk"), publisher.may("ui/u1", "log"), publisher.may("agent/456", "talk")] == [
        True,
        False,
        False,
    ]
    assert checked.may_publish(identity(), "agent/456/alice", "ui/u1", "talk")
    assert not checked.may_publish(identity(), "agent/456/bob", "ui/u1", "talk")
    assert rules().may_publish(identity(), "agent/456/bob", "anywhere", "talk")


def test_reading() -> None:
    assert rules().reader(identity(), "agent/456/alice") is None
    checked = rules(read="from.startsWith('ui/') || type == 'notice'")
    reader = checked.reader(identity(), "agent/456/alice")
    assert reader is not None
    assert reader.may("agent/456/alice", "talk", "ui/u1")
    assert not reader.may("agent/456/alice", "talk", "livechat/x")
    assert checked.may_read(identity(), "agent/456/alice", "agent/456/alice", "notice", "livechat/x")
    assert rules().may_read(identity(), "agent/456/alice", "agent/456/alice", "talk", "livechat/x")


def test_a_question_is_put_to_the_rule_once_and_few_answers_are_kept() -> None:
    publisher = rules(publish="address != 'ui/none'").publisher(identity(), "agent/456/alice")
    assert publisher is not None
    for number in range(3 * REMEMBERED):
        assert publisher.may(f"ui/{number}", "talk")
        assert publisher.may(f"ui/{number}", "talk")
        assert 0 < len(publisher._answers) <= REMEMBERED
    kept = len(publisher._answers)
    assert publisher.may("ui/u1", "x" * 60_000)
    assert len(publisher._answers) == kept
    assert not publisher.may("ui/none", "talk")


def test_answers_of_one_identity_are_not_anothers() -> None:
    checked = rules(publish="'chat' in scopes")
    before, after = (checked.publisher(identity("alice", scopes), "agent/456/alice") for scopes in ("", "chat"))
    assert before is not None
    assert after is not None
    assert (before.may("ui/u1", "talk"), after.may("ui/u1", "talk")) == (False, True)


def test_a_rule_that_cannot_be_evaluated_refuses_and_is_logged_once() -> None:
    checked = rules(connect="claims.team + 5 > 3")
    with capture_logs() as logs:
        for team in ("very-private-value", "another"):
            assert not checked.may_connect(identity(team=team), "agent/456/alice")
    assert [(one["event"], one["rule"]) for one in logs] == [("access_rule_failed", "agent.connect")]
    assert "very-private-value" not in str(logs)


def test_every_wrong_rule_is_named() -> None:
    endpoints = {
        "agent": EndpointSettings(access=AccessSettings(connect="sub ==", read="true")),
        "ui": EndpointSettings(access=AccessSettings(publish="adress == 'x'")),
    }
    with pytest.raises(ConfigError) as error:
        compile_rules(endpoints, authenticated=True)
    first, second = error.value.problems
    assert first.startswith("endpoints.agent.access.connect: ")
    assert second.startswith("endpoints.ui.access.publish: ")
    assert "address" in second


@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5), max_size=5),
    st.text(min_size=1),
    st.sampled_from(["claims.actors", "claims.a == own", "subject in claims.actors", "claims.actors[0] == actor"]),
)
def test_no_claims_raise(claims: dict[str, Any], subject: str, rule: str) -> None:
    somebody = Identity(subject, claims, frozenset(), b"")
    with capture_logs():
        assert rules(connect=rule).may_connect(somebody, "agent/456/alice") in (True, False)
    assert rules().may_connect(somebody, "agent/456/alice") in (True, False)


async def test_without_authentication_everybody_is_who_they_say() -> None:
    authorizer = NoAuthorizer()
    await authorizer.open()
    anybody = authorizer.authenticate(None, 7)
    assert not authorizer.required
    assert as_actor(anybody, "ui/u1").subject == "ui/u1"
    assert as_actor(identity("alice"), "ui/u1").subject == "alice"
    assert (anybody.is_admin, anybody.expires_at, anybody.issued_at) == (True, None, 7)
    require_admin(anybody, "This")
    assert rules(authenticated=False, connect="subject == actor").may_connect(anybody, "agent/456/alice")
    await authorizer.close()


def test_administration_needs_its_scope() -> None:
    require_admin(identity(scopes="chat admin"), "Revoking")
    for scopes in ("", "chat", "administrator", "Admin"):
        with pytest.raises(Refused, match="Revoking needs a token with the scope `admin`") as refused:
            require_admin(identity(scopes=scopes), "Revoking")
        assert refused.value.code == "forbidden"


def test_a_session_is_bound_to_its_token() -> None:
    bound = token_hash("one")
    assert same_token(bound, "one")
    assert not same_token(bound, "One")
    assert not same_token(bound, None)
    assert same_token(token_hash(None), None)
    assert same_token(token_hash("\ud800"), "\ud800")


def test_an_identity_does_not_show_what_it_knows() -> None:
    somebody = identity("alice", "admin", address="5 Private Road")
    assert repr(somebody) == "Identity('alice')"
    assert forbidden("be the actor 'x'", address="x").as_dict() == {
        "code": "forbidden",
        "message": "This token does not allow to be the actor 'x'.",
        "temporary": False,
        "address": "x",
    }
