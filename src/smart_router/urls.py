"""What the URLs of other servers have in common: plain text only, numbers in bounds, a client's TLS options."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from smart_router.errors import ConfigError

__all__ = ["Wrong", "client_context", "is_clean", "is_number"]

Wrong = Callable[[str], ConfigError]
"""From what is wrong to the error that names the setting."""


def is_clean(rest: str) -> bool:
    """`rest`, behind `scheme://`, holds nothing that would have to be percent-encoded, and nothing unprintable."""
    return bool(rest) and not any(character in rest for character in " #\\") and unquote(rest).isprintable()


def is_number(text: str, least: int, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most


def client_context(options: Mapping[str, str], wrong: Wrong) -> ssl.SSLContext:
    """`options`: any of cacertfile, certfile, keyfile, verify. Reads files; raises `wrong` of one that is no use."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authority := options.get("cacertfile"):
        _load("cacertfile", authority, context.load_verify_locations, wrong)
    if certificate := options.get("certfile"):
        key = options.get("keyfile", certificate)
        _load("certfile", certificate, lambda path: context.load_cert_chain(path, key, password=_no_password), wrong)
    if options.get("verify") == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load(name: str, path: str, load: Callable[[str], Any], wrong: Wrong) -> None:
    try:
        load(path)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "cannot be used"
        raise wrong(f"`{name}` {Path(path)}: {reason}") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted")
