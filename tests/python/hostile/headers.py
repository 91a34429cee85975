"""Header fields: some that a server might believe, and some that are repeated, malformed or very long."""

import base64

from hostile.wire import request

#: In these fields, some servers let a proxy tell what was really requested, or by whom.
TRUSTED_BY_OTHERS = (
    "X-Original-URL: /health", "X-Rewrite-URL: /health", "X-Original-URI: /health", "X-Forwarded-URI: /health",
    "X-Forwarded-Path: /health", "X-Forwarded-Prefix: /extensions", "X-Script-Name: /extensions",
    "X-Envoy-Original-Path: /health", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 127.0.0.1, ::1",
    "X-Real-IP: 127.0.0.1", "X-Client-IP: 127.0.0.1", "True-Client-IP: 127.0.0.1", "CF-Connecting-IP: 127.0.0.1",
    "X-Forwarded-Host: localhost", "X-Forwarded-Proto: https", "X-Forwarded-Server: localhost", "X-Host: localhost",
    "Forwarded: for=127.0.0.1;host=localhost;proto=https", "Forwarded: for=\"[::1]\"", "Via: 1.1 localhost",
    "X-Remote-User: admin", "Remote-User: admin", "X-Forwarded-User: admin", "X-Authenticated-User: admin",
    "X-Auth-Request-User: admin", "X-Internal: 1", "X-Custom-IP-Authorization: 127.0.0.1", "Referer: http://@HOST@/",
    "Referer: http://@HOST@/auth_login.html", "Origin: http://@HOST@", "Origin: null", "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Site: none", "Sec-Fetch-Dest: script", "Purpose: prefetch", "X-Purpose: preview",
    "X-Requested-With: XMLHttpRequest", "Accept: text/html", "Accept: image/png", "Range: bytes=0-0",
    "If-None-Match: *", "If-Modified-Since: Mon, 01 Jan 2001 00:00:00 GMT", "Connection: close, Authorization",
    "Connection: X-API-Key", "Upgrade-Insecure-Requests: 1", "Service-Worker: script", "Max-Forwards: 0",
    "Cache-Control: only-if-cached", "TE: trailers",
)  # fmt: skip

VALUES = (
    "", " ", "Bearer", "Bearer ", "Bearer null", "Bearer undefined", "Bearer NaN", "Bearer true", "Bearer 0",
    "Bearer []", "Bearer {}", "Bearer *", "Bearer %00", "Bearer ' OR 1=1 --", "Bearer ${KEY}", "Bearer \"\"",
    "Bearer Bearer", "Bearer Bearer x", "Bearer canary", "Bearer canary-9c41-0123456789", "Bearer @KEY", "Bearer ,",
    "Bearer x,Bearer y", "bearer\tx", "BEARER  x", "Bearer=x", "Bearer:x", "Bearerx", "Token x",
    "Digest username=\"x\"", "Negotiate x", "NTLM x", "AWS4-HMAC-SHA256 x", "Basic", "Basic ", "Basic !", "Basic =",
    "Basic Og==", "Basic YTo=", "Basic OmE=", "Basic YQ==", "Basic //79/w==",
    "Basic " + base64.b64encode(b"admin:admin").decode(), "Basic " + base64.b64encode(b"a:b:c").decode(),
    "Basic " + base64.b64encode(b":" * 3000).decode(), "Bearer sha256:" + "0" * 64, "sha256:" + "0" * 64,
    "[redacted]", "Bearer [redacted]", "Bearer \xff\xfe", "Bearer \xe9", "\xff Bearer x", "Bearer x\xa0",
    "Bearer " + "a" * 1024, "Bearer " + "a" * 1025, "Bearer " + "a" * 7000,
)  # fmt: skip

BEARER = "Authorization: Bearer wrong"

