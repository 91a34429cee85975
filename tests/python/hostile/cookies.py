"""Session cookies that were tampered with, or belong elsewhere. `@VALUE@` is replaced with a valid value."""

from hostile.forging import forgeries
from hostile.wire import request

#: A valid value is 108 characters of base64 for these bytes: version, key, session, issue, expiry, signature.
LENGTH = 1 + 16 + 16 + 8 + 8 + 32

#: The forgeries that `forging` makes, and a session that was logged out.
FORGED = (*forgeries("any"), "LOGGED-OUT")

NAMES = (
    "comfyui_session",
    "comfyui_session_80",
    "comfyui_session_1",
    "Comfyui_session_80",
    "session",
    "x@NAME@",
    "@NAME@x",
    "",
)


def _cookie(value: str, target: str = "/canary/x", *fields: str) -> bytes:
    return request(f"GET {target}", f"Cookie: {value}", *fields)


FOREIGN = (
    "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: null", "Origin: http://evil.example",
    "Origin: http://127.0.0.1", "Origin: http://@HOST@.evil.example", "Origin: http://@HOST@@evil.example",
    "Origin: @HOST@", "Origin: http://@HOST@/", "Origin: HTTP://@HOST@", "Origin:", "Sec-Fetch-Site:",
    "Sec-Fetch-Site: Same-Origin", "Sec-Fetch-Site: same-origin, cross-site",
    "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site", "Referer: http://@HOST@/",
    "Origin: http://@HOST@\r\nOrigin: http://evil.example",
    "X-Forwarded-Host: evil.example\r\nOrigin: http://evil.example",
)  # fmt: skip

READERS = (
    "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image",
    "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty",
    "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe",
    "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script",
    "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Site: rubbish",
)

CLEAR = '{"clear": true}'
WRITES = {
    "clear the queue": ("POST /queue", CLEAR),
    "interrupt": ("POST /interrupt", "{}"),
    "delete a file": ("DELETE /userdata/secret.json", ""),
    "override the method": ("POST /userdata/secret.json?overwrite=true&_method=GET", "gone"),
}

ATTACKS = {
    **{f"named {name!r}": _cookie(f"{name}=@VALUE@") for name in NAMES},
    **{f"cut to {length}": _cookie(f"@NAME@=@CUT{length}@") for length in (1, 2, 10, 40, 60, 70, 80, 90, 100)},
    **{f"byte {number} is one more": _cookie(f"@NAME@=@BYTE{number}@") for number in range(LENGTH)},
    **{f"bit {number} is flipped": _cookie(f"@NAME@=@BIT{number}@") for number in range(3, 8 * LENGTH, 5)},
    **{f"forged: {name}": _cookie(f"@NAME@=@FORGED-{name}@") for name in FORGED},
    **{f"forged, twice: {name}": _cookie(f"@NAME@=@FORGED-{name}@; @NAME@=@FORGED-{name}@") for name in FORGED[:3]},
    "empty": _cookie(""),
    "no value": _cookie("@NAME@"),
    "an empty value": _cookie("@NAME@="),
    "another key's": _cookie("@NAME@=@STRANGER@"),
    "doubled": _cookie("@NAME@=@VALUE@@VALUE@"),
    "quoted": _cookie('@NAME@="@VALUE@"'),
    "with a space in it": _cookie("@NAME@=@VALUE@ x"),
    "with padding": _cookie("@NAME@=@VALUE@="),
    "with a NUL": _cookie("@NAME@=@VALUE@\x00"),
    "percent-encoded name": _cookie("%63omfyui_session=@VALUE@"),
    "in another case": _cookie("@NAME@=@VALUE@".replace("@NAME@", "COMFYUI_SESSION")),
    "separated by commas": _cookie("a=b,@NAME@=@VALUE@"),
    "in a fragment of another": _cookie("a=@NAME@=@VALUE@"),
    "in Set-Cookie": request("GET /canary/x", "Set-Cookie: @COOKIE@"),
    "in Cookie2": request("GET /canary/x", "Cookie2: @COOKIE@"),
    "in the query": request("GET /canary/x?@COOKIE@"),
    "its value as a key": request("GET /canary/x", "Authorization: Bearer @VALUE@"),
    "its value in X-API-Key": request("GET /canary/x", "X-API-Key: @VALUE@"),
    "its value as ?token": request("GET /canary/x?token=@VALUE@"),
    "a key as its value": _cookie("@NAME@=@KEY@"),
    "under another port": request("GET /canary/x", "Cookie: @COOKIE@", host=b"127.0.0.1:1"),
    "without a port": request("GET /canary/x", "Cookie: @COOKIE@", host=b"127.0.0.1"),
    "a thousand cookies": _cookie("; ".join(f"c{n}=1" for n in range(1000))),
    "a thousand of that name": _cookie("; ".join(["@NAME@=x"] * 200)),
    "a thousand, then a wrong one": _cookie("; ".join([*["a=b"] * 1000, "@NAME@=@STRANGER@"])),
    "a hundred Cookie fields": request("GET /canary/x", *["Cookie: @NAME@=x"] * 100),
    "semicolons": _cookie(";" * 7000),
    "equals signs": _cookie("=" * 7000),
    "64 KB": _cookie("@NAME@=" + "A" * 65536),
    "zeros": _cookie("@NAME@=" + "A" * 98),
    "as many characters, none of base64": _cookie("@NAME@=" + "!" * 98),
    "a JWT without a signature": _cookie("@NAME@=eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."),
    **{
        f"{what} from elsewhere, {field!r}": request(
            line, "Cookie: @COOKIE@", "Content-Type: application/json", f"Content-Length: {len(body)}", field, body=body
        )
        for what, (line, body) in WRITES.items()
        for field in FOREIGN
        if what == "clear the queue" or field in FOREIGN[:4]
    },
    **{f"embedded elsewhere, {field!r}": _cookie("@COOKIE@", "/canary/x", field) for field in READERS},
    **{
        f"{what} by a client that says nothing": request(
            line, "Cookie: @COOKIE@", f"Content-Length: {len(body)}", body=body
        )
        for what, (line, body) in WRITES.items()
    },
}
