"""Queries in which a careless parser might find a key."""

from hostile.wire import request

QUERIES = (
    "api_key", "api_key=", "api_key=&api_key=", "api_key=null", "api_key=undefined", "api_key=true", "api_key=0",
    "api_key=*", "api_key=%00", "api_key=%", "api_key=%zz", "api_key=%ff%fe", "api_key=%c0%80", "api_key=+",
    "api_key=%20", "api_key=%2B", "api_key=a&api_key=b", "api_key=a;api_key=b", "api_key=a,b", "api_key[]=a",
    "api_key[0]=a", "api_key[$ne]=x", "api_key[key]=", "api_key.x=a", "API_KEY=a", "Api_Key=a", "api-key=a",
    "apikey=a", "key=a", "token=", "token=&api_key=", "token[]=a", "token=null", "%61pi_key=a", "api%5Fkey=a",
    "api_key%00=a", "%00api_key=a", "api_key=a%00", "api_key==", "api_key=a=b", "=a", "&&&&", "?api_key=a",
    "api_key=a#b", "#api_key=a", "api_key=%27%20OR%201=1", "api_key=sha256:" + "0" * 64, "api_key=[redacted]",
    "api_key=%5Bredacted%5D", "api_key=a" * 500, "&".join(f"api_key={n}" for n in range(17, 600)), "a=" + "b" * 7000,
    "api_key=" + "a" * 7000, "x" * 7900, "next=/queue", "exempt=1", "auth=off", "_method=OPTIONS", "path=/health",
    "filename=x.js", "x=.js", "/../health", "logout=true",
)  # fmt: skip

ATTACKS = {
    **{f"GET /canary/x?{query[:60]} {n}": request(f"GET /canary/x?{query}") for n, query in enumerate(QUERIES)},
    **{
        f"page /?{query[:60]} {n}": request(f"GET /?{query}", "Accept: text/html")
        for n, query in enumerate(QUERIES[::2])
    },
    **{
        f"login page next={target}": request(f"GET /auth_login.html?next={target}", "Accept: text/html")
        for target in ("//evil.example", "javascript:alert(1)", "%0d%0aSet-Cookie:x=y", "\\\\evil.example", "a" * 7000)
    },
    **{
        f"refused page {target!r}": request(f"GET {target}", "Accept: text/html")
        for target in (
            "//evil.example/x",
            "/\\evil.example",
            "/%0d%0aX-Injected:1",
            "/x?%0d%0aX-Injected:1",
            "/\xff",
            "/" + "a/" * 3000,
        )
    },
}