ATTACKS = {
    **{field: request("GET /canary/x", field) for field in TRUSTED_BY_OTHERS},
    **{
        f"Authorization: {value[:60]!r} {number}": request("GET /canary/x", f"Authorization: {value}")
        for number, value in enumerate(VALUES)
    },
    **{
        f"X-API-Key: {value[:60]!r} {number}": request("GET /canary/x", f"X-API-Key: {value}")
        for number, value in enumerate(VALUES[::3])
    },
    "all that proxies say": request("GET /canary/x", *TRUSTED_BY_OTHERS[:28]),
    "Authorization twice": request("GET /canary/x", BEARER, "Authorization: Bearer other"),
    "Authorization twice, one empty": request("GET /canary/x", "Authorization:", BEARER),
    "Authorization a hundred times": request("GET /canary/x", *[BEARER] * 100),
    "Authorization folded": request("GET /canary/x", "Authorization: Bearer\r\n wrong"),
    "Authorization folded by a tab": request("GET /canary/x", "Authorization:\r\n\tBearer wrong"),
    "Authorization with a space before the colon": request("GET /canary/x", "Authorization : Bearer wrong"),
    "Authorization with a space before its name": request("GET /canary/x", " Authorization: Bearer wrong"),
    "Authorization in a list": request("GET /canary/x", "Authorization: Basic YTpi, Bearer wrong"),
    "aUTHORIZATION": request("GET /canary/x", "aUTHORIZATION: bEARER wrong"),
    "Proxy-Authorization": request("GET /canary/x", "Proxy-Authorization: Bearer wrong"),
    "X_API_Key": request("GET /canary/x", "X_API_Key: wrong", "X-API_Key: wrong", "HTTP_X_API_KEY: wrong"),
    "X-API-Key twice": request("GET /canary/x", "X-API-Key: a", "X-API-Key: b"),
    "X-API-Key folded": request("GET /canary/x", "X-API-Key: a\r\n b"),
    "a NUL in a value": request("GET /canary/x", "Authorization: Bearer a\x00b"),
    "a NUL in a name": request("GET /canary/x", "Authori\x00zation: Bearer x"),
    "a bell in a value": request("GET /canary/x", "X-API-Key: a\x07b"),
    "a line feed in a value": request("GET /canary/x", "X-Test: a\nAuthorization: Bearer wrong"),
    "a carriage return in a value": request("GET /canary/x", "X-Test: a\rAuthorization: Bearer wrong"),
    "no colon": request("GET /canary/x", "Authorization Bearer wrong"),
    "no name": request("GET /canary/x", ": Bearer wrong"),
    "not UTF-8": request("GET /canary/x", b"X-Test: \xff\xfe\x80", b"Cookie: \xff=\xfe"),
    "64 KB": request("GET /canary/x", "X-Test: " + "a" * 65536),
    "64 KB of Authorization": request("GET /canary/x", "Authorization: Bearer " + "a" * 65536),
    "64 KB without an end": b"GET /canary/x HTTP/1.1\r\nHost: @HOST@\r\nX-Test: " + b"a" * 65536,
    "a thousand fields": request("GET /canary/x", *(f"X-Test-{number}: 1" for number in range(1000))),
    "Host twice": request("GET /canary/x", "Host: localhost"),
    "Host with a path": request("GET /canary/x", host=b"@HOST@/health"),
    "Host with a user": request("GET /canary/x", host=b"user:pass@@HOST@"),
    "Host empty": request("GET /canary/x", host=b""),
    "Host with rubbish": request("GET /canary/x", host=b"a b"),
    "Host not UTF-8": request("GET /canary/x", host=b"\xff\xfe"),
    "Host with a huge port": request(
        "GET /canary/x", "Cookie: comfyui_session=x", host=b"127.0.0.1:99999999999999999999"
    ),
    "Host an open bracket": request("GET /canary/x", "Origin: http://[::1", "Cookie: @COOKIE@", host=b"[::1"),
    "Accept without an end": request("GET /canary/x", "Accept: " + "text/html;q=0," * 500),
    "Accept with strange weights": request(
        "GET /canary/x", "Accept: text/html;q=nan, text/html;q=inf, text/html;q=1e999"
    ),
    "Range of a negative length": request("GET /", "Range: bytes=9-1", "Accept: */*"),
    "Range on the login page": request("GET /auth_login.html", "Range: bytes=99999999999999999999999-"),
    "If-None-Match rubbish": request("GET /auth_login.html", 'If-None-Match: "x, W/"', "If-Modified-Since: never"),
    "If-Range rubbish": request("GET /index.html", "Range: bytes=0-1", "If-Range: \xff"),
    "Accept-Encoding rubbish": request("GET /auth_inject.js", "Accept-Encoding: gzip;q=nan, ../../x, \xff"),
    "Content-Type rubbish": request("POST /auth_session", "Content-Type: ///;;\xff", "Content-Length: 2", body="{}"),
}
