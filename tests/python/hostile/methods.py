"""Methods that a policy with a list of methods might forget."""

from hostile.wire import request

JSON = "Content-Type: application/json"
CLEAR = '{"clear": true}'


def _with_body(line: str, *fields: str, body: str = CLEAR) -> bytes:
    return request(line, JSON, f"Content-Length: {len(body)}", *fields, body=body)


METHODS = (
    "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "PUT", "DELETE", "PROPFIND", "MKCOL", "COPY", "MOVE", "LOCK",
    "SEARCH", "PURGE", "LINK", "REPORT", "get", "Get", "gET", "post", "options", "head", "FOO", "G", "GET\t", " GET",
    "GET ", "GET\x00", "G\xc9T", "POST GET", "X" * 300, "M-SEARCH", "QUERY", "PRI",
)  # fmt: skip

OVERRIDES = (
    "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method", "X-Forwarded-Method",
    "_method",
)  # fmt: skip

PREFLIGHT = "Access-Control-Request-Method: POST"

ATTACKS = {
    **{f"{method!r} /canary/x": request(f"{method} /canary/x") for method in METHODS},
    **{f"{method!r} /queue": request(f"{method} /queue") for method in METHODS},
    **{f"GET with {name}: OPTIONS": request("GET /canary/x", f"{name}: OPTIONS") for name in OVERRIDES},
    **{f"OPTIONS with {name}: GET": request("OPTIONS /canary/x", f"{name}: GET", PREFLIGHT) for name in OVERRIDES},
    **{
        f"OPTIONS with {name}: POST clears the queue": _with_body("OPTIONS /queue", f"{name}: POST")
        for name in OVERRIDES
    },
    "OPTIONS without a preflight's header": request("OPTIONS /canary/x", "Origin: http://@HOST@"),
    "OPTIONS with an empty one": request("OPTIONS /canary/x", "Access-Control-Request-Method:"),
    "a preflight": request("OPTIONS /canary/x", "Origin: http://@HOST@", PREFLIGHT),
    "a preflight with a body": _with_body("OPTIONS /queue", PREFLIGHT),
    "a preflight by GET": request("GET /canary/x", "Origin: http://@HOST@", PREFLIGHT),
    "a preflight by POST": _with_body("POST /queue", PREFLIGHT),
    "TRACE shows headers": request("TRACE /", "X-Secret: 1"),
    "OPTIONS *": request("OPTIONS *"),
    "POST clears the queue": _with_body("POST /queue"),
    "POST clears the history": _with_body("POST /api/history"),
    "POST interrupts": _with_body("POST /interrupt", body="{}"),
    "POST /interrupt without a body": request("POST /interrupt", "Content-Length: 0"),
    "POST frees memory": _with_body("POST /free", body='{"unload_models": true, "free_memory": true}'),
    "POST starts a graph": _with_body("POST /prompt", body='{"prompt": {}}'),
    "POST writes a file": _with_body("POST /userdata/secret.json?overwrite=true", body='"gone"'),
    "POST writes a script": _with_body("POST /userdata/x.js", body="1"),
    "POST moves a file": request("POST /userdata/secret.json/move/x.js?overwrite=true", "Content-Length: 0"),
    "DELETE a file": request("DELETE /userdata/secret.json"),
    "DELETE a file by its twin": request("DELETE /api/userdata/secret.json"),
    "POST changes the settings": _with_body("POST /settings", body='{"canary": "gone"}'),
    "POST changes one setting": _with_body("POST /settings/canary", body='"gone"'),
    "POST to a static file": _with_body("POST /assets/x.js", body="x"),
    "PUT a static file": _with_body("PUT /x.js", body="x"),
    "DELETE a static file": request("DELETE /index.html"),
    "POST to a static folder": _with_body("POST /canary_pictures/secret.png", body="x"),
    "POST /index.html": _with_body("POST /index.html", body="x"),
    "POST /": _with_body("POST /", body="x"),
    "POST /health": _with_body("POST /health", body="x"),
    "POST /ws": _with_body("POST /ws", body="x"),
    "HTTP/0.9": b"GET /canary/x\r\n\r\n",
    "HTTP/1.0": b"GET /canary/x HTTP/1.0\r\n\r\n",
    "HTTP/1.0 with a host": b"GET /canary/x HTTP/1.0\r\nHost: @HOST@\r\n\r\n",
    "HTTP/1.1 without a host": b"GET /canary/x HTTP/1.1\r\nConnection: close\r\n\r\n",
    "HTTP/1.0 that stays": b"GET /canary/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2,
    "HTTP/1.0, chunked": b"POST /queue HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n"
    + CLEAR.encode()
    + b"\r\n0\r\n\r\n",
    "HTTP/1.1 with a space behind": b"GET /canary/x HTTP/1.1 \r\nHost: @HOST@\r\nConnection: close\r\n\r\n",
    "a path with spaces behind": b"GET /canary/x   HTTP/1.1\r\nHost: @HOST@\r\nConnection: close\r\n\r\n",
    "a path with a space in it": b"GET /canary/x .js HTTP/1.1\r\nHost: @HOST@\r\nConnection: close\r\n\r\n",
    "http/1.1": b"GET /canary/x http/1.1\r\nHost: @HOST@\r\nConnection: close\r\n\r\n",
    "HTTP/1": b"GET /canary/x HTTP/1\r\nHost: @HOST@\r\nConnection: close\r\n\r\n",
    "HTTP/2.0": b"GET /canary/x HTTP/2.0\r\nHost: @HOST@\r\nConnection: close\r\n\r\n",
    "HTTP/9.9": b"GET /canary/x HTTP/9.9\r\nHost: @HOST@\r\nConnection: close\r\n\r\n",
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "an upgrade to HTTP/2": request("GET /canary/x", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    "a TLS hello": bytes.fromhex("160301004a0100004603035f") + b"\x00" * 64,
    "line feeds alone": b"GET /canary/x HTTP/1.1\nHost: @HOST@\nConnection: close\n\n",
    "carriage returns alone": b"GET /canary/x HTTP/1.1\rHost: @HOST@\rConnection: close\r\r",
    "an empty line first": b"\r\n\r\nGET /canary/x HTTP/1.1\r\nHost: @HOST@\r\nConnection: close\r\n\r\n",
    "tabs in the request line": b"GET\t/canary/x\tHTTP/1.1\r\nHost: @HOST@\r\nConnection: close\r\n\r\n",
    "a SOCKS hello": b"\x05\x01\x00",
    "nothing but zeros": b"\x00" * 512,
}
