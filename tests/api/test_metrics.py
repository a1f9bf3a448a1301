"""The metrics page: complete, parseable, bounded, without secrets (faults and limits, A10)."""

from pathlib import Path
from typing import Literal, NamedTuple

from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from smart_router.api.metrics import MAX_SERIES, families
from smart_router.app import Node
from smart_router.client import connect
from smart_router.config.schema import GatewaySettings
from smart_router.core.ends import EndStatistics
from smart_router.telemetry import METRICS
from tests.api.nodes import ADMIN, AUTH, MONITOR, ask, bearer, running, settings_of

__all__: list[str] = []

Kind = Literal["socketio", "plain", "engineio", "websocket"]


async def series(node: Node, token: str = "") -> dict[str, float]:
    answer = await ask(node, "GET", "/metrics", bearer(token) if token else {})
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = text_string_to_metric_families(answer.body.decode())
    return {f"{sample.name}{sample.labels or ''}": sample.value for family in found for sample in family.samples}


async def test_every_number_of_every_part_is_a_metric(node: Node) -> None:
    shown = await series(node)
    for part, statistics in node.parts():
        for field, value in statistics._asdict().items():
            name = f"smart_router_{part}_{field}"
            assert isinstance(value, str) or {name, name + "_total"} & set(METRICS), f"name {name} in telemetry.METRICS"
            assert not isinstance(value, int | float) or {name, name + "_total"} & set(shown)


async def test_every_metric_that_is_described_exists(tmp_path: Path) -> None:
    kinds: list[tuple[Kind, str]] = [("socketio", "/s/"), ("plain", "/p"), ("engineio", "/e/"), ("websocket", "/w")]
    gateways = [GatewaySettings(kind=kind, path=path) for kind, path in kinds]
    settings = settings_of(tmp_path / "data")
    async with running(replace(settings, server=replace(settings.server, gateways=gateways))) as node:
        parts = {f"smart_router_{part}_{field}" for part, statistics in node.parts() for field in statistics._fields}
    described = {name.removesuffix("_total") for name in METRICS}
    assert described - parts == {"smart_router_ready"}


async def test_what_happens_is_counted(node: Node) -> None:
    before = await series(node)
    assert before["smart_router_ready"] == 1
    node.core.router.draining = True
    host, port = node.addresses[0]
    async with connect(f"ws://{host}:{port}/ws", actor="ui/456/u1"):
        after = await series(node)
    assert after["smart_router_ready"] == 0
    assert after["smart_router_delivery_sessions"] == before["smart_router_delivery_sessions"] + 1
    assert after["smart_router_listener_websockets_opened_total"] == 1


async def test_names_make_no_series_and_nothing_is_secret(guarded: Node) -> None:
    before = await series(guarded, MONITOR)
    host, port = guarded.addresses[0]
    async with connect(f"ws://{host}:{port}/ws", actor="ui/456/nobody", token=AUTH.tokens[2].token):
        for number in range(100):
            await ask(guarded, "GET", f"/made-up-{number}", {"User-Agent": f"name-{number}"})
        after = await series(guarded, MONITOR)
    assert set(after) == set(before)
    text = (await ask(guarded, "GET", "/metrics", bearer(ADMIN))).body.decode()
    assert not any(one.token in text or one.subject in text for one in AUTH.tokens)
    assert len(after) <= 1000


def test_a_hundred_thousand_reasons_make_a_bounded_number_of_series() -> None:
    ends = EndStatistics({("failed", f"reason {number}"): 1 for number in range(100_000)}, 0, 0)
    (counts,) = [family for family in families([("ends", ends)], []) if family.name == "smart_router_ends_counts"]
    assert len(counts.samples) == MAX_SERIES + 1
    assert sum(sample.value for sample in counts.samples) == 100_000
    assert counts.samples[-1].labels == {"state": "other", "reason": "other"}


class Strange(NamedTuple):
    reason: str
    unheard_of: int


def test_two_parts_of_one_name_are_added_up_and_what_is_not_described_is_left_out() -> None:
    ends = EndStatistics({}, 2, 1)
    found = {
        family.name: family for family in families([("ends", ends), ("ends", ends), ("x", Strange("", 1))], ["no"])
    }
    assert found["smart_router_ends_queued"].samples[0].value == 4
    assert found["smart_router_ready"].samples[0].value == 0
    assert not any("unheard_of" in name for name in found)
