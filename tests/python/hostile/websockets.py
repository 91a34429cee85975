"""WebSocket upgrades: `/ws` itself is open, as the guide says. Everything else is not."""

from hostile.wire import request

NONCE = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = "Sec-WebSocket-Version: 13"
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", NONCE, VERSION)

#: Targets of upgrades that we have no handler for.
TARGETS = (
    "/canary/x", "/queue", "/prompt", "/", "/userdata/secret.json", "/canary_pictures/secret.png", "/ws/../queue",
    "/ws/", "/ws/x", "/ws;x", "/ws%2f", "/wss", "/WS", "//ws/../queue", "/ws?/../queue", "/api/ws/../queue", "/ws%00",
    "/internal/ws", "/nothing",
)  # fmt: skip

PROTOCOLS = (
    "bearer",
    "base64url.bearer.authorization.k8s.io.d3Jvbmc",
    "api_key, wrong",
    "null",
    "",
    ",",
    "\xff",
    "x" * 7000,
)

ODD = {
    "an old version": ("Upgrade: websocket", "Connection: Upgrade", NONCE, "Sec-WebSocket-Version: 8"),
    "no version": ("Upgrade: websocket", "Connection: Upgrade", NONCE),
    "a version of rubbish": ("Upgrade: websocket", "Connection: Upgrade", NONCE, "Sec-WebSocket-Version: x\xff"),
    "versions": ("Upgrade: websocket", "Connection: Upgrade", NONCE, "Sec-WebSocket-Version: 13, 8, 7"),
    "no key": ("Upgrade: websocket", "Connection: Upgrade", VERSION),
    "a short key": ("Upgrade: websocket", "Connection: Upgrade", VERSION, "Sec-WebSocket-Key: x"),
    "a key of rubbish": ("Upgrade: websocket", "Connection: Upgrade", VERSION, "Sec-WebSocket-Key: \xff\xfe!"),
    "two keys": (*UPGRADE, NONCE),
    "no upgrade": (NONCE, VERSION, "Connection: Upgrade"),
    "an upgrade to something else": ("Upgrade: tcp", "Connection: Upgrade", NONCE, VERSION),
    "upgrades": ("Upgrade: h2c, websocket", "Connection: keep-alive, Upgrade", NONCE, VERSION),
    "an empty upgrade": ("Upgrade:", "Connection: Upgrade", NONCE, VERSION),
    "a method": (*UPGRADE, "X-HTTP-Method-Override: POST"),
    "an extension": (*UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99"),
    "a body": (*UPGRADE, "Content-Length: 5"),
    "a foreign origin": (*UPGRADE, "Origin: http://evil.example"),
    "the cookie from elsewhere": (*UPGRADE, "Cookie: @COOKIE@", "Origin: http://evil.example"),
    "the cookie from a foreign page": (*UPGRADE, "Cookie: @COOKIE@", "Sec-Fetch-Site: cross-site"),
    "the cookie and no origin": (*UPGRADE, "Cookie: @COOKIE@"),
    "a wrong key": (*UPGRADE, "Authorization: Bearer wrong"),
    "a wrong cookie": (*UPGRADE, "Cookie: @NAME@=@STRANGER@"),
}


def upgrade(target: str, *fields: str) -> bytes:
    """A request without the `Connection: close` of the others, which would prevent the upgrade."""
    return request(f"GET {target}", *fields).replace(b"Connection: close\r\n", b"")


#: A frame that a client may send before it has an answer: a text message with a request in it, with a mask of zeros.
_TEXT = b"GET /canary/x HTTP/1.1\r\nHost: x\r\n\r\n"
FRAME = b"\x81" + bytes([0x80 | len(_TEXT)]) + b"\x00" * 4 + _TEXT

ATTACKS = {
    **{f"upgrade {target}": upgrade(target, *UPGRADE) for target in TARGETS},
    **{f"upgrade /canary/x with {name}": upgrade("/canary/x", *fields) for name, fields in ODD.items()},
    **{f"upgrade /ws with {name}": upgrade("/ws?clientId=hostile", *fields) for name, fields in ODD.items()},
    **{f"subprotocol {p[:50]!r}": upgrade("/canary/x", *UPGRADE, f"Sec-WebSocket-Protocol: {p}") for p in PROTOCOLS},
    **{f"subprotocol {p[:50]!r} at /ws": upgrade("/ws", *UPGRADE, f"Sec-WebSocket-Protocol: {p}") for p in PROTOCOLS},
    **{
        f"POST upgrade {target}": upgrade(target, *UPGRADE).replace(b"GET ", b"POST ", 1)
        for target in ("/queue", "/interrupt", "/ws", "/canary/x")
    },
    "a request behind a refused upgrade": upgrade("/canary/x", *UPGRADE) + request("GET /canary/y"),
    "a request in a frame": upgrade("/ws", *UPGRADE) + FRAME,
    "a request behind an upgrade, unframed": upgrade("/ws", *UPGRADE) + request("GET /canary/x"),
    "an unmasked frame": upgrade("/ws", *UPGRADE) + b"\x81\x02{}",
    "a frame of 2^63 bytes": upgrade("/ws", *UPGRADE) + b"\x81\xff" + b"\xff" * 8 + b"\x00" * 4,
    "a message that is no JSON": upgrade("/ws", *UPGRADE) + b"\x81\x83\x00\x00\x00\x00\xff\xfe\xfd",
    "/ws by GET without an upgrade": request("GET /ws"),
    "/api/ws by GET without an upgrade": request("GET /api/ws"),
}
