"""The whole decision in the words of the design: slow, obvious, and knowing nothing of the code that it checks.

It judges what a request is, not how it is written: test_decision.py writes it down and sends it. The numbered rules are
the design's. Where the server is stricter than the design asks, it says so: `is_embedded`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from support.keys import KEY, OTHER_KEY

KEYS = (KEY, OTHER_KEY)

#: No key any more: it was removed from the file, but there are sessions of it.
GONE_KEY = "canary-key-of-32-characters-that-is-gone"

#: What a scheme cannot be read as: neither absent nor a key.
MALFORMED = "malformed"

SUFFIXES = """
.html .js .css .json .png .jpg .jpeg .gif .webp .svg .ico .woff .woff2 .ttf .mp3 .wav .mp4 .webm
""".split()  # noqa: SIM905

#: Outcomes of requests.
ADMITTED, MISSING, INVALID, TAKEN = "admitted", "401", "401 invalid_token", "401 client_id_taken"
FOREIGN, LOCKED, LOGIN = "403", "429", "302 to the login page"


@dataclass(frozen=True)
class Policy:
    """What an operator asks for."""

    require_ws: bool = False
    exempt: tuple[str, ...] = ()
    trusted_proxy: bool = False
    url_key: bool = False


class Place(NamedTuple):
    """What the router makes of a target: a route, or a file below a static mount ("" is the frontend's own)."""

    target: str
    methods: tuple[str, ...]
    route: str = ""
    mount: str | None = None
    file: str = ""


class Credential(NamedTuple):
    """`source` is bearer, basic, x-api-key, api_key, token or url."""

    source: str
    value: str


class Cookie(NamedTuple):
    """A session: whose (None: nobody's), whether it has expired, was changed, is called as another server's is.

    `own` is one that was made for this history, in which it may be logged out.
    """

    key: str | None
    expired: bool = False
    changed: bool = False
    named_for_another: bool = False
    own: bool = False


@dataclass(frozen=True)
class Request:
    method: str
    place: Place
    credentials: tuple[Credential, ...] = ()
    cookies: tuple[Cookie, ...] = ()
    host: str = ""
    site: str | None = None
    mode: str | None = None
    destination: str | None = None
    origin: str | None = None
    accept: str | None = None
    preflight: bool = False
    upgrade: bool = False
    client_id: bool = False
    #: Who sends it ("peer" or "proxy"), and what `X-Forwarded-For` says.
    peer: str = "peer"
    forwarded_for: tuple[str, ...] = ()


@dataclass
class Model:
    """A server's memory, and its judgement. A method is a sentence of the design: a mutant can be wrong in one."""

    policy: Policy
    failures: dict[str, set[str]] = field(default_factory=dict)
    locked: set[str] = field(default_factory=set)
    good: set[tuple[str, str]] = field(default_factory=set)
    logged_out: bool = False
    socket_is_live: bool = False

    def judge(self, request: Request) -> str:
        """What the server must answer, and what it remembers of it."""
        client = self.client(request)
        refused = self.authenticate(request, client)
        resource = self.resource(request)
        if resource and resource.route == "/auth_session" and request.method in ("POST", "DELETE"):
            return self.log_in(request, client) if request.method == "POST" else self.log_out(request)
        if refused is None:
            if request.client_id and request.upgrade:
                self.socket_is_live = True
        else:
            refused = self.exempt(request, resource, refused)
        if refused is None:
            if resource and resource.target.endswith("?logout=true"):
                return self.log_out(request)
            return ADMITTED
        return LOGIN if self.leads_to_login(request, resource, refused) else refused

    # --- rule 1: credentials; rule 2: the cookie alone; failed attempts ---------------------------------------------

    def authenticate(self, request: Request, client: str) -> str | None:
        """Why no credential admits, or None. Any valid one admits, and a bad one never vetoes a good one.

        The order is that of DESIGN's first step, but the session cookie comes before what is in the address.
        """
        headers = self.keys_from(request, "bearer", "basic", "x-api-key")
        address = self.keys_from(request, "api_key", "token", "url")
        session = next((cookie.key for cookie in request.cookies if self.verifies(cookie)), None)
        foreign = session is not None and not self.may_use_the_cookie(request)
        sessions = [session] if session and not foreign else []
        refused = self.first_valid([*headers, *sessions, *address], client)
        if refused is not None and foreign:
            return FOREIGN
        if refused == INVALID and client in self.locked:
            return LOCKED
        if refused == INVALID:
            self.failed(client, {*headers, *address} - {*KEYS})
        return refused

    def keys_from(self, request: Request, *sources: str) -> list[str]:
        """What is presented in these places. An empty value counts as absent."""
        return [pair.value for pair in request.credentials if pair.source in sources and pair.value]

    def first_valid(self, values: list[str], client: str) -> str | None:
        """The first valid one that passes every check is the one that counts as used."""
        refused = MISSING
        for value in values:
            if value in KEYS and self.passes(client, value):
                self.good.add((client, value))
                return None
            graver = LOCKED if value in KEYS else INVALID
            refused = LOCKED if LOCKED in (refused, graver) else graver
        return refused

    def passes(self, client: str, key: str) -> bool:
        """While an address is locked, what was good from it before still passes; the rest is refused unevaluated."""
        return client not in self.locked or (client, key) in self.good

    def failed(self, client: str, wrong: set[str]) -> None:
        """Ten distinct wrong credentials in a minute lock an address. (Histories take no minute.)"""
        failures = self.failures.setdefault(client, set())
        failures |= wrong - {MALFORMED}
        if len(failures) >= 10:
            self.locked.add(client)

    def verifies(self, cookie: Cookie) -> bool:
        """A cookie that doesn't verify counts as absent."""
        ended = cookie.expired or (cookie.own and self.logged_out)
        return cookie.key in KEYS and not cookie.changed and not cookie.named_for_another and not ended

    def may_use_the_cookie(self, request: Request) -> bool:
        if request.method in ("POST", "PUT", "PATCH", "DELETE") or request.upgrade:
            return self.is_same_origin(request)
        return not self.is_embedded(request)

    def is_same_origin(self, request: Request) -> bool:
        if request.site is not None:
            return request.site in ("same-origin", "none")
        return request.origin in (f"http://{request.host}", f"https://{request.host}")

    def is_embedded(self, request: Request) -> bool:
        """Stricter than the design: what another origin may not write, it may not read by `<img>` or `<iframe>`."""
        if request.site not in ("same-site", "cross-site"):
            return False
        return (request.mode, request.destination) != ("navigate", "document")

    def client(self, request: Request) -> str:
        """`X-Forwarded-For` is believed of a trusted proxy only, from the right up to the first who is none."""
        if not self.policy.trusted_proxy:
            return request.peer
        hops = (request.peer, *reversed(request.forwarded_for))
        return next((hop for hop in hops if hop != "proxy"), "proxy")

    # --- rule 3: exempt ---------------------------------------------------------------------------------------------

    def resource(self, request: Request) -> Place | None:
        """The resolved route: none for unknown paths and for methods that a path doesn't take."""
        return request.place if request.method in request.place.methods else None

    def exempt(self, request: Request, resource: Place | None, refused: str) -> str | None:
        if self.is_preflight(request):
            return None
        if resource is None:
            return refused
        path = re.sub("^/api", "", resource.route)
        if request.method in ("GET", "HEAD"):
            if path == "/health":
                return None if refused == MISSING else refused
            if path == "/ws" and not self.policy.require_ws:
                if refused == FOREIGN:
                    return FOREIGN
                return TAKEN if self.takes_over(request) else None
            if path in ("/auth_login.html", "/auth_inject.js") or self.is_public(resource):
                return None
        return None if self.operator_exempts(resource) else refused

    def is_preflight(self, request: Request) -> bool:
        return request.method == "OPTIONS" and request.preflight

    def takes_over(self, request: Request) -> bool:
        return request.client_id and self.socket_is_live

    def is_public(self, resource: Place) -> bool:
        """`/templates/*`, `/docs/*`; static `/extensions/*`; the guide's suffixes on the frontend's own mount."""
        if resource.mount is None:
            return resource.route == "/index.html" or resource.route.startswith(("/templates/", "/docs/"))
        if f"{resource.mount}/".startswith(("/extensions/", "/templates/", "/docs/")):
            return True
        return resource.mount == "" and resource.file.endswith(tuple(SUFFIXES))

    def operator_exempts(self, resource: Place) -> bool:
        path = resource.route if resource.mount is None else f"{resource.mount}/{resource.file}"
        for pattern in self.policy.exempt:
            if pattern.startswith("^"):
                if re.fullmatch(pattern, path):
                    return True
            elif re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), path):
                return True
        return False

    # --- rule 4: refused --------------------------------------------------------------------------------------------

    def leads_to_login(self, request: Request, resource: Place | None, refused: str) -> bool:
        if refused not in (MISSING, INVALID) or request.upgrade or request.method not in ("GET", "HEAD"):
            return False
        # HEAD of the root as GET: it asks what GET would answer.
        is_root = resource is not None and resource.route == "/"
        return is_root or (request.accept is not None and "text/html" in request.accept)

    # --- sessions ---------------------------------------------------------------------------------------------------

    def log_in(self, request: Request, client: str) -> str:
        """Makes a session of a key, but none of a session. Wrong keys count whatever session is beside them."""
        values = self.keys_from(request, "bearer", "basic", "x-api-key", "api_key", "token", "url")
        headers = self.keys_from(request, "bearer", "basic", "x-api-key")
        # Any page can have a browser send it, to log a person in with somebody else's key in the address.
        foreign = (request.site is not None or request.origin is not None) and not self.is_same_origin(request)
        refused = self.first_valid(headers if foreign else values, client)
        if foreign and refused is not None and {*values[len(headers) :]} & {*KEYS}:
            return FOREIGN
        if refused != INVALID and not (foreign and refused == MISSING and values):
            return ADMITTED if refused is None else refused
        if client in self.locked:
            return LOCKED
        self.failed(client, {*values} - {*KEYS})
        return INVALID

    def log_out(self, request: Request) -> str:
        """Ends the session, if there is one. A page of another origin may not do even that."""
        if any(self.verifies(cookie) for cookie in request.cookies):
            if not self.may_use_the_cookie(request):
                return FOREIGN
            self.logged_out |= any(cookie.own and self.verifies(cookie) for cookie in request.cookies)
        return ADMITTED
