"""TLS as a server: 1.2 or newer, no renegotiation, no compression, forward secrecy."""

from __future__ import annotations

import ssl
from typing import Literal

from smart_router.errors import ConfigError

__all__ = ["server_context"]

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all fine


def server_context(certificate: str, key: str, minimum: Literal["1.2", "1.3"] = "1.2") -> ssl.SSLContext:
    """From two PEM files, the chain with the own certificate first; ConfigError if they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if minimum == "1.2" else ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        problem = f"server.tls: {certificate} and {key} are not a certificate and its key in PEM form: {error}"
        raise ConfigError([problem]) from error
    return context


def _no_password() -> str:
    """An encrypted key must not make the program ask on a terminal."""
    raise ValueError("the key is encrypted")
