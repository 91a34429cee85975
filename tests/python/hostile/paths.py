"""Spellings of a path that a router, a proxy and a file system read differently."""

from hostile.wire import request

#: What an attacker wants.
WANTED = ("/canary/x", "/queue", "/userdata/secret.json", "/view?filename=secret.png", "/canary_pictures/secret.png")

#: In each, `{}` is a wanted path without its first slash.
SPELLINGS = (
    "/{}", "//{}", "///{}", "/./{}", "/.//{}", "/%2e/{}", "/x/../{}", "/x/%2e%2e/{}", "/x/%2E%2E/{}", "/x/.%2e/{}",
    "/x/..;/{}", "/;/{}", "/.;/{}", "/%2f{}", "/%2F%2F{}", "/%5c{}", "/\\{}", "/%00/{}", "/%20{}", "/%09{}",
    "/%0d%0a{}", "/api/{}", "/api//{}", "/api/../{}", "/api/%2e%2e/{}", "/api%2f{}", "/API/{}", "/internal/../{}",
    "/%252e%252e/{}", "/x/%252e%252e/{}", "/..%c0%af{}", "/%c0%ae%c0%ae/{}", "/x/%e0%80%ae./{}", "/%ef%bc%8f{}",
    "/assets/../{}", "/index.html/../{}", "/auth_login.html/../{}", "/ws/../{}", "/health/../{}", "/health/..%2f{}",
    "/health;/../{}", "http://127.0.0.1/{}", "http://@HOST@/{}", "http://@HOST@//{}", "https://@HOST@/{}",
    "http://user:pass@@HOST@/{}", "http://@HOST@/x.js/../{}", "http://evil.example/{}", "ws://@HOST@/{}",
    "HTTP://@HOST@/{}", "//@HOST@/{}", "//health/../{}", "file:///{}", "{}", "../{}", "?/../{}", "*/{}",
)  # fmt: skip

#: Complete targets.
ODD = (
    "*", "/", "//", "///", "/.", "/..", "/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
    "/..%2f..%2fetc%2fpasswd", "/canary", "/canary/", "/Canary/x", "/CANARY/X", "/c%61nary/x",
    "/%63%61%6e%61%72%79/x", "/canary%2fx", "/canary%2Fx", "/canary//x", "/canary/./x", "/canary/../canary/x",
    "/canary/x.", "/canary/x..", "/canary/x%20", "/canary/x%00", "/canary/x%00.js", "/canary/%2e%2e/%2e%2e/",
    "/canary/x%0a", "/canary/x%ff", "/canary/x%fe.js", "/canary/%c0%80", "/canary/%u0078", "/canary/%", "/canary/%2",
    "/canary/%zz", "/canary/x?", "/canary/x??", "/canary/x#", "/canary/x#.js", "/queue.", "/queue%20", "/queue%00",
    "/queue%2e", "/queue/", "/queue//", "/queue/.", "/queue/..", "/queue/../queue", "/queue;", "/queue;x",
    "/queue%3b", "/queue%23", "/queue%3f", "/queue%", "/QUEUE", "/Queue", "/queu%65", "/que\u00fce",
    "/userdata/%2e%2e%2fdefault%2fsecret.json", "/userdata/..%2f..%2f..%2foutput%2fsecret.png",
    "/userdata/%2e%2fsecret.json", "/userdata/secret%2ejson", "/userdata//secret.json", "/userdata/secret.json/",
    "/view?filename=../user/default/secret.json", "/view?filename=secret.png&type=input",
    "/view?filename=secret.png#x", "/internal/files/output", "/internal//files/output", "/internal/./files/output",
    "/internal%2ffiles/output", "/INTERNAL/files/output", "/internal/../internal/files/output",
    "/api/internal/files/output", "/internal/logs/raw", "/" + "a" * 8000, "/" + "../" * 2500 + "queue",
    "/" + "%2e%2e/" * 1100, "/" + "/" * 8000, "/" + "a/" * 3900 + "queue", "/" + "a" * 300 + ".js",
    "/" + "a" * 5000 + ".js", "/" + "a/" * 2000 + "x.js", "/assets/" + "%00" * 10 + ".js", "/x%00.js", "/%ff.js",
    "/%c0%ae.js", "/con.js", "/x\\..\\y.js", "/..%5c..%5cx.js", "/%2e%2e%5cx.js", "/x.js/", "/x.js/y.js", "/assets",
    "/assets/", "/assets/.js", "/.git/config", "/.env", "/server.py", "/main.py", "/custom_nodes/canary_node.py",
)  # fmt: skip


def _spelled(spelling: str, wanted: str) -> str:
    return spelling.format(wanted[1:])


TARGETS = [
    *dict.fromkeys(
        [*(_spelled(spelling, wanted) for spelling in SPELLINGS for wanted in WANTED), *ODD],
    )
]

ATTACKS = {
    f"GET {target[:80]}{'…' * (len(target) > 80)} ({number})": request(f"GET {target}")
    for number, target in enumerate(TARGETS)
}
