"""As much of the Compose file format as deploy/docker-compose.yml uses; what is not named here is a mistake."""

from pathlib import Path
from typing import Annotated

import msgspec
import yaml  # type: ignore[import-untyped]  # noqa: TID251 - safe_load, of a file of ours, in a test

__all__ = ["Compose", "Service", "read_compose"]

Duration = Annotated[str, msgspec.Meta(pattern=r"^\d+(ms|s|m|h)$")]


class Build(msgspec.Struct, forbid_unknown_fields=True):
    context: str
    dockerfile: str


class Health(msgspec.Struct, forbid_unknown_fields=True):
    test: list[str]
    interval: Duration
    timeout: Duration
    retries: int
    start_period: Duration
    start_interval: Duration


class Condition(msgspec.Struct, forbid_unknown_fields=True):
    condition: str


class Service(msgspec.Struct, forbid_unknown_fields=True):
    image: str
    build: Build | None = None
    hostname: str | None = None
    environment: dict[str, str] = {}
    ports: list[Annotated[str, msgspec.Meta(pattern=r"^\S+:\d+$")]] = []
    volumes: list[Annotated[str, msgspec.Meta(pattern=r"^[^:]+:/[^:]+(:ro)?$")]] = []
    networks: list[str] = []
    depends_on: dict[str, Condition] | list[str] = []
    healthcheck: Health | None = None
    restart: str = "no"
    stop_grace_period: Duration = "10s"
    read_only: bool = False
    cap_drop: list[str] = []
    security_opt: list[str] = []


class Subnet(msgspec.Struct, forbid_unknown_fields=True):
    subnet: str


class Ipam(msgspec.Struct, forbid_unknown_fields=True):
    config: list[Subnet]


class Network(msgspec.Struct, forbid_unknown_fields=True):
    ipam: Ipam | None = None


class Volume(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Compose(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    services: dict[str, Service]
    networks: dict[str, Network]
    volumes: dict[str, Volume]


def read_compose(path: Path) -> Compose:
    """ValidationError names the place of what is wrong. Keys that begin with `x-` are only there for reuse."""
    data = yaml.safe_load(path.read_text("utf-8"))
    return msgspec.convert({key: value for key, value in data.items() if not key.startswith("x-")}, Compose)
