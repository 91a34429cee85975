"""Routes that seem to be below an exempt one."""

from hostile.wire import request

PREFIXES = (
    "/extensions/..", "/extensions/../..", "/extensions/%2e%2e", "/extensions/..%2f", "/extensions/..%5c",
    "/extensions//..", "/extensions/x/../..", "/extensions;/..", "/extensions/..;", "/EXTENSIONS/..", "/templates/..",
    "/templates/%2e%2e", "/templates/..%2f", "/docs/..", "/docs/%2e%2e", "/docs/..%2f", "/docs/./..",
    "/auth_login.html/..", "/auth_inject.js/..", "/health/..", "/health/%2e%2e", "/ws/..", "/ws/..%2f",
    "/auth_session/..", "/auth_session/%2e%2e", "/extensions", "/templates", "/docs", "/health", "/ws",
    "/auth_session", "/auth_login.html", "/auth_login.html?next=", "/health?x=", "/extensions/../extensions/..",
    "/api/extensions/..", "/api/health/..", "/api/ws/..",
)  # fmt: skip
WANTED = ("/canary/x", "/queue", "/prompt", "/userdata/secret.json")

#: Ways out of a static folder, into the folders beside it.
OUT = (
    "../secret.png", "..%2f..%2foutput%2fsecret.png", "%2e%2e/%2e%2e/output/secret.png", "..\\..\\output\\secret.png",
    "..%5c..%5coutput%5csecret.png", "%252e%252e%252foutput%252fsecret.png", "....//....//output/secret.png",
    "..%c0%af..%c0%afoutput/secret.png", "/output/secret.png", "%00../output/secret.png",
    "./../../../output/secret.png",
)  # fmt: skip
FOLDERS = ("/templates/", "/docs/", "/assets/", "/extensions/", "/")

ATTACKS = {
    f"GET {target}": request(f"GET {target}")
    for target in (
        *(prefix + wanted for prefix in PREFIXES for wanted in WANTED),
        *(folder + way for folder in FOLDERS for way in OUT),
    )
}
