"""Keys at the beginning of the path: what looks like `/key/KEY/`, and what follows it."""

from hostile.wire import request

#: What an attacker wants.
WANTED = ("/canary/x", "/queue", "/userdata/secret.json", "/view?filename=secret.png", "/canary_pictures/secret.png")

#: Guesses in the form `/key/KEY`.
GUESSES = (
    "/key/wrong", "/key/wrong/key/wrong2", "/key/wrong" * 20, "/key/%00", "/key/%ff", "/key/%", "/key/%zz", "/key/%2f",
    "/key/[redacted]", "/key/sha256:" + "0" * 64, "/key/null", "/key/%20", "/key/ ", "/key/*", "/key/{key}", "/key/;",
    "/key/wrong;x", "/key/wrong%3fapi_key=x", "/key/wrong%23", "/key/key", "/key/wrong%0d%0aX-Injected:%201",
    "/key/" + "a" * 3000, "/key/\xff\xfe", "/key/%c0%af", "/key/wrong%2f..%2f..",
)  # fmt: skip

#: Paths that some software takes for others. None of them has the form `/key/KEY`, so even the right key doesn't count.
ODD = (
    "/key", "/key/", "/key//", "/key/.", "/key/..", "/key/%2e", "/key/%2e%2e", "/key/.%2e", "/key//@KEY@",
    "//key/@KEY@",
    "///key//@KEY@", "/./key/@KEY@", "/x/../key/@KEY@", "/%2e/key/@KEY@", "/key/./@KEY@", "/key/../key/@KEY@",
    "/key/%2e%2e/key/@KEY@", "/key%2f@KEY@", "%2fkey/@KEY@", "/key%2F@KEY@", "/%6bey/@KEY@", "/KEY/@KEY@", "/Key/@KEY@",
    "/key/key;/@KEY@", "/key\\@KEY@", "/key%5c@KEY@", "\\key\\@KEY@", "/api/key/@KEY@", "/ws/key/@KEY@",
    "/health/key/@KEY@", "/extensions/key/@KEY@", "/auth_session/key/@KEY@",
    "/key/@KEY@%00", "/key/@KEY@%20", "/key/%20@KEY@", "/key/@KEY@;", "/key/@KEY@.", "/key/@KEY@%2f", "/key/@KEY@%23",
    "/key/any:@KEY@", "/key/Bearer%20@KEY@", "/key/@KEY@@KEY@", "/key/%2540KEY", "http://@HOST@//key/@KEY@",
    "http://@HOST@/key", "http://@HOST@/KEY/@KEY@",
)  # fmt: skip

#: Ways from a guess, past something that needs no key, to something that does.
DETOURS = (
    "/health/../queue", "/health/..%2fqueue", "/extensions/../queue", "/extensions/%2e%2e/queue", "/x.js/../queue",
    "/auth_login.html/../queue", "/../queue", "/../../queue", "/./queue", "//queue", "/%2e%2e/queue", "/queue/.js",
    "/queue;.js", "/queue%00.js", "/queue?x.js", "/queue#x.js", "/api/queue", "/api/../queue", "/key/queue",
    "/internal/files/output", "/system_stats", "/object_info", "/history", "/prompt", "/settings", "/assets/../queue",
)  # fmt: skip

METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "CONNECT", "get", "X")

ATTACKS = {
    **{
        f"GET {prefix[:60]}{wanted} {number}": request(f"GET {prefix}{wanted}")
        for number, prefix in enumerate((*GUESSES, *ODD))
        for wanted in WANTED
    },
    **{
        f"page {prefix[:60]}{path} {number}": request(f"GET {prefix}{path}", "Accept: text/html")
        for number, prefix in enumerate((*GUESSES, *ODD))
        for path in ("", "/", "/queue")
    },
    **{f"GET /key/wrong{detour}": request(f"GET /key/wrong{detour}") for detour in DETOURS},
    **{f"GET http://@HOST@/key/wrong{detour}": request(f"GET http://@HOST@/key/wrong{detour}") for detour in DETOURS},
    **{f"{method} /key/wrong/queue": request(f"{method} /key/wrong/queue") for method in METHODS},
    "POST /key/wrong/prompt": request(
        "POST /key/wrong/prompt", "Content-Type: application/json", "Content-Length: 2", body="{}"
    ),
    "clear the queue": request("POST /key/wrong/queue", "Content-Length: 14", body='{"clear":true}'),
    "a redirect elsewhere": request("GET /key/wrong//evil.example/x", "Accept: text/html"),
    "a header in the redirect": request("GET /key/wrong/%0d%0aX-Injected:1", "Accept: text/html"),
    "the login page elsewhere": request("GET /key/wrong/auth_login.html?next=//evil.example", "Accept: text/html"),
    "the login page behind two slashes": request("GET /key/wrong//auth_login.html", "Accept: text/html"),
    "a session of another server": request("GET /key/wrong/queue", "Cookie: @NAME@=@STRANGER@"),
    "the cookie from elsewhere": request(
        "POST /key/wrong/queue",
        "Cookie: @COOKIE@",
        "Origin: http://evil.example",
        "Content-Length: 14",
        body='{"clear":true}',
    ),
    "four thousand prefixes": request("GET " + "/key/x" * 1300 + "/queue"),
    "guesses, one beside the other": request(
        "GET " + "".join(f"/key/guess-{number}" for number in range(200)) + "/queue"
    ),
}
