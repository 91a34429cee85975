"""Bodies, their lengths and encodings, and requests that follow on the same connection."""

from hostile.wire import request

CHUNKED = "Transfer-Encoding: chunked"
CLEAR = '{"clear": true}'
FORM = "Content-Type: application/x-www-form-urlencoded"
#: A request that an attacker would like to sneak in.
SECOND = b"POST /queue HTTP/1.1\r\nHost: @HOST@\r\nContent-Length: 15\r\nConnection: close\r\n\r\n" + CLEAR.encode()
READ = b"GET /canary/x HTTP/1.1\r\nHost: @HOST@\r\nConnection: close\r\n\r\n"
#: These have a key, but their answers contain no canary.
WITH_KEY = b"GET /health HTTP/1.1\r\nHost: @HOST@\r\nAuthorization: Bearer @KEY@\r\n\r\n"
WITH_COOKIE = b"GET /health HTTP/1.1\r\nHost: @HOST@\r\nCookie: @COOKIE@\r\n\r\n"


def _kept(line: str, *fields: str, body: str = "") -> bytes:
    """A request that leaves the connection open."""
    return request(line, *fields, body=body).replace(b"Connection: close\r\n", b"")


def _form(body: str) -> bytes:
    return request("POST /auth_session", FORM, f"Content-Length: {len(body)}", body=body)


