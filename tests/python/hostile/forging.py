"""Session cookies as the server would sign them, made from their description; and some that are almost right."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time

DAY = 24 * 60 * 60


def token(key: str, *, expires: float, version: int = 2, signing_key: bytes | None = None, framed: bool = True) -> str:
    """A session's value for `key`: version, key id, session id, time of issue, expiry, and the signature of all."""
    digest = hashlib.sha256(key.encode()).digest()
    fields = [
        bytes([version]),
        _hmac(digest, b"comfy-auth-rs key id v1")[:16],
        secrets.token_bytes(16),
        int(time.time()).to_bytes(8, "big"),
        int(expires).to_bytes(8, "big"),
    ]
    signed = b"".join(len(field).to_bytes(1, "big") * framed + field for field in fields)
    signature = _hmac(signing_key or _hmac(digest, b"comfy-auth-rs session key v1"), signed)
    return base64.urlsafe_b64encode(b"".join(fields) + signature).rstrip(b"=").decode()


def forgeries(key: str) -> dict[str, str]:
    """The names can be used in requests as `@FORGED-NAME@`."""
    now = time.time()
    digest = hashlib.sha256(key.encode()).digest()
    return {
        "EXPIRED": token(key, expires=now - 1),
        "LONG-EXPIRED": token(key, expires=1),
        "NEVER-BEGUN": token(key, expires=0),
        "VERSION-0": token(key, expires=now + DAY, version=0),
        "VERSION-1": token(key, expires=now + DAY, version=1),
        "VERSION-3": token(key, expires=now + DAY, version=3),
        "VERSION-255": token(key, expires=now + DAY, version=255),
        "BY-THE-KEY": token(key, expires=now + DAY, signing_key=key.encode()),
        "BY-ITS-DIGEST": token(key, expires=now + DAY, signing_key=digest),
        "BY-ITS-ID": token(key, expires=now + DAY, signing_key=_hmac(digest, b"comfy-auth-rs key id v1")),
        "BY-NOTHING": token(key, expires=now + DAY, signing_key=b"\0"),
        "UNFRAMED": token(key, expires=now + DAY, framed=False),
        "FOR-EVER-UNSIGNED": token(key, expires=2**64 - 1, signing_key=b"guess"),
    }


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
