"""The fuzz targets of these protocols, a thousand examples each; twenty thousand with SMART_ROUTER_FULL=1."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings

from fuzz import protocols_amqp, protocols_engineio, protocols_socketio

FULL = os.environ.get("SMART_ROUTER_FULL") == "1"
many = settings(max_examples=20_000 if FULL else 1000, deadline=None)


@pytest.mark.timeout(300 if FULL else 20)
@many
@given(protocols_engineio.INPUTS)
def test_engineio(data: bytes) -> None:
    protocols_engineio.one_input(data)


@pytest.mark.timeout(300 if FULL else 20)
@many
@given(protocols_socketio.INPUTS)
def test_socketio(data: bytes) -> None:
    protocols_socketio.one_input(data)


@pytest.mark.timeout(300 if FULL else 20)
@many
@given(protocols_amqp.INPUTS)
def test_amqp(data: bytes) -> None:
    protocols_amqp.one_input(data)
