"""JWTs for tests/end_to_end/apps/tokens.toml."""

import tomllib
from typing import Any

from joserfc import jwt
from joserfc.jwk import OctKey

from smart_router.clock import SystemClock
from tests.end_to_end.conftest import APPS

__all__ = ["ADMIN", "CONFIG", "token"]

CONFIG = APPS / "tokens.toml"
_SETTINGS = tomllib.loads(CONFIG.read_text())
ADMIN = str(_SETTINGS["auth"]["tokens"][0]["token"])


def token(subject: str, seconds: float, **claims: Any) -> str:
    """Valid from now on, for so long."""
    now = SystemClock().wall_ms() / 1000
    key = OctKey.import_key(_SETTINGS["auth"]["secret"])
    return jwt.encode({"alg": "HS256"}, {"sub": subject, "iat": int(now), "exp": int(now + seconds), **claims}, key)