ATTACKS = {
    "Expect: 100-continue": request("POST /queue", "Expect: 100-continue", "Content-Length: 15", body=CLEAR),
    "Expect: 100-continue, the body withheld": request("POST /queue", "Expect: 100-continue", "Content-Length: 15"),
    "Expect: 100-continue on GET": request("GET /canary/x", "Expect: 100-continue"),
    "Expect: rubbish": request("POST /queue", "Expect: \xff", "Content-Length: 15", body=CLEAR),
    "Expect twice": request("POST /queue", "Expect: 100-continue", "Expect: x", "Content-Length: 15", body=CLEAR),
    "chunked": request("POST /queue", CHUNKED, body=f"f\r\n{CLEAR}\r\n0\r\n\r\n"),
    "chunked, never ended": request("POST /queue", CHUNKED, body=f"f\r\n{CLEAR}\r\n"),
    "chunked, a bad size": request("POST /queue", CHUNKED, body=f"zz\r\n{CLEAR}\r\n0\r\n\r\n"),
    "chunked, a negative size": request("POST /queue", CHUNKED, body=f"-1\r\n{CLEAR}\r\n0\r\n\r\n"),
    "chunked, a huge size": request("POST /queue", CHUNKED, body=f"{'f' * 40}\r\n{CLEAR}\r\n"),
    "chunked, extensions": request("POST /queue", CHUNKED, body=f"f;{'x' * 5000}\r\n{CLEAR}\r\n0\r\n\r\n"),
    "chunked, trailers": request(
        "POST /queue", CHUNKED, body=f"f\r\n{CLEAR}\r\n0\r\nAuthorization: Bearer @KEY@\r\n\r\n"
    ),
    "chunked, a key in the trailers of a GET": request("GET /canary/x", CHUNKED, body="0\r\nX-API-Key: @KEY@\r\n\r\n"),
    "chunked twice": request("POST /queue", CHUNKED, CHUNKED, body=f"f\r\n{CLEAR}\r\n0\r\n\r\n"),
    "chunked and a length": request("POST /queue", CHUNKED, "Content-Length: 15", body=f"f\r\n{CLEAR}\r\n0\r\n\r\n"),
    "a length and chunked": request("POST /queue", "Content-Length: 5", CHUNKED, body="0\r\n\r\n") + SECOND,
    "chunked, obscured": request("POST /queue", "Transfer-Encoding: xchunked", body=f"f\r\n{CLEAR}\r\n0\r\n\r\n"),
    "chunked, behind a tab": request("POST /queue", "Transfer-Encoding:\tchunked", body="0\r\n\r\n") + SECOND,
    "chunked with a space": request("POST /queue", "Transfer-Encoding : chunked", body="0\r\n\r\n") + SECOND,
    "gzip, chunked": request("POST /queue", "Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"),
    "identity": request("POST /queue", "Transfer-Encoding: identity", "Content-Length: 15", body=CLEAR),
    "two lengths": request("POST /queue", "Content-Length: 15", "Content-Length: 0", body=CLEAR) + SECOND,
    "a list of lengths": request("POST /queue", "Content-Length: 15, 15", body=CLEAR),
    "a negative length": request("POST /queue", "Content-Length: -1", body=CLEAR),
    "a length with a sign": request("POST /queue", "Content-Length: +15", body=CLEAR),
    "a length in hex": request("POST /queue", "Content-Length: 0xf", body=CLEAR),
    "a length beyond 64 bits": request("POST /queue", "Content-Length: 99999999999999999999999", body=CLEAR),
    "a length with an underscore": request("POST /queue", "Content-Length: 1_5", body=CLEAR),
    "a length of letters": request("POST /queue", "Content-Length: x", body=CLEAR),
    "a body shorter than its length": request("POST /queue", "Content-Length: 1500", body=CLEAR),
    "a body longer than its length": request("POST /queue", "Content-Length: 2", body=CLEAR),
    "a body without a length": request("POST /queue", body=CLEAR),
    "a body on GET": request("GET /canary/x", "Content-Length: 15", body=CLEAR),
    "a key as the body of a GET": request("GET /canary/x", FORM, "Content-Length: 53", body="api_key=@KEY@"),
    "a key in a form elsewhere": request("POST /canary/x", FORM, "Content-Length: 53", body="api_key=@KEY@"),
    "a bad gzip body": request("POST /queue", "Content-Encoding: gzip", "Content-Length: 4", body="\x1f\x8b\x00\x00"),
    "an unknown encoding": request("POST /queue", "Content-Encoding: x", "Content-Length: 15", body=CLEAR),
    "an upload": request(
        "POST /upload/image",
        "Content-Type: multipart/form-data; boundary=b",
        "Content-Length: 97",
        body='--b\r\nContent-Disposition: form-data; name="image"; filename="canary.png"\r\n\r\n'
        + "x" * 10
        + "\r\n--b--\r\n",
    ),
    "multipart without a boundary": request(
        "POST /upload/image", "Content-Type: multipart/form-data", "Content-Length: 1", body="x"
    ),
    "a log-in, chunked badly": request("POST /auth_session", FORM, CHUNKED, body="zz\r\napi_key=x\r\n0\r\n\r\n"),
    "a log-in, never ended": request("POST /auth_session", FORM, CHUNKED, body="9\r\napi_key=x\r\n"),
    "a log-in, bad gzip": request(
        "POST /auth_session", FORM, "Content-Encoding: gzip", "Content-Length: 9", body="api_key=x"
    ),
    "a log-in, a wrong deflate": request(
        "POST /auth_session", FORM, "Content-Encoding: deflate", "Content-Length: 9", body="api_key=x"
    ),
    "a log-in of 20 KB": _form("api_key=" + "a" * 20000),
    "a log-in of a thousand fields": _form("&".join(f"f{n}=1" for n in range(1000))),
    "a log-in, not UTF-8": _form("api_key=\xff\xfe"),
    "a log-in with an array": _form("api_key[]=x"),
    "a log-in with an empty key": _form("api_key="),
    "a log-in with a bad next": _form("api_key=x&next=//evil.example%0d%0aX-Injected:1"),
    "a log-in from elsewhere": request(
        "POST /auth_session", FORM, "Origin: http://evil.example", "Content-Length: 9", body="api_key=x"
    ),
    "a log-in by a session": request(
        "POST /auth_session", "Cookie: @COOKIE@", "Origin: http://@HOST@", "Content-Length: 2", body="{}"
    ),
    **{
        f"a log-in with {body[:30]!r}": request(
            "POST /auth_session", "Content-Type: application/json", f"Content-Length: {len(body)}", body=body
        )
        for body in (
            "null",
            "[]",
            '"x"',
            "1e999",
            "NaN",
            "{",
            "\xff",
            "[" * 9000,
            '{"remember": {}}',
            '{"remember": true, "remember": 1}',
            "\x00",
        )
    },
    "a body behind a refused page": _kept("GET /", "Accept: text/html", "Content-Length: 15", body=CLEAR) + READ,
    "pipelined: two reads": _kept("GET /canary/x") + READ,
    "pipelined: a read and a write": _kept("GET /canary/x") + SECOND,
    "pipelined: a refused body that is a request": _kept("POST /queue", f"Content-Length: {len(READ)}") + READ,
    "pipelined: a refused body, then a request": _kept("POST /queue", "Content-Length: 15", body=CLEAR) + SECOND,
    "pipelined: a refused chunked body, then a request": _kept(
        "POST /queue", CHUNKED, body=f"f\r\n{CLEAR}\r\n0\r\n\r\n"
    )
    + SECOND,
    "pipelined: an unfinished body, then a request": _kept("POST /queue", "Content-Length: 9000", body=CLEAR) + SECOND,
    "pipelined: behind an exempt request": _kept("GET /health") + READ + SECOND,
    "pipelined: behind the login page": _kept("GET /auth_login.html") + READ,
    "pipelined: behind one with the key": WITH_KEY + READ,
    "pipelined: behind one with the cookie": WITH_COOKIE + READ + SECOND,
    "pipelined: behind a log-in": _kept(
        "POST /auth_session", "Authorization: Bearer @KEY@", "Content-Length: 2", body="{}"
    )
    + READ,
    "pipelined: behind HEAD": _kept("HEAD /canary/x") + READ,
    "pipelined: behind a preflight": _kept("OPTIONS /queue", "Access-Control-Request-Method: POST") + SECOND,
    "pipelined: behind a malformed one": b"GET / HTTP/1.1\r\nbad\r\n\r\n" + READ,
    "pipelined: behind Expect": _kept("POST /queue", "Expect: 100-continue", "Content-Length: 15", body=CLEAR) + SECOND,
    "pipelined: fifty": _kept("GET /canary/x") * 50 + READ,
    "pipelined: half a request": _kept("GET /canary/x") + b"GET /canary/x HTTP/1.1\r\nHost",
}
