"""Routes that look like the frontend's static files, which need no key."""

from hostile.wire import request

ENDINGS = (
    ".js", "/.js", ";.js", ";x.js", "%3b.js", "%3B.js", ".css", "/x.css", ".html", "/auth_login.html",
    "%2fauth_login.html", ".json", "/x.json", ".png", "%2epng", "%00.png", "%00/x.js", "%20.js", "%23.js", "%3f.js",
    "%3fx.png", "%0a.js", "%5c.js", "/%2ejs", "?.js", "?x.js", "?/x.js", "?a=.png", "#.js", "#/x.js", "/..;/x.js",
    ".js/", ".js/.", ".js?", ".JS", ".woff2", "~.js", "/assets/x.js", "/extensions/x.js", "/../x.js",
)  # fmt: skip

#: API routes, and a folder that a custom node serves.
WANTED = ("/canary/x", "/queue", "/prompt", "/api/queue", "/history", "/system_stats", "/internal/files/output")

FILES = (
    "/userdata/secret.json", "/api/userdata/secret.json", "/userdata/secret.json?x=.js",
    "/userdata/workflows%2Fsecret.json", "/userdata/secret.json;.js", "/userdata/secret%2Ejson",
    "/view?filename=secret.png", "/api/view?filename=secret.png", "/view?filename=secret.png&type=input",
    "/view?filename=secret.png&preview=jpeg", "/view?filename=secret.png&channel=rgb",
    "/view/secret.png?filename=secret.png", "/view.png?filename=secret.png", "/view?x=.png&filename=secret.png",
    "/canary_pictures/secret.png", "/canary_pictures/secret.json", "/canary_pictures/./secret.png",
    "/canary_pictures//secret.png", "/canary_pictures/%2e/secret.png", "/canary_pictures/secret.png/",
    "/canary_pictures/../canary_pictures/secret.png", "/canary_pictures/../assets/x.js",
    "/api/canary_pictures/secret.png", "/CANARY_PICTURES/secret.png", "/view_metadata/output?filename=secret.png",
    "/output/secret.png", "/input/secret.png", "/user/default/secret.json",
)  # fmt: skip

ATTACKS = {
    f"GET {target}": request(f"GET {target}")
    for target in dict.fromkeys([*(wanted + suffix for wanted in WANTED[:4] for suffix in ENDINGS), *WANTED, *FILES])
}
